"""Sheets of results in the course of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ...grids import labelled_grid
from ...images import save_atomically
from ...pipelines.pipeline_tryon import TryOnPipeline
from ..config import TrainingConfig


@torch.no_grad()
def validation_sheet(pipeline: TryOnPipeline, data: Any, config: TrainingConfig, path: Path) -> Image.Image:
    """Results for the first pairs of a data set on one sheet: rows of garment, agnostic image, result, and photo.

    Args:
        pipeline (`TryOnPipeline`): The pipeline of the networks in training.
        data: A map-style data set of item dictionaries.
        config (`TrainingConfig`): Configuration; read are `validation` and the seed.
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
    columns = {"garment": tiles["garment"], "agnostic": tiles["agnostic"], "result": results, "photo": tiles["person"]}
    cells = [(label, images[row]) for row in range(len(items)) for label, images in columns.items()]
    sheet = labelled_grid(cells, (width, height), columns=len(columns))
    save_atomically(sheet, path)
    return sheet
