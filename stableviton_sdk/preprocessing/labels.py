"""Label maps: the labels of a parse, the colours of a DensePose image, and labels read from a network's logits."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from .resampling import interpolate


class CIHP(IntEnum):
    """Labels of a CIHP parse, which the agnostic mask's rule reads. LIP's are the same except for 10."""

    BACKGROUND = 0
    HAT = 1
    HAIR = 2
    GLOVE = 3
    GLASSES = 4
    UPPER_CLOTHES = 5
    DRESS = 6
    COAT = 7
    SOCKS = 8
    TROUSERS = 9
    TORSO_SKIN = 10
    SCARF = 11
    SKIRT = 12
    FACE = 13
    LEFT_ARM = 14
    RIGHT_ARM = 15
    LEFT_LEG = 16
    RIGHT_LEG = 17
    LEFT_SHOE = 18
    RIGHT_SHOE = 19


UPPER_GARMENTS = (CIHP.UPPER_CLOTHES, CIHP.DRESS, CIHP.COAT)

# Colours of the DensePose labels 0 (background) to 24, RGB: those that StableVITON was trained with.
PARULA = np.array(
    [
        (0, 0, 0), (37, 60, 163), (20, 80, 194), (4, 97, 223), (8, 110, 221), (14, 122, 216), (20, 132, 212),
        (15, 144, 208), (11, 156, 203), (6, 166, 198), (22, 173, 185), (38, 179, 172), (55, 185, 159), (86, 187, 144),
        (114, 189, 130), (145, 191, 116), (170, 189, 105), (192, 188, 96), (216, 186, 86), (228, 192, 74),
        (240, 199, 60), (252, 206, 46), (251, 220, 36), (250, 235, 25), (249, 251, 14),
    ],
    dtype=np.uint8,
)  # fmt: skip
PARULA.flags.writeable = False

# Rows and columns interpolated at a time: bounds the memory for large photos, and fits into a processor's cache.
TILE = (64, 1024)


def palette_distances(colours: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Distances of colours from those of a palette.

    Args:
        colours (`np.ndarray`): RGB, 0 to 255, (N, 3).
        palette (`np.ndarray`): RGB, 0 to 255, (M, 3).

    Returns:
        `np.ndarray`: float32, (N, M).
    """
    colours, palette = colours.astype(np.float32), palette.astype(np.float32)
    squared = (colours**2).sum(axis=1)[:, None] - 2 * colours @ palette.T + (palette**2).sum(axis=1)
    return np.sqrt(squared.clip(0))


def strongest_labels(logits: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Label with the highest logit at each point of a grid, the logits interpolated bilinearly.

    Args:
        logits (`np.ndarray`): float32, (labels, h, w).
        x (`np.ndarray`): Columns of the grid in cells of the logits, increasing, (W,); 0 is the first cell's centre.
        y (`np.ndarray`): Rows of the grid, likewise, (H,).

    Returns:
        `np.ndarray`: uint8, (H, W).
    """
    labels = np.zeros((len(y), len(x)), np.uint8)
    for top in range(0, len(y), TILE[0]):
        for left in range(0, len(x), TILE[1]):
            rows, columns = slice(top, top + TILE[0]), slice(left, left + TILE[1])
            part = labels[rows, columns]
            best = interpolate(logits[0], x[columns], y[rows])
            for label in range(1, len(logits)):
                values = interpolate(logits[label], x[columns], y[rows])
                np.copyto(part, np.uint8(label), where=values > best)
                np.maximum(best, values, out=best)
    return labels
