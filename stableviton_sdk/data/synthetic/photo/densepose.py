"""DensePose's view of a photographed figure: body parts, seen through the clothes, in the order in which they lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..canvas import UNITS_HIGH, Points
from ..densepose import fill_arm, polygon_filler
from ..labels import FEET, HANDS, HEADS, LOWER_LEGS, TORSO_FRONT, UPPER_LEGS
from .body import PhotoBody
from .head import head_outline
from .lower import foot_outline, leg_outline
from .pose import PosedArm
from .skin import neck_outline, torso_outline


def draw_densepose(
    body: PhotoBody, hands: Sequence[tuple[list[Points], list[Points]] | None], shape: tuple[int, int]
) -> np.ndarray:
    """Label the body's parts as DensePose numbers them.

    Args:
        body (`PhotoBody`): The figure.
        hands (`Sequence`): Shapes from `hand_shape`, the person's right one first.
        shape (`tuple[int, int]`): Height and width.

    Returns:
        `np.ndarray`: uint8 in 0..24, (H, W).
    """
    labels = np.zeros(shape, np.uint8)
    fill = polygon_filler(labels)

    for side, posed in enumerate(body.arms):
        if posed.depth == "behind":
            _arm(fill, side, posed, hands[side])
    for side in (0, 1):
        leg, knee = leg_outline(body, side), body.lower.knees[side][1]
        fill(leg, LOWER_LEGS[side])
        fill(np.minimum(leg, (np.inf, knee)), UPPER_LEGS[side])
        if body.lower.ankles[side][1] < UNITS_HIGH:
            fill(foot_outline(body, side), FEET[side])
    fill(torso_outline(body), TORSO_FRONT)
    fill(neck_outline(body), TORSO_FRONT)
    over = [posed.depth == "over" for posed in body.arms]
    for side, posed in enumerate(body.arms):
        if posed.depth == "front":
            _arm(fill, side, posed, hands[side])
    _head(fill, body)
    for side, posed in enumerate(body.arms):
        if over[side]:
            _arm(fill, side, posed, hands[side])
    return labels


def _head(fill, body: PhotoBody) -> None:
    head = head_outline(body)
    fill(head, HEADS[1])
    tilt = np.radians(body.head.tilt)
    across = np.array([np.cos(tilt), np.sin(tilt)])
    middle = 0.6 * np.sin(body.head_yaw) * body.head.half_width
    distance = (head - body.head.centre) @ across - middle
    fill(head - np.maximum(distance, 0)[:, None] * across, HEADS[0])


def _arm(fill, side: int, posed: PosedArm, hand) -> None:
    fill_arm(fill, side, posed.arm)
    for outline in () if hand is None else hand[0]:
        fill(outline, HANDS[side])
