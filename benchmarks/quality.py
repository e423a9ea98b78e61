"""How far presets and step caches lead away from the exact result: 50 steps of the weights' own scheduler, no cache.

On random weights in the released layout, of the final latents; and on the bundled model at as many steps, of images of
rendered figures it has never seen: PSNR and SSIM of the repainted region against the exact result, and against the
truth. What a preset costs on the released weights is measured by

    stableviton evaluate DATA --output exact
    stableviton evaluate DATA --output fast --quality fast
    stableviton evaluate --compare exact/report.json fast/report.json
"""

from __future__ import annotations

import argparse
import copy
import itertools
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler
from PIL import Image

from stableviton_sdk import GarmentEncoder, SpatialEncoder, TryOnPipeline, TryOnUNet
from stableviton_sdk.choices import QUALITIES
from stableviton_sdk.conversion.architecture import SCHEDULER
from stableviton_sdk.data.synthetic import SyntheticSample, render_pair
from stableviton_sdk.evaluation.metrics import psnr, similarity_map
from stableviton_sdk.pipelines.components import DEFAULT_PRESETS

from .full_size import SIZE, call_images, full_size_pipeline, random_network, write_report

STEPS = 50
CACHES = [(1, 1), *itertools.product((2, 3, 5), (1, 2, 3))]  # interval and depth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=8, help="rendered figures for the bundled model")
    parser.add_argument("--full-size", action="store_true", help="random weights of the full size, not narrow ones")
    parser.add_argument("--output", default="benchmarks/results/quality.json")
    arguments = parser.parse_args()
    rows = {"random weights": latents_by_setting(arguments.full_size)}
    rows["bundled model"] = images_by_setting(arguments.samples)
    write_report(arguments.output, {"steps_of_exact": STEPS, "samples": arguments.samples, **rows})


def plain_presets(exact_scheduler: str) -> dict[str, dict[str, Any]]:
    """The presets without their step caches."""
    presets = copy.deepcopy(DEFAULT_PRESETS)
    for preset in presets.values():
        preset.pop("step_cache", None)
    return presets | {"exact": {"scheduler": exact_scheduler}}


def settings() -> list[tuple[str, int, int]]:
    """Qualities, each with every cache."""
    return [(quality, interval, depth) for quality in QUALITIES for interval, depth in CACHES]


def narrow_pipeline() -> TryOnPipeline:
    """The released layout with a fifth of its channels, and random weights."""
    widths = (64, 128, 256, 256)
    with torch.device("meta"):
        networks = {
            "unet": TryOnUNet(block_out_channels=widths),
            "spatial_encoder": SpatialEncoder(block_out_channels=widths[:3]),
            "garment_encoder": GarmentEncoder(num_hidden_layers=2),
            "vae": AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(32, 32, 32, 32),
            ),
        }
    networks = {name: random_network(network, torch.float32) for name, network in networks.items()}
    return TryOnPipeline(**networks, scheduler=PNDMScheduler(**SCHEDULER))


def latents_by_setting(full_size: bool) -> list[dict[str, Any]]:
    """Relative distance of the final latents from the exact ones, on random weights."""
    source = full_size_pipeline(torch.float32) if full_size else narrow_pipeline()
    pipeline = TryOnPipeline(**source.components, quality_presets=plain_presets("PNDMScheduler"))
    pipeline.set_progress_bar_config(disable=True)
    pipeline.optimize()
    rows, exact = [], None
    width, height = SIZE if full_size else (192, 256)
    for quality, interval, depth in settings():
        pipeline.enable_step_cache(interval=interval, depth=depth)
        latents = pipeline(
            **call_images((width, height)),
            width=width,
            height=height,
            quality=quality,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
        ).images
        exact = latents if exact is None else exact
        distance = float((latents - exact).norm() / exact.norm())
        rows.append({"quality": quality, "interval": interval, "depth": depth, "relative_distance": distance})
        print(f"random weights: {quality}, interval {interval}, depth {depth}: {distance:.4f}", flush=True)
    return rows


def images_by_setting(count: int) -> list[dict[str, Any]]:
    """PSNR and SSIM of the repainted region, on the bundled model."""
    bundled = TryOnPipeline.from_bundled()
    pipeline = TryOnPipeline(
        **bundled.components,
        default_num_inference_steps=STEPS,
        quality_presets=plain_presets(type(bundled.scheduler).__name__),
    )
    pipeline.set_progress_bar_config(disable=True)
    samples = [render_pair(7, number) for number in range(count)]
    truth = [sample.person_in_other for sample in samples]
    one_step = paint(pipeline, samples, num_inference_steps=1)
    exact, rows = None, []
    for quality, interval, depth in settings():
        pipeline.enable_step_cache(interval=interval, depth=depth)
        images = paint(pipeline, samples, quality=quality)
        exact = images if exact is None else exact
        row = {"quality": quality, "interval": interval, "depth": depth}
        row |= {f"{name}_to_exact": value for name, value in compare(images, exact, samples).items()}
        row |= {f"{name}_to_truth": value for name, value in compare(images, truth, samples).items()}
        rows.append(row)
        print(f"bundled model: {row}", flush=True)
    row = {"quality": "exact, its own 1 step", "interval": 1, "depth": 1}
    row |= {f"{name}_to_truth": value for name, value in compare(one_step, truth, samples).items()}
    print(f"bundled model: {row}", flush=True)
    return [*rows, row]


def paint(pipeline: TryOnPipeline, samples: list[SyntheticSample], **options: Any) -> list[np.ndarray]:
    """Results for rendered figures and their true maps, without detail transfer, from the same noise."""
    images = []
    for number, sample in enumerate(samples):
        result = pipeline(
            Image.fromarray(sample.person),
            Image.fromarray(sample.garment_other),
            mask=Image.fromarray(sample.mask.astype(np.uint8) * 255),
            agnostic=Image.fromarray(sample.agnostic),
            densepose=Image.fromarray(sample.densepose),
            detail=0.0,
            generator=torch.Generator().manual_seed(number),
            **options,
        )
        images.append(np.asarray(result.images[0]))
    return images


def compare(images: list[np.ndarray], others: list[np.ndarray], samples: list[SyntheticSample]) -> dict[str, float]:
    """Mean PSNR and SSIM of the repainted regions."""
    values = []
    for image, other, sample in zip(images, others, samples, strict=True):
        values.append((psnr(image, other, sample.mask), similarity_map(image, other).over(sample.mask)))
    means = np.mean(np.minimum(values, 99.0), axis=0)
    return {"psnr": float(means[0]), "ssim": float(means[1])}


if __name__ == "__main__":
    main()
