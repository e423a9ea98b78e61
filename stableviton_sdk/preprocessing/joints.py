"""BODY_25 joints: their indices, the bones between them, and a person's pose."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Body25(IntEnum):
    """Rows of a BODY_25 array (25, 3). Left and right are the person's own."""

    NOSE = 0
    NECK = 1
    RIGHT_SHOULDER = 2
    RIGHT_ELBOW = 3
    RIGHT_WRIST = 4
    LEFT_SHOULDER = 5
    LEFT_ELBOW = 6
    LEFT_WRIST = 7
    MID_HIP = 8
    RIGHT_HIP = 9
    RIGHT_KNEE = 10
    RIGHT_ANKLE = 11
    LEFT_HIP = 12
    LEFT_KNEE = 13
    LEFT_ANKLE = 14
    RIGHT_EYE = 15
    LEFT_EYE = 16
    RIGHT_EAR = 17
    LEFT_EAR = 18
    LEFT_BIG_TOE = 19
    LEFT_SMALL_TOE = 20
    LEFT_HEEL = 21
    RIGHT_BIG_TOE = 22
    RIGHT_SMALL_TOE = 23
    RIGHT_HEEL = 24

    @property
    def mirrored(self) -> Body25:
        """The same joint of the other side; the joint itself where there is but one."""
        side, _, joint = self.name.partition("_")
        other = {"LEFT": "RIGHT", "RIGHT": "LEFT"}.get(side)
        return self if other is None else Body25[f"{other}_{joint}"]


# from joint to joint, in the order that they are drawn in
BONES = (
    *((1, 8), (1, 2), (2, 3), (3, 4), (1, 5), (5, 6), (6, 7)),  # torso and arms
    *((8, 9), (9, 10), (10, 11), (8, 12), (12, 13), (13, 14)),  # legs
    *((1, 0), (0, 15), (15, 17), (0, 16), (16, 18)),  # head
    *((14, 19), (19, 20), (14, 21), (11, 22), (22, 23), (11, 24)),  # feet
)


@dataclass(frozen=True, eq=False)
class Pose:
    """One person's joints.

    Args:
        keypoints (`np.ndarray`):
            BODY_25 joints, float32, (25, 3) as x, y in image pixels ((0, 0) is the first pixel's centre) and
            confidence in [0, 1]. A missing joint is (0, 0, 0).
        box (`tuple[float, float, float, float]`):
            Left, top, right, bottom of the person in image pixels: the detector's box, or the box around the joints
            for estimators without a detector.
        score (`float`): Confidence in this person; comparable among poses of one estimator only.
    """

    keypoints: np.ndarray
    box: tuple[float, float, float, float]
    score: float


def joint_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Midpoint of two joints, with the lower of the two confidences; missing if either joint is missing.

    Args:
        first (`np.ndarray`), second (`np.ndarray`): The joints, (3,) as x, y, confidence.
    """
    if first[2] <= 0 or second[2] <= 0:
        return np.zeros(3, np.float32)
    middle = (first + second) / 2
    middle[2] = min(first[2], second[2])
    return middle
