"""The released DensePose weights: reading them without running anything in them, and conversion to safetensors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ...errors import IncompatibleCheckpoint, WeightsUnavailable
from ...files import replacing
from ...safe_pickle import read_arrays
from .network import DensePoseNetwork

MAX_BYTES = 2**31  # the released file has 256 MB
BATCH_NORM_EPSILON = 1e-5
BACKBONE = "backbone.bottom_up."
BATCH_NORM_PARTS = ("weight", "bias", "running_mean", "running_var")

# Settings that some detectron2 versions stored as tensors; a file may have them if they say what the network does.
_SETTINGS = {"pixel_mean": (103.53, 116.28, 123.675), "pixel_std": (1.0, 1.0, 1.0)}
_ANCHORS = "proposal_generator.anchor_generator.cell_anchors."

Layout = dict[str, tuple[int, ...]]


def load_network(path: str | os.PathLike[str]) -> DensePoseNetwork:
    """DensePose network with the released weights.

    Args:
        path (`str` or `os.PathLike`):
            The released `model_final_162be9.pkl`, or a safetensors file that `convert_checkpoint` made of it.

    Raises:
        `IncompatibleCheckpoint`: if it's another model's file, a damaged one, or a pickle of more than arrays.
        `WeightsUnavailable`: if there is no such file, or it can't be read.
    """
    with torch.device("meta"):  # neither memory nor random numbers for weights that are about to be replaced
        network = DensePoseNetwork()
    network.load_state_dict(fold_batch_norm(read_checkpoint(path, released_layout())), assign=True)
    # a fifth less time on CPUs, and the layout that tensor cores work in
    return network.to(memory_format=torch.channels_last).requires_grad_(False).eval()


def read_checkpoint(path: str | os.PathLike[str], layout: Layout) -> dict[str, torch.Tensor]:
    """Tensors of a checkpoint, the released pickle or our safetensors, by the names of a layout.

    Args:
        path (`str` or `os.PathLike`): The file. Its content decides what it is, not its ending.
        layout (`dict[str, tuple[int, ...]]`): Names and shapes of exactly the tensors that the file must have.

    Returns:
        `dict[str, torch.Tensor]`: float32, in the layout's order.

    Raises:
        `IncompatibleCheckpoint`: if it's another model's file, a damaged one, or a pickle of more than arrays.
        `WeightsUnavailable`: if there is no such file, or it can't be read.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsUnavailable(
            f"there is no file {path}: pass the path of the released model_final_162be9.pkl or of its conversion."
        )
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise IncompatibleCheckpoint(f"{path} has {size / 2**30:.1f} GiB, the released file only 0.24: pass that one.")
    try:
        with path.open("rb") as stream:
            arrays = _read_arrays(path, stream, size)
    except OSError as error:
        raise WeightsUnavailable(f"{path} could not be read ({error}): check its permissions and the disk.") from error
    _check(arrays, layout, path)
    # popped one by one, so that the file's bytes don't stay in memory beside the tensors
    return {name: _to_tensor(arrays.pop(name)) for name in layout}


def convert_checkpoint(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> Path:
    """Rewrite the released pickle as safetensors, under the released names, in float32.

    The file appears under its name only once it is complete.

    Args:
        source (`str` or `os.PathLike`): `model_final_162be9.pkl`.
        target (`str` or `os.PathLike`): File to write; missing folders are made.

    Returns:
        `pathlib.Path`: `target`.

    Raises:
        `IncompatibleCheckpoint`: if it's another model's file, a damaged one, or a pickle of more than arrays.
        `WeightsUnavailable`: if there is no such file, or the target can't be written.
    """
    tensors = read_checkpoint(source, released_layout())
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as partial:
            save_file(tensors, partial, metadata={"format": "pt", "architecture": "densepose_rcnn_R_50_FPN_s1x"})
    except (OSError, SafetensorError) as error:
        raise WeightsUnavailable(f"{target} could not be written ({error}): choose another place.") from error
    return target


def released_layout() -> Layout:
    """Names and shapes of the released tensors: there a backbone convolution has `norm.*` instead of a bias."""
    with torch.device("meta"):
        state = DensePoseNetwork().state_dict()
    layout: Layout = {}
    for name, tensor in state.items():
        if name.startswith(BACKBONE) and name.endswith(".bias"):
            for part in BATCH_NORM_PARTS:
                layout[f"{name.removesuffix('bias')}norm.{part}"] = tuple(tensor.shape)
        else:
            layout[name] = tuple(tensor.shape)
    return layout


def fold_batch_norm(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors with each `X.norm.*` folded into the convolution X before it; empties `tensors`, to save memory."""
    folded = {}
    for name in [name for name in tensors if ".norm." not in name]:
        weight = tensors.pop(name)
        layer = name.removesuffix("weight")
        if f"{layer}norm.weight" in tensors:
            gain, bias, mean, variance = (tensors.pop(f"{layer}norm.{part}") for part in BATCH_NORM_PARTS)
            scale = gain * (variance + BATCH_NORM_EPSILON).rsqrt()
            weight = weight * scale[:, None, None, None]
            folded[f"{layer}bias"] = bias - mean * scale
        folded[name] = weight
    return folded


def _read_arrays(path: Path, stream: BinaryIO, size: int) -> dict[str, Any]:
    start = stream.read(9)
    stream.seek(0)
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") < size:
        return _read_safetensors(path)
    if start[:1] == b"\x80":
        return _read_pickled_model(path, stream, size)
    raise IncompatibleCheckpoint(
        f"{path} is neither a pickle nor a safetensors file: pass model_final_162be9.pkl or its conversion."
    )


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        return dict(load_file(path))
    except (SafetensorError, ValueError) as error:
        raise IncompatibleCheckpoint(f"{path} is damaged ({error}): convert or download it again.") from error


def _read_pickled_model(path: Path, stream: BinaryIO, size: int) -> dict[str, Any]:
    try:
        content = read_arrays(stream, size)
    except IncompatibleCheckpoint as error:
        raise IncompatibleCheckpoint(f"{path}: {error}") from error.__cause__
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not all(isinstance(name, str) for name in model):
        raise IncompatibleCheckpoint(f'{path} has no dict of named arrays under "model": pass the released file.')
    return model


def _check(arrays: dict[str, Any], layout: Layout, path: Path) -> None:
    """Require exactly the layout's tensors; removes the known settings from `arrays`."""
    for name in list(arrays):
        if name in layout:
            continue
        expected = _expected_setting(name)
        if expected is None:
            raise IncompatibleCheckpoint(f"{path} has the unknown tensor {name}: it is no DensePose R_50_FPN_s1x.")
        value = np.asarray(arrays.pop(name), dtype=np.float64).ravel()
        if value.shape != expected.shape or not np.allclose(value, expected, atol=1e-2):
            raise IncompatibleCheckpoint(f"{path} was trained with another {name}: pass the released R_50_FPN_s1x.")
    for name, shape in layout.items():
        if name not in arrays:
            raise IncompatibleCheckpoint(f"{path} lacks the tensor {name}: it is no DensePose R_50_FPN_s1x.")
        value = arrays[name]
        if not isinstance(value, (np.ndarray, torch.Tensor)) or not _is_floating(value):
            kind = getattr(value, "dtype", type(value).__name__)
            raise IncompatibleCheckpoint(f"{path} has {name} as {kind}, not as an array of floats.")
        if tuple(value.shape) != shape:
            raise IncompatibleCheckpoint(
                f"{path} has {name} of shape {tuple(value.shape)} instead of {shape}: it is no DensePose R_50_FPN_s1x."
            )


def _expected_setting(name: str) -> np.ndarray | None:
    if name in _SETTINGS:
        return np.array(_SETTINGS[name])
    level = name.removeprefix(_ANCHORS)
    if level == name or level not in "01234":
        return None
    halves = [(32 << int(level)) / 2 * np.array((ratio**-0.5, ratio**0.5)) for ratio in (0.5, 1.0, 2.0)]
    return np.concatenate([np.concatenate((-half, half)) for half in halves])


def _is_floating(value: np.ndarray | torch.Tensor) -> bool:
    return value.is_floating_point() if isinstance(value, torch.Tensor) else value.dtype.kind == "f"


def _to_tensor(value: np.ndarray | torch.Tensor) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value.float()
    return torch.from_numpy(np.array(value, dtype=np.float32, order="C"))  # a copy: the file's bytes are read-only
