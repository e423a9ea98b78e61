"""Sheets of images painted along the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...images import save_atomically
from ...pipelines.pipeline_tryon import TryOnPipeline
from ..config import TrainingConfig

GAP = 4  # pixels between images


@torch.no_grad()
def paint_sheet(pipeline: TryOnPipeline, data: Any, config: TrainingConfig, path: Path) -> Image.Image:
    """Dress the first persons of a data set: rows of garment, agnostic image, result, and photo.

    Args:
        pipeline (`TryOnPipeline`): Of the networks in training.
        data: A map-style data set of item dictionaries.
        config (`TrainingConfig`): For `validation`, `mixed_precision` and the seed.
        path (`Path`): The image to write.

    Returns:
        `PIL.Image.Image`: the same image.
    """
    options = config.validation
    items = [data[index] for index in range(min(options.count, len(data)))]
    tiles = {
        name: [Image.fromarray(item[name]) for item in items]
        for name in ("person", "garment", "agnostic", "densepose")
    }
    height, width = items[0]["person"].shape[:2]
    generators = [torch.Generator().manual_seed(config.seed + index) for index in range(len(items))]
    pipeline.set_progress_bar_config(disable=True)
    results = [
        pipeline(
            tiles["person"][index],
            tiles["garment"][index],
            mask=Image.fromarray(items[index]["mask"]),
            agnostic=tiles["agnostic"][index],
            densepose=tiles["densepose"][index],
            height=height,
            width=width,
            num_inference_steps=options.inference_steps,
            generator=generators[index],
        ).images[0]
        for index in range(len(items))
    ]
    columns = (tiles["garment"], tiles["agnostic"], results, tiles["person"])
    sheet = np.full((len(items) * (height + GAP) + GAP, len(columns) * (width + GAP) + GAP, 3), 255, np.uint8)
    for column, images in enumerate(columns):
        for row, image in enumerate(images):
            top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
            sheet[top : top + height, left : left + width] = np.asarray(image)
    tile = Image.fromarray(sheet)
    save_atomically(tile, path)
    return tile
