"""Scores of a trained variant on unseen figures, and the accuracy of its attention."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from PIL import Image

from stableviton_sdk.choices import SETTINGS
from stableviton_sdk.evaluation.correspondence.measure import last_half_of_steps, summarise
from stableviton_sdk.evaluation.correspondence.recorder import CorrespondenceRecorder, GroundTruth, Measured
from stableviton_sdk.evaluation.metrics import psnr, similarity_map
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.preprocessing.garment import prepare_garment
from stableviton_sdk.training.bundled.assemble import few_step_scheduler

from ..baselines import reference_images
from .pairs import RenderedPairs, noise_of

BATCH = 16
NOISE_SEED = 77


def measure(
    pipeline: TryOnPipeline, pairs: RenderedPairs, *, steps: int, attention: bool
) -> tuple[dict[str, Any], np.ndarray]:
    """Scores of every figure's try-on, paired and unpaired.

    The images are pasted without a seam's blending: the photo's own pixels inside the mask, which show the garment
    that the figure wears, would count otherwise.

    Args:
        pipeline (`TryOnPipeline`): On its device.
        pairs (`RenderedPairs`): Not those that it was trained on.
        steps (`int`): Denoising steps.
        attention (`bool`): Whether there is attention to measure.

    Returns:
        `tuple`: by setting, the numbers of `score` and by block those of `BlockCorrespondence`, averaged over the
        last half of the steps; and the unpaired images, uint8, (N, H, W, 3).
    """
    pipeline.set_progress_bar_config(disable=True)
    pipeline.register_modules(scheduler=few_step_scheduler(pipeline.scheduler))
    for network in (pipeline.unet, pipeline.spatial_encoder, pipeline.garment_encoder):
        network.eval()
    numbers: dict[str, Any] = {}
    for setting in SETTINGS:
        images, measured = [], []
        for first in range(0, pairs.figures, BATCH):
            figures = range(first, min(first + BATCH, pairs.figures))
            images_of_batch, found = _dress(pipeline, pairs, figures, setting, steps, attention)
            images += images_of_batch
            measured += found
        numbers[setting] = score(pairs, np.stack(images), setting)
        if attention:
            numbers[setting]["blocks"] = {
                str(block): dataclasses.asdict(summarise([one[block] for one in measured])) for block in measured[0]
            }
    return numbers, np.stack(images)


def score(pairs: RenderedPairs, images: np.ndarray, setting: str) -> dict[str, float]:
    """PSNR and SSIM inside the agnostic mask, and PSNR of the worn garment alone; means over figures.

    Args:
        pairs (`RenderedPairs`): The truth.
        images (`np.ndarray`): One for each figure, uint8, (N, H, W, 3).
        setting (`str`): `"paired"` or `"unpaired"`.
    """
    rows = []
    for figure, image in enumerate(images):
        item = pairs[2 * figure + SETTINGS.index(setting)]
        truth, region = item["person"], item["mask"]
        rows.append(
            (
                psnr(image, truth, region),
                similarity_map(image, truth).over(region),
                psnr(image, truth, item["worn_mask"]),
            )
        )
    return dict(zip(("psnr", "ssim", "worn_psnr"), np.mean(rows, axis=0).tolist(), strict=True))


def baselines(pairs: RenderedPairs, vae: torch.nn.Module) -> dict[str, Any]:
    """Scores of the images of `reference_images`, by title and setting."""
    titles = {"mean colour": "mean colour", "oracle": "true silhouette, mean colour", "autoencoder": "autoencoder"}
    numbers: dict[str, Any] = {title: {} for title in titles.values()}
    for setting in SETTINGS:
        results: dict[str, list[np.ndarray]] = {name: [] for name in titles}
        for figure in range(pairs.figures):
            item = pairs[2 * figure + SETTINGS.index(setting)]
            images = reference_images(item["person"], item["garment"], item["mask"], item["worn_mask"], vae)
            for name, image in images.items():
                results[name].append(image)
        for name, title in titles.items():
            numbers[title][setting] = score(pairs, np.stack(results[name]), setting)
    return numbers


def _dress(
    pipeline: TryOnPipeline, pairs: RenderedPairs, figures: range, setting: str, steps: int, attention: bool
) -> tuple[list[np.ndarray], list[dict[int, Measured]]]:
    height, width = pairs.arrays["person"].shape[1:3]
    items = [pairs[2 * figure + SETTINGS.index(setting)] for figure in figures]
    garments = [prepare_garment(Image.fromarray(item["garment"]), size=(width, height)) for item in items]
    recorder = None
    if attention:
        truths = [
            GroundTruth(item["correspondence"], item["worn_mask"], garment)
            for item, garment in zip(items, garments, strict=True)
        ]
        recorder = CorrespondenceRecorder(truths, last_half_of_steps(pipeline, steps))
    out = pipeline(
        [pairs.inputs(figure) for figure in figures],
        garments,
        height=height,
        width=width,
        num_inference_steps=steps,
        generator=[noise_of(NOISE_SEED, figure) for figure in figures],
        feather=0.0,
        output_attention=recorder or False,
    )
    return [np.asarray(image) for image in out.images], recorder.measures() if recorder else []
