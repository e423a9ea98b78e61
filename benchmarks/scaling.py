"""How a call's time grows with steps, images and pixels, at full size with random weights."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from stableviton_sdk import SpatialEncoder, TryOnUNet
from stableviton_sdk.dtypes import DTYPES, fastest_dtype

from .full_size import call_images, full_size_pipeline, interleaved, medians, write_report

SIZES = ((192, 256), (384, 512), (768, 1024))
KINDS = {"convolution": "convolutions", "scaled_dot_product": "attention", "bmm": "attention", "mm": "matrix products"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=DTYPES, help="default: what suits the machine")
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="how many of them, the smallest first")
    parser.add_argument("--output", default="benchmarks/results/scaling.json")
    arguments = parser.parse_args()
    sizes = SIZES[: arguments.sizes]
    pipeline = full_size_pipeline(DTYPES.get(arguments.dtype, fastest_dtype("cpu")))
    pipeline.optimize()
    works: dict[str, Callable[[], Any]] = {}
    for steps in (1, 2, 4):
        works[f"{steps} steps"] = partial(denoise, pipeline, SIZES[0], steps=steps)
    for count in (1, 2, 4):
        works[f"{count} images"] = partial(denoise, pipeline, SIZES[0], count=count)
    for size in sizes:
        works["{} x {}".format(*size)] = partial(denoise, pipeline, size)
    interleaved(works, 1, lambda line: print("warming up,", line, flush=True))
    middle = medians(interleaved(works, arguments.rounds, lambda line: print(line, flush=True)))
    operations = {"{} x {}".format(*size): count_operations(*size) for size in SIZES}
    write_report(arguments.output, {"medians": middle, "operations_of_a_step": operations})


def denoise(pipeline: Any, size: tuple[int, int], *, steps: int = 1, count: int = 1) -> Any:
    """A call's latents, at a size of its own."""
    return pipeline(
        **call_images(size),
        width=size[0],
        height=size[1],
        num_inference_steps=steps,
        num_images_per_prompt=count,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
        # PLMS takes one network call more than it has steps
        quality="exact",
    ).images


def count_operations(width: int, height: int) -> dict[str, float]:
    """Operations of a step by what computes them."""
    with torch.device("meta"):
        unet, spatial_encoder = TryOnUNet(), SpatialEncoder()
        shapes = (1, 13, height // 8, width // 8), (1, 1, 768), (1, 4, height // 8, width // 8)
        sample, token, garment = (torch.empty(shape) for shape in shapes)
    with FlopCounterMode(display=False) as counter:
        unet(sample, 500, token, spatial_encoder(sample, 500, token, garment))
    totals: dict[str, float] = {}
    for operation, count in counter.get_flop_counts()["Global"].items():
        kind = next((kind for word, kind in KINDS.items() if word in str(operation)), "others")
        totals[kind] = totals.get(kind, 0.0) + count
    return totals


if __name__ == "__main__":
    main()
