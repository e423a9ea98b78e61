"""Body joints through OpenPose's body network, as controlnet_aux has it."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ...errors import IncompatibleCheckpoint, InvalidInput, MissingDependency, WeightsUnavailable, reason_of
from ..joints import Body25, Pose, joint_between
from ..resampling import check_image
from .onnx_session import check_device, check_file

if TYPE_CHECKING:
    import torch

    from .onnx_session import Device

# BODY_25 index of each COCO-18 joint: COCO-18 is in BODY_25's order, but has no mid-hip.
COCO_18_TO_BODY_25 = tuple(joint for joint in Body25 if joint <= Body25.LEFT_EAR and joint != Body25.MID_HIP)

DETECTION_SIDE = 512  # pixels of the shorter side; OpenPose smooths and searches its maps at this resolution
MAX_ASPECT = 4


class OpenPoseEstimator:
    """Finds people and their joints with OpenPose's body network, which comes from controlnet_aux.

    Weights are read as tensors only: a file that would run code is refused.

    Args:
        weights_path (`str` or `os.PathLike`): `body_pose_model.pth`.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): Device the network runs on.

    Raises:
        `InvalidInput`: if the path or the device is none.
        `WeightsUnavailable`: if the weights' file is missing or damaged.
        `IncompatibleCheckpoint`: if the file holds another network.
        `MissingDependency`: if controlnet_aux can't be imported.
    """

    def __init__(self, weights_path: str | os.PathLike[str], device: Device = "cpu"):
        self._body = _load_body(weights_path, check_device(device))

    def __call__(self, image: Image.Image) -> list[Pose]:
        """Poses of all people in a photo, best first; empty if nobody is found.

        A pose has four joints or more, but never feet. The mid-hip is the midpoint of the hips.

        Args:
            image (`PIL.Image.Image`): RGB, of any size.

        Returns:
            `list[Pose]`

        Raises:
            `InvalidInput`: if the image isn't a PIL image of mode RGB, or the people in it can't be told apart.
        """
        check_image(image)
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


def _detection_image(image: Image.Image) -> tuple[Image.Image, tuple[int, int]]:
    """Image for the network, and width and height of the photo in it.

    OpenPose's maps have 57 channels at the size of its input, and the network's own input always has 184 rows: a long
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
    """`Pose` in image pixels of one of controlnet_aux's body results (COCO-18, detection pixels)."""
    keypoints = np.zeros((25, 3), np.float32)
    for index, joint in zip(COCO_18_TO_BODY_25, result.keypoints, strict=True):
        if joint is None:
            continue
        x, y = (joint.x + 0.5) * scale[0] - 0.5, (joint.y + 0.5) * scale[1] - 0.5
        if x > image_size[0] - 0.5 or y > image_size[1] - 0.5:
            continue  # a peak in the padding
        keypoints[index] = x, y, min(max(float(joint.score), 0.0), 1.0)
    keypoints[Body25.MID_HIP] = joint_between(keypoints[Body25.RIGHT_HIP], keypoints[Body25.LEFT_HIP])
    found = keypoints[keypoints[:, 2] > 0, :2]
    if len(found) == 0:
        return None
    (left, top), (right, bottom) = found.min(axis=0).tolist(), found.max(axis=0).tolist()
    return Pose(keypoints, (left, top, right, bottom), float(result.total_score / result.total_parts))


def _load_body(path: str | os.PathLike, device: str) -> Any:
    """controlnet_aux's `Body` with weights that are read as tensors only."""
    import torch

    body_class, network_class = import_openpose()
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
    # Body's own constructor reads the file with torch.load's defaults, and needs the device that it was saved from.
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


def import_openpose() -> tuple[Any, Any]:
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
    reason = reason_of(error)
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
