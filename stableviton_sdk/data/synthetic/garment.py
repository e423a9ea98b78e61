"""Upper garments laid flat: drawn on the data sets' grey canvas, with the map from fabric coordinates to pixels."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import cv2
import numpy as np

from .body import SIDES, widest_sleeve
from .canvas import (
    UNITS_HIGH,
    UNITS_WIDE,
    Box,
    Canvas,
    Layer,
    Points,
    blend,
    ellipse_points,
    flood,
    intersect,
    repeated,
    sampled,
    shrink,
    soften,
    steps,
)
from .cut import PANELS, SLEEVE_ROOT, Cut, sample_cut
from .style import Style, darker, lighter
from .texture import Design, emblem, lettering, sample_design, scatter, weave

BACKDROP = 246  # the flat-lay photos of VITON-HD stand on (246, 246, 246)
FLAT_CHEST, FLAT_LENGTH, FLAT_ARM = 0.54, 1.45, 1.5  # of a flat garment, in shoulder widths: u = 1, v = 1, s = 1


@dataclass(frozen=True, eq=False)
class Panel:
    """One piece of a flat garment.

    Args:
        alpha (`np.ndarray`): Its coverage, uint8, (H, W).
        to_pixels (`np.ndarray`):
            float64, (2, 3): garment pixel = to_pixels @ (u, v, 1), or (s, t, 1) for a sleeve. Whole numbers are the
            pixels' centres.
    """

    alpha: np.ndarray
    to_pixels: np.ndarray


@dataclass(frozen=True, eq=False)
class Garment:
    """An upper garment, laid flat.

    Args:
        image (`np.ndarray`): RGB of the flat garment on its canvas, uint8 in [0, 255], (H, W, 3).
        fabric (`np.ndarray`):
            The garment's own colours, (H, W, 3): the image inside of the silhouette, and the fabric continued
            outside of it, so that no canvas bleeds into a worn garment's edges. uint8, or float32 for colours that
            mustn't be rounded: `render` answers in kind.
        panels (`dict[str, Panel]`): `"torso"`, and `"right_sleeve"`, `"left_sleeve"` where it has sleeves.
        cut (`Cut`): Its shape.
        design (`Design`): Its fabric.
    """

    image: np.ndarray
    fabric: np.ndarray
    panels: dict[str, Panel]
    cut: Cut
    design: Design

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.image.shape[1], self.image.shape[0]

    @property
    def mask(self) -> np.ndarray:
        """bool, (H, W), True where the flat garment lies."""
        return np.maximum.reduce([panel.alpha for panel in self.panels.values()]) >= 128


def sample_drawn_garment(
    rng: np.random.Generator,
    style: Style,
    shape: tuple[int, int],
    *,
    neckline: str | None,
    sleeve: str | None,
    fit: str | None,
    pattern: str | None,
    graphic: str | None,
) -> Garment:
    """A garment in one of the drawn styles; `shape` is (height, width)."""
    cut = sample_cut(rng, neckline, sleeve, fit)
    limit = float(widest_sleeve(np.array(cut.sleeve_end))) - 0.012
    cut = dataclasses.replace(cut, sleeve_cuff=min(cut.sleeve_cuff, limit))
    return draw_garment(cut, sample_design(rng, style, pattern, graphic), rng, shape)


def garment_from_coordinates(garment: Garment) -> Garment:
    """The same garment painted with its own coordinates: red = x, green = y in garment pixels, blue = 0.

    Worn without shading, every pixel of it tells where in the flat image it came from. Colours are float32.
    """
    width, height = garment.size
    painted = np.zeros((height, width, 3), np.float32)
    painted[..., 0] = np.arange(width, dtype=np.float32)
    painted[..., 1] = np.arange(height, dtype=np.float32)[:, None]
    return dataclasses.replace(garment, image=painted, fabric=painted)


def draw_garment(
    cut: Cut, design: Design, rng: np.random.Generator, shape: tuple[int, int], painter: type[Fabric] | None = None
) -> Garment:
    """Lay a garment flat; `rng` decides where on the canvas, how large, and its trims; `painter` paints the cloth."""
    canvas = Canvas(shape)
    layout = Layout(cut, rng)
    scale = shape[0] / UNITS_HIGH
    outlines = layout.outlines()
    layers = [canvas.polygon(points) for points in outlines]
    box = canvas.box(np.concatenate(outlines), 5.0)
    colours = (painter or Fabric)(canvas, box, layout, cut, design, rng).finish()
    alphas = [_spread(layer, shape) for layer in layers]
    silhouette = alphas[0] if len(alphas) == 1 else cv2.max(cv2.max(alphas[0], alphas[1]), alphas[2])
    image = np.empty_like(colours)
    flood(image, np.full(3, BACKDROP))
    top, left, bottom, right = (edge // canvas.supersample for edge in box)
    part, cloth = image[top:bottom, left:right], colours[top:bottom, left:right]
    inside = np.ascontiguousarray(silhouette[top:bottom, left:right])
    # Flat fabric bulges a little, darker towards its silhouette, and casts a faint shadow.
    soft = soften(inside, 2.2 * scale)
    puff = cv2.convertScaleAbs(soft, alpha=0.3, beta=0.72 * 255)
    cloth[...] = cv2.multiply(cloth, cv2.merge((puff, puff, puff)), scale=1 / 255)
    shade = cv2.convertScaleAbs(soft, alpha=-17 / 255, beta=BACKDROP)
    part[...] = cv2.merge((shade, shade, shade))
    if cut.neckline != "turtleneck":
        opening = canvas.polygon(layout.torso(np.concatenate([cut.neck_curve, cut.back_neck()[::-1]])))
        lining = np.empty((*opening.coverage.shape, 3), np.uint8)
        flood(lining, 0.62 * design.colours[0] + 22)
        blend(image[opening.pixels], lining, np.rint(opening.coverage * 255).astype(np.uint8))
    blend(part, cloth, inside)
    to_pixels = [layout.torso_map(scale), *(layout.sleeve_map(side, scale) for side in (0, 1))]
    panels = {name: Panel(alpha, matrix) for name, alpha, matrix in zip(PANELS, alphas, to_pixels, strict=False)}
    return Garment(image, colours, panels, cut, design)


class Layout:
    """Where on the canvas a flat garment lies."""

    def __init__(self, cut: Cut, rng: np.random.Generator):
        angle = np.radians(rng.uniform(*cut.spread))
        self.directions: list[np.ndarray] = [np.array([sign * np.sin(angle), np.cos(angle)]) for sign in SIDES]
        self.scale: float = 1.0
        self.origin: np.ndarray = np.zeros(2)
        self._torso: Points = cut.torso_outline
        self._sleeve: Points | None = None if cut.sleeve == "none" else cut.sleeve_outline(FLAT_ARM)
        corners = np.concatenate(self.outlines())
        low, high = corners.min(axis=0), corners.max(axis=0)
        margin = rng.uniform(0.03, 0.08)
        room = np.array([UNITS_WIDE, UNITS_HIGH]) * (1 - 2 * margin)
        self.scale = float((room / (high - low)).min()) * rng.uniform(0.92, 1.0)
        middle = np.array([UNITS_WIDE, UNITS_HIGH]) / 2 + rng.uniform(-3, 3, 2)
        self.origin = middle - self.scale * (low + high) / 2

    def outlines(self) -> list[Points]:
        """The torso's outline, and the sleeves' where there are any."""
        sleeves = [] if self._sleeve is None else [self.sleeve(side, self._sleeve) for side in (0, 1)]
        return [self.torso(self._torso), *sleeves]

    def torso(self, points: np.ndarray) -> Points:
        return self.origin + self.scale * points * (FLAT_CHEST, FLAT_LENGTH)

    def sleeve(self, side: int, points: np.ndarray) -> Points:
        along = self.directions[side]
        across = np.array([-along[1], along[0]])
        root = self.torso(np.array([SIDES[side] * SLEEVE_ROOT, 0.0]))
        return root + self.scale * (points[:, :1] * FLAT_ARM * along + points[:, 1:] * across)

    def torso_map(self, scale: float) -> np.ndarray:
        return self._matrix(self.torso(np.array([[0, 0], [1, 0], [0, 1]])), scale)

    def sleeve_map(self, side: int, scale: float, centre: float = 0.5) -> np.ndarray:
        return self._matrix(self.sleeve(side, np.array([[0, 0], [1, 0], [0, 1]])), scale, centre)

    @staticmethod
    def _matrix(images: np.ndarray, scale: float, centre: float = 0.5) -> np.ndarray:
        start, first, second = images * scale - centre
        return np.stack([first - start, second - start, start], axis=1)


class Fabric:
    """Paints the supersampled cloth of a flat garment, silhouettes left out, on a part of the canvas."""

    def __init__(self, canvas: Canvas, box: Box, layout: Layout, cut: Cut, design: Design, rng: np.random.Generator):
        self.canvas = canvas
        self.layout = layout
        self.cut = cut
        self.design = design
        self.box = box
        top, left, bottom, right = box
        self.cloth: np.ndarray = np.empty((bottom - top, right - left, 3), np.uint8)
        ground = design.colours[0]
        # With a pattern of its own a sleeve may be plain; a plain garment may have sleeves of another colour.
        self.sleeve_colour: np.ndarray | None = None
        if rng.random() < 0.16:
            self.sleeve_colour = design.colours[1 if design.pattern == "solid" else 0]
        shade = darker(ground, 0.16) if ground.mean() > 60 else lighter(ground, 0.14)
        self.trim: np.ndarray = design.colours[1] if rng.random() < 0.35 else shade
        self.seam: np.ndarray = darker(ground, 0.12) if ground.mean() > 60 else lighter(ground, 0.1)
        self.cuffs: bool = bool(rng.random() < 0.5)
        self.wide_sleeve: Points = cut.sleeve_outline(FLAT_ARM, widen=0.05)

    def finish(self) -> np.ndarray:
        """uint8 RGB of the whole canvas at the image's own resolution, (H, W, 3)."""
        canvas = self.canvas
        self._torso()
        if self.cut.sleeve != "none":
            for side in (0, 1):
                self._sleeve(side)
        self._trims()
        colours = np.empty((*canvas.shape, 3), np.uint8)
        flood(colours, self.design.colours[0])
        top, left, bottom, right = (edge // canvas.supersample for edge in self.box)
        colours[top:bottom, left:right] = shrink(self.cloth, canvas.supersample)
        return colours

    def _weave(self, cloth: np.ndarray, origin: tuple[int, int], coordinates, place) -> None:
        """Fill a cloth at `origin` of the canvas with the pattern.

        `coordinates` takes canvas units to the fabric's, `place` back. The pattern knows how wide a pixel is and has
        no stairs: it is woven at the image's resolution and repeated, and only what is drawn over it needs finer.
        """
        step, (height, width) = self.canvas.supersample, cloth.shape[:2]
        a, b = coordinates(*self.canvas.centres((*origin, origin[0] + height, origin[1] + width)))
        soft = step / (self.canvas.scale * self.layout.scale)
        woven = weave(self.design, a, b, soft, -0.2, self.cut.hem * FLAT_LENGTH)
        if woven.shape[:2] == (1, 1):
            flood(cloth, woven[0, 0])
        else:
            cloth[...] = repeated(np.broadcast_to(woven, (height // step, width // step, 3)), step)
        if self.design.pattern == "scatter":
            low, high = np.array([a.min(), b.min()]), np.array([a.max(), b.max()])
            for points, colour in scatter(self.design, low, high):
                self.canvas.fill(cloth, place(points), colour, origin)

    def _torso(self) -> None:
        origin, scale = self.layout.origin, self.layout.scale

        def coordinates(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return tuple(
                (value - np.float32(start)) * np.float32(1 / scale)
                for value, start in zip((x, y), origin, strict=True)
            )

        self._weave(self.cloth, self.box[:2], coordinates, lambda points: origin + scale * points)
        self._graphic()

    def _sleeve(self, side: int) -> None:
        """The sleeve's own cloth, along its axis, from the armhole's seam outwards."""
        canvas, layout, cut = self.canvas, self.layout, self.cut
        wide = canvas.polygon(layout.sleeve(side, self.wide_sleeve))
        torso = canvas.polygon(layout.torso(_inwards_of_seam(cut) * (SIDES[side], 1)))
        cloth, origin = np.empty((*wide.alpha.shape, 3), np.uint8), (wide.top, wide.left)
        if self.sleeve_colour is not None:
            flood(cloth, self.sleeve_colour)
        else:
            matrix = np.linalg.inv(np.vstack([layout.sleeve_map(side, 1.0, 0.0), [0, 0, 1]])).astype(np.float32)

            def coordinates(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
                t = matrix[1, 0] * x + (matrix[1, 1] * y + matrix[1, 2])
                return t, (matrix[0, 0] * x + (matrix[0, 1] * y + matrix[0, 2])) * np.float32(FLAT_ARM)

            def place(points: Points) -> Points:
                return layout.sleeve(side, points[:, ::-1] / (FLAT_ARM, 1))

            self._weave(cloth, origin, coordinates, place)
        if self.cuffs:
            start, end = cut.sleeve_end - (0.05 if cut.sleeve == "long" else 0.03), cut.sleeve_end + 0.05
            band = layout.sleeve(side, np.array([[start, -0.4], [start, 0.4], [end, 0.4], [end, -0.4]]))
            canvas.fill(cloth, band, self.trim, origin)
        else:
            s = cut.sleeve_end - 0.025
            line = layout.sleeve(side, np.array([[s, -0.4], [s, 0.4]]))
            canvas.line(cloth, 0.012 * layout.scale, line, self.seam, origin)
        # Hard edges: the outer one lies beyond the silhouette, and a seam is sewn over the inner one.
        _, ends = cv2.threshold(sampled(torso, wide), 127, 255, cv2.THRESH_BINARY_INV)
        mine, theirs = intersect(Layer(*self.box[:2], self.cloth[..., 0], canvas.supersample), wide)
        mask = cv2.bitwise_and(wide.alpha[theirs], ends[theirs])
        cv2.copyTo(cloth[theirs], cv2.compare(mask, 127, cv2.CMP_GT), self.cloth[mine])

    def _trims(self) -> None:
        """Ribs, collars, plackets, seams."""
        cut, layout = self.cut, self.layout
        neck = cut.neck_curve
        bare = cut.sleeve == "none"
        edge = cut.armhole * (0.985, 1) if bare else cut.seam
        for sign in SIDES:
            self._line(layout.torso(edge * (sign, 1)), 0.03 if bare else 0.012, self.seam)
        self._line(layout.torso(np.array([[-1.3, cut.hem - 0.028], [1.3, cut.hem - 0.028]])), 0.012, self.seam)
        if cut.neckline == "turtleneck":
            self._line(layout.torso(np.array([[-0.4, -0.19], [0, -0.178], [0.4, -0.19]])), 0.014, self.seam)
        else:
            self._line(layout.torso(neck), 0.085 if cut.neckline in ("crew", "boat") else 0.05, self.trim)
        if cut.neckline in ("polo", "shirt"):
            self._collar()

    def _collar(self) -> None:
        cut, layout = self.cut, self.layout
        bottom = cut.hem if cut.neckline == "shirt" else min(cut.neck_depth + 0.2, 0.3)
        placket = np.array([[-0.045, cut.neck_depth], [0.045, cut.neck_depth], [0.045, bottom], [-0.045, bottom]])
        self._fill(layout.torso(placket), 0.7 * self.trim + 0.3 * self.design.colours[0])
        count = 6 if cut.neckline == "shirt" else 2
        button = lighter(self.trim, 0.6) if self.trim.mean() < 150 else darker(self.trim, 0.5)
        for share in steps(count):
            v = cut.neck_depth + 0.06 + share * (bottom - cut.neck_depth - 0.11)
            centre = layout.torso(np.array([0.0, v]))
            self._fill(ellipse_points(centre, (0.02 * layout.scale, 0.02 * layout.scale), count=12), button)
        width, top, depth = cut.neck_width, -0.155, cut.neck_depth
        flap = np.array([[width + 0.01, top], [0.01, depth], [0.16, depth + 0.085], [width + 0.16, top + 0.03]])
        for sign in SIDES:
            points = layout.torso(flap * (sign, 1))
            self._fill(points, self.trim)
            self._line(points[1:], 0.012, darker(self.trim, 0.25))

    def _graphic(self) -> None:
        graphic, layout = self.design.graphic, self.layout
        centre = layout.torso(np.array(graphic.centre))
        half = graphic.size * layout.scale / 2
        ink = graphic.colours
        if graphic.kind in ("emblem", "small_emblem"):
            for outline, index in emblem(graphic.shape):
                self._fill(centre + half * outline, self.design.colours[0] if index < 0 else ink[index])
        elif graphic.kind in ("letters", "number"):
            lettering(
                self.canvas, self.cloth, graphic.text, centre, 2 * half, 0.78 * layout.scale, graphic.font, ink[0],
                self.box[:2],
            )  # fmt: skip
        elif graphic.kind == "band":
            x, y = 2.0 * layout.scale, half
            self._fill(centre + np.array([[-x, -y], [x, -y], [x, y], [-x, y]]), ink[0])
            for edge in (-1.35, 1.35):
                self._line(centre + np.array([[-x, edge * y], [x, edge * y]]), 0.03, ink[1])

    def _fill(self, points: Points, colour: np.ndarray) -> None:
        self.canvas.fill(self.cloth, points, colour, self.box[:2])

    def _line(self, points: Points, width: float, colour: np.ndarray) -> None:
        self.canvas.line(self.cloth, width * self.layout.scale, points, colour, self.box[:2])


def _inwards_of_seam(cut: Cut) -> Points:
    """What belongs to the torso's cloth in the image's right half, however far up and down."""
    seam = cut.seam
    top, low = seam[0], seam[-1]
    return np.concatenate([[(0, top[1] - 0.4), (top[0], top[1] - 0.4)], seam, [(low[0], 1.2), (0, 1.2)]])


def _spread(layer: Layer, shape: tuple[int, int]) -> np.ndarray:
    """A layer's coverage on the whole image, uint8."""
    values = np.zeros(shape, np.uint8)
    values[layer.pixels] = np.rint(layer.coverage * 255)
    return values
