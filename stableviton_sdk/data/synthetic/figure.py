"""Everything about a figure that no upper garment changes: legs, skin, hands, and the labels they get.

Outlines are kept for the last figures, since the image and the DensePose labels both want them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from .body import SIDES, Body
from .canvas import (
    UNITS_HIGH,
    Box,
    Canvas,
    Layer,
    Overlay,
    Points,
    blend,
    ellipse_points,
    mirrored,
    repeated,
    restrict,
    shaded,
    smooth,
    steps,
    tint,
    xy,
)
from .geometry import Arm
from .head import FACE_SHAPE, hair_back
from .labels import CIHP, LEGS, SHOES, WHOLE, mark
from .style import darker, lighter

OPAQUE = (255, 255, 255)
_ARM_AT = np.array([0.0, 0.25, 0.5, 0.6, 1.0])
_ARM_WIDE = np.array([0.112, 0.108, 0.09, 0.092, 0.062])
_LEG_WIDE = np.array([0.2, 0.16, 0.15, 0.09])


def arm_half_width(s: np.ndarray) -> np.ndarray:
    """Half width of a bare arm in `Arm.unit`."""
    return np.interp(s, _ARM_AT, _ARM_WIDE)


def draw_base(image: np.ndarray, labels: np.ndarray, body: Body, canvas: Canvas, reach: np.ndarray) -> Layer:
    """Paint what lies behind any upper garment, in place.

    Args:
        image (`np.ndarray`): Supersampled RGB, uint8, holding the background.
        labels (`np.ndarray`): CIHP labels, uint8, (H, W).
        body (`Body`): Who.
        canvas (`Canvas`): Draws.
        reach (`np.ndarray`): bool, (H, W): where some upper garment may cover the lower one.

    Returns:
        `Layer`: the lower garment.
    """
    skin, unit = body.colours["skin"], body.unit
    for outline in hair_back(body):
        canvas.fill(image, outline, darker(body.colours["hair"], 0.22))
        mark(labels, canvas.polygon(outline), CIHP.HAIR)
    for side in (0, 1):
        _leg(image, labels, body, canvas, side)
    torso, neck = canvas.polygon(torso_skin(body), neck_skin(body)), canvas.polygon(neck_skin(body))
    tint(image, torso, skin)
    mark(labels, torso, CIHP.TORSO_SKIN)
    chin = canvas.polygon(body.head.to_canvas(FACE_SHAPE * (0.8, 1.0) + (0, 0.17)))
    tint(image, restrict(chin, neck), darker(skin, 0.16))
    for sign in SIDES:  # collar bones
        bone = np.array(body.torso.neck) + np.array([[0.06, -0.015], [0.18, -0.05], [0.32, -0.065]]) * (
            sign * unit,
            unit,
        )
        canvas.line(image, 0.014 * unit, smooth(bone), darker(skin, 0.12))
    return _lower(image, labels, body, canvas, reach)


@lru_cache(maxsize=4)
def torso_skin(body: Body) -> Points:
    """Outline of the bare torso."""
    return body.torso.to_canvas(_TORSO)


_TORSO_HALF = np.concatenate(
    [smooth([(0.27, -0.145), (0.5, -0.105), (0.78, -0.08), (0.93, -0.04), (0.98, 0.05), (0.985, 0.2), (1.0, 0.45),
             (1.0, 0.75), (1.0, 1.03)], 4), [(0.75, 1.03), (0.5, 1.03), (0.25, 1.03), (0.0, 1.03)]]
)  # fmt: skip
_TORSO = np.concatenate([_TORSO_HALF, mirrored(_TORSO_HALF)])


@lru_cache(maxsize=4)
def neck_skin(body: Body) -> Points:
    """Outline of the neck."""
    chin = body.head.to_canvas(np.array([[-0.55, 0.3], [0.55, 0.3]]))
    low_left, left, right, low_right = body.torso.to_canvas(_NECK)
    right, left = smooth([chin[1], right, low_right]), smooth([low_left, left, chin[0]])
    return np.concatenate([right, [body.torso.neck], left])


_NECK = np.array([[-0.5, -0.125], [-0.26, -0.215], [0.26, -0.215], [0.5, -0.125]])


def limb(points: list[Any], widths: np.ndarray) -> Points:
    """Outline of a limb through joints with half widths."""
    axis = smooth(points, 6)
    wide = np.interp(steps(len(axis)), steps(len(widths)), widths)
    along = np.gradient(axis, axis=0)
    across = xy(-along[:, 1], along[:, 0]) / np.hypot(*along.T)[:, None]
    return np.concatenate([axis + across * wide[:, None], (axis - across * wide[:, None])[::-1]])


@lru_cache(maxsize=4)
def leg_outline(body: Body, side: int) -> Points:
    """Outline of a bare leg from hip to ankle."""
    legs = body.legs
    return limb([legs.hips[side], legs.knees[side], legs.ankles[side]], _LEG_WIDE * body.unit * 0.95)


@lru_cache(maxsize=4)
def foot_outline(body: Body, side: int) -> Points:
    """Outline of a shoe, seen from the front."""
    ankle, unit = np.array(body.legs.ankles[side]), body.unit
    centre = ankle + np.array([SIDES[side] * 0.06, 0.14]) * unit
    return ellipse_points(centre, (0.13 * unit, 0.17 * unit))


def _leg(image, labels, body: Body, canvas: Canvas, side: int) -> None:
    if body.legs.ankles[side][1] < UNITS_HIGH:
        canvas.fill(image, foot_outline(body, side), body.colours["shoes"])
        mark(labels, canvas.polygon(foot_outline(body, side)), SHOES[side], WHOLE)
    if body.legs.kind in ("slim", "straight", "wide"):
        return  # nothing of it shows
    layer = canvas.polygon(leg_outline(body, side))
    x, y = canvas.centres(layer.box)
    across = (x - _axis(body, side, y)) * np.float32(1 / (0.2 * body.unit))
    _lay(image, layer, shaded(1 - 0.16 * np.minimum(across**2, 1.2), body.colours["skin"]))
    mark(labels, layer, LEGS[side], WHOLE)


def _lay(image: np.ndarray, layer: Layer, colours: np.ndarray) -> None:
    """Lay colours, given at the final image's resolution, over a supersampled one, in place, through a layer."""
    blend(image[layer.area], repeated(colours, layer.supersample), layer.alpha)


def _axis(body: Body, side: int, y: np.ndarray) -> np.ndarray:
    joints = np.array([body.legs.hips[side], body.legs.knees[side], body.legs.ankles[side]])
    return np.interp(y, joints[:, 1], joints[:, 0]).astype(np.float32)


def _lower(image, labels, body: Body, canvas: Canvas, reach: np.ndarray) -> Layer:
    legs, unit = body.legs, body.unit
    colour = body.colours["lower"]
    outlines = body.lower_outlines()
    whole = canvas.polygon(*outlines)
    line = darker(colour, 0.3) if colour.mean() > 60 else lighter(colour, 0.2)
    skirt = legs.kind in ("skirt", "flared")
    if skirt:
        x, y = canvas.centres(whole.box)
        across = (x - (_axis(body, 0, y) + _axis(body, 1, y)) / 2) * np.float32(1 / (0.6 * unit))
        depth = ((y - legs.hips[0][1]) / unit).clip(0, 1).astype(np.float32)
        pleats = 9 if legs.kind == "flared" else 4
        light = 1 - 0.17 * np.minimum(across**2, 1.3) - depth * (0.05 + 0.05 * np.cos(pleats * np.pi / 2 * across))
        _lay(image, whole, shaded(light, colour))
    else:
        for side, sign in enumerate(SIDES):
            layer = canvas.polygon(outlines[side])
            x, y = canvas.centres(layer.box)
            across = (x - _axis(body, side, y)) * np.float32(1 / (0.3 * unit))
            light = 1.03 - 0.2 * np.minimum(across**2, 1.2) - 0.05 * sign * body.light * across
            _lay(image, layer, shaded(light, colour))
        hips = np.mean(legs.hips, axis=0)
        seam = smooth(hips + np.array([[0.0, -0.2], [0.01, 0.05], [0.0, 0.24]]) * unit)
        canvas.line(image, 0.014 * unit, seam, line)
        for sign in SIDES:
            pocket = smooth(hips + np.array([[0.2, -0.2], [0.28, -0.1], [0.43, -0.06]]) * (sign * unit, unit))
            canvas.line(image, 0.014 * unit, pocket, line)
    band = xy(1.96 * steps(9) - 0.98, legs.top + 0.035)
    canvas.line(image, 0.012 * unit, body.torso.to_canvas(band), line)
    if body.details % 2:
        button = body.torso.to_canvas(np.array([[0.0, legs.top + 0.02]]))[0]
        canvas.fill(image, ellipse_points(button, (0.022 * unit, 0.022 * unit)), np.array([214.0, 190, 130]))
    part, near = labels[whole.pixels], reach[whole.pixels]
    part[(whole.coverage > 0) & near] = CIHP.TORSO_SKIN
    part[(whole.coverage >= WHOLE) & ~near] = CIHP.SKIRT if skirt else CIHP.TROUSERS
    return whole


def arm_overlay(body: Body, arm: Arm, canvas: Canvas, box: Box, light: np.ndarray) -> Overlay:
    """The bare arm without its hand, on a part of the canvas; `light` (h, w) at the final image's resolution."""
    skin = body.colours["skin"]
    alpha = np.zeros((box[2] - box[0], box[3] - box[1]), np.uint8)
    layer = Layer(box[0], box[1], alpha, canvas.supersample)
    canvas.fill(layer.alpha, arm.outline(0.0, 1.0, arm_half_width), OPAQUE, box[:2])
    return Overlay(layer, repeated(shaded(light, skin), canvas.supersample))


@lru_cache(maxsize=4)
def hand_outlines(arm: Arm, side: int) -> tuple[list[Points], list[Points]]:
    """Outlines of the palm with its fingers and of the thumb; and the lines between the fingers."""
    unit, along = arm.unit, arm.direction
    across = np.array([-along[1], along[0]])
    inward = 1.0 if side else -1.0

    def place(points) -> Points:
        points = np.asarray(points, dtype=np.float64) * (1, inward)
        return np.array(arm.wrist) + unit * (points[:, :1] * along + points[:, 1:] * across)

    return [place(_PALM), place(_THUMB)], [
        place([(0.24, y), (0.37 - abs(y), y * 1.1)]) for y in (-0.042, -0.006, 0.028)
    ]


_PALM = smooth([(-0.04, -0.058), (0.06, -0.064), (0.16, -0.085), (0.27, -0.082), (0.36, -0.055), (0.4, -0.01),
                (0.38, 0.035), (0.3, 0.06), (0.17, 0.07), (0.06, 0.064), (-0.04, 0.058)], 4)  # fmt: skip
_THUMB = smooth([(0.02, 0.045), (0.09, 0.095), (0.17, 0.125), (0.225, 0.125), (0.22, 0.095), (0.17, 0.05)], 4)


def hand_overlay(body: Body, arm: Arm, side: int, canvas: Canvas) -> Overlay:
    """One hand, to be cut off where its own cuff covers it."""
    outlines, lines = hand_outlines(arm, side)
    overlay = Overlay.blank(canvas.box(np.concatenate(outlines)), body.colours["skin"], canvas.supersample)
    for outline in outlines:
        canvas.fill(overlay.layer.alpha, outline, OPAQUE, overlay.origin)
    for line in lines:
        canvas.line(overlay.colours, 0.014 * arm.unit, line, darker(body.colours["skin"], 0.16), overlay.origin)
    return overlay
