"""DensePose's view of a figure: body parts, seen through the clothes."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from .body import Body
from .canvas import UNITS_HIGH, Canvas, Points, steps, xy
from .figure import arm_half_width, foot_outline, hand_outlines, leg_outline, neck_skin, torso_skin
from .geometry import Arm
from .head import head_outline
from .labels import (
    FEET,
    FOREARMS_IN,
    FOREARMS_OUT,
    HANDS,
    HEADS,
    LOWER_LEGS,
    TORSO_FRONT,
    UPPER_ARMS_IN,
    UPPER_ARMS_OUT,
    UPPER_LEGS,
)


def polygon_filler(labels: np.ndarray) -> Callable[[Points, int], None]:
    """Function that fills a polygon of the figure's units with a label.

    Args:
        labels (`np.ndarray`): uint8, (H, W), written in place.
    """
    scale = Canvas(labels.shape, supersample=1).scale

    def fill(points: Points, value: int) -> None:
        cv2.fillPoly(labels, [np.rint((points * scale - 0.5) * 16).astype(np.int32)], value, cv2.LINE_8, 4)

    return fill


def draw_densepose(body: Body, shape: tuple[int, int]) -> np.ndarray:
    """Label the body's parts as DensePose numbers them, for a figure that faces the camera.

    Returns:
        `np.ndarray`: uint8 in 0..24, (H, W).
    """
    labels = np.zeros(shape, np.uint8)
    fill = polygon_filler(labels)

    for side in (0, 1):
        leg, knee = leg_outline(body, side), body.legs.knees[side][1]
        fill(leg, LOWER_LEGS[side])
        fill(np.minimum(leg, (np.inf, knee)), UPPER_LEGS[side])
        if body.legs.ankles[side][1] < UNITS_HIGH:
            fill(foot_outline(body, side), FEET[side])
    fill(torso_skin(body), TORSO_FRONT)
    fill(neck_skin(body), TORSO_FRONT)
    head = head_outline(body)
    fill(head, HEADS[1])
    centre = body.head.centre
    tilt = np.radians(body.head.tilt)
    across = np.array([np.cos(tilt), np.sin(tilt)])
    distance = (head - centre) @ across
    fill(head - np.maximum(distance, 0)[:, None] * across, HEADS[0])
    for side, arm in enumerate(body.arms):
        fill_arm(fill, side, arm)
    for side, arm in enumerate(body.arms):
        for outline in hand_outlines(arm, side)[0]:
            fill(outline, HANDS[side])
    return labels


def fill_arm(fill: Callable[[Points, int], None], side: int, arm: Arm) -> None:
    """Fill the inner and outer halves of an upper arm and a forearm with their labels; side 0 is the right one."""
    inner = -1.0 if side == 0 else 1.0  # t grows away from the body on the right arm
    for start, end, inside, outside in (
        (0.0, arm.elbow_at, UPPER_ARMS_IN, UPPER_ARMS_OUT),
        (arm.elbow_at, 1.0, FOREARMS_IN, FOREARMS_OUT),
    ):
        fill(arm.outline(start, end, arm_half_width, cap=0.0 if start else 1.0), outside[side])
        s = start + (end - start) * steps(12)
        width = arm_half_width(s) * inner
        strip = [xy(s, 0.98 * width), xy(s, 0.2 * width)[::-1]]
        fill(arm.to_canvas(np.concatenate(strip)), inside[side])
