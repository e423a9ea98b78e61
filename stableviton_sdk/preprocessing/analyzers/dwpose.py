"""Body joints through DWPose: YOLOX finds the people, a SimCC network their joints, both through onnxruntime."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...errors import IncompatibleCheckpoint
from ..joints import Body25, Pose, joint_between
from ..resampling import check_image, warp_to_bgr
from .onnx_session import open_session, run_session

if TYPE_CHECKING:
    import onnxruntime

    from .onnx_session import Device

# BODY_25 index of the first 23 whole-body points: COCO-17 (left before right), then the feet.
WHOLE_BODY_TO_BODY_25 = (
    *(Body25.NOSE, Body25.LEFT_EYE, Body25.RIGHT_EYE, Body25.LEFT_EAR, Body25.RIGHT_EAR),
    *(Body25.LEFT_SHOULDER, Body25.RIGHT_SHOULDER, Body25.LEFT_ELBOW, Body25.RIGHT_ELBOW),
    *(Body25.LEFT_WRIST, Body25.RIGHT_WRIST, Body25.LEFT_HIP, Body25.RIGHT_HIP),
    *(Body25.LEFT_KNEE, Body25.RIGHT_KNEE, Body25.LEFT_ANKLE, Body25.RIGHT_ANKLE),
    *(Body25.LEFT_BIG_TOE, Body25.LEFT_SMALL_TOE, Body25.LEFT_HEEL),
    *(Body25.RIGHT_BIG_TOE, Body25.RIGHT_SMALL_TOE, Body25.RIGHT_HEEL),
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
    """Finds people and their joints with DWPose, feet included.

    Args:
        detector_path (`str` or `os.PathLike`): `yolox_l.onnx`.
        pose_path (`str` or `os.PathLike`): `dw-ll_ucoco_384.onnx`.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): Device the networks run on.

    Raises:
        `InvalidInput`: if a path or the device is none.
        `WeightsUnavailable`: if a network's file is missing or damaged.
        `IncompatibleCheckpoint`: if a file holds another network.
        `MissingDependency`: if onnxruntime can't be imported.
    """

    def __init__(
        self, detector_path: str | os.PathLike[str], pose_path: str | os.PathLike[str], device: Device = "cpu"
    ):
        self._detector = open_session(
            detector_path,
            device,
            name="DWPose's person detector",
            input_shape=(1, 3, DETECTOR_SIDE, DETECTOR_SIDE),
            output_count=1,
        )
        self._pose_network = open_session(
            pose_path,
            device,
            name="DWPose's joint network",
            input_shape=(1, 3, POSE_SIZE[1], POSE_SIZE[0]),
            output_count=2,
        )

    def __call__(self, image: Image.Image) -> list[Pose]:
        """Poses of all people in a photo, best first; empty if nobody is found.

        Joints with a confidence below 0.3 count as missing: the network always proposes all of them, also those that
        the photo doesn't show. The neck is the midpoint of the shoulders, the mid-hip that of the hips. A joint may
        lie outside the photo; the boxes lie inside.

        Args:
            image (`PIL.Image.Image`): RGB, of any size.

        Returns:
            `list[Pose]`

        Raises:
            `InvalidInput`: if the image isn't a PIL image of mode RGB.
            `IncompatibleCheckpoint`: if a network's output has another shape.
        """
        boxes, scores = self.detect(image)
        limits = np.array([*image.size, *image.size], np.float32)
        poses = []
        for box, score in zip(boxes, scores, strict=True):
            keypoints = _find_joints(self._pose_network, image, box)
            left, top, right, bottom = np.clip(box, 0, limits).tolist()
            poses.append(Pose(keypoints, (left, top, right, bottom), float(score)))
        return poses

    def detect(self, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        """Boxes of all people in a photo, best first.

        Args:
            image (`PIL.Image.Image`): RGB, of any size.

        Returns:
            `tuple[np.ndarray, np.ndarray]`:
                boxes, float32, (N, 4), left, top, right, bottom in pixels of the photo (they may reach over its
                edges), and scores in [0.3, 1], float32, (N,).

        Raises:
            `InvalidInput`: if the image isn't a PIL image of mode RGB.
            `IncompatibleCheckpoint`: if the network's output has another shape.
        """
        check_image(image)
        scale = min(DETECTOR_SIDE / image.width, DETECTOR_SIDE / image.height)
        (predictions,) = run_session(self._detector, _letterbox(image, scale), [0])
        if predictions.shape != (1, ANCHOR_COUNT, 5 + CLASS_COUNT):
            raise IncompatibleCheckpoint(
                f"DWPose's person detector gives an output of shape {predictions.shape}, where "
                f"(1, {ANCHOR_COUNT}, {5 + CLASS_COUNT}) belongs: pass yolox_l.onnx."
            )
        boxes, scores = _decode_people(predictions[0])
        boxes /= np.float32(scale)
        on_image = (boxes[:, 2] > 0) & (boxes[:, 3] > 0) & (boxes[:, 0] < image.width) & (boxes[:, 1] < image.height)
        return _suppress_overlaps(boxes[on_image], scores[on_image])


def _letterbox(image: Image.Image, scale: float) -> np.ndarray:
    """The photo in the top left corner of a grey square, float32 (1, 3, 640, 640), BGR in [0, 255]."""
    # rounding may leave the product just below 640
    size = (max(1, int(image.width * scale + 1e-6)), max(1, int(image.height * scale + 1e-6)))
    shift = (scale - 1) / 2  # the outer edges of both images coincide, not their first pixels' centres
    pixels = warp_to_bgr(image, scale, (shift, shift), size, repeat_edge=True)
    canvas = np.full((1, 3, DETECTOR_SIDE, DETECTOR_SIDE), PADDING, np.float32)
    canvas[0, :, : size[1], : size[0]] = pixels.transpose(2, 0, 1)
    return canvas


def _decode_people(predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 4) in letterbox pixels and scores (n,) of likely people, from YOLOX's outputs (anchors, 85)."""
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


def _suppress_overlaps(boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and scores after non-maximum suppression, best first."""
    import torch
    from torchvision.ops import nms

    kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), MAX_OVERLAP).numpy()
    return boxes[kept], scores[kept]


def _find_joints(session: onnxruntime.InferenceSession, image: Image.Image, box: np.ndarray) -> np.ndarray:
    """One person's BODY_25 joints, float32, (25, 3), in image pixels."""
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
    keypoints[Body25.NECK] = joint_between(keypoints[Body25.RIGHT_SHOULDER], keypoints[Body25.LEFT_SHOULDER])
    keypoints[Body25.MID_HIP] = joint_between(keypoints[Body25.RIGHT_HIP], keypoints[Body25.LEFT_HIP])
    return keypoints
