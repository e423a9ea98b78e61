"""Checkpoints in the released layout whose tensors follow from their names, so only names and shapes are stored."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

FIXTURES = Path(__file__).parents[1] / "fixtures" / "stableviton"
# what no shape tells of the stand-in's vision tower
ARCHITECTURE = {"garment_encoder": {"num_attention_heads": 4}}


def named_tensor(key: str, shape: list[int], salt: str) -> torch.Tensor:
    """The values that the reference numbers were computed with."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32((salt + key).encode())))
    values = generator.standard_normal(shape, dtype=np.float32)
    if "embedding" in key:
        values *= 0.05
    elif len(shape) >= 2 and "learnable" not in key:
        values *= 1.0 / np.sqrt(int(np.prod(shape[1:])))
    elif key.endswith("weight"):
        values = 1 + 0.1 * values
    elif key.endswith("bias"):
        values *= 0.05
    return torch.from_numpy(values.astype(np.float32))


def stand_in_state() -> dict[str, torch.Tensor]:
    """A narrow state dict with the names of the released one."""
    manifest = json.loads((FIXTURES / "manifest.json").read_text())
    state = load_file(FIXTURES / "schedule_buffers.safetensors")
    for key, (shape, _) in manifest["tensors"].items():
        if key.endswith("position_ids"):
            state[key] = torch.arange(shape[-1]).expand(shape).clone()
        elif key not in state:
            state[key] = named_tensor(key, shape, manifest["salt"])
    return state


def write_checkpoint(path: Path, state: dict[str, Any] | None = None) -> Path:
    """Save a stand-in as the authors' training saves."""
    torch.save({"state_dict": stand_in_state() if state is None else state, "epoch": 0, "global_step": 0}, path)
    return path


def expected() -> dict[str, torch.Tensor]:
    """What the original implementation computes from the stand-in and `inputs`."""
    return load_file(FIXTURES / "expected.safetensors")


def inputs() -> dict[str, torch.Tensor]:
    """8-bit images, (1, H, W, C); `agn_mask` is 1 = keep."""
    return load_file(FIXTURES / "inputs.safetensors")
