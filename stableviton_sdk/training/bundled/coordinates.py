"""Training of the garment coordinates, on the renderer's own panels, and a trained try-on network that gets them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from ...models.garment_coordinates import CoordinateMaps, GarmentCoordinates, canonical_places
from ...models.spatial_encoder import SpatialEncoder
from ...models.unet import TryOnUNet
from ...pipelines.pipeline_tryon import TryOnPipeline
from ..config import DataConfig
from ..loop.config import Count, CountOrZero, Field, ValidationInfo, field_validator
from ..loop.resumption import check_steps
from ..tryon.batches import collate_encoded
from ..tryon.latent_cache import fill_latent_cache
from ..tryon.trainer import open_data
from .fit import Batch, FitTask, fit

NEEDS = ("correspondence", "panel", "panel_maps")
PLACE_WEIGHT = 6.0  # of places' absolute error, in half chests, beside the panels' cross-entropy
BEYOND = 0.15  # weight of the flat garment's places on a panel where the panel isn't
HALF_WIDTHS = ((1.2, 1.9), (1.7, 0.65), (1.7, 0.65))  # in half chests: about what of a panel's plane is fabric


class CoordinatesConfig(FitTask):
    """One training of the garment coordinates."""

    try_on: str
    """Folder of the pipeline that gets them."""
    channels: list[Count] = Field(default_factory=lambda: [48, 64, 96, 96], min_length=2)
    """Channels of both networks at every level, highest resolution first."""
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
        partial(coordinate_loss, size=config.data.size),
        data,
        config.fit,
        output,
        settings=config,
        collate=partial(collate_encoded, garment_shape=config.data.shape),
        progress=progress,
    )
    add_coordinates(pipeline, network, tuple(config.channels)).save_pretrained(output / "pipeline")
    return output / "pipeline"


def coordinate_loss(network: GarmentCoordinates, batch: Batch, size: tuple[int, int]) -> Batch:
    """Errors of panels and places.

    Args:
        network (`GarmentCoordinates`): The network to train.
        batch (`dict[str, torch.Tensor]`): Result of `collate_encoded`.
        size (`tuple[int, int]`): Width and height of the garment's image.
    """
    maps: CoordinateMaps = network(batch["conditioning"], batch["garment_latents"])
    panel_maps = batch["panel_maps"].float()
    there = panel_maps.flatten(2).any(-1)  # (batch, panels)
    targets = batch["correspondence"].float().permute(0, 3, 1, 2)  # x, y
    known = targets.isfinite().all(1)

    # the body: which panel it would wear, of those that the garment has, and where on it
    panel = batch["panel"].long() - 1
    known = known & (panel >= 0)
    logits = maps.panels.masked_fill(~there[:, :, None, None], -1e4)
    panels = F.cross_entropy(logits, panel.masked_fill(~known, -100), ignore_index=-100, reduction="sum")
    panels = panels / known.sum().clamp_min(1)
    error = (maps.worn - canonical_places(panel_maps, targets.nan_to_num(0.0))).abs().sum(2)
    error = error.gather(1, panel.clamp_min(0)[:, None])[:, 0]
    worn = (error * known).sum() / known.sum().clamp_min(1)

    # the flat garment: where each of its cells lies on every panel that it has
    true = canonical_places(panel_maps, cell_centres(size, maps.flat.shape[-2:], targets.device))
    limits = true.new_tensor(HALF_WIDTHS)[:, :, None, None]
    weight = (true.abs() < limits).all(2).float().clamp_min(BEYOND) * there[:, :, None, None]
    flat = ((maps.flat - true).abs().sum(2) * weight).sum() / weight.sum().clamp_min(1)

    presence = F.binary_cross_entropy_with_logits(maps.there, there.float())
    loss = panels + presence + PLACE_WEIGHT * (worn + flat)
    return {"loss": loss, "panels": panels, "presence": presence, "worn": worn, "flat": flat}


def cell_centres(size: tuple[int, int], shape: tuple[int, int], device: torch.device) -> torch.Tensor:
    """x and y, in pixels of an image of `size` (width, height), of the centres of its cells, (1, 2, *shape)."""
    x, y = (
        (torch.arange(count, device=device) + 0.5) * (length / count) - 0.5
        for length, count in zip(size, reversed(shape), strict=True)
    )
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows])[None]


def add_coordinates(pipeline: TryOnPipeline, network: nn.Module, channels: tuple[int, ...]) -> TryOnPipeline:
    """The pipeline, its attention going by the coordinates from now on; all other weights stay.

    Args:
        pipeline (`TryOnPipeline`): With or without coordinates, which are replaced.
        network (`GarmentCoordinates`): The trained coordinates.
        channels (`tuple[int, ...]`): Their channels.
    """
    networks: dict[str, TryOnUNet | SpatialEncoder] = {}
    for name, kind in (("unet", TryOnUNet), ("spatial_encoder", SpatialEncoder)):
        trained = getattr(pipeline, name)
        options = {key: value for key, value in trained.config.items() if not key.startswith("_")}
        networks[name] = kind(**{**options, "coordinate_channels": channels}).eval()
        kept = {key: value for key, value in trained.state_dict().items() if not key.startswith("coordinates.")}
        networks[name].load_state_dict(kept, strict=False)
    networks["spatial_encoder"].coordinates.load_state_dict(network.state_dict())
    pipeline.register_modules(**networks)
    return pipeline
