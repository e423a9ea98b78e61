"""What makes a pipeline faster on a machine, or smaller in its memory."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DiffusionPipeline

from ..dtypes import fastest_dtype
from ..errors import InvalidInput
from ..models.packing import HAS_ONEDNN, PACKED_TYPES, pack_convolutions
from ..validation import is_whole_number
from .calls import moves_weights
from .denoising import can_run_lean

DEPTH = 2  # layers of the decoder that the step cache leaves out of its cache by default


def optimize(pipeline: DiffusionPipeline) -> list[str]:
    """What was done to make a pipeline faster on the device it is on; see `TryOnPipeline.optimize`."""
    networks = {name: getattr(pipeline, name) for name in ("unet", "spatial_encoder", "vae")}
    if any(map(moves_weights, networks.values())):
        raise InvalidInput("the pipeline offloads or casts its weights: call optimize before you turn that on.")
    for network in networks.values():
        network.to(memory_format=torch.channels_last)
    done = [f"{', '.join(networks)}: weights in the channels_last order, which their convolutions are faster in"]
    device, dtype = pipeline.unet.device, pipeline.unet.dtype
    if device.type == "cpu" and HAS_ONEDNN and dtype in PACKED_TYPES and can_run_lean(pipeline):
        size = sum(pack_convolutions(networks[name]) for name in ("unet", "spatial_encoder"))
        done.append(
            "unet, spatial_encoder: convolutions' weights also in oneDNN's own layout, from their first call on "
            f"({size / 1e6:.0f} MB more)"
        )
    fastest = fastest_dtype(device)
    if fastest != dtype:
        done.append(f'nothing about the number type: this device computes {fastest} faster, load with dtype="auto"')
    return done


def check_step_cache(pipeline: DiffusionPipeline, interval: Any, depth: Any) -> dict[str, int]:
    """Arguments of a step cache that a pipeline can have.

    Raises:
        `InvalidInput`: for other numbers, or networks that the cache can't be used with.
    """
    if not is_whole_number(interval) or interval < 1:
        raise InvalidInput(f"interval is {interval!r}: pass a whole number from 1 (1 computes every step in full).")
    layers = sum(len(block.resnets) for block in getattr(pipeline.unet, "up_blocks", ()))
    if not is_whole_number(depth) or not 1 <= depth < layers:
        raise InvalidInput(f"depth is {depth!r}: pass a whole number from 1 to {layers - 1}.")
    if not can_run_lean(pipeline):
        raise InvalidInput(
            "the step cache needs the SDK's own networks with nothing hung on their inner blocks: turn compiling, "
            "a device map or group offloading by blocks off (leaf_level works)."
        )
    return {"interval": int(interval), "depth": int(depth)}
