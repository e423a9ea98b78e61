"""Bilinear values at the points of a grid, and images warped for the analyzers' networks."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from ..errors import InvalidInput


def check_image(image: object) -> None:
    """Require a PIL image of mode RGB with at least one pixel.

    Raises:
        `InvalidInput`: for anything else.
    """
    if not isinstance(image, Image.Image):
        raise InvalidInput(
            f"image is a {type(image).__name__}: pass a PIL image (stableviton_sdk.images.load_image makes one)."
        )
    if image.mode != "RGB" or 0 in image.size:
        raise InvalidInput(
            f"image has mode {image.mode} and size {image.size}: pass one of mode RGB "
            "(stableviton_sdk.images.load_image makes one)."
        )


def warp_to_bgr(
    image: Image.Image,
    scale: float,
    offset: tuple[float, float],
    size: tuple[int, int],
    *,
    repeat_edge: bool = False,
) -> np.ndarray:
    """Image scaled and shifted bilinearly, in BGR: its pixel p lands on `scale * p + offset`.

    Positions are pixel centres. Where the image shrinks to less than a quarter, whole blocks of pixels are averaged
    first: bilinear interpolation alone would read a few of them and drop the rest.

    Args:
        image (`PIL.Image.Image`): RGB.
        scale (`float`): Output pixels per image pixel.
        offset (`tuple[float, float]`): x, y of the image's first pixel in the output.
        size (`tuple[int, int]`): Width and height of the output.
        repeat_edge (`bool`, *optional*, defaults to `False`): Continue the image at its edges instead of with black.

    Returns:
        `np.ndarray`: uint8, (height, width, 3), in BGR order.
    """
    import cv2

    factor = int(0.5 / scale) if scale < 0.25 else 1
    # only the part that is visible, and the pixels that its outermost ones are interpolated with
    edges = []
    for length, start, available in zip(size, offset, image.size, strict=True):
        first = math.floor((-1 - start) / scale) - factor
        last = math.ceil((length - start) / scale) + factor
        edges.append((min(max(first, 0), available), min(max(last + 1, 0), available)))
    (left, right), (top, bottom) = edges
    if right <= left or bottom <= top:
        return np.zeros((size[1], size[0], 3), np.uint8)
    part = image.reduce(factor, (left, top, right, bottom))
    matrix = np.array(
        [
            [scale * factor, 0.0, offset[0] + scale * (left + (factor - 1) / 2)],
            [0.0, scale * factor, offset[1] + scale * (top + (factor - 1) / 2)],
        ]
    )
    # The outermost blocks' centres lie inside the image, which goes on beyond them before the black begins.
    blocks = factor > 1
    border = cv2.BORDER_REPLICATE if repeat_edge or blocks else cv2.BORDER_CONSTANT
    warped = cv2.warpAffine(np.asarray(part), matrix, size, flags=cv2.INTER_LINEAR, borderMode=border)
    if blocks and not repeat_edge:
        left, top = (max(math.ceil(start - scale / 2), 0) for start in offset)
        right, bottom = (
            max(math.floor(start + scale * (length - 0.5)) + 1, 0)
            for start, length in zip(offset, image.size, strict=True)
        )
        warped[:top] = warped[bottom:] = 0
        warped[:, :left] = warped[:, right:] = 0
    return warped[..., ::-1]


def interpolate(values: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear interpolation at the points of a grid; beyond the edges the values go on as they end there.

    Args:
        values (`np.ndarray`): float32, (..., h, w).
        x (`np.ndarray`): Columns of the grid in cells of the values, increasing, (W,); 0 is the first cell's centre.
        y (`np.ndarray`): Rows of the grid, likewise, (H,).

    Returns:
        `np.ndarray`: float32, (..., H, W).
    """
    left, right, column_weight = neighbours(x, values.shape[-1])
    above, below, row_weight = neighbours(y, values.shape[-2])
    values = values[..., above[0] : below[-1] + 1, :]
    wide = _mix(values[..., left], values[..., right], column_weight)
    return _mix(wide[..., above - above[0], :], wide[..., below - above[0], :], row_weight[:, None])


def neighbours(position: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells before and after each position, and the share of the one after."""
    position = position.clip(0, length - 1)
    before = position.astype(np.int64)
    return before, np.minimum(before + 1, length - 1), (position - before).astype(np.float32)


def _mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Linear interpolation, in the memory of `second`."""
    second -= first
    second *= share
    second += first
    return second
