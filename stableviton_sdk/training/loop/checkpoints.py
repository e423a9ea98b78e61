"""Training states on disk: complete or not there at all, and exact to the last bit."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...errors import IncompatibleCheckpoint
from ...files import replacing_folder

STATE = "state.json"
NAME = re.compile(r"step-(\d{8})")


def save_checkpoint(
    folder: Path,
    step: int,
    tensors: Mapping[str, torch.Tensor],
    state: Mapping[str, Any],
    *,
    keep: int,
    max_file_bytes: float,
) -> Path:
    """Write a checkpoint under a temporary name, rename it when all of it is on the disk, and delete the oldest.

    Args:
        folder (`Path`): Folder of all checkpoints.
        step (`int`): Optimizer steps taken.
        tensors (`Mapping[str, torch.Tensor]`): All tensors, by name.
        state (`Mapping[str, Any]`): Everything else, as JSON holds it.
        keep (`int`): Number of checkpoints that stay.
        max_file_bytes (`float`): Largest size of a file in bytes, unless one tensor alone is larger.

    Returns:
        `Path`: the checkpoint.
    """
    from safetensors.torch import save_file

    target = folder / f"step-{step:08d}"
    with replacing_folder(target, flush=True) as partial:
        files = _split(tensors, max_file_bytes)
        for number, names in enumerate(files):
            path = partial / f"tensors-{number:04d}.safetensors"
            save_file({name: tensors[name].detach().cpu().contiguous() for name in names}, path)
        content = {"step": step, "files": len(files), **state}
        (partial / STATE).write_text(json.dumps(content, indent=1), encoding="utf-8")
    for old in list_checkpoints(folder)[:-keep]:
        _discard(old)
    return target


def list_checkpoints(folder: Path) -> list[Path]:
    """All complete checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if NAME.fullmatch(path.name) and (path / STATE).is_file()]
    return sorted(found, key=lambda path: int(NAME.fullmatch(path.name)[1]))


def read_checkpoint_state(path: Path) -> dict[str, Any]:
    """Everything but the tensors of a checkpoint."""
    try:
        return json.loads((path / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IncompatibleCheckpoint(f"{path / STATE} can't be read ({error}): delete this checkpoint.") from error


def read_checkpoint_tensors(path: Path, files: int) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint.

    Raises:
        `IncompatibleCheckpoint`: if a file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    for number in range(files):
        file = path / f"tensors-{number:04d}.safetensors"
        try:
            tensors |= load_file(file)
        except (SafetensorError, OSError) as error:
            raise IncompatibleCheckpoint(
                f"{file} can't be read ({error}): delete this checkpoint, and training goes on from the one before."
            ) from error
    return tensors


def _discard(checkpoint: Path) -> None:
    """Delete a checkpoint that is never seen with only some of its files."""
    away = checkpoint.with_name(f".{checkpoint.name}.discarded.partial")  # `remove_leftovers` knows the name
    shutil.rmtree(away, ignore_errors=True)
    checkpoint.rename(away)
    shutil.rmtree(away, ignore_errors=True)


def _split(tensors: Mapping[str, torch.Tensor], max_file_bytes: float) -> list[list[str]]:
    files: list[list[str]] = [[]]
    filled = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if filled + size > max_file_bytes and files[-1]:
            files.append([])
            filled = 0
        files[-1].append(name)
        filled += size
    return files
