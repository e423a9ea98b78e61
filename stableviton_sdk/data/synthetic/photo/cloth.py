"""How cloth falls: folds and wrinkles as fields of light, and weaves too fine to be drawn."""

from __future__ import annotations

import cv2
import numpy as np


def soft_noise(rng: np.random.Generator, shape: tuple[int, int], cells: float, aspect: float = 1.0) -> np.ndarray:
    """Smooth noise of unit variance, float32.

    Args:
        rng (`np.random.Generator`): Random generator.
        shape (`tuple[int, int]`): Height and width.
        cells (`float`): Blots along the longer side.
        aspect (`float`, *optional*, defaults to 1): How much longer than wide the blots are.
    """
    height, width = shape
    step = max(height, width) / cells
    rows, columns = max(2, round(height / (step * aspect)) + 3), max(2, round(width / step) + 3)
    grid = rng.standard_normal((rows, columns), np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


def folds(rng: np.random.Generator, shape: tuple[int, int], cells: float, angle: float, aspect: float) -> np.ndarray:
    """Ridges along a direction, as light: float32, mean about 0, most of it within [-1, 1].

    Args:
        rng (`np.random.Generator`): Random generator.
        shape (`tuple[int, int]`): Height and width.
        cells (`float`): Ridges along the longer side.
        angle (`float`): Their direction in degrees; 0 is upright.
        aspect (`float`): How much longer than wide they are.
    """
    height, width = shape
    side = int(np.hypot(height, width)) + 2
    noise = soft_noise(rng, (side, side), cells, aspect)
    if angle:
        matrix = cv2.getRotationMatrix2D((side / 2, side / 2), angle, 1.0)
        noise = cv2.warpAffine(noise, matrix, (side, side), borderMode=cv2.BORDER_REFLECT)
    top, left = (side - height) // 2, (side - width) // 2
    noise = noise[top : top + height, left : left + width]
    # a fold has a lit side and a dark one: its light is the slope across it
    slope = cv2.Sobel(noise, cv2.CV_32F, 1, 0, ksize=3) * (side / (cells * 9))
    return np.tanh(0.8 * slope - 0.25 * noise)


def denim(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Wash and grain of denim as light: float32, mean 0."""
    grain = rng.standard_normal(shape, np.float32)
    return 0.035 * grain + 0.06 * soft_noise(rng, shape, 5, 2.0)
