"""Boxes around people: validation, matching, and the choice of the person that a photo is about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InvalidInput, NoPersonFound

OFF_CENTRE_PENALTY = 0.6  # share of its weight that a person at the photo's corner loses against one in the middle


def check_box(box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """Box of a person, clipped to the photo.

    Args:
        box (`Sequence[float]`): Left, top, right, bottom in pixels of the photo.
        size (`tuple[int, int]`): Width and height of the photo.

    Returns:
        `np.ndarray`: float64, (4,).

    Raises:
        `InvalidInput`: if it isn't four finite numbers, or covers nothing of the photo.
    """
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


def match_box(boxes: np.ndarray, wanted: np.ndarray) -> int | None:
    """Index of the box that overlaps another one most (intersection over union).

    A box that shares less than half of the smaller of the two areas is of another person and doesn't match.

    Args:
        boxes (`np.ndarray`): (N, 4), left, top, right, bottom.
        wanted (`np.ndarray`): (4,).

    Returns:
        `int`, or None if no box matches.
    """
    if not len(boxes):
        return None
    shared = (np.minimum(boxes[:, 2:], wanted[2:]) - np.maximum(boxes[:, :2], wanted[:2])).clip(min=0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    area = (wanted[2:] - wanted[:2]).prod()
    overlap = np.where(shared >= 0.5 * np.minimum(areas, area), shared / (areas + area - shared), -1.0)
    best = int(overlap.argmax())
    return best if overlap[best] > 0 else None


def choose_person(boxes: np.ndarray, scores: np.ndarray, photo_size: tuple[int, int]) -> int:
    """Index of the person whom a photo is most likely about: the largest and most central one.

    A person counts with the area of their box on the photo, less the further its centre is off the photo's centre (by
    up to 60 % at a corner), times the score.

    Args:
        boxes (`np.ndarray`): (N, 4), left, top, right, bottom in pixels of the photo.
        scores (`np.ndarray`): (N,), in [0, 1].
        photo_size (`tuple[int, int]`): Width and height of the photo.

    Raises:
        `NoPersonFound`: if there are no boxes.
    """
    if len(boxes) == 0:
        raise NoPersonFound(
            "nobody was found in the photo: pass one that shows more of the person, or a person_box around them."
        )
    size = np.array(photo_size, dtype=np.float64)
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 2, 2).clip(0, size)
    areas = (corners[:, 1] - corners[:, 0]).clip(0).prod(axis=1)
    off_centre = np.linalg.norm((corners.mean(axis=1) - size / 2) / (size / 2), axis=1) / np.sqrt(2)
    return int(np.argmax(areas * (1 - OFF_CENTRE_PENALTY * off_centre) * np.asarray(scores)))
