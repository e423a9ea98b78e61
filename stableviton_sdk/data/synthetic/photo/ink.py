"""The image of a figure while its unchanging parts are drawn, with both label maps that follow from it."""

from __future__ import annotations

import numpy as np

from ..canvas import Canvas, Layer, Points, blend, repeated, shaded
from ..labels import WHOLE, mark


class Ink:
    """Paints parts of a figure and labels them.

    Args:
        canvas (`Canvas`): Draws.
        image (`np.ndarray`): Supersampled RGB, uint8.
        labels (`np.ndarray`): CIHP labels of what covers most of a pixel, uint8, (H, W).
        solid (`np.ndarray`): CIHP labels of what covers a pixel entirely, uint8, (H, W).
    """

    def __init__(self, canvas: Canvas, image: np.ndarray, labels: np.ndarray, solid: np.ndarray):
        self.canvas = canvas
        self.image = image
        self.labels = labels
        self.solid = solid

    def name(self, layer: Layer, label: int) -> None:
        """Label a layer's pixels."""
        mark(self.labels, layer, label)
        mark(self.solid, layer, label, WHOLE)

    def lay(self, layer: Layer, colours: np.ndarray, label: int | None = None) -> None:
        """Lay colours at the final image's resolution, uint8 (h, w, 3), through a layer."""
        blend(self.image[layer.area], repeated(colours, layer.supersample), layer.alpha)
        if label is not None:
            self.name(layer, label)

    def shade(self, layer: Layer, colour: np.ndarray, light: np.ndarray, label: int | None = None) -> None:
        """Lay one colour under light, float32 (h, w) at the final image's resolution, through a layer."""
        self.lay(layer, shaded(light, colour), label)

    def line(self, points: Points, width: float, colour: np.ndarray) -> None:
        """Draw a line of a width in canvas units."""
        self.canvas.line(self.image, width, points, colour)


def rounded(across: np.ndarray, light: tuple[float, float], depth: float = 0.2) -> np.ndarray:
    """Light on something round: `across` runs from -1 to 1 between its edges."""
    side, hard = light
    across = np.clip(across, -1.15, 1.15)
    return 1.02 - depth * across * across + (0.05 + 0.16 * hard) * side * across - 0.05 * hard
