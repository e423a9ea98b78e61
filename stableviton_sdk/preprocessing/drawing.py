"""Drawings: coloured parses, their outlines, and tinted masks."""

from __future__ import annotations

import colorsys

import numpy as np
from PIL import Image, ImageFilter

from .labels import CIHP

# Neighbouring labels get hues far apart: steps of the golden ratio around the colour wheel; background is black.
PARSING_COLOURS = np.array(
    [(0, 0, 0)]
    + [
        tuple(round(255 * part) for part in colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.75, 1.0 - 0.4 * (label % 2)))
        for label in range(1, len(CIHP))
    ],
    dtype=np.uint8,
)


def colour_parsing(parsing: np.ndarray) -> Image.Image:
    """A CIHP label map (H, W) in colours, RGB."""
    return Image.fromarray(PARSING_COLOURS[np.minimum(parsing, len(CIHP) - 1)])


def tint(image: Image.Image, mask: Image.Image, colour: tuple[int, int, int] = (230, 30, 60)) -> Image.Image:
    """A copy of an image with the mask (mode 1 or L, 128 and more = marked) half-transparent, edged in white."""
    marked = mask.convert("L").point(lambda value: 255 if value >= 128 else 0)
    if marked.size != image.size:
        marked = marked.resize(image.size, Image.Resampling.NEAREST)
    tinted = image.copy()
    tinted.paste(colour, (0, 0), marked.point(lambda value: value * 115 // 255))
    edge = np.asarray(marked) != np.asarray(marked.filter(ImageFilter.MinFilter(3)))
    tinted.paste((255, 255, 255), (0, 0), Image.fromarray(edge))
    return tinted


def outline_parsing(image: Image.Image, parsing: np.ndarray) -> Image.Image:
    """A copy of an image with the borders between a parse's labels drawn in the labels' colours."""
    labels = np.asarray(Image.fromarray(parsing).resize(image.size, Image.Resampling.NEAREST))
    border = np.zeros(labels.shape, bool)
    reach = max(1, round(max(image.size) / 500))  # thick enough to be seen
    for shift in range(1, reach + 1):
        border[:, shift:] |= labels[:, shift:] != labels[:, :-shift]
        border[:, :-shift] |= labels[:, shift:] != labels[:, :-shift]
        border[shift:] |= labels[shift:] != labels[:-shift]
        border[:-shift] |= labels[shift:] != labels[:-shift]
    values = np.array(image)
    drawn = border & (labels > 0)
    values[drawn] = PARSING_COLOURS[labels[drawn]]
    return Image.fromarray(values)
