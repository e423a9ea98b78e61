"""Checkpoints in the released layout, narrow enough for tests; every value follows from its tensor's name."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stableviton_sdk.conversion.architecture import build_on_meta
from stableviton_sdk.conversion.key_mapping import Layout, Rename, plan_keys

MANIFEST = Path(__file__).parent / "fixtures" / "stableviton" / "manifest.json"
# Its vision tower has 4 heads, which shapes can't tell.
ARCHITECTURE = {"garment_encoder": {"num_attention_heads": 4}}

# Two levels of one layer each; made with it, a pipeline converts and loads in a fraction of a second.
SMALL = {
    "unet": {
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "TryOnUpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": 32,
    },
    "spatial_encoder": {
        "block_out_channels": (32,),
        "down_block_types": ("CrossAttnDownBlock2D",),
        "layers_per_block": 1,
        "cross_attention_dim": 32,
    },
    "garment_encoder": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "image_size": 64,
        "patch_size": 32,
        "mapper_layers": 1,
        "projection_dim": 32,
    },
    "vae": {
        "block_out_channels": (32, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "layers_per_block": 1,
    },
}


NUMBERED = re.compile(
    r"\b(input_blocks|output_blocks|warp_flow_blks|warp_zero_convs|resblocks|layers|down|up|block)\.(\d+)(?=\.)"
)


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


def state_dict(manifest: Path | Mapping[str, Any] = MANIFEST, salt: str | None = None) -> dict[str, torch.Tensor]:
    """The tensors by their released names; another salt makes another checkpoint of the same shapes."""
    content = json.loads(manifest.read_text(encoding="utf-8")) if isinstance(manifest, Path) else manifest
    salt = content["salt"] if salt is None else salt
    state = {}
    for key, (shape, _) in content["tensors"].items():
        if key.endswith("position_ids"):
            state[key] = torch.arange(shape[-1]).expand(shape).clone()
        else:
            state[key] = torch.from_numpy(draw(key, shape, salt))
    return state


def write_checkpoint(
    path: Path, manifest: Path | Mapping[str, Any] = MANIFEST, salt: str | None = None, **beside: Any
) -> Path:
    """Write a `.ckpt` as the authors' training code does; `beside` stands next to the tensors."""
    torch.save({"state_dict": state_dict(manifest, salt), "epoch": 0, "global_step": 0, **beside}, path)
    return path


@cache
def small_manifest() -> dict[str, Any]:
    """A manifest as `MANIFEST`, of the networks in `SMALL`: released names with other block numbers."""
    shapes = {
        (component, key): list(value.shape)
        for component, config in SMALL.items()
        for key, value in build_on_meta(component, config).state_dict().items()
    }
    released = json.loads(MANIFEST.read_text(encoding="utf-8"))["tensors"]
    released_names: dict[tuple[str, str], str] = {}
    tensors: dict[str, tuple[list[int], str]] = {}
    for key in sorted({candidate for name in released for candidate in _renumbered(name)}):
        renames = _renames(key)
        if not renames or any((rename.component, rename.target) not in shapes for rename in renames):
            continue
        for rename in renames:  # a level's sampler is in its last block, and only there
            tensors.pop(released_names.get((rename.component, rename.target), ""), None)
            released_names[rename.component, rename.target] = key
        shape = list(shapes[renames[0].component, renames[0].target])
        shape[0] *= len(renames)  # query, key and value are one matrix
        tensors[key] = ([*shape, 1, 1] if renames[0].squeeze and len(shape) == 2 else shape, "float32")
    assert len(plan_keys(tensors).renames) == len(shapes)
    return {"salt": "small", "tensors": tensors}


def _renames(key: str) -> list[Rename] | None:
    from stableviton_sdk.conversion import key_mapping

    layout = Layout(levels=2, layers_per_block=1, vae_levels=2)
    return None if key in key_mapping.UNUSED else key_mapping._rename(key, layout)


def _renumbered(key: str) -> list[str]:
    """The name with all numbers that its block could have in a smaller network."""
    numbers = [match.span(2) for match in NUMBERED.finditer(key)]
    names = []
    for choice in product("0123", repeat=len(numbers)):
        name = key
        for (begin, end), number in reversed(list(zip(numbers, choice, strict=True))):
            name = name[:begin] + number + name[end:]
        names.append(name)
    return names
