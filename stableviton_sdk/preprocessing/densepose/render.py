"""DensePose labels of a photo's pixels, and DensePose images in the parula colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...errors import InvalidInput
from ...images import ImageLike, load_image
from ..labels import PARULA, palette_distances, strongest_labels

if TYPE_CHECKING:
    import torch

STRIP_PIXELS = 2**16  # read at a time: bounds the memory for large images
FOREIGN_DISTANCE = 48.0  # RGB; JPEG and resizing stay well below it
FOREIGN_SHARE = 0.25


def render_labels(
    coarse_segm: torch.Tensor, fine_segm: torch.Tensor, box: Sequence[float], size: tuple[int, int]
) -> np.ndarray:
    """Body part of each pixel: the best of the 25 fine classes where the coarse classes say "body".

    Both are resized bilinearly to the box, whose corner and sides are cut to whole pixels, as detectron2's drawing
    does. What lies outside the image is cut off.

    Args:
        coarse_segm (`torch.Tensor`): (2, h, w), logits of background and body.
        fine_segm (`torch.Tensor`): (25, h, w), logits of background and 24 parts.
        box (`tuple[float, float, float, float]`): Left, top, right, bottom of the person in pixels of the image.
        size (`tuple[int, int]`): Width and height of the image.

    Returns:
        `np.ndarray`: uint8 in [0, 24], (height, width), 0 = background.
    """
    labels = np.zeros((size[1], size[0]), dtype=np.uint8)
    left, top, right, bottom = (float(edge) for edge in box)
    height, width = fine_segm.shape[1:]
    first_column, x = _cells(int(left), max(int(right - left), 1), size[0], width)
    first_row, y = _cells(int(top), max(int(bottom - top), 1), size[1], height)
    coarse, fine = (logits.detach().float().cpu().numpy() for logits in (coarse_segm, fine_segm))
    part = labels[first_row : first_row + len(y), first_column : first_column + len(x)]
    part[...] = strongest_labels(fine, x, y) * strongest_labels(coarse, x, y)
    return labels


def _cells(start: int, length: int, limit: int, count: int) -> tuple[int, np.ndarray]:
    """First pixel of a box's side that is in the image, and the positions of its pixels among `count` cells."""
    first = max(start, 0)
    pixels = np.arange(first, max(min(start + length, limit), first)) - start
    return first, (pixels + 0.5) * (count / length) - 0.5


def draw_labels(labels: np.ndarray) -> Image.Image:
    """DensePose image of a label map, in the colours of `PARULA`.

    Args:
        labels (`np.ndarray`): uint8 in [0, 24], (H, W).

    Returns:
        `PIL.Image.Image`: RGB.

    Raises:
        `InvalidInput`: if it is no label map.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer) or labels.size == 0:
        raise InvalidInput(f"labels is {labels.dtype} of shape {labels.shape}: pass integers in [0, 24], (H, W).")
    if labels.min() < 0 or labels.max() >= len(PARULA):
        raise InvalidInput(f"labels has values from {labels.min()} to {labels.max()}: pass DensePose's 0 to 24.")
    return Image.fromarray(PARULA[labels])


def labels_from_image(image: ImageLike) -> np.ndarray:
    """Label map of a DensePose image, even one that was resized or saved as JPEG.

    Args:
        image (`PIL.Image.Image`, or anything image-like): A DensePose image as `draw_labels` makes it.

    Returns:
        `np.ndarray`: uint8 in [0, 24], (H, W): the label with the nearest colour.

    Raises:
        `InvalidInput`: if over a quarter of what isn't black has no colour near the palette.
    """
    pixels = np.asarray(load_image(image, name="densepose"))
    height, width = pixels.shape[:2]
    rows = max(1, STRIP_PIXELS // width)
    strips = [slice(top, top + rows) for top in range(0, height, rows)]
    # the image has far fewer colours than pixels: look each one up once
    seen = np.zeros(2**24, dtype=bool)
    for strip in strips:
        seen[_pack(pixels[strip])] = True
    colours = np.flatnonzero(seen)
    nearest, distance = _nearest_label(colours)
    label_of = np.zeros(2**24, dtype=np.uint8)
    label_of[colours] = nearest
    seen[colours] = distance > FOREIGN_DISTANCE
    labels = np.empty((height, width), dtype=np.uint8)
    foreign = 0
    for strip in strips:
        packed = _pack(pixels[strip])
        labels[strip] = label_of[packed]
        foreign += int(np.count_nonzero(seen[packed]))
    if foreign > FOREIGN_SHARE * max(np.count_nonzero(labels), 1):
        raise InvalidInput(
            "densepose is no DensePose drawing in the parula colours: pass an image made by `draw_labels` "
            "(black background, blue to yellow body parts, RGB)."
        )
    return labels


def _pack(pixels: np.ndarray) -> np.ndarray:
    """RGB pixels (..., 3) as single numbers, (...)."""
    wide = pixels.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _nearest_label(colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label of the palette's nearest colour, and the distance to it, for packed colours (N,)."""
    labels = np.empty(len(colours), dtype=np.uint8)
    distances = np.empty(len(colours), dtype=np.float32)
    for start in range(0, len(colours), STRIP_PIXELS):
        some = slice(start, start + STRIP_PIXELS)
        rgb = np.stack([colours[some] >> shift & 255 for shift in (16, 8, 0)], axis=1)
        to_palette = palette_distances(rgb, PARULA)
        labels[some] = to_palette.argmin(axis=1)
        distances[some] = to_palette.min(axis=1)
    return labels, distances
