"""Body joints through DWPose: YOLOX finds the people, a SimCC network their joints, both through onnxruntime."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...errors import IncompatibleCheckpoint
from .onnx_session import check_device, open_session, run_session
from .openpose import LEFT_HIP, LEFT_SHOULDER, MID_HIP, NECK, RIGHT_HIP, RIGHT_SHOULDER, Pose, joint_between
from .resampling import check_image, warp_to_bgr

if TYPE_CHECKING:
    import onnxruntime

    from .onnx_session import Device

# BODY_25 index of the first 23 whole-body points: COCO-17 (left before right), then the feet.
WHOLE_BODY_TO_BODY_25 = (
    *(0, 16, 15, 18, 17),  # nose, eyes, ears
    *(5, 2, 6, 3, 7, 4),  # shoulders, elbows, wrists
    *(12, 9, 13, 10, 14, 11),  # hips, knees, ankles
    *(19, 20, 21, 22, 23, 24),  # left big toe, small toe, heel, and the right ones
)

DETECTOR_SIDE = 640
STRIDES = (8, 16, 32)
ANCHOR_COUNT = sum((DETECTOR_SIDE // stride) ** 2 for stride in STRIDES)
CLASS_COUNT = 80
PADDING = 114
MIN_PERSON_SCORE = 0.3
MAX_OVERLAP = 0.45

POSE_SIZE = (288, 384)
BOX_PADDING = 1.25
POINT_COUNT = 133
BINS_PER_PIXEL = 2
MIN_CONFIDENCE = 0.3
# The order of the released pipeline, which feeds BGR: the first value goes to blue.
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)


class DWPoseEstimator:
    """Finds people and their joints with DWPose, feet included. Needs onnxruntime, but no PyTorch.

    The networks open on first use.

    Args:
        detector_path (`str` or `os.PathLike`): `yolox_l.onnx`.
        pose_path (`str` or `os.PathLike`): `dw-ll_ucoco_384.onnx`.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): Where the networks run.
    """

    def __init__(self, detector_path: str | os.PathLike, pose_path: str | os.PathLike, device: Device = "cpu"):
        self.detector_path = detector_path
        self.pose_path = pose_path
        self.device = check_device(device)
        self._detector: onnxruntime.InferenceSession | None = None
        self._pose_network: onnxruntime.InferenceSession | None = None

    def __call__(self, image: Image.Image) -> list[Pose]:
        """Find everyone in a photo.

        Joints with a confidence below 0.3 count as missing: the network always proposes all of them, also those that
        the photo doesn't show. The neck is the middle of the shoulders, the mid-hip that of the hips, where both are
        known. A joint may lie outside the photo.

        Args:
            image (`PIL.Image.Image`): RGB, of any size.

        Returns:
            `list[Pose]`: best first; empty if nobody was found. The boxes lie inside the image.

        Raises:
            `InvalidInput`: if the image isn't a PIL image of mode RGB.
            `WeightsUnavailable`: if a network's file is missing or damaged.
            `IncompatibleCheckpoint`: if a file holds another network.
            `MissingDependency`: if onnxruntime can't be imported.
        """
        boxes, scores = self.detect(image)
        if len(boxes) == 0:
            return []
        if self._pose_network is None:
            shape = (1, 3, POSE_SIZE[1], POSE_SIZE[0])
            self._pose_network = open_session(
                self.pose_path, self.device, name="DWPose's joint network", input_shape=shape, output_count=2
            )
        limits = np.array([*image.size, *image.size], np.float32)
        poses = []
        for box, score in zip(boxes, scores, strict=True):
            keypoints = _find_joints(self._pose_network, image, box)
            left, top, right, bottom = np.clip(box, 0, limits).tolist()
            poses.append(Pose(keypoints, (left, top, right, bottom), float(score)))
        return poses

    def detect(self, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        """Find the people's boxes alone; arguments and errors are those of a call.

        Returns:
            `tuple[np.ndarray, np.ndarray]`: boxes, float32, (people, 4) as left, top, right, bottom in image pixels
            (they may reach over the image's edges), and scores in [0.3, 1], float32, (people,); best first.
        """
        check_image(image)
        if self._detector is None:
            shape = (1, 3, DETECTOR_SIDE, DETECTOR_SIDE)
            self._detector = open_session(
                self.detector_path, self.device, name="DWPose's person detector", input_shape=shape, output_count=1
            )
        scale = min(DETECTOR_SIDE / image.width, DETECTOR_SIDE / image.height)
        (predictions,) = run_session(self._detector, _letterbox(image, scale), [0])
        if predictions.shape != (1, ANCHOR_COUNT, 5 + CLASS_COUNT):
            raise IncompatibleCheckpoint(
                f"{self.detector_path} gives an output of shape {predictions.shape}, where "
                f"(1, {ANCHOR_COUNT}, {5 + CLASS_COUNT}) belongs: pass yolox_l.onnx."
            )
        boxes, scores = _decode_people(predictions[0])
        boxes /= np.float32(scale)
        on_image = (boxes[:, 2] > 0) & (boxes[:, 3] > 0) & (boxes[:, 0] < image.width) & (boxes[:, 1] < image.height)
        boxes, scores = boxes[on_image], scores[on_image]
        kept = _suppress_overlaps(boxes, scores)
        return boxes[kept], scores[kept]


def _letterbox(image: Image.Image, scale: float) -> np.ndarray:
    """The photo in the top left corner of a grey square, float32 (1, 3, 640, 640), BGR in [0, 255]."""
    # a hair more than the product, which may come out just below the 640 that it is
    size = (max(1, int(image.width * scale + 1e-6)), max(1, int(image.height * scale + 1e-6)))
    shift = (scale - 1) / 2  # the outer edges of both images coincide, not their first pixels' centres
    pixels = warp_to_bgr(image, scale, (shift, shift), size, repeat_edge=True)
    canvas = np.full((1, 3, DETECTOR_SIDE, DETECTOR_SIDE), PADDING, np.float32)
    canvas[0, :, : size[1], : size[0]] = pixels.transpose(2, 0, 1)
    return canvas


def _decode_people(predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """YOLOX's raw predictions (anchors, 85) to boxes (n, 4) in letterbox pixels and scores (n,) of likely people."""
    scores = predictions[:, 4] * predictions[:, 5]  # class 0 is the person
    likely = np.flatnonzero(scores > MIN_PERSON_SCORE)
    cells, strides = _anchors()
    raw, cell, stride = predictions[likely, :4], cells[likely], strides[likely, None]
    centre = (raw[:, :2] + cell) * stride
    with np.errstate(over="ignore"):  # an infinite box is dropped below
        half = np.exp(raw[:, 2:]) * stride / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    usable = np.isfinite(boxes).all(axis=1) & (half > 0).all(axis=1)
    return boxes[usable], scores[likely][usable]


def _anchors() -> tuple[np.ndarray, np.ndarray]:
    """Cell (x, y) and stride of each of YOLOX's anchors: finest grid first, row by row."""
    cells, strides = [], []
    for stride in STRIDES:
        side = DETECTOR_SIDE // stride
        rows, columns = np.divmod(np.arange(side * side, dtype=np.int32), side)
        cells.append(np.stack([columns, rows], axis=1))
        strides.append(np.full(side * side, stride, np.float32))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides)


def _suppress_overlaps(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Greedy non-maximum suppression: indices of the boxes to keep, best first."""
    order = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while len(order) > 0:
        best, order = order[0], order[1:]
        kept.append(best)
        top_left = np.maximum(boxes[best, :2], boxes[order, :2])
        bottom_right = np.minimum(boxes[best, 2:], boxes[order, 2:])
        common = np.prod(np.maximum(bottom_right - top_left, 0), axis=1)
        order = order[common <= MAX_OVERLAP * (areas[best] + areas[order] - common)]
    return np.array(kept, dtype=np.intp)


def _find_joints(session: onnxruntime.InferenceSession, image: Image.Image, box: np.ndarray) -> np.ndarray:
    """One person's BODY_25 joints (25, 3) in image pixels."""
    left, top, right, bottom = box.tolist()
    width, height = POSE_SIZE
    # The padded box, grown to the input's proportions, fills the input.
    scale = min(width / ((right - left) * BOX_PADDING), height / ((bottom - top) * BOX_PADDING))
    offset = (width / 2 - scale * (left + right) / 2, height / 2 - scale * (top + bottom) / 2)
    pixels = warp_to_bgr(image, scale, offset, POSE_SIZE)
    values = np.ascontiguousarray(((pixels - MEAN) / STD).transpose(2, 0, 1)[None])  # (1, 3, 384, 288)
    across, down = run_session(session, values, [0, 1])
    expected = ((1, POINT_COUNT, width * BINS_PER_PIXEL), (1, POINT_COUNT, height * BINS_PER_PIXEL))
    if (across.shape, down.shape) != expected:
        raise IncompatibleCheckpoint(
            f"DWPose's joint network gives outputs of shapes {across.shape} and {down.shape}, where "
            f"{expected[0]} and {expected[1]} belong: pass dw-ll_ucoco_384.onnx."
        )
    keypoints = np.zeros((25, 3), np.float32)
    for point, joint in enumerate(WHOLE_BODY_TO_BODY_25):
        x, y = int(across[0, point].argmax()), int(down[0, point].argmax())
        confidence = min(float(across[0, point, x]), float(down[0, point, y]))
        if confidence >= MIN_CONFIDENCE:  # false for NaN
            keypoints[joint] = (
                (x / BINS_PER_PIXEL - offset[0]) / scale,
                (y / BINS_PER_PIXEL - offset[1]) / scale,
                min(confidence, 1.0),
            )
    keypoints[NECK] = joint_between(keypoints[RIGHT_SHOULDER], keypoints[LEFT_SHOULDER])
    keypoints[MID_HIP] = joint_between(keypoints[RIGHT_HIP], keypoints[LEFT_HIP])
    return keypoints
