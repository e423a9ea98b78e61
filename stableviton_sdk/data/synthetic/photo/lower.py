"""Legs, and what is worn on them."""

from __future__ import annotations

import numpy as np

from ...synthetic.figure import limb
from ..body import SIDES
from ..canvas import UNITS_HIGH, Layer, Points, ellipse_points, ramp, smooth, steps, xy
from ..labels import CIHP, LEGS, SHOES
from ..style import darker, lighter
from .body import SKIRTS, PhotoBody
from .cloth import denim, folds, soft_noise
from .ink import Ink, rounded

_LEG_WIDE = np.array([0.25, 0.19, 0.14, 0.145, 0.08])
_CUT = {  # half widths at knee and ankle, in shoulder widths
    "slim": (0.19, 0.12), "straight": (0.23, 0.2), "wide": (0.32, 0.4), "flared_legs": (0.21, 0.32),
    "shorts": (0.3, 0.3),
}  # fmt: skip


def leg_outline(body: PhotoBody, side: int) -> Points:
    """Outline of a bare leg from hip to ankle."""
    lower = body.lower
    return limb([lower.hips[side], lower.knees[side], lower.ankles[side]], _LEG_WIDE * body.unit * body.girth)


def foot_outline(body: PhotoBody, side: int) -> Points:
    """Outline of a shoe, seen from the front."""
    ankle = np.array(body.lower.ankles[side])
    return ellipse_points(
        ankle + np.array([SIDES[side] * 0.05, 0.13]) * body.unit, (0.12 * body.unit, 0.17 * body.unit)
    )


def lower_outlines(body: PhotoBody) -> list[Points]:
    """Closed outlines of the lower garment: both trouser legs, or one skirt."""
    lower, torso, unit = body.lower, body.torso, body.unit
    skirt = lower.kind in SKIRTS
    ease = 1.03 if lower.kind in ("slim", "mini", "skirt") else 1.06
    level = np.linspace(lower.top, 1.03, 6)
    wide = np.linspace(1.005, ease, 6)
    band = torso.to_canvas(xy(1.005 * (2 * steps(9) - 1), np.full(9, lower.top)))
    left, right = torso.to_canvas(xy(-wide, level)), torso.to_canvas(xy(wide, level))
    (hip_x, hip_y) = np.mean(lower.hips, axis=0)
    half = torso.half_width(np.float64(1.0)) * ease
    if skirt:
        knees = np.mean(lower.knees, axis=0)
        hem_y = hip_y + lower.hem * (knees[1] - hip_y)
        spread = half * {"mini": 1.08, "skirt": 1.0, "long_skirt": 1.2, "flared": 1.5}[lower.kind] * lower.width
        middle = hip_x + lower.hem * (knees[0] - hip_x)
        side_y = min(right[-1, 1] + 0.18 * unit, hem_y - 0.05 * unit)
        right_side = smooth([right[-1], (hip_x + 1.03 * half, side_y), (middle + spread, hem_y)])
        left_side = smooth([(middle - spread, hem_y), (hip_x - 1.03 * half, side_y), left[-1]])
        bottom = smooth([(middle + spread, hem_y), (middle, hem_y + 0.07 * unit), (middle - spread, hem_y)])
        return [np.concatenate([band, right[1:-1], right_side, bottom[1:-1], left_side, left[::-1][1:-1]])]
    knee_width, cuff_width = (value * lower.width * unit for value in _CUT[lower.kind])
    crotch = np.array([hip_x, hip_y + 0.26 * unit])
    outlines = []
    for side, sign in enumerate(SIDES):
        root, knee, ankle = (np.array(joints[side]) for joints in (lower.hips, lower.knees, lower.ankles))
        edge = (left, right)[side]
        out = np.array([sign, 0.0])
        if lower.kind == "shorts":
            end = root + lower.hem * (knee - root)
            outer = smooth([edge[-1], end + max(knee_width, 0.9 * abs(edge[-1, 0] - root[0])) * out])
            inner = smooth([end - 0.21 * unit * out, crotch])
        else:
            thigh = root + 0.4 * (knee - root) + (0.27 * lower.width * unit * (0.6 + 0.4 * body.girth)) * out
            outer = smooth([edge[-1], thigh, knee + knee_width * out, ankle + cuff_width * out])
            inner = smooth([ankle - cuff_width * out, knee - min(knee_width, 0.24 * unit) * out, crotch])
        top = band[:5][::-1] if sign < 0 else band[4:]
        outlines.append(np.concatenate([top, edge[1:-1], outer, inner, [(hip_x, hip_y)]]))
    return outlines


def draw_legs(ink: Ink, body: PhotoBody, rng: np.random.Generator) -> None:
    """Paint bare legs and shoes."""
    for side in (0, 1):
        if body.lower.ankles[side][1] < UNITS_HIGH + 10:
            layer = ink.canvas.polygon(foot_outline(body, side))
            x, _ = ink.canvas.centres(layer.box)
            across = (x - body.lower.ankles[side][0]) / (0.14 * body.unit)
            light = np.broadcast_to(rounded(across, body.light), layer.coverage.shape)
            ink.shade(layer, body.colours["shoes"], light, SHOES[side])
        layer = ink.canvas.polygon(leg_outline(body, side))
        x, y = ink.canvas.centres(layer.box)
        across = (x - _axis(body, side, y)) / np.float32(0.18 * body.unit)
        light = rounded(across, body.light, 0.18) + 0.02 * soft_noise(rng, layer.coverage.shape, 5)
        ink.shade(layer, body.colours["skin"], light, LEGS[side])


def draw_lower(ink: Ink, body: PhotoBody, rng: np.random.Generator) -> Layer:
    """Paint the lower garment; return what it covers."""
    lower, unit, canvas = body.lower, body.unit, ink.canvas
    outlines = lower_outlines(body)
    whole = canvas.polygon(*outlines)
    skirt = lower.kind in SKIRTS
    label = CIHP.SKIRT if skirt else CIHP.TROUSERS
    wrinkles = 0.16 * rng.uniform(0.3, 1.2)
    for index, outline in enumerate(outlines):
        layer = canvas.polygon(outline)
        x, y = canvas.centres(layer.box)
        if skirt:
            axis = (_axis(body, 0, y) + _axis(body, 1, y)) / 2
            half = body.torso.half_width(np.float64(1.0)) * (1.3 if lower.kind == "flared" else 1.05)
        else:
            axis, half = _axis(body, index, y), 0.3 * unit * lower.width
        across = (x - axis) / np.float32(half)
        light = rounded(across, body.light, 0.2)
        shape = layer.coverage.shape
        if skirt and lower.kind != "mini":
            depth = ((y - lower.hips[0][1]) / unit).clip(0, 1)
            light = light - depth * (0.06 + 0.08 * np.cos(rng.uniform(6, 16) * across + rng.uniform(0, 6)))
        light = light + wrinkles * folds(rng, shape, rng.uniform(4, 9) * shape[0] / 120, rng.uniform(-70, 70), 1.8)
        ink.lay(layer, _fabric(rng, body, light.astype(np.float32), x, y, axis), label)
    _trims(ink, body, rng, skirt)
    return whole


def _fabric(rng, body: PhotoBody, light: np.ndarray, x, y, axis) -> np.ndarray:
    colour, unit = body.colours["lower"], body.unit
    kind = body.lower.fabric
    if kind == "denim":
        light = light + denim(rng, light.shape)
        across = np.abs(x - axis) / (0.3 * unit)
        if rng.random() < 0.6:  # washed thighs
            worn = np.exp(-((across / 0.6) ** 2) - ((y - body.lower.hips[0][1] - 0.8 * unit) / (0.7 * unit)) ** 2)
            light = light + rng.uniform(0.05, 0.3) * worn
    if kind == "leather":
        light = light + 0.25 * np.maximum(soft_noise(rng, light.shape, 7, 2.5), 0) ** 2
    image = ramp((light * 0.8).clip(0, 1), np.zeros(3), colour * 1.25)
    if kind in ("stripes", "checks"):
        ink = lighter(colour, 0.45) if colour.mean() < 140 else darker(colour, 0.4)
        step = unit * rng.uniform(0.05, 0.2)
        share = _lines(x - axis, step, unit * 0.02)
        if kind == "checks":
            share = np.maximum(share, _lines(y, step * rng.uniform(0.9, 1.3), unit * 0.02))
        image = _mix(image, ink, share * rng.uniform(0.3, 0.9), light)
    elif kind == "prints":
        cells = rng.uniform(12, 40)
        share = (soft_noise(rng, light.shape, cells * light.shape[0] / 140) > rng.uniform(0.4, 1.2)).astype(np.float32)
        image = _mix(image, rng.uniform(20, 250, 3), share, light)
    return image


def _lines(place: np.ndarray, step: float, width: float) -> np.ndarray:
    distance = np.abs((place / step) % 1 - 0.5) * step
    return (1.2 - distance / width).clip(0, 1)


def _mix(image: np.ndarray, colour: np.ndarray, share: np.ndarray, light: np.ndarray) -> np.ndarray:
    share = np.broadcast_to(share, light.shape)[..., None]
    return (image + share * (light[..., None] * colour - image)).clip(0, 255).astype(np.uint8)


def _trims(ink: Ink, body: PhotoBody, rng, skirt: bool) -> None:
    lower, unit, torso, colour = body.lower, body.unit, body.torso, body.colours["lower"]
    line = darker(colour, rng.uniform(0.25, 0.6)) if colour.mean() > 50 else lighter(colour, rng.uniform(0.05, 0.2))
    if lower.fabric == "denim" and rng.random() < 0.5:
        line = 0.5 * line + 0.5 * np.array([196.0, 150, 90])
    width = rng.uniform(0.008, 0.016) * unit
    hips = np.mean(lower.hips, axis=0)
    middle = torso.to_canvas(np.array([[0.0, lower.top], [0.0, 1.0]]))
    if not skirt:
        ink.line(smooth([middle[0], middle[1], hips + np.array((0, 0.26 * unit))]), width, line)
        for side, sign in enumerate(SIDES):
            pocket = torso.to_canvas(
                np.array([[0.55, lower.top + 0.05], [0.7, lower.top + 0.1], [1.0, lower.top + 0.14]]) * (sign, 1)
            )
            ink.line(smooth(pocket), width, line)
            knee = np.array(lower.knees[side])
            if rng.random() < 0.3:
                ink.line(smooth([middle[1] + (sign * 0.2 * unit, 0), knee]), width, line)
    across = xy(2.06 * steps(9) - 1.03, lower.top + 0.045)
    ink.line(torso.to_canvas(across), width, line)
    if lower.belt:
        belt = rng.choice([20, 60, 110, 220]) * np.array([1.0, 0.85, 0.7])
        ink.line(torso.to_canvas(xy(2.04 * steps(9) - 1.02, lower.top + 0.025)), 0.065 * unit, belt)
        buckle = torso.to_canvas(np.array([[0.0, lower.top + 0.025]]))[0]
        ink.canvas.fill(ink.image, ellipse_points(buckle, (0.05 * unit, 0.045 * unit)), np.array([200.0, 180, 130]))
    elif rng.random() < 0.6:
        count = int(rng.integers(1, 6)) if rng.random() < 0.3 else 1
        for v in np.linspace(lower.top + 0.022, lower.top + 0.022 + 0.09 * (count - 1), count):
            button = torso.to_canvas(np.array([[0.0, v]]))[0]
            ink.canvas.fill(
                ink.image,
                ellipse_points(button, (0.02 * unit, 0.02 * unit)),
                rng.uniform(90, 230) * np.array([1.0, 0.95, 0.8]),
            )


def _axis(body: PhotoBody, side: int, y: np.ndarray) -> np.ndarray:
    joints = np.array([body.lower.hips[side], body.lower.knees[side], body.lower.ankles[side]])
    return np.interp(y, joints[:, 1], joints[:, 0]).astype(np.float32)
