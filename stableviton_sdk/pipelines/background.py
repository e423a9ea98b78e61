"""Inside the mask, background from around it in the place of background that a small network paints as fog."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from ..images import resize_mask
from ..preprocessing.inputs import TryOnInputs, derive_agnostic

if TYPE_CHECKING:
    from ..preprocessing.preprocessor import PersonPreprocessor

Finish = Callable[[np.ndarray], np.ndarray]
Silhouette = Callable[[Image.Image], np.ndarray]

SIDE = 512  # pixels of the longer side that silhouette and background are found at
# Chosen on rendered photos, looked at on real ones: below and above these probabilities of a person, none and all of
# the result stays.
NOBODY, SOMEBODY = 0.2, 0.8
CLEAR = 0.1  # a lower probability of a person, all around, makes a pixel outside the mask background
EDGE = 0.006  # of the longer side, around the silhouette: the result stays as it is
AROUND = 0.008  # of the longer side: how far around
# A background that deviates by so much, in 256ths, from its blur by that part of the longer side, isn't continued: the
# network then knows more of it than its surroundings say.
UNEVEN, SMOOTH = 8.0, 0.03
LEAST = 0.002  # of the frame: with less background to be seen than that, nothing is known of it


def with_background(
    finishes: Sequence[Finish], inputs: Sequence[TryOnInputs], preprocessor: PersonPreprocessor | None
) -> list[Finish]:
    """`restore_background` after each image's other finishes.

    Args:
        finishes (`Sequence[Callable]`): As for `paste_into_photos`; may be empty.
        inputs (`Sequence[TryOnInputs]`): One for each image.
        preprocessor (`PersonPreprocessor`, *optional*): Whose analyzer sees silhouettes.

    Returns:
        `list[Callable]`: the given ones alone, where no analyzer sees silhouettes.
    """
    silhouette = None if preprocessor is None else preprocessor.silhouette()
    if silhouette is None:
        return list(finishes)

    def finish(index: int) -> Finish:
        def apply(result: np.ndarray) -> np.ndarray:
            drawn = finishes[index](result) if finishes else result
            return restore_background(drawn, inputs[index], silhouette)

        return apply

    return [finish(index) for index in range(len(inputs))]


def restore_background(result: np.ndarray, inputs: TryOnInputs, silhouette: Silhouette) -> np.ndarray:
    """A result whose background inside the mask continues the background outside of it.

    Where the person is, is seen in the result itself, so nothing of what the photo shows inside the mask gets in.

    Args:
        result (`np.ndarray`): What the network painted of the frame, RGB, (H, W, 3), uint8 or float32 in [0, 1].
        inputs (`TryOnInputs`): The person's, for the mask and what lies outside of it.
        silhouette (`Callable`):
            Makes of an RGB image the probability of every pixel's showing a person, float32, (H, W).

    Returns:
        `np.ndarray`: a new array of the result's shape and type; outside the mask it is the result.
    """
    height, width = result.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    painted = np.asarray(resize_mask(inputs.frame_mask, size)) >= 128
    whole = _as_bytes(cv2.resize(result, size, interpolation=cv2.INTER_AREA))
    kept = np.asarray(derive_agnostic(inputs.frame_person, inputs.frame_mask, size))
    whole = np.where(painted[..., None], whole, kept)
    person = silhouette(Image.fromarray(whole))
    background = _background(person, painted, inputs)
    if background.mean() < LEAST:
        return result
    around = continued(whole, background)
    trust = np.exp(-_unevenness(whole, background) / UNEVEN**2)
    # an edge is the result's own: it is sharper there than the silhouette
    seen = cv2.dilate(((person - NOBODY) / (SOMEBODY - NOBODY)).clip(0, 1), _square(EDGE, size))
    opacity = 1 - trust * (1 - seen)

    left, top, columns, rows = cv2.boundingRect((painted & (opacity < 1)).astype(np.uint8))
    if not columns:
        return result
    # the part to draw, at the result's own resolution
    x, y = (np.array([start, start + count]) for start, count in ((left, columns), (top, rows)))
    (left, right), (top, bottom) = (
        np.rint(edges * length / count).astype(int)
        for edges, length, count in ((x, width, size[0]), (y, height, size[1]))
    )
    share = cv2.resize(opacity, (width, height))[top:bottom, left:right, None]
    inside = (np.asarray(resize_mask(inputs.frame_mask, (width, height))) >= 128)[top:bottom, left:right, None]
    behind = cv2.resize(around, (width, height))[top:bottom, left:right]
    drawn = result.copy()
    part = drawn[top:bottom, left:right]
    if result.dtype != np.uint8:
        behind = behind / np.float32(255)
    mixed = share * part + (1 - share) * behind
    mixed = np.rint(mixed) if result.dtype == np.uint8 else mixed
    np.copyto(part, mixed, where=inside & (share < 1), casting="unsafe")
    return drawn


def _unevenness(image: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Squared deviation of the background from a smooth one, in 256ths, continued to where it isn't seen; (H, W)."""
    reach = SMOOTH * max(image.shape)
    weight = background.astype(np.float32)
    colours = cv2.GaussianBlur(image * weight[..., None], (0, 0), reach)
    smooth = colours / np.maximum(cv2.GaussianBlur(weight, (0, 0), reach), 1e-3)[..., None]
    return continued(np.square(image - smooth), background).mean(axis=-1)


def continued(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """An image filled smoothly from its known pixels: what isn't known at one resolution comes from the next lower.

    Args:
        image (`np.ndarray`): uint8 or float32, (H, W, 3).
        known (`np.ndarray`): bool, (H, W), with at least one True.

    Returns:
        `np.ndarray`: float32, (H, W, 3).
    """
    weight = known.astype(np.float32)
    levels = [(image * weight[..., None], weight)]
    while max(weight.shape) > 1:
        size = tuple((side + 1) // 2 for side in reversed(weight.shape))
        colours, weight = (cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in levels[-1])
        levels.append((colours, weight))
    filled = levels[-1][0] / levels[-1][1][..., None]
    for colours, weight in reversed(levels[:-1]):
        filled = cv2.resize(filled, weight.shape[::-1], interpolation=cv2.INTER_LINEAR).reshape(colours.shape)
        filled = colours + (1 - weight[..., None]) * filled
    return filled


def _background(person: np.ndarray, painted: np.ndarray, inputs: TryOnInputs) -> np.ndarray:
    """Where the photo shows background, nobody near, outside the mask and not beyond the photo's edge."""
    height, width = person.shape
    taken = (person > CLEAR) | painted
    taken = cv2.dilate(taken.astype(np.uint8), _square(AROUND, (width, height))) > 0
    rows, columns = np.arange(height), np.arange(width)
    x, y = inputs.frame.to_photo(columns, rows, (width, height))
    within_x = (x >= -0.5) & (x <= inputs.photo.width - 0.5)
    within_y = (y >= -0.5) & (y <= inputs.photo.height - 0.5)
    return ~taken & within_y[:, None] & within_x


def _square(share: float, size: tuple[int, int]) -> np.ndarray:
    """All pixels around one, up to a share of the longer side away."""
    return np.ones((2 * max(1, round(share * max(size))) + 1,) * 2, np.uint8)


def _as_bytes(image: np.ndarray) -> np.ndarray:
    return image if image.dtype == np.uint8 else np.rint(image * 255).clip(0, 255).astype(np.uint8)
