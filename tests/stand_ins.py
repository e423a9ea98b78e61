"""A checkpoint in the released layout, narrow enough for tests; every value follows from its tensor's name."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

MANIFEST = Path(__file__).parent / "fixtures" / "stableviton" / "manifest.json"
# Its vision tower has 4 heads, which shapes can't tell.
ARCHITECTURE = {"garment_encoder": {"num_attention_heads": 4}}


def draw(key: str, shape: list[int], salt: str) -> np.ndarray:
    """Values of one tensor, scaled so that the networks stay tame."""
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
    return values.astype(np.float32)


def state_dict(manifest: Path = MANIFEST, salt: str | None = None) -> dict[str, torch.Tensor]:
    """The tensors by their released names; another salt makes another checkpoint of the same shapes."""
    content = json.loads(manifest.read_text(encoding="utf-8"))
    salt = content["salt"] if salt is None else salt
    state = {}
    for key, (shape, _) in content["tensors"].items():
        if key.endswith("position_ids"):
            state[key] = torch.arange(shape[-1]).expand(shape).clone()
        else:
            state[key] = torch.from_numpy(draw(key, shape, salt))
    return state


def write_checkpoint(path: Path, manifest: Path = MANIFEST, salt: str | None = None, **beside: Any) -> Path:
    """Write a `.ckpt` as the authors' training code does; `beside` stands next to the tensors."""
    torch.save({"state_dict": state_dict(manifest, salt), "epoch": 0, "global_step": 0, **beside}, path)
    return path
