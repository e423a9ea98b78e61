"""Training of the garment coordinates, on the renderer's own panels, and a trained try-on network that gets them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ...errors import InvalidInput
from ...models.garment_coordinates import GarmentCoordinates
from ...models.spatial_encoder import SpatialEncoder
from ...models.unet import TryOnUNet
from ...pipelines.pipeline_tryon import TryOnPipeline
from ..config import DataConfig
from ..loop.config import Count, CountOrZero, Field, NotNegative, ValidationInfo, field_validator
from ..loop.resumption import check_steps
from ..tryon.batches import collate_encoded
from ..tryon.coordinate_losses import NEEDS, panel_losses
from ..tryon.latent_cache import fill_latent_cache
from ..tryon.trainer import open_data
from .fit import Batch, FitTask, fit


class CoordinatesConfig(FitTask):
    """One training of the garment coordinates."""

    try_on: str
    """Folder of the pipeline that gets them."""
    channels: list[Count] = Field(default_factory=lambda: [48, 64, 96, 96], min_length=2)
    """Channels of both networks at every level, highest resolution first."""
    weights: list[NotNegative] | None = None
    """How much each decoder block's attention goes by them at first, lowest resolution first; 1 by default."""
    data: DataConfig = Field(default_factory=DataConfig)
    """Rendered pairs, with a latent cache."""
    workers: CountOrZero = 1
    """Processes that render."""

    @field_validator("data")
    @classmethod
    def _is_rendered_and_kept(cls, value: DataConfig, info: ValidationInfo) -> DataConfig:
        if value.kind != "synthetic" or value.options.get("garments") != "both" or not value.latent_cache:
            raise ValueError("data is kind: synthetic, options: {garments: both}, with a latent_cache.")
        return value


def train_coordinates(config: CoordinatesConfig, *, progress: bool = True) -> Path:
    """Train the coordinates, from the start or from the last checkpoint, and add them to a pipeline's networks.

    Args:
        config (`CoordinatesConfig`): All options.
        progress (`bool`, *optional*, defaults to `True`): Show progress bars.

    Returns:
        `Path`: the folder of the pipeline with its coordinates.

    Raises:
        `InvalidInput`, `IncompatibleCheckpoint`, `TrainingDiverged`: see `fit`.
    """
    output = Path(config.output)
    check_steps(output, config.fit)
    pipeline = TryOnPipeline.from_pretrained(config.try_on, dtype=torch.float32)
    count = pipeline.unet.num_zero_cross_attentions
    if config.weights is not None and len(config.weights) != count:
        raise InvalidInput(f"weights is {config.weights}: pass a number for each of {count} decoder blocks.")
    data = fill_latent_cache(
        Path(config.data.latent_cache),
        open_data(config.data),
        pipeline.vae,
        shape=config.data.shape,
        garment_side=pipeline.garment_encoder.config.image_size,
        needs=NEEDS,
        source={"kind": config.data.kind, "options": config.data.options},
        workers=config.workers,
        progress=progress,
    )
    encoder = pipeline.spatial_encoder.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.fit.seed)
        network = GarmentCoordinates(
            encoder.in_channels - encoder.garment_channels, encoder.garment_channels, tuple(config.channels)
        )
    fit(
        network,
        coordinate_loss,
        data,
        config.fit,
        output,
        settings=config,
        collate=partial(collate_encoded, garment_shape=config.data.shape),
        progress=progress,
    )
    add_coordinates(pipeline, network, tuple(config.channels), config.weights).save_pretrained(output / "pipeline")
    return output / "pipeline"


def coordinate_loss(network: GarmentCoordinates, batch: Batch) -> Batch:
    """`panel_losses` of what a network says of a batch.

    Args:
        network (`GarmentCoordinates`): The network to train.
        batch (`dict[str, torch.Tensor]`): Result of `collate_encoded`.
    """
    return panel_losses(network(batch["conditioning"], batch["garment_latents"]), batch)


def add_coordinates(
    pipeline: TryOnPipeline,
    network: nn.Module,
    channels: tuple[int, ...],
    weights: Sequence[float] | None = None,
) -> TryOnPipeline:
    """The pipeline, its attention going by the coordinates from now on; all other weights stay.

    Args:
        pipeline (`TryOnPipeline`): With or without coordinates, which are replaced.
        network (`GarmentCoordinates`): The trained coordinates.
        channels (`tuple[int, ...]`): Their channels.
        weights (`Sequence[float]`, *optional*): One of each decoder block; see `CoordinatesConfig`.
    """
    networks: dict[str, TryOnUNet | SpatialEncoder] = {}
    for name, kind in (("unet", TryOnUNet), ("spatial_encoder", SpatialEncoder)):
        trained = getattr(pipeline, name)
        options = {key: value for key, value in trained.config.items() if not key.startswith("_")}
        networks[name] = kind(**{**options, "coordinate_channels": channels}).eval()
        kept = {key: value for key, value in trained.state_dict().items() if not key.startswith("coordinates.")}
        networks[name].load_state_dict(kept, strict=False)
    blocks = [
        attention for block in networks["unet"].up_blocks for attention in getattr(block, "zero_cross_attentions", ())
    ]
    weights = [1.0] * len(blocks) if weights is None else weights
    for attention, weight in zip(blocks, weights, strict=True):
        nn.init.constant_(attention.coordinate_weight, weight)
    networks["spatial_encoder"].coordinates.load_state_dict(network.state_dict())
    pipeline.register_modules(**networks)
    return pipeline
