"""Reading checkpoints without importing or calling anything that they name."""

from __future__ import annotations

import errno
import os
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import IncompatibleCheckpoint, InvalidInput
from ..safe_pickle import inert_pickle

WRAPPERS = ("state_dict", "model", "module")


class SafetensorsCheckpoint(Mapping[str, torch.Tensor]):
    """A safetensors file as a mapping that reads a tensor at each access."""

    def __init__(self, path: Path):
        from safetensors import SafetensorError, safe_open

        try:
            self._file = safe_open(path, framework="pt", device="cpu")
        except (SafetensorError, OSError) as error:
            raise IncompatibleCheckpoint(
                f"{path} is no readable safetensors file ({error}): download it again."
            ) from error
        self._keys = list(self._file.keys())

    def __getitem__(self, key: str) -> torch.Tensor:
        return self._file.get_tensor(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def shape(self, key: str) -> tuple[int, ...]:
        """A tensor's shape, read from the header alone."""
        return tuple(self._file.get_slice(key).get_shape())

    def is_floating(self, key: str) -> bool:
        """Whether a tensor holds floating-point numbers, read from the header alone."""
        return self._file.get_slice(key).get_dtype().startswith(("F", "BF"))


def read_checkpoint(path: str | Path) -> tuple[Mapping[str, torch.Tensor], dict[str, int]]:
    """Open a checkpoint's tensors, memory-mapped where its format allows.

    Args:
        path (`str` or `Path`): A `.ckpt` (`torch.save`, zipped or older) or a `.safetensors` file.

    Returns:
        `tuple[Mapping[str, torch.Tensor], dict[str, int]]`: the tensors by name, and what stands beside them in the
        file with its size in bytes (0 where it isn't known).

    Raises:
        `InvalidInput`: if there is no such file.
        `IncompatibleCheckpoint`: if the file is damaged or holds no tensors.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidInput(f"{type(path).__name__} is no checkpoint: pass the path of a .ckpt or .safetensors file.")
    path = Path(path).expanduser()
    if not path.is_file():
        raise InvalidInput(f"there is no checkpoint {path}: pass the path of a .ckpt or .safetensors file.")
    if path.suffix == ".safetensors":
        return SafetensorsCheckpoint(path), {}
    content = _load_pickle(path)
    beside: dict[str, int] = {}
    state = content
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            state = content[wrapper]
            beside = {
                str(key): size for key, value in content.items() if key != wrapper and (size := _tensor_bytes(value))
            }
            break
    tensors = {key: value for key, value in _items(state) if isinstance(value, torch.Tensor)}
    if not tensors:
        raise IncompatibleCheckpoint(f"{path} holds no tensors: it is not a model checkpoint.")
    if any(tensor.layout is not torch.strided or tensor.device.type != "cpu" for tensor in tensors.values()):
        raise IncompatibleCheckpoint(
            f"{path} holds sparse or otherwise unusual tensors: it is not a model checkpoint."
        )
    return tensors, beside


def _load_pickle(path: Path) -> Any:
    zipped = zipfile.is_zipfile(path)
    if zipped:
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile as error:
            raise IncompatibleCheckpoint(f"{path} is damaged ({error}): download it again.") from error
        # torch.load hands TorchScript archives, which are programs, to torch.jit.load
        if any(name.endswith(("/constants.pkl", "/code")) or "/code/" in name for name in names):
            raise IncompatibleCheckpoint(f"{path} is a TorchScript program, not a checkpoint: pass the .ckpt file.")
    try:
        try:
            return torch.load(path, map_location="cpu", mmap=zipped, weights_only=True)
        except pickle.UnpicklingError:
            # foreign objects (Lightning, OmegaConf) stand beside the tensors: leave them out
            return torch.load(path, map_location="cpu", mmap=zipped, weights_only=False, pickle_module=inert_pickle())
    except MemoryError as error:  # also for a damaged length
        raise IncompatibleCheckpoint(
            f"{path} is damaged, or larger than the memory there is: download it again, or free some memory."
        ) from error
    except Exception as error:  # a damaged pickle fails in as many ways as there are opcodes
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # this one is a seek in a file cut short
            raise
        raise IncompatibleCheckpoint(
            f"{path} can't be read as a PyTorch checkpoint ({type(error).__name__}: {error}): download it again."
        ) from error


def _items(state: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(state, dict):
        return iter(())
    return ((key, value) for key, value in state.items() if isinstance(key, str))


def _tensor_bytes(value: Any) -> int:
    """Size of all tensors in nested containers, shared ones counted as often as they're named."""
    total, stack = 0, [value]
    while stack:
        item = stack.pop()
        if isinstance(item, torch.Tensor):
            total += item.numel() * item.element_size()
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
    return total
