"""Boxes around people: checked, and matched with each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InvalidInput


def check_box(box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """A person's box, cut at the photo's edges: float64, (4,)."""
    try:
        values = np.asarray(box, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (4,) or not np.isfinite(values).all():
        raise InvalidInput(f"person_box is {box!r}: pass left, top, right, bottom in pixels of the photo.")
    left, top, right, bottom = values.clip(0, size * 2)
    if right <= left or bottom <= top:
        raise InvalidInput(
            f"person_box {tuple(values.tolist())} covers nothing of the {size[0]} x {size[1]} photo: "
            "pass left < right, top < bottom in pixels."
        )
    return np.array((left, top, right, bottom))


def find_at(boxes: np.ndarray, wanted: np.ndarray) -> int | None:
    """Index of the person at a box: the greatest overlap (intersection over union) with it.

    Somebody who shares less than half of the smaller of the two boxes is a neighbour, not the person meant.
    """
    if not len(boxes):
        return None
    shared = (np.minimum(boxes[:, 2:], wanted[2:]) - np.maximum(boxes[:, :2], wanted[:2])).clip(min=0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    area = (wanted[2:] - wanted[:2]).prod()
    overlap = np.where(shared >= 0.5 * np.minimum(areas, area), shared / (areas + area - shared), -1.0)
    best = int(overlap.argmax())
    return best if overlap[best] > 0 else None
