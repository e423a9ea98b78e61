"""Faces and hair, softer than those of the other styles, and turned."""

from __future__ import annotations

import cv2
import numpy as np

from ..body import SIDES
from ..canvas import Layer, Overlay, Points, blend, ellipse_points, intersect, repeated, shaded, smooth, steps, xy
from ..head import FACE_SHAPE
from ..labels import CIHP, NOTHING, WHOLE, mark
from ..style import darker, lighter
from .body import PhotoBody
from .cloth import soft_noise
from .ink import Ink, rounded

_LONG = ("long_back", "long_front", "one_side", "bob", "wavy", "ponytail")
_HAIRLINE = {
    "high": [(1.0, 0.1), (0.93, -0.22), (0.7, -0.5), (0.2, -0.62), (-0.3, -0.62), (-0.78, -0.42), (-1.0, 0.1)],
    "fringe": [(1.0, 0.2), (0.88, -0.12), (0.5, -0.27), (0.0, -0.31), (-0.5, -0.27), (-0.88, -0.12), (-1.0, 0.2)],
    "parted": [(1.0, 0.35), (0.92, -0.05), (0.66, -0.42), (0.12, -0.78), (-0.44, -0.5), (-0.9, -0.05), (-1.0, 0.35)],
    "swept": [(1.0, 0.1), (0.9, -0.3), (0.6, -0.42), (0.1, -0.45), (-0.45, -0.68), (-0.85, -0.5), (-1.0, 0.1)],
}


def head_outline(body: PhotoBody) -> Points:
    """Outline of the face, chin to crown."""
    return body.head.to_canvas(FACE_SHAPE + np.array([0.06 * np.sin(body.head_yaw), 0]))


def hair_colours(body: PhotoBody, rng: np.random.Generator, layer: Layer, dark: float) -> np.ndarray:
    """Strands of hair on a layer's part of the image, uint8 RGB, (h, w, 3)."""
    colour, shape = body.colours["hair"], layer.coverage.shape
    strands = soft_noise(rng, shape, max(shape) / 2.2, 9.0)
    light = 1 - dark + 0.1 * strands + 0.1 * soft_noise(rng, shape, max(3.0, max(shape) / 14), 1.5)
    return shaded(light.clip(0.2, 1.25), lighter(colour, 0.04))


def draw_hair_behind(ink: Ink, body: PhotoBody, rng: np.random.Generator) -> None:
    """Paint the hair behind the body."""
    for outline in _behind(body, rng):
        layer = ink.canvas.polygon(outline)
        ink.lay(layer, hair_colours(body, rng, layer, rng.uniform(0.12, 0.4)), CIHP.HAIR)


def _behind(body: PhotoBody, rng) -> list[Points]:
    head, unit, neck = body.head, body.unit, np.array(body.torso.neck)
    place = head.to_canvas
    volume = rng.uniform(1.05, 1.35)
    if body.hair == "afro":
        size = rng.uniform(1.5, 2.1)
        turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        radius = 1 + rng.normal(0, 0.025, 40)
        return [place(xy(size * radius * np.cos(turn), -0.25 + 0.82 * size * radius * np.sin(turn)))]
    if body.hair == "ponytail":
        sign = rng.choice([-1, 1])
        tail = smooth(
            [(0.4, -0.8), (1.2, -0.7), (1.5, 0.1), (1.3, 1.0), (1.15, rng.uniform(1.3, 2.2)), (1.0, 0.8), (0.8, 0.0)]
        )
        return [place(tail * (sign, 1))]
    if body.hair not in ("long_back", "long_front", "one_side", "bob", "wavy"):
        return []
    if body.hair == "bob":
        end = rng.uniform(0.9, 1.5)
        half = np.array(
            [(0, -1.13), (0.75, -0.98), (1.12, -0.3), (1.22 * volume, 0.5), (1.15 * volume, end), (0.6, end + 0.1)]
        )
        return [place(_ruffled(np.concatenate([smooth(half), smooth(half)[::-1] * (-1, 1)]), rng, 0.03))]
    end = rng.uniform(0.15, 1.0) * unit
    half = smooth(
        np.array([(0.0, -1.13), (0.75, -0.98), (1.12 * volume, -0.2), (1.2 * volume, 0.5), (1.2 * volume, 1.1)])
    )
    right, left = place(half), place(half * (-1, 1))
    spread = rng.uniform(0.3, 0.5) * volume * unit
    fall = np.array([[spread, 0.45 * end], [rng.uniform(0.6, 1.0) * spread, end]])
    right_fall, left_fall = (
        smooth([start, *(neck + fall * (sign, 1))]) for sign, start in ((1, right[-1]), (-1, left[-1]))
    )
    outline = np.concatenate([right, right_fall[1:], left_fall[1:][::-1], left[::-1]])
    return [_ruffled(outline, rng, 0.02 * unit) if body.hair == "wavy" else outline]


def _ruffled(points: Points, rng, size: float) -> Points:
    turn = np.linspace(0, rng.uniform(30, 60), len(points))
    return points + size * xy(np.sin(turn + rng.uniform(0, 6)), np.cos(1.3 * turn + rng.uniform(0, 6)))


def head_overlay(body: PhotoBody, ink: Ink, rng: np.random.Generator) -> tuple[Overlay, np.ndarray, np.ndarray]:
    """Head, face and the hair in front.

    Returns:
        `tuple[Overlay, np.ndarray, np.ndarray]`: what to lay over the image, and CIHP labels of the overlay's pixels
            by what covers most of them and what covers them entirely, uint8, (h, w), 255 where none.
    """
    head, skin, place, canvas = body.head, body.colours["skin"], body.head.to_canvas, ink.canvas
    caps, strands = _caps(body, rng), _strands(body, rng)
    corners = place(np.array([[-1.4, -1.4], [1.4, 1.3]]))
    overlay = Overlay.blank(canvas.box(np.concatenate([corners, *caps, *strands])), skin, canvas.supersample)
    labels, solid = np.full(canvas.shape, NOTHING, np.uint8), np.full(canvas.shape, NOTHING, np.uint8)

    def lay(outline: Points, colours, label: int) -> None:
        layer = canvas.polygon(outline)
        cut = intersect(overlay.layer, layer)
        if cut is None:
            return
        mine, theirs = cut
        colours = colours(layer) if callable(colours) else colours
        if colours.ndim == 1:
            colours = np.broadcast_to(colours.astype(np.uint8), (*layer.coverage.shape, 3))
        part = np.ascontiguousarray(repeated(np.ascontiguousarray(colours), canvas.supersample)[theirs])
        blend(overlay.colours[mine], part, np.ascontiguousarray(layer.alpha[theirs]))
        np.maximum(overlay.layer.alpha[mine], layer.alpha[theirs], out=overlay.layer.alpha[mine])
        mark(labels, layer, label)
        mark(solid, layer, label, WHOLE)

    yaw = np.sin(body.head_yaw)
    for sign in SIDES:
        if sign * yaw < 0.3:
            ear = place(np.array([[sign * 0.97 - 0.25 * yaw, 0.08]]))[0]
            lay(ellipse_points(ear, (0.13 * head.half_width, 0.18 * head.half_height)), darker(skin, 0.08), CIHP.FACE)

    def face(layer: Layer) -> np.ndarray:
        x, y = canvas.centres(layer.box)
        across, down = (x - head.centre[0]) / head.half_width, (y - head.centre[1]) / head.half_height
        return shaded((rounded(across, body.light, 0.1) - 0.03 * down).astype(np.float32), skin)

    lay(head_outline(body), face, CIHP.FACE)
    _features(overlay, body, canvas, rng)
    if body.beard:
        turn = np.linspace(0.1, np.pi - 0.1, 14)
        beard = np.concatenate(
            [xy(0.95 * np.cos(turn), 0.1 + 0.98 * np.sin(turn)), xy(-0.5 * np.cos(turn), 0.42 + 0.1 * np.sin(turn))]
        )
        layer = canvas.polygon(place(body.on_face(beard, 0.3)))
        mine, theirs = intersect(overlay.layer, layer)
        hair = hair_colours(body, rng, layer, 0.2)
        alpha = (layer.alpha[theirs] * 0.75).astype(np.uint8)
        blend(
            overlay.colours[mine],
            np.ascontiguousarray(repeated(hair, canvas.supersample)[theirs]),
            np.ascontiguousarray(alpha),
        )
    if body.glasses:
        rim_colour = rng.uniform(20, 90) * np.ones(3)
        for sign in SIDES:
            rim = place(body.on_face(ellipse_points((sign * 0.4, -0.04), (0.29, 0.19))))
            canvas.line(
                overlay.colours, 0.05 * head.half_width, np.concatenate([rim, rim[:1]]), rim_colour, overlay.origin
            )
            for target, least in ((labels, 0.5), (solid, WHOLE)):
                mark(target, canvas.polygon(rim), CIHP.GLASSES, least)

    def hair(layer: Layer) -> np.ndarray:
        return hair_colours(body, rng, layer, 0.05)

    for outline in (*strands, *caps):
        lay(outline, hair, CIHP.HAIR)
    if body.earrings:
        for sign in SIDES:
            if sign * yaw < 0.3:
                ring = place(np.array([[sign * 1.0 - 0.25 * yaw, 0.3 + rng.uniform(0, 0.1)]]))[0]
                radius = rng.uniform(0.05, 0.16) * head.half_height
                points = ellipse_points(ring + np.array((0, radius)), (0.6 * radius, radius))
                canvas.line(
                    overlay.colours,
                    0.05 * head.half_width,
                    np.concatenate([points, points[:1]]),
                    np.array([212.0, 190, 120]),
                    overlay.origin,
                )
    area = overlay.layer.pixels
    return overlay, labels[area], solid[area]


def _caps(body: PhotoBody, rng) -> list[Points]:
    """Outlines of the hair on the head."""
    place, hair = body.head.to_canvas, body.hair
    if hair == "bald":
        return []
    long = hair in _LONG
    kind = str(rng.choice(["fringe", "parted", "parted", "swept", "high"] if long else ["high", "swept", "high"]))
    line = np.array(_HAIRLINE[kind]) * (1 if rng.random() < 0.5 else -1, 1)
    line = line[np.argsort(-line[:, 0])]
    line = line + np.array([0.22 * np.sin(body.head_yaw), 0])
    line[[0, -1], 0] = 1.0, -1.0
    volume = rng.uniform(1.06, 1.2) if hair != "tied" else 1.05
    turn = np.pi * (1 + steps(25))
    side = rng.uniform(1.06, 1.16) if long else 1.03
    crown = xy(side * np.cos(turn), volume * np.sin(turn))
    low = rng.uniform(0.4, 0.9)
    ends = smooth(np.array([[side, 0.0], [side, low], [0.97, 0.5 * low]])) if long else np.zeros((0, 2))
    caps = [place(np.concatenate([crown, ends, smooth(line), (ends * (-1, 1))[::-1]]))]
    if hair == "bun":
        caps.append(
            place(
                ellipse_points(
                    (rng.uniform(-0.3, 0.3), rng.uniform(-1.4, -1.1)),
                    (rng.uniform(0.25, 0.5), rng.uniform(0.22, 0.36)),
                )
            )
        )
    if hair == "afro":
        for angle in np.pi * (1.5 * steps(16) - 0.25):
            radius = rng.uniform(0.3, 0.5)
            caps.append(
                place(ellipse_points((1.1 * np.cos(angle), -0.95 * np.sin(angle) - 0.2), (radius, radius * 0.8)))
            )
    return caps


def _strands(body: PhotoBody, rng) -> list[Points]:
    """Outlines of hair that falls in front of the shoulders."""
    if body.hair not in ("long_front", "one_side", "bob", "wavy"):
        return []
    place, unit, neck = body.head.to_canvas, body.unit, np.array(body.torso.neck)
    outlines = []
    only = rng.choice(SIDES) if body.hair == "one_side" else 0
    length = rng.uniform(0.1, 0.95)
    for sign in SIDES:
        if only and sign != only:
            continue
        if body.hair == "bob":
            end = rng.uniform(0.7, 1.3)
            lock = smooth([(0.8, -0.5), (1.12, -0.15), (1.22, 0.5), (1.08, end), (0.85, end - 0.1), (0.9, 0.3)])
            outlines.append(place(_ruffled(lock, rng, 0.03) * (sign, 1)))
            continue
        top = place(np.array([(0.85, -0.5), (1.14, -0.1), (1.22, 0.5)]) * (sign, 1))
        under = place(np.array([(0.86, 0.8), (0.9, 0.2)]) * (sign, 1))
        end, out, wide = length * rng.uniform(0.8, 1.1), rng.uniform(0.26, 0.42), rng.uniform(0.12, 0.26)
        fall = np.array([(out + 0.06, 0.0), (out + 0.02, 0.55 * end), (out - 0.3 * wide, end)])
        back = np.array([(out - wide, 0.6 * end), (out - 0.8 * wide, -0.1)])
        points = smooth(
            [*top, *(neck + fall * (sign * unit, unit)), *(neck + back * (sign * unit, unit)), *under], closed=True
        )
        outlines.append(_ruffled(points, rng, 0.022 * unit) if body.hair == "wavy" or rng.random() < 0.4 else points)
    return outlines


def _features(overlay: Overlay, body: PhotoBody, canvas, rng) -> None:
    skin, head = body.colours["skin"], body.head
    dark = skin.mean() < 130
    hair = body.colours["hair"]
    brow = darker(skin, 0.45) if body.hair == "bald" else 0.45 * skin + 0.55 * darker(hair, 0.45)

    def fill(points: Points, colour: np.ndarray) -> None:
        canvas.fill(overlay.colours, head.to_canvas(body.on_face(points)), colour, overlay.origin)

    def line(points: Points, width: float, colour: np.ndarray) -> None:
        points = head.to_canvas(body.on_face(points))
        canvas.line(overlay.colours, width * head.half_width, points, colour, overlay.origin)

    for sign in SIDES:
        fill(ellipse_points((sign * 0.4, -0.03), (0.22, 0.13), count=16), darker(skin, 0.12))
        fill(
            ellipse_points((sign * 0.4, -0.02), (0.15, 0.07), count=16),
            np.array([236.0, 230, 226]) * (0.85 if dark else 1),
        )
        fill(ellipse_points((sign * 0.4, -0.02), (0.075, 0.075), count=12), body.colours["eyes"])
        line(np.array([(sign * 0.24, -0.04), (sign * 0.4, -0.1), (sign * 0.57, -0.04)]), 0.06, darker(skin, 0.75))
        line(np.array([(sign * 0.2, -0.22), (sign * 0.42, -0.28), (sign * 0.64, -0.2)]), 0.08, brow)
        fill(ellipse_points((sign * 0.52, 0.34), (0.2, 0.16), count=16), skin + np.array([6.0, -6, -5]))
        fill(ellipse_points((sign * 0.09, 0.3), (0.05, 0.03), count=10), darker(skin, 0.35))
    side = 1.0 if body.light[0] < 0 else -1.0
    line(np.array([(0.07 * side, -0.05), (0.1 * side, 0.2)]), 0.07, darker(skin, 0.1))
    smile = rng.uniform(-0.02, 0.08)
    lips = smooth(
        [(-0.28, 0.55), (-0.1, 0.51), (0.1, 0.51), (0.28, 0.55), (0.1, 0.66 + smile), (-0.1, 0.66 + smile)],
        closed=True,
    )
    fill(lips, body.colours["lips"])
    if smile > 0.06:
        fill(ellipse_points((0, 0.58), (0.17, 0.035), count=14), np.array([244.0, 238, 234]))
    line(np.array([(-0.26, 0.56), (0, 0.575 + smile / 3), (0.26, 0.56)]), 0.035, darker(body.colours["lips"], 0.4))
    part = overlay.colours
    cv2.GaussianBlur(part, (0, 0), 0.018 * head.half_height * canvas.scale + 0.3, dst=part)
