"""Open an ONNX network on the device that was asked for, or say in one sentence why it can't be done."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import IncompatibleCheckpoint, InvalidInput, MissingDependency, WeightsUnavailable

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime
    import torch

    Device = str | torch.device

logger = logging.getLogger(__name__)

_DEVICE_KINDS = ("cpu", "cuda", "mps", "xpu", "npu", "hpu")


def check_device(device: Device) -> str:
    """Return the device as text, `"cpu"` or `"cuda:1"`, whether it came as text or as a `torch.device`.

    Raises:
        `InvalidInput`: if no such kind of device exists.
    """
    text = str(device)
    kind, colon, index = text.partition(":")
    if kind not in _DEVICE_KINDS or (colon and not index.isdecimal()):
        raise InvalidInput(f"device {text!r} is unknown: pass 'cpu', 'cuda', 'cuda:1' or 'mps'.")
    return text


def execution_providers(device: Device, available: Sequence[str]) -> list[Any]:
    """Choose onnxruntime's execution providers for a device, best first; the CPU always stands last.

    CUDA is used on CUDA devices where the installed onnxruntime has it. Everything else runs on the CPU: the plain
    `onnxruntime` package has nothing else, and one photo takes it about a second.

    Args:
        device (`str` or `torch.device`): As in PyTorch: `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"`.
        available (`Sequence[str]`): What `onnxruntime.get_available_providers()` lists.
    """
    kind, _, index = check_device(device).partition(":")
    providers: list[Any] = ["CPUExecutionProvider"]
    if kind == "cuda":
        if "CUDAExecutionProvider" in available:
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(index or 0)}))
        else:
            logger.info("the installed onnxruntime has no CUDA: running on the CPU (pip install onnxruntime-gpu)")
    return providers


def check_file(path: str | os.PathLike, *, name: str, what: str) -> Path:
    """Return the path of a weights file that exists.

    Args:
        path (`str` or `os.PathLike`): The file.
        name (`str`): What the error messages call the network.
        what (`str`): What they call the file.

    Raises:
        `InvalidInput`: if it is no path.
        `WeightsUnavailable`: if there is no such file.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidInput(f"{name}: {path!r} is no path; pass the path of {what}.")
    path = Path(path)
    if not path.is_file():
        raise WeightsUnavailable(f"{name}: there is no file {path}; pass the path of {what}.")
    return path


def open_session(
    path: str | os.PathLike, device: Device, *, name: str, input_shape: tuple[int, ...], output_count: int
) -> onnxruntime.InferenceSession:
    """Open an ONNX file and check that it is the kind of network it should be.

    Args:
        path (`str` or `os.PathLike`): The .onnx file.
        device (`str` or `torch.device`): Where it shall run.
        name (`str`): What the error messages call the network.
        input_shape (`tuple[int, ...]`): Shape of its one input; axes that the file leaves open fit any size.
        output_count (`int`): How many outputs it has at least.

    Raises:
        `MissingDependency`: if onnxruntime can't be imported.
        `InvalidInput`: if the path is no path.
        `WeightsUnavailable`: if there is no such file, or it is damaged.
        `IncompatibleCheckpoint`: if it holds another network.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency(
            f"{name} needs onnxruntime, which can't be imported ({error}): run `pip install onnxruntime`."
        ) from error

    path = check_file(path, name=name, what="the downloaded .onnx file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # released graphs make onnxruntime warn about every unused initializer
    providers = execution_providers(device, onnxruntime.get_available_providers())
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except Exception as error:  # onnxruntime's errors have no common base but this one
        reason = " ".join(str(error).split())[:200]
        raise WeightsUnavailable(
            f"{name}: {path} can't be opened as an ONNX network ({reason}); download it again."
        ) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    found = tuple(inputs[0].shape) if inputs else ()
    fits = len(found) == len(input_shape) and all(
        not isinstance(size, int) or size == expected for size, expected in zip(found, input_shape, strict=True)
    )
    if len(inputs) != 1 or not fits or len(outputs) < output_count:
        raise IncompatibleCheckpoint(
            f"{path} is not {name}: it has {len(inputs)} inputs (the first of shape {found}) and {len(outputs)} "
            f"outputs, where one input of shape {input_shape} and {output_count} outputs belong; pass the right file."
        )
    return session


def run_session(session: onnxruntime.InferenceSession, values: np.ndarray, outputs: Sequence[int]) -> list[np.ndarray]:
    """Run a network with one input and return the outputs with these indices."""
    names = [output.name for output in session.get_outputs()]
    return session.run([names[index] for index in outputs], {session.get_inputs()[0].name: values})
