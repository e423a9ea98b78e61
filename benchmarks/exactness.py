"""How far the final latents of a whole exact call lie from those of the authors' recipe, on random weights."""

from __future__ import annotations

import argparse
import time

import torch

from stableviton_sdk.pipelines import denoising

from .full_size import SIZE, call_images, full_size_pipeline, write_report
from .quality import narrow_pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--width", type=int, default=SIZE[0])
    parser.add_argument("--height", type=int, default=SIZE[1])
    parser.add_argument("--narrow", action="store_true", help="the released layout with a fifth of its channels")
    parser.add_argument("--output", default="benchmarks/results/exactness.json")
    arguments = parser.parse_args()
    pipeline = narrow_pipeline() if arguments.narrow else full_size_pipeline(torch.float32)
    latents, seconds, size = {}, {}, (arguments.width, arguments.height)
    pipeline.set_progress_bar_config(disable=False)
    for name in ("authors' recipe", "exact"):
        if name == "exact":
            print(*pipeline.optimize(), sep="\n")
        # the authors' order of the same parts: diffusers' own layers, both branches whole, nothing left out
        lean = denoising.can_run_lean
        denoising.can_run_lean = lean if name == "exact" else lambda _: False
        began = time.perf_counter()
        try:
            latents[name] = pipeline(
                **call_images(size),
                width=size[0],
                height=size[1],
                num_inference_steps=arguments.steps,
                generator=torch.Generator().manual_seed(0),
                output_type="latent",
            ).images
        finally:
            denoising.can_run_lean = lean
        seconds[name] = time.perf_counter() - began
    first, second = latents.values()
    distance = float((first - second).norm() / first.norm())
    print(f"relative distance of the final latents: {distance:.2e}")
    report = {
        "size": size,
        "narrow": arguments.narrow,
        "steps": arguments.steps,
        "relative_distance": distance,
        "seconds": seconds,
    }
    write_report(arguments.output, report)


if __name__ == "__main__":
    main()
