"""Losses of the garment coordinates, where the renderer knows the panels."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...models.garment_coordinates import CoordinateMaps, canonical_places
from .batches import Batch
from .correspondence import SEAM, correspondence_at_cells

NEEDS = ("correspondence", "panel", "panel_maps")  # of the data
PLACE_WEIGHT = 6.0  # of places' absolute error, in half chests, beside the panels' cross-entropy
BEYOND = 0.15  # weight of the flat garment's places on a panel where the panel isn't
HALF_WIDTHS = ((1.2, 1.9), (1.7, 0.65), (1.7, 0.65))  # in half chests: about what of a panel's plane is fabric


def panel_losses(maps: CoordinateMaps, batch: Batch) -> Batch:
    """Errors of panels and places, and `loss`, which adds them up.

    Args:
        maps (`CoordinateMaps`): What the network says.
        batch (`dict[str, torch.Tensor]`): Result of `collate_encoded`, with `NEEDS`.
    """
    height, width = batch["garment_shape"].tolist()
    panel_maps = batch["panel_maps"].float()
    there = panel_maps.flatten(2).any(-1)  # (batch, panels)
    cells = maps.panels.shape[-2:]
    targets = correspondence_at_cells(batch["correspondence"].permute(0, 3, 1, 2), cells, SEAM * height)  # x, y
    known = targets.isfinite().all(1)

    # the body: which panel it would wear, of those that the garment has, and where on it
    panel = F.interpolate(batch["panel"][:, None].float(), size=cells, mode="nearest-exact")[:, 0].long() - 1
    known = known & (panel >= 0)
    logits = maps.panels.masked_fill(~there[:, :, None, None], -1e4)
    panels = F.cross_entropy(logits, panel.masked_fill(~known, -100), ignore_index=-100, reduction="sum")
    panels = panels / known.sum().clamp_min(1)
    error = (maps.worn - canonical_places(panel_maps, targets.nan_to_num(0.0))).abs().sum(2)
    error = error.gather(1, panel.clamp_min(0)[:, None])[:, 0]
    worn = (error * known).sum() / known.sum().clamp_min(1)

    # the flat garment: where each of its cells lies on every panel that it has
    true = canonical_places(panel_maps, cell_centres((width, height), maps.flat.shape[-2:], targets.device))
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
