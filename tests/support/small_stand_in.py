"""A checkpoint of the smallest networks that the released layout allows: it converts and loads in half a second."""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import product

import torch

from stableviton_sdk.conversion import key_mapping
from stableviton_sdk.conversion.architecture import build_on_meta
from stableviton_sdk.conversion.key_mapping import Layout, Rename, plan_keys
from support.stand_ins import FIXTURES, named_tensor

# Two levels of one layer each, and 4 heads in the vision tower as in `stand_ins`.
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


@cache
def small_shapes() -> dict[str, list[int]]:
    """Shapes of the networks in `SMALL` by the released names, which have other block numbers then."""
    shapes = {
        (component, key): list(value.shape)
        for component, config in SMALL.items()
        for key, value in build_on_meta(component, config).state_dict().items()
    }
    released = json.loads((FIXTURES / "manifest.json").read_text(encoding="utf-8"))["tensors"]
    released_names: dict[tuple[str, str], str] = {}
    tensors: dict[str, list[int]] = {}
    for key in sorted({candidate for name in released for candidate in _renumbered(name)}):
        renames = _renames(key)
        if not renames or any((rename.component, rename.target) not in shapes for rename in renames):
            continue
        for rename in renames:  # a level's sampler is in its last block, and only there
            tensors.pop(released_names.get((rename.component, rename.target), ""), None)
            released_names[rename.component, rename.target] = key
        shape = list(shapes[renames[0].component, renames[0].target])
        shape[0] *= len(renames)  # query, key and value are one matrix
        tensors[key] = [*shape, 1, 1] if renames[0].squeeze and len(shape) == 2 else shape
    assert len(plan_keys(tensors).renames) == len(shapes)
    return tensors


def small_state(salt: str = "small") -> dict[str, torch.Tensor]:
    """A checkpoint's tensors; another salt makes another checkpoint."""
    return {key: named_tensor(key, shape, salt) for key, shape in small_shapes().items()}


def _renames(key: str) -> list[Rename] | None:
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
