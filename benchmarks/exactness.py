"""How far the final latents of a whole exact call lie from those of the authors' recipe, at full size in float32."""

from __future__ import annotations

import argparse
import time

import torch

from stableviton_sdk.pipelines import denoising

from .full_size import call_images, full_size_pipeline, write_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--output", default="benchmarks/results/exactness.json")
    arguments = parser.parse_args()
    pipeline, latents, seconds = full_size_pipeline(torch.float32), {}, {}
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
                **call_images(),
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
    report = {"steps": arguments.steps, "relative_distance": distance, "seconds": seconds}
    write_report(arguments.output, report)


if __name__ == "__main__":
    main()
