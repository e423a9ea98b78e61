"""Body joints: BODY_25 skeletons, their drawing, and OpenPose's body network through controlnet_aux."""

from __future__ import annotations

import colorsys
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from ...errors import IncompatibleCheckpoint, InvalidInput, MissingDependency, WeightsUnavailable
from .onnx_session import check_device, check_file
from .resampling import check_image

if TYPE_CHECKING:
    import torch

    from .onnx_session import Device

# Left and right are the person's own.
BODY_25_NAMES = (
    "nose",
    "neck",
    "right shoulder",
    "right elbow",
    "right wrist",
    "left shoulder",
    "left elbow",
    "left wrist",
    "mid-hip",
    "right hip",
    "right knee",
    "right ankle",
    "left hip",
    "left knee",
    "left ankle",
    "right eye",
    "left eye",
    "right ear",
    "left ear",
    "left big toe",
    "left small toe",
    "left heel",
    "right big toe",
    "right small toe",
    "right heel",
)
BODY_25_EDGES = (
    *((1, 8), (1, 2), (2, 3), (3, 4), (1, 5), (5, 6), (6, 7)),
    *((8, 9), (9, 10), (10, 11), (8, 12), (12, 13), (13, 14)),
    *((1, 0), (0, 15), (15, 17), (0, 16), (16, 18)),
    *((14, 19), (19, 20), (14, 21), (11, 22), (22, 23), (11, 24)),
)
NOSE, NECK, RIGHT_SHOULDER, LEFT_SHOULDER, MID_HIP, RIGHT_HIP, LEFT_HIP = 0, 1, 2, 5, 8, 9, 12

# BODY_25 index of each COCO-18 joint: without a mid-hip, everything from the right hip on moves up by one.
COCO_18_TO_BODY_25 = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)

DETECTION_SIDE = 512  # pixels of the shorter side; OpenPose smooths and searches its maps at this resolution
MAX_ASPECT = 4


@dataclass(frozen=True, eq=False)
class Pose:
    """One person's joints.

    Args:
        keypoints (`np.ndarray`):
            BODY_25 joints, float32, (25, 3) as x, y in image pixels (0, 0 is the first pixel's centre) and
            confidence in [0, 1]. A joint that wasn't found is 0, 0, 0.
        box (`tuple[float, float, float, float]`):
            Left, top, right, bottom of the person in image pixels: the detector's box, or the box around the joints
            where the estimator has no detector.
        score (`float`): How sure the estimator is of this person, for comparisons among its own poses only.
    """

    keypoints: np.ndarray
    box: tuple[float, float, float, float]
    score: float


class OpenPoseEstimator:
    """Finds people and their joints with OpenPose's body network.

    The network comes from controlnet_aux and opens on first use. Its weights are read as tensors only: a file that
    would run code is refused.

    Args:
        weights_path (`str` or `os.PathLike`): `body_pose_model.pth`.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): Where the network runs.
    """

    def __init__(self, weights_path: str | os.PathLike, device: Device = "cpu"):
        self.weights_path = weights_path
        self.device = check_device(device)
        self._body: Any = None

    def __call__(self, image: Image.Image) -> list[Pose]:
        """Find everyone in a photo.

        Feet are never found, and the mid-hip is the middle of both hips where both are known.

        Args:
            image (`PIL.Image.Image`): RGB, of any size.

        Returns:
            `list[Pose]`: best first; empty if nobody was found. A person has four joints or more.

        Raises:
            `InvalidInput`:
                if the image isn't a PIL image of mode RGB, or if the people in it can't be told apart.
            `WeightsUnavailable`: if the weights' file is missing or damaged.
            `IncompatibleCheckpoint`: if the file holds another network.
            `MissingDependency`: if controlnet_aux can't be imported.
        """
        check_image(image)
        if self._body is None:
            self._body = _load_body(self.weights_path, self.device)
        resized, size = _detection_image(image)
        try:
            candidate, subset = self._body(np.ascontiguousarray(np.asarray(resized)[..., ::-1]))  # it expects BGR
        except IndexError:
            # controlnet_aux has room for two partial skeletons that claim the same limb, not for three
            raise InvalidInput(
                "OpenPose can't tell the people in this photo apart: crop it to one person, or use pose='dwpose'."
            ) from None
        results = self._body.format_body_result(candidate, subset)
        scale = (image.width / size[0], image.height / size[1])
        poses = [pose for result in results if (pose := _to_pose(result, scale, image.size)) is not None]
        return sorted(poses, key=lambda pose: pose.score, reverse=True)


def joint_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The middle of two joints (3,), as sure as the less sure of them; missing if one of them is."""
    if first[2] <= 0 or second[2] <= 0:
        return np.zeros(3, np.float32)
    middle = (first + second) / 2
    middle[2] = min(first[2], second[2])
    return middle


def draw_pose(image: Image.Image, keypoints: np.ndarray) -> Image.Image:
    """Draw a skeleton over a copy of an image; missing joints and their bones are left out.

    Args:
        image (`PIL.Image.Image`): RGB.
        keypoints (`np.ndarray`): BODY_25 joints in the image's pixels, (25, 3) as x, y, confidence.

    Returns:
        `PIL.Image.Image`: RGB, of the image's size.

    Raises:
        `InvalidInput`: if the image isn't RGB, or the joints aren't (25, 3).
    """
    check_image(image)
    joints = np.asarray(keypoints, dtype=np.float64)
    if joints.shape != (25, 3):
        raise InvalidInput(f"keypoints have shape {joints.shape}: pass BODY_25 joints, (25, 3) as x, y, confidence.")
    drawn = image.copy()
    canvas = ImageDraw.Draw(drawn)
    width = max(1, round(max(image.size) / 200))
    known = np.isfinite(joints).all(axis=1) & (joints[:, 2] > 0)
    for index, (start, end) in enumerate(BODY_25_EDGES):
        if known[start] and known[end]:
            colour = _hue(index / len(BODY_25_EDGES))
            canvas.line([tuple(joints[start, :2]), tuple(joints[end, :2])], fill=colour, width=width)
    for index in np.flatnonzero(known):
        x, y = joints[index, :2]
        canvas.ellipse((x - width, y - width, x + width, y + width), fill=_hue(index / 25), outline=(255, 255, 255))
    return drawn


def _hue(share: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(share, 1.0, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _detection_image(image: Image.Image) -> tuple[Image.Image, tuple[int, int]]:
    """Scale a photo for the network, and say how large the photo is in it.

    OpenPose's maps have 57 channels at the size of its input, and the network itself always sees 184 rows: a long
    strip would cost gigabytes, so it is made no longer than four times its width, padded in OpenPose's own grey.
    """
    width, height = image.size
    scale = min(DETECTION_SIDE / min(width, height), MAX_ASPECT * DETECTION_SIDE / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    padded_size = (max(size[0], DETECTION_SIDE), max(size[1], DETECTION_SIDE))
    if padded_size == size:
        return resized, size
    padded = Image.new("RGB", padded_size, (128, 128, 128))
    padded.paste(resized)
    return padded, size


def _to_pose(result: Any, scale: tuple[float, float], image_size: tuple[int, int]) -> Pose | None:
    """One of controlnet_aux's body results (COCO-18, detection pixels) as a `Pose` in image pixels."""
    keypoints = np.zeros((25, 3), np.float32)
    for index, joint in zip(COCO_18_TO_BODY_25, result.keypoints, strict=True):
        if joint is None:
            continue
        x, y = (joint.x + 0.5) * scale[0] - 0.5, (joint.y + 0.5) * scale[1] - 0.5
        if x > image_size[0] - 0.5 or y > image_size[1] - 0.5:
            continue  # a peak in the padding
        keypoints[index] = x, y, min(max(float(joint.score), 0.0), 1.0)
    keypoints[MID_HIP] = joint_between(keypoints[RIGHT_HIP], keypoints[LEFT_HIP])
    found = keypoints[keypoints[:, 2] > 0, :2]
    if len(found) == 0:
        return None
    (left, top), (right, bottom) = found.min(axis=0).tolist(), found.max(axis=0).tolist()
    return Pose(keypoints, (left, top, right, bottom), float(result.total_score / result.total_parts))


def _load_body(path: str | os.PathLike, device: str) -> Any:
    """Build controlnet_aux's `Body` around weights that were read as tensors only, on whatever device they lay."""
    import torch

    body_class, network_class = _import_openpose()
    path = check_file(path, name="OpenPose", what="body_pose_model.pth")
    tensors = _read_tensors(path)
    with torch.device("meta"):  # neither memory nor random numbers for weights that are about to be replaced
        network = network_class()
    state, wrong = {}, []
    for name, expected in network.state_dict().items():
        tensor = tensors.get(name.split(".", 1)[1])  # the file names layers without the block that holds them
        if tensor is None or tensor.shape != expected.shape:
            wrong.append(name.split(".", 1)[1])
        else:
            state[name] = tensor.float()
    if wrong:
        raise IncompatibleCheckpoint(
            f"{path} is not OpenPose's body network: {len(wrong)} of {len(wrong) + len(state)} tensors are missing or "
            f"have another shape, such as {wrong[0]}; pass body_pose_model.pth."
        )
    network.load_state_dict(state, assign=True)
    # Body's own constructor takes a path, trusts PyTorch's default for pickles and needs the device of the file.
    body = body_class.__new__(body_class)
    body.model = network.eval().requires_grad_(False)
    return body.to(device)


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    import torch

    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load fails in as many ways as files can be damaged
        # PyTorch's own message explains how to run the file's code, which is no advice to pass on
        raise WeightsUnavailable(
            f"OpenPose: {path} is damaged or holds more than plain tensors; download body_pose_model.pth again."
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise IncompatibleCheckpoint(f"{path} is no dictionary of tensors: pass body_pose_model.pth.")
    return tensors


def _import_openpose() -> tuple[Any, Any]:
    """controlnet_aux's `Body` and its network's class; importing them imports all of controlnet_aux."""
    openmp_setting = os.environ.get("KMP_DUPLICATE_LIB_OK")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about detectors that aren't used here
            from controlnet_aux.open_pose.body import Body
            from controlnet_aux.open_pose.model import bodypose_model
    except Exception as error:  # it imports a dozen packages, each of which fails in its own way
        raise MissingDependency(_import_advice(error)) from error
    finally:
        # controlnet_aux sets this for the whole process
        if openmp_setting is None:
            os.environ.pop("KMP_DUPLICATE_LIB_OK", None)
        else:
            os.environ["KMP_DUPLICATE_LIB_OK"] = openmp_setting
    return Body, bodypose_model


def _import_advice(error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    if isinstance(error, ImportError) and (error.name or "").startswith("controlnet_aux"):
        return "OpenPose needs controlnet_aux: run `pip install controlnet_aux`, or use pose='dwpose'."
    if "torchvision" in reason:
        return (
            f"OpenPose can't import controlnet_aux because torchvision doesn't match torch ({reason}): install both "
            "from the same index, `pip install --force-reinstall torch torchvision`, or use pose='dwpose'."
        )
    if "mediapipe" in reason:
        return (
            f"OpenPose can't import controlnet_aux because of the installed mediapipe ({reason}): run "
            "`pip uninstall mediapipe` or `pip install 'mediapipe<0.10.30'`, or use pose='dwpose'."
        )
    return (
        f"OpenPose can't import controlnet_aux ({type(error).__name__}: {reason}): repair that package, "
        "or use pose='dwpose'."
    )
