"""The label maps' vocabulary: CIHP for the parse, DensePose's body parts and their palette."""

from __future__ import annotations

import numpy as np

from ...preprocessing.labels import CIHP
from .canvas import Layer, paste

# Pairs: the person's right first.
ARMS, LEGS, SHOES = (
    (CIHP.RIGHT_ARM, CIHP.LEFT_ARM), (CIHP.RIGHT_LEG, CIHP.LEFT_LEG), (CIHP.RIGHT_SHOE, CIHP.LEFT_SHOE),
)  # fmt: skip
NOTHING = 255  # in a label map of its own: not painted
WHOLE = 1 - 1e-6  # what the mask gives back must be covered entirely, or fabric would shine through

# DensePose, seen from the front. Pairs: the person's right first.
TORSO_FRONT, HANDS, FEET, UPPER_LEGS, LOWER_LEGS = 2, (3, 4), (6, 5), (9, 10), (13, 14)
UPPER_ARMS_IN, UPPER_ARMS_OUT, FOREARMS_IN, FOREARMS_OUT, HEADS = (16, 15), (18, 17), (20, 19), (22, 21), (23, 24)


def mark(labels: np.ndarray, layer: Layer, value: int, least: float = 0.5) -> None:
    """Label the pixels that a layer covers by at least `least`, in place."""
    seen = layer.coverage >= least
    paste(labels[layer.pixels], np.full(seen.shape, value, np.uint8), seen)
