"""Where a flat garment's panels lie, which of them is worn where, and the same garment elsewhere on its canvas."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from .cut import PANELS
from .garment import Garment

SMALLEST = 0.72  # of a moved garment's size
MARGIN = 2  # pixels of canvas that stay around it


def panel_maps(garment: Garment) -> np.ndarray:
    """`Panel.to_pixels` of torso, right and left sleeve, float32, (3, 2, 3); zeros for a sleeve that isn't there."""
    maps = np.zeros((len(PANELS), 2, 3), np.float32)
    for number, name in enumerate(PANELS):
        if name in garment.panels:
            maps[number] = garment.panels[name].to_pixels
    return maps


def panels_at(garment: Garment, correspondence: np.ndarray) -> np.ndarray:
    """The panel that every pixel of a person shows.

    Args:
        garment (`Garment`): The garment.
        correspondence (`np.ndarray`): x, y in the garment's pixels, (H, W, 2); NaN where nothing is worn.

    Returns:
        `np.ndarray`: uint8, (H, W): 0 for none, else the number of the panel in `panel_maps`, plus 1.
    """
    known = np.isfinite(correspondence).all(-1)
    width, height = garment.size
    x, y = (
        np.rint(np.where(known, correspondence[..., axis], 0)).astype(int).clip(0, side - 1)
        for axis, side in ((0, width), (1, height))
    )
    coverage = np.zeros((len(PANELS), *known.shape), np.uint8)
    for number, name in enumerate(PANELS):
        if name in garment.panels:
            coverage[number] = garment.panels[name].alpha[y, x]
    return np.where(known, coverage.argmax(0) + 1, 0).astype(np.uint8)


def move_on_canvas(item: dict[str, Any], garment: Garment, rng: np.random.Generator) -> dict[str, Any]:
    """A training item with its garment smaller and elsewhere on the canvas, all of it still to be seen.

    Args:
        item (`dict[str, Any]`): Result of `SyntheticSample.in_worn`.
        garment (`Garment`): The item's garment.
        rng (`np.random.Generator`): Random generator.

    Returns:
        `dict[str, Any]`: a new item; only `garment`, `correspondence` and `panel_maps` differ.
    """
    width, height = garment.size
    left, top, columns, rows = cv2.boundingRect(garment.mask.astype(np.uint8))
    scale = rng.uniform(SMALLEST, 1)
    shift = [
        rng.uniform(MARGIN, max(side - MARGIN - scale * length, MARGIN)) - scale * start
        for start, length, side in ((left, columns, width), (top, rows, height))
    ]
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    moved = cv2.warpAffine(
        item["garment"], matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    maps = item["panel_maps"] * np.float32(scale)
    maps[..., 2] += np.float32(shift) * maps.any(axis=(1, 2))[:, None]
    places = item["correspondence"] * np.float32(scale) + np.float32(shift)
    return {**item, "garment": moved, "correspondence": places, "panel_maps": maps}
