"""Bare skin: torso, neck, arms and hands."""

from __future__ import annotations

import numpy as np

from ..canvas import Box, Canvas, Layer, Overlay, Points, mirrored, repeated, shaded, smooth
from ..figure import OPAQUE, arm_half_width, hand_outlines
from ..labels import CIHP
from ..style import darker
from .body import PhotoBody
from .cloth import soft_noise
from .ink import Ink, rounded
from .pose import PosedArm

_TORSO_HALF = np.concatenate(
    [smooth([(0.24, -0.15), (0.46, -0.11), (0.74, -0.085), (0.92, -0.045), (0.99, 0.03), (1.0, 0.15), (1.0, 0.3),
             (1.0, 0.6), (1.0, 1.06)], 4), [(0.5, 1.06), (0.0, 1.06)]]
)  # fmt: skip
_TORSO = np.concatenate([_TORSO_HALF, mirrored(_TORSO_HALF)])


def torso_outline(body: PhotoBody) -> Points:
    """Outline of the bare torso."""
    return body.torso.to_canvas(_TORSO)


def neck_outline(body: PhotoBody) -> Points:
    """Outline of the neck, from behind the chin down to the shoulders."""
    head, unit = body.head, body.unit
    neck = np.array(body.torso.neck)
    top = head.to_canvas(np.array([[-0.6, 0.35], [0.6, 0.35]]))
    half = 0.19 * unit * (0.85 + 0.2 * body.girth)
    middle = neck + np.array((0.3 * (top.mean(axis=0)[0] - neck[0]), 0.0))
    left = smooth(
        [
            neck + np.array((-0.5 * unit, -0.09 * unit)),
            middle + np.array((-half * 1.15, -0.2 * unit)),
            top[0] * 0.5 + (middle + np.array((-half, -0.4 * unit))) * 0.5,
        ]
    )
    right = smooth(
        [
            top[1] * 0.5 + (middle + np.array((half, -0.4 * unit))) * 0.5,
            middle + np.array((half * 1.15, -0.2 * unit)),
            neck + np.array((0.5 * unit, -0.09 * unit)),
        ]
    )
    return np.concatenate([left, right, [neck + np.array((0, 0.05 * unit))]])


def draw_torso(ink: Ink, body: PhotoBody, rng: np.random.Generator) -> None:
    """Paint torso and neck."""
    skin, unit, canvas = body.colours["skin"], body.unit, ink.canvas
    layer = canvas.polygon(torso_outline(body), neck_outline(body))
    x, y = canvas.centres(layer.box)
    u, v = body.torso.to_fabric(x, y)
    light = rounded(u + 0.3 * body.torso.turn, body.light, 0.16) + 0.02 * soft_noise(rng, u.shape, 6)
    light = light - 0.05 * np.exp(-((u / 0.05) ** 2)) * (v > 0.3)
    ink.shade(layer, skin, light.astype(np.float32), CIHP.TORSO_SKIN)
    neck = np.array(body.torso.neck)
    shade = canvas.polygon(neck_outline(body))
    x, y = canvas.centres(shade.box)
    chin = body.head.centre[1] + 0.9 * body.head.half_height
    depth = np.exp(-(((y - chin) / (0.16 * unit)) ** 2)) + 0 * x
    alpha = np.broadcast_to(depth, shade.coverage.shape)
    shadow = Layer(
        shade.top,
        shade.left,
        (repeated(np.ascontiguousarray(alpha, dtype=np.float32), 2) * shade.alpha * rng.uniform(0.4, 0.9)).astype(
            np.uint8
        ),
        2,
    )
    ink.lay(shadow, np.broadcast_to(darker(skin, 0.3).astype(np.uint8), (*shade.coverage.shape, 3)).copy())
    for sign in (-1, 1):
        bone = neck + np.array([[0.06, 0.02], [0.2, -0.03], [0.36, -0.05]]) * (sign * unit * np.cos(body.yaw), unit)
        ink.line(smooth(bone), 0.014 * unit, darker(skin, rng.uniform(0.04, 0.12)))


def bare_arm(
    body: PhotoBody, posed: PosedArm, canvas: Canvas, box: Box, along: np.ndarray, across: np.ndarray
) -> Overlay:
    """The bare arm without its hand, on a part of the canvas; `along` and `across` are s and t of its pixels."""
    alpha = np.zeros((box[2] - box[0], box[3] - box[1]), np.uint8)
    canvas.fill(alpha, posed.arm.outline(0.0, 1.0, arm_half_width), OPAQUE, box[:2])
    light = rounded(across * 10, body.light, 0.18)
    start = (along * 6).clip(0, 1)  # no edge where the arm leaves the shoulder
    light = 1 + start * (light - 1)
    return Overlay(
        Layer(*box[:2], alpha, canvas.supersample),
        repeated(shaded(light.astype(np.float32), body.colours["skin"]), canvas.supersample),
    )


def hand_shape(posed: PosedArm, side: int, rng: np.random.Generator) -> tuple[list[Points], list[Points]] | None:
    """Outlines of a hand's parts and the lines between its fingers; None where the hand is hidden."""
    if posed.hand == "hidden":
        return None
    outlines, lines = hand_outlines(posed.arm, side)
    pivot = np.array(posed.arm.wrist)
    angle = np.radians(rng.uniform(-35, 35) if posed.hand == "free" else rng.uniform(-55, 55))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    along = posed.arm.direction
    frame = np.stack([along, (-along[1], along[0])])
    size = rng.uniform(0.75, 1.15), rng.uniform(0.6, 1.05)

    def bend(points: Points) -> Points:
        return pivot + (((points - pivot) @ frame.T * size) @ frame) @ turn

    return [bend(points) for points in outlines], [bend(points) for points in lines]


def hand_overlay(body: PhotoBody, shape: tuple[list[Points], list[Points]], canvas: Canvas) -> Overlay:
    """One hand."""
    outlines, lines = shape
    skin = body.colours["skin"]
    overlay = Overlay.blank(canvas.box(np.concatenate(outlines)), skin, canvas.supersample)
    for outline in outlines:
        canvas.fill(overlay.layer.alpha, outline, OPAQUE, overlay.origin)
    for line in lines:
        canvas.line(overlay.colours, 0.016 * body.unit, line, darker(skin, 0.25), overlay.origin)
    return overlay
