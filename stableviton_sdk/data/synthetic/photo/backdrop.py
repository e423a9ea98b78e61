"""Where the figure stands: mostly a studio's near-white paper, sometimes coloured walls or rooms out of focus."""

from __future__ import annotations

import cv2
import numpy as np

from ..background import draw_background
from ..canvas import ramp
from ..style import Style, pick, pick_colour
from .cloth import soft_noise

PLACES = {"studio": 0.6, "coloured": 0.14, "room": 0.2, "outside": 0.06}
ROOMS = {"plain": 0.15, "gradient": 0.1, "textured": 0.3, "cluttered": 0.45}
OUTSIDE = {"sky": 0.35, "tiles": 0.35, "bokeh": 0.3}


def draw_backdrop(rng: np.random.Generator, style: Style, shape: tuple[int, int]) -> np.ndarray:
    """Draw a place, uint8 RGB, (H, W, 3)."""
    kind = pick(rng, PLACES)
    if kind in ("studio", "coloured"):
        return _paper(rng, style, shape, kind == "studio")
    name = pick(rng, ROOMS if kind == "room" else OUTSIDE)
    image = draw_background(name, style, int(rng.integers(2**31)), shape)
    if rng.random() < 0.5:  # out of focus
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 5.0) * shape[0] / 256)
    return image


def _paper(rng: np.random.Generator, style: Style, shape: tuple[int, int], white: bool) -> np.ndarray:
    height, width = shape
    if white:
        paper = np.full(3, rng.uniform(216, 255)) + rng.normal(0, 2.0, 3)
    else:
        paper = pick_colour(rng, style.walls, 14.0) * rng.uniform(0.6, 1.0)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    slope = rng.uniform(-0.05, 0.05) if white else rng.uniform(-0.12, 0.12)
    light = 1 + slope * x + rng.uniform(-0.06, 0.05) * (y - 0.5)
    light = light - rng.uniform(0, 0.08) * (x - rng.uniform(-0.5, 0.5)) ** 2
    if rng.random() < 0.3:
        light = light + soft_noise(rng, shape, rng.uniform(2, 5)) * rng.uniform(0.01, 0.05)
    if rng.random() < 0.25:  # where the floor begins
        level, soft = rng.uniform(0.82, 1.1), rng.uniform(0.01, 0.08)
        light = light - rng.uniform(0.01, 0.1) / (1 + np.exp(-((y - level) / soft).clip(-30, 30)))
    if rng.random() < 0.12:  # a corner or the paper's edge
        edge, lean = rng.uniform(-1, 1), rng.uniform(-0.1, 0.1)
        light = light - rng.uniform(0.01, 0.06) * ((x + lean * y - edge) > 0)
    return ramp((light * 0.8).clip(0, 1), np.zeros(3), paper * 1.25)
