"""Faces and hair."""

from __future__ import annotations

import numpy as np

from .body import SIDES, Body
from .canvas import (
    Canvas,
    Layer,
    Overlay,
    Points,
    blend,
    ellipse_points,
    intersect,
    mirrored,
    repeated,
    shaded,
    smooth,
    steps,
    xy,
)
from .labels import CIHP, NOTHING, WHOLE, mark
from .style import darker, lighter

_HAIRLINES = {
    "crop": [(1.0, 0.05), (0.9, -0.25), (0.68, -0.48), (0.2, -0.5), (-0.3, -0.56), (-0.86, -0.32), (-1.0, 0.05)],
    "swept": [(1.0, 0.0), (0.9, -0.35), (0.62, -0.5), (0.1, -0.4), (-0.45, -0.66), (-0.85, -0.5), (-0.98, 0.0)],
    "fringe": [(0.99, 0.2), (0.86, -0.18), (0.5, -0.33), (0.0, -0.36), (-0.5, -0.33), (-0.86, -0.18), (-0.99, 0.2)],
    "parted": [(0.99, 0.3), (0.9, -0.1), (0.6, -0.45), (0.12, -0.8), (-0.4, -0.5), (-0.86, -0.12), (-0.99, 0.3)],
}
FACE_SHAPE = smooth(
    [(0, -1), (0.6, -0.86), (0.95, -0.38), (0.96, 0.12), (0.8, 0.58), (0.42, 0.94), (0, 1.03), (-0.42, 0.94),
     (-0.8, 0.58), (-0.96, 0.12), (-0.95, -0.38), (-0.6, -0.86)], 5, closed=True,
)  # fmt: skip
_BROW = np.array([(0.22, -0.2), (0.42, -0.26), (0.62, -0.18)])
_SMILE = smooth([(-0.27, 0.54), (0.0, 0.61), (0.27, 0.54)])
_LIPS = np.concatenate([_SMILE, smooth([(0.2, 0.58), (0.0, 0.69), (-0.2, 0.58)])])
_BEARD = np.concatenate(
    [smooth([(0.0, 0.4), (0.36, 0.38), (0.6, 0.36), (0.78, 0.1)]),
     smooth([(0.95, 0.0), (0.97, 0.3), (0.82, 0.66), (0.44, 1.0), (0.0, 1.1)])]
)  # fmt: skip
_LONG = ("long_back", "long_front", "bob", "ponytail")


def head_outline(body: Body) -> Points:
    """Outline of the face, chin to crown."""
    return body.head.to_canvas(FACE_SHAPE)


def hair_back(body: Body) -> list[Points]:
    """Outlines of the hair behind the body."""
    head, unit = body.head, body.unit
    rng = np.random.default_rng([body.details, 2])
    place = head.to_canvas
    if body.hair == "bob":
        length = rng.uniform(0.8, 1.2)
        side = np.array([(0.0, -1.12), (0.8, -0.95), (1.16, -0.2), (1.26, 0.5), (1.12, length), (0.6, length + 0.08)])
        half = smooth(side)
        return [place(np.concatenate([half, half[::-1] * (-1, 1)]))]
    if body.hair in ("long_back", "long_front"):
        end = rng.uniform(0.1, 0.7) * unit
        half = smooth(np.array([(0.0, -1.12), (0.8, -0.95), (1.15, -0.2), (1.22, 0.5), (1.3, 1.1)]))
        right, left = place(half), place(half * (-1, 1))
        neck = np.array(body.torso.neck)
        spread = rng.uniform(0.4, 0.5) * unit
        fall = np.array([[spread, 0.5 * end], [0.8 * spread, end]])
        right_fall, left_fall = (
            smooth([start, *(neck + fall * (sign, 1))]) for sign, start in ((1, right[-1]), (-1, left[-1]))
        )
        return [np.concatenate([right, right_fall[1:], left_fall[1:][::-1], left[::-1]])]
    if body.hair == "ponytail":
        sign = 1 if rng.random() < 0.5 else -1
        tail = smooth([(0.5, -0.75), (1.25, -0.65), (1.5, 0.1), (1.3, 1.0), (1.15, 1.5), (1.05, 0.8), (0.9, 0.0)])
        return [place(tail * (sign, 1))]
    return []


def head_overlay(body: Body, canvas: Canvas) -> tuple[Overlay, np.ndarray]:
    """Head, face and the hair in front.

    Returns:
        `tuple[Overlay, np.ndarray]`:
            What to lay over the image, and CIHP labels of the overlay's pixels, uint8, (h, w), 255 where none.
    """
    head, skin, place = body.head, body.colours["skin"], body.head.to_canvas
    rng = np.random.default_rng([body.details, 3])
    strands, caps = _strands(body, rng), _caps(body, rng)
    corners = place(np.array([[-1.35, -1.3], [1.35, 1.2]]))
    overlay = Overlay.blank(canvas.box(np.concatenate([corners, *strands, *caps])), skin, canvas.supersample)
    labels = np.full(canvas.shape, NOTHING, np.uint8)

    def lay(outline: Points, colour: np.ndarray | None, value: int, least: float) -> Layer:
        layer = canvas.polygon(outline)
        if colour is not None:
            canvas.fill(overlay.colours, outline, colour, overlay.origin)
        mine, theirs = intersect(overlay.layer, layer)
        np.maximum(overlay.layer.alpha[mine], layer.alpha[theirs], out=overlay.layer.alpha[mine])
        mark(labels, layer, value, least)
        return layer

    for sign in SIDES:
        ear = ellipse_points(
            place(np.array([[sign * 0.98, 0.1]]))[0], (0.14 * head.half_width, 0.17 * head.half_height)
        )
        lay(ear, darker(skin, 0.06), CIHP.FACE, WHOLE)
    face = lay(head_outline(body), None, CIHP.FACE, WHOLE)
    x, y = canvas.centres(face.box)
    across, down = (x - head.centre[0]) / head.half_width, (y - head.centre[1]) / head.half_height
    light = 1.01 - 0.07 * across**2 - 0.05 * body.light * across - 0.03 * down
    mine, theirs = intersect(overlay.layer, face)
    lit = repeated(shaded(light.astype(np.float32), skin), canvas.supersample)
    blend(overlay.colours[mine], lit[theirs], np.ascontiguousarray(face.alpha[theirs]))
    pen = _Pen(canvas, overlay, body)
    _features(pen, rng)
    if body.beard:
        half = np.concatenate([_BEARD, mirrored(_BEARD)])
        lay(place(half), body.colours["hair"], CIHP.FACE, WHOLE)
        _mouth(pen)
    if body.glasses:
        for sign in SIDES:
            rim = ellipse_points((sign * 0.4, -0.04), (0.29, 0.2))
            pen.line(np.concatenate([rim, rim[:1]]), 0.05, np.array([44.0, 40, 48]))
            mark(labels, canvas.polygon(place(rim)), CIHP.GLASSES, WHOLE)
        pen.line(np.array([[-0.12, -0.06], [0.12, -0.06]]), 0.05, np.array([44.0, 40, 48]))
    for outline in strands:
        lay(outline, body.colours["hair"], CIHP.HAIR, 0.5)
    for outline in caps:
        lay(outline, body.colours["hair"], CIHP.HAIR, 0.5)
    if caps:
        _shine(pen)
    return overlay, labels[overlay.layer.pixels]


class _Pen:
    """Draws on a head in the head's own coordinates."""

    def __init__(self, canvas: Canvas, overlay: Overlay, body: Body):
        self.canvas, self.overlay, self.body = canvas, overlay, body

    def fill(self, points: Points, colour: np.ndarray) -> None:
        self.canvas.fill(self.overlay.colours, self.body.head.to_canvas(points), colour, self.overlay.origin)

    def line(self, points: Points, width: float, colour: np.ndarray) -> None:
        points, width = self.body.head.to_canvas(points), width * self.body.head.half_width
        self.canvas.line(self.overlay.colours, width, points, colour, self.overlay.origin)


def _caps(body: Body, rng) -> list[Points]:
    """Outlines of the hair on the head."""
    place, hair = body.head.to_canvas, body.hair
    if hair == "bald":
        return []
    kind = "fringe" if hair in _LONG and rng.random() < 0.4 else "parted" if hair in _LONG else hair
    line = np.array(_HAIRLINES.get(kind, _HAIRLINES["crop"])) * (1 if rng.random() < 0.5 else -1, 1)
    line = line[np.argsort(-line[:, 0])]
    volume = {"swept": 1.17, "crop": 1.14}.get(hair, 1.13)
    turn = np.pi * (1 + steps(25))
    side = 1.1 if hair in _LONG else 1.04
    crown = xy(side * np.cos(turn), volume * np.sin(turn))
    ends = smooth(np.array([[side, 0.0], [side * 0.99, 0.6], [0.96, 0.3]])) if hair in _LONG else np.zeros((0, 2))
    outline = np.concatenate([crown, ends, smooth(line), (ends * (-1, 1))[::-1]])
    caps = [place(outline)]
    if hair == "bun":
        caps.append(place(ellipse_points((rng.uniform(-0.15, 0.15), -1.3), (0.4, 0.32))))
    if hair == "curly":
        for angle in np.pi * (1.24 * steps(12) - 0.12):
            radius = rng.uniform(0.3, 0.4)
            caps.append(
                place(ellipse_points((1.0 * np.cos(angle), -0.95 * np.sin(angle) - 0.12), (radius, radius * 0.8)))
            )
    return caps


def _strands(body: Body, rng) -> list[Points]:
    """Outlines of hair that falls over the shoulders."""
    if body.hair not in ("long_front", "bob"):
        return []
    place, unit, neck = body.head.to_canvas, body.unit, np.array(body.torso.neck)
    outlines = []
    for sign in SIDES:
        if body.hair == "bob":
            end = rng.uniform(0.75, 1.0)
            lock = smooth([(0.86, -0.4), (1.14, -0.1), (1.2, 0.5), (1.02, end), (0.84, end - 0.1), (0.93, 0.3)])
            outlines.append(place(lock * (sign, 1)))
            continue
        if rng.random() < 0.2:
            continue
        top = place(np.array([(0.9, -0.45), (1.12, -0.1), (1.2, 0.5)]) * (sign, 1))
        under = place(np.array([(0.9, 0.75), (0.95, 0.2)]) * (sign, 1))
        end, out = rng.uniform(0.16, 0.4), rng.uniform(0.31, 0.38)
        fall = neck + np.array([(out + 0.07, 0.0), (out + 0.03, 0.6 * end), (out - 0.08, end)]) * (sign * unit, unit)
        back = neck + np.array([(out - 0.14, 0.55 * end), (out - 0.13, -0.1)]) * (sign * unit, unit)
        outlines.append(smooth([*top, *fall, *back, *under], closed=True))
    return outlines


def _features(pen: _Pen, rng) -> None:
    body = pen.body
    skin, size = body.colours["skin"], body.style.eye
    look = rng.uniform(-0.03, 0.03)
    hair = body.colours["hair"]
    brow_colour = darker(skin, 0.6) if body.hair == "bald" else darker(hair, 0.55 if hair.mean() > 130 else 0.25)
    for sign in SIDES:
        pen.fill(ellipse_points((sign * 0.57, 0.34), (0.19, 0.13), count=20), skin * 0.9 + np.array([22, 9, 9]))
        pen.fill(
            ellipse_points((sign * 0.4, -0.03), (0.155 * size, 0.085 * size), count=20), np.array([252.0, 250, 248])
        )
        pen.fill(
            ellipse_points((sign * 0.4 + look, -0.03), (0.08 * size, 0.085 * size), count=16), body.colours["eyes"]
        )
        lid = np.array(
            [(sign * 0.4 + x * size, -0.03 + y * size) for x, y in ((-0.17, 0.0), (0.0, -0.09), (0.17, 0.0))]
        )
        pen.line(smooth(lid, 4), 0.05, np.array([40.0, 28, 28]))
        pen.line(smooth(_BROW * (sign, 1), 4), 0.065, brow_colour)
    side = 1.0 if body.light >= 0 else -1.0
    pen.line(smooth(np.array([(0.02, 0.02), (0.09 * side, 0.24), (-0.05, 0.28)]), 4), 0.05, darker(skin, 0.24))
    _mouth(pen)


def _mouth(pen: _Pen) -> None:
    lips = pen.body.colours["lips"]
    pen.fill(_LIPS, lips)
    pen.line(_SMILE, 0.045, darker(lips, 0.35))


def _shine(pen: _Pen) -> None:
    """Two bands of light on the hair."""
    colour = lighter(pen.body.colours["hair"], 0.14)
    side = 1.0 if pen.body.light >= 0 else -1.0
    for radius, width in ((0.9, 0.1), (1.0, 0.045)):
        turn = np.radians(205 + 57 * steps(10))
        pen.line(xy(side * radius * np.cos(turn), radius * np.sin(turn)), width, colour)
