"""Opening and running ONNX networks."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import IncompatibleCheckpoint, InvalidInput, MissingDependency, WeightsUnavailable, reason_of

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime
    import torch

    Device = str | torch.device

logger: logging.Logger = logging.getLogger(__name__)

NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
_DEVICE_KINDS = ("cpu", "cuda", "mps", "xpu", "npu", "hpu")


def check_device(device: Device) -> str:
    """Name of a device, such as `"cpu"` or `"cuda:1"`.

    Args:
        device (`str` or `torch.device`): The device.

    Raises:
        `InvalidInput`: if there is no such kind of device.
    """
    text = str(device)
    kind, colon, index = text.partition(":")
    if kind not in _DEVICE_KINDS or (colon and not index.isdecimal()):
        raise InvalidInput(f"device {text!r} is unknown: pass 'cpu', 'cuda', 'cuda:1' or 'mps'.")
    return text


def execution_providers(device: Device, available: Sequence[str]) -> list[str | tuple[str, dict[str, int]]]:
    """onnxruntime's execution providers for a device, best first; the CPU comes last.

    CUDA devices use CUDA if the installed onnxruntime has it. Everything else runs on the CPU: the plain `onnxruntime`
    package has nothing else, and a photo takes about a second there.

    Args:
        device (`str` or `torch.device`): Device as in PyTorch: `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"`.
        available (`Sequence[str]`): Providers that `onnxruntime.get_available_providers()` lists.

    Returns:
        `list`: names, or tuples of a name and options, as `onnxruntime.InferenceSession` takes them.
    """
    kind, _, index = check_device(device).partition(":")
    providers: list[str | tuple[str, dict[str, int]]] = ["CPUExecutionProvider"]
    if kind == "cuda":
        if "CUDAExecutionProvider" in available:
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(index or 0)}))
        else:
            logger.info("the installed onnxruntime has no CUDA: running on the CPU (pip install onnxruntime-gpu)")
    return providers


def check_file(path: str | os.PathLike[str], *, name: str, what: str) -> Path:
    """Path of a weights file, which exists.

    Args:
        path (`str` or `os.PathLike`): The file.
        name (`str`): Name of the network in error messages.
        what (`str`): Description of the file in error messages.

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
    path: str | os.PathLike[str], device: Device, *, name: str, input_shape: tuple[int, ...], output_count: int
) -> onnxruntime.InferenceSession:
    """Session of an ONNX file, whose input and outputs are the expected ones.

    Args:
        path (`str` or `os.PathLike`): The .onnx file.
        device (`str` or `torch.device`): Device the network runs on.
        name (`str`): Name of the network in error messages.
        input_shape (`tuple[int, ...]`): Shape of its one input; axes that the file leaves open fit any size.
        output_count (`int`): Least number of outputs.

    Raises:
        `MissingDependency`: if onnxruntime can't be imported.
        `InvalidInput`: if the path or the device is none.
        `WeightsUnavailable`: if there is no such file, or it is damaged.
        `IncompatibleCheckpoint`: if it holds another network.
    """
    try:
        onnxruntime = _import_onnxruntime()
    except ImportError as error:
        raise MissingDependency(
            f"{name} needs onnxruntime, which can't be imported ({error}): run `pip install onnxruntime`."
        ) from error

    device = check_device(device)
    path = check_file(path, name=name, what="the downloaded .onnx file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # released graphs make onnxruntime warn about every unused initializer
    providers = execution_providers(device, onnxruntime.get_available_providers())
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except Exception as error:  # onnxruntime's errors have no common base but this one
        raise WeightsUnavailable(
            f"{name}: {path} can't be opened as an ONNX network ({reason_of(error)}); download it again."
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
    """Outputs of a network with one input.

    Args:
        session (`onnxruntime.InferenceSession`): The network.
        values (`np.ndarray`): The input, of the network's own shape and type.
        outputs (`Sequence[int]`): Indices of the outputs to return.
    """
    names = [output.name for output in session.get_outputs()]
    return session.run([names[index] for index in outputs], {session.get_inputs()[0].name: values})


def _import_onnxruntime() -> Any:
    """onnxruntime, kept from sending anything: from 1.29 on it reports to Microsoft and marks the user's cache folder.

    Only this variable prevents that, and only while the module is loaded for the first time; then it's as it was.
    """
    if "onnxruntime" not in sys.modules and NO_TELEMETRY not in os.environ:
        os.environ[NO_TELEMETRY] = "1"
        try:
            import onnxruntime
        finally:
            os.environ.pop(NO_TELEMETRY, None)
    import onnxruntime

    return onnxruntime
