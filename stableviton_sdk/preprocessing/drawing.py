"""Drawings of masks, parses and joints."""

from __future__ import annotations

import colorsys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ..images import binarize
from .joints import BONES
from .labels import CIHP


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


# Neighbouring labels get hues far apart: steps of the golden ratio around the colour wheel; background is black.
PARSING_COLOURS = np.array(
    [(0, 0, 0)] + [_rgb(label * 0.618034 % 1, 0.75, 1.0 - 0.4 * (label % 2)) for label in range(1, len(CIHP))],
    dtype=np.uint8,
)


def colour_parsing(parsing: np.ndarray) -> Image.Image:
    """Image of a CIHP label map, RGB.

    Args:
        parsing (`np.ndarray`): uint8, (H, W).
    """
    return Image.fromarray(PARSING_COLOURS[np.minimum(parsing, len(CIHP) - 1)])


def tint(image: Image.Image, mask: Image.Image, colour: tuple[int, int, int] = (230, 30, 60)) -> Image.Image:
    """Copy of an image with a mask laid over it, half-transparent and edged in white.

    Args:
        image (`PIL.Image.Image`): RGB.
        mask (`PIL.Image.Image`): Mode 1 or L, of any size; 128 and more = marked.
        colour (`tuple[int, int, int]`, *optional*, defaults to `(230, 30, 60)`): Colour of the mask, RGB.
    """
    marked = binarize(mask.convert("L"))
    if marked.size != image.size:
        marked = marked.resize(image.size, Image.Resampling.NEAREST)
    tinted = image.copy()
    tinted.paste(colour, (0, 0), marked.point([value * 115 // 255 for value in range(256)]))
    edge = np.asarray(marked) != np.asarray(marked.filter(ImageFilter.MinFilter(3)))
    tinted.paste((255, 255, 255), (0, 0), Image.fromarray(edge))
    return tinted


def draw_pose(image: Image.Image, keypoints: np.ndarray) -> Image.Image:
    """Copy of an image with a skeleton drawn over it; missing joints and their bones are left out.

    Args:
        image (`PIL.Image.Image`): RGB.
        keypoints (`np.ndarray`): BODY_25 joints in the image's pixels, (25, 3) as x, y, confidence.

    Returns:
        `PIL.Image.Image`: RGB, of the image's size.
    """
    joints = np.asarray(keypoints, dtype=np.float64)
    drawn = image.copy()
    canvas = ImageDraw.Draw(drawn)
    width = max(1, round(max(image.size) / 200))
    known = np.isfinite(joints).all(axis=1) & (joints[:, 2] > 0)
    for index, (start, end) in enumerate(BONES):
        if known[start] and known[end]:
            colour = _rgb(index / len(BONES), 1.0, 1.0)
            canvas.line([tuple(joints[start, :2]), tuple(joints[end, :2])], fill=colour, width=width)
    for index in np.flatnonzero(known):
        x, y = joints[index, :2]
        colour = _rgb(index / len(joints), 1.0, 1.0)
        canvas.ellipse((x - width, y - width, x + width, y + width), fill=colour, outline=(255, 255, 255))
    return drawn
