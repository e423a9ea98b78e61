"""True correspondences at the cells that attention asks from; no network is imported here."""

from __future__ import annotations

import torch
import torch.nn.functional as F

SEAM = 0.05  # of the garment's height: neighbouring pixels that differ by more lie on different panels


def correspondence_at_cells(places: torch.Tensor, size: tuple[int, int], seam: float) -> torch.Tensor:
    """The correspondence at the centres of a coarser map's cells.

    A centre between pixels is no pixel's: taking the nearest would aim every query half a pixel of the person too far
    right and down. The four pixels around it are interpolated, those left out that are unknown or of another panel.

    Args:
        places (`torch.Tensor`): (batch, 2, H, W), NaN where unknown.
        size (`tuple[int, int]`): Height and width of the map.
        seam (`float`): Distance from which a neighbour's place is another panel's, in the unit of the places.

    Returns:
        `torch.Tensor`: float32, (batch, 2, height, width); NaN where the pixel at the centre is unknown.
    """
    places = places.float()
    centre = F.interpolate(places, size=size, mode="nearest-exact")
    (rows, row_shares), (columns, column_shares) = (
        _pixels_around_centres(length, count, places.device)
        for length, count in zip(places.shape[-2:], size, strict=True)
    )
    total, weight = torch.zeros_like(centre), torch.zeros_like(centre[:, :1])
    for row, row_share in zip(rows, row_shares, strict=True):
        for column, column_share in zip(columns, column_shares, strict=True):
            place = places.index_select(2, row).index_select(3, column)
            near = (place - centre).square().sum(1, keepdim=True) <= seam * seam  # False for NaN
            share = row_share[:, None] * column_share * near
            total += torch.where(near, place, 0.0) * share
            weight += share
    return torch.where(weight > 0, total / weight, torch.nan)


def _pixels_around_centres(length: int, count: int, device: torch.device) -> tuple[list, list]:
    """The two of `length` pixels around the centres of `count` cells, and their weights."""
    place = ((torch.arange(count, device=device) + 0.5) * length / count - 0.5).clamp(0, length - 1)
    first = place.floor().long()
    share = place - first
    return [first, (first + 1).clamp(max=length - 1)], [1 - share, share]
