"""What makes a pipeline faster on a machine, or smaller in its memory."""

from __future__ import annotations

from typing import Any

from diffusers import DiffusionPipeline

from ..errors import InvalidInput
from ..validation import is_whole_number
from .denoising import can_run_lean

DEPTH = 2  # layers of the decoder that the step cache leaves out of its cache by default


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
