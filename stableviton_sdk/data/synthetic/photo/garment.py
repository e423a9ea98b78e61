"""Upper garments as shops sell and photograph them: more cuts, prints and words, folds, labels, lit from one side."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from ..canvas import Points, ellipse_points, mirrored, rotate, smooth, steps, xy
from ..cut import Cut, shoulder_line
from ..garment import Fabric, Garment, draw_garment
from ..style import Style, darker, lighter, pick, pick_colour
from ..texture import FONTS, Design, Graphic, emblem, lettering, sample_design
from .cloth import folds, soft_noise
from .stage import WIDEST_SLEEVE

NECKLINES = {
    "crew": 0.27, "v": 0.15, "scoop": 0.13, "boat": 0.06, "square": 0.06, "turtleneck": 0.09, "polo": 0.04,
    "shirt": 0.06, "camisole": 0.1, "halter": 0.02, "off_shoulder": 0.04, "one_shoulder": 0.02,
}  # fmt: skip
SLEEVES = {"none": 0.22, "cap": 0.08, "short": 0.26, "elbow": 0.08, "three_quarter": 0.06, "long": 0.3}
FITS = {"slim": 0.36, "regular": 0.38, "loose": 0.26}
BARE = ("camisole", "halter", "one_shoulder")  # necklines that go without sleeves
PATTERNS = {
    "solid": 0.44, "melange": 0.07, "acid": 0.03, "rib": 0.05, "floral": 0.09, "stripes": 0.06, "breton": 0.04,
    "pinstripes": 0.02, "diagonal": 0.01, "multi_stripes": 0.02, "gingham": 0.02, "plaid": 0.03, "windowpane": 0.01,
    "dots": 0.03, "gradient": 0.01, "blocks": 0.04, "chevron": 0.01, "scatter": 0.02,
}  # fmt: skip
OWN_PATTERNS = ("melange", "acid", "rib", "floral")
GRAPHICS = {
    "none": 0.5, "words": 0.17, "box": 0.08, "image": 0.06, "small_words": 0.07, "emblem": 0.05, "number": 0.02,
    "small_emblem": 0.03, "band": 0.02,
}  # fmt: skip
OWN_GRAPHICS = ("words", "box", "image", "small_words")
WORDS = (
    "LOVE", "NEW YORK", "PARIS", "TEAM", "SPORT", "GOOD", "NICE DAY", "MORE", "LESS", "HAPPY", "1987", "ORIGINAL",
    "CALIFORNIA", "SURF", "CLUB", "ART", "MUSIC", "WILD", "HELLO", "DREAM", "NORTH", "STUDIO", "BLUE", "ROSE", "SUN",
    "NO", "YES", "MILANO", "TOKYO", "ICON", "BASIC", "FREE", "I AM", "OK", "FUTURE", "BERLIN", "SUMMER", "RUN",
)  # fmt: skip


@dataclass(frozen=True)
class PhotoCut(Cut):
    """A cut with what shops add to the plain ones.

    Args:
        sleeve_start (`float`): s where a sleeve begins: more than 0 off the shoulder.
        balloon (`float`): How much wider a sleeve is in its middle, in t.
        curve (`float`): How much the hem is rounded, in v; negative for longer sides.
    """

    sleeve_start: float = 0.0
    balloon: float = 0.0
    curve: float = 0.0

    @property
    def spread(self) -> tuple[int, int]:
        """Range of the angle, in degrees from straight down, at which the sleeves of a flat garment lie."""
        return {"none": (0, 1), "cap": (30, 60), "short": (18, 46), "elbow": (14, 36)}.get(self.sleeve, (5, 26))

    @cached_property
    def neck_curve(self) -> Points:
        """Front neckline from the image's left to its right."""
        width, depth, top = self.neck_width, self.neck_depth, shoulder_line(self.neck_width)
        if self.neckline == "camisole":
            side = smooth(
                [
                    (width, top),
                    (width * 1.02, 0.5 * (top + depth)),
                    (width * 0.92, depth - 0.03),
                    (0.5 * width, depth - 0.01),
                    (0.0, depth + 0.02),
                ],
                4,
            )
        elif self.neckline == "halter":
            side = xy(width * np.cos(np.pi / 2 * steps(9)) ** 0.8, top + (depth - top) * np.sin(np.pi / 2 * steps(9)))
        elif self.neckline == "off_shoulder":
            side = xy(self.neck_width * (1 - steps(9)), depth + 0.03 * steps(9))
        elif self.neckline == "one_shoulder":
            return smooth(
                [(-0.99, 0.15), (-0.5, 0.09), (0.0, 0.0), (self.strap - 0.2, shoulder_line(self.strap - 0.2))], 5
            )
        else:
            return super().neck_curve
        return np.concatenate([side * (-1, 1), side[::-1][1:]])

    def back_neck(self) -> Points:
        """Edge of the neckline's back, which shows inside of a garment that lies flat; left to right."""
        if self.neckline == "off_shoulder":
            return self.neck_curve - (0, 0.03)
        if self.neckline in ("camisole", "one_shoulder"):
            return self.neck_curve
        return super().back_neck()

    @cached_property
    def armhole(self) -> Points:
        """The armhole on the image's right, from the shoulder to the armpit."""
        if self.neckline == "off_shoulder":
            return smooth([(self.neck_width, self.neck_depth), (0.985, 0.18), (self.chest, 0.27)])
        if self.neckline == "halter":
            end = (self.strap, shoulder_line(self.strap))
            return smooth([end, (self.strap + 0.05, 0.05), (self.strap + 0.2, 0.17), (self.chest, 0.28)])
        return super().armhole

    @cached_property
    def torso_outline(self) -> Points:
        """Closed outline in (u, v)."""
        share = np.linspace(0, 1, 10)[1:]
        widths = self.chest + (self.hem_width - self.chest) * share**1.4
        side = xy(widths, 0.27 + (self.hem - 0.27) * share)
        bottom = xy(
            self.hem_width * np.linspace(0.85, 0, 5), self.hem + self.curve * (1 - np.linspace(0.85, 0, 5) ** 2)
        )
        right = np.concatenate([self.armhole, side, bottom])
        if self.neckline == "one_shoulder":
            left = np.concatenate([bottom[::-1] * (-1, 1), side[::-1] * (-1, 1), [(-self.chest, 0.24)]])
            return np.concatenate([self.neck_curve, right[:-1], left])
        return np.concatenate([self.neck_curve, right, mirrored(right)])

    def sleeve_half_width(self, s: np.ndarray) -> np.ndarray:
        """Half width of the sleeve in t at s."""
        share = (s / max(self.sleeve_end, 1e-6)).clip(0, 1)
        return super().sleeve_half_width(s) + self.balloon * np.sin(np.pi * share**1.3) ** 1.5

    def sleeve_outline(self, arm_length: float, widen: float = 0.0) -> Points:
        """Closed outline in (s, t); `arm_length` in units of t, `widen` in t."""
        if not self.sleeve_start:
            return super().sleeve_outline(arm_length, widen)
        s = self.sleeve_start + (self.sleeve_end + widen / arm_length - self.sleeve_start) * steps(14)
        width = self.sleeve_half_width(s) + widen
        return np.concatenate([xy(s, width), xy(s, -width)[::-1]])


def sample_photo_garment(
    rng: np.random.Generator,
    style: Style,
    shape: tuple[int, int] = (256, 192),
    *,
    neckline: str | None = None,
    sleeve: str | None = None,
    fit: str | None = None,
    pattern: str | None = None,
    graphic: str | None = None,
) -> Garment:
    """A garment in the photo style; `shape` is (height, width)."""
    cut = _sample_cut(rng, neckline, sleeve, fit)
    design = _sample_design(rng, style, pattern, graphic)
    garment = draw_garment(cut, design, rng, shape, PhotoFabric)
    return dataclasses.replace(garment, image=_photographed(garment, rng))


def _sample_cut(rng, neckline: str | None, sleeve: str | None, fit: str | None) -> PhotoCut:
    drawn = pick(rng, NECKLINES), pick(rng, SLEEVES), pick(rng, FITS)
    neckline, sleeve, fit = (
        value if given is None else given for given, value in zip((neckline, sleeve, fit), drawn, strict=True)
    )
    if neckline in BARE:
        sleeve = "none"
    if neckline == "off_shoulder" and sleeve in ("none", "cap"):
        sleeve = "short"
    width, depth = {
        "crew": ((0.29, 0.4), (-0.05, 0.04)), "v": ((0.3, 0.48), (0.08, 0.34)), "scoop": ((0.36, 0.6), (0.03, 0.2)),
        "boat": ((0.46, 0.72), (-0.07, -0.01)), "square": ((0.4, 0.66), (0.05, 0.2)),
        "turtleneck": ((0.285, 0.286), (0.0, 0.01)), "polo": ((0.3, 0.36), (0.0, 0.05)),
        "shirt": ((0.3, 0.36), (0.04, 0.2)), "camisole": ((0.44, 0.62), (0.12, 0.24)),
        "halter": ((0.26, 0.34), (0.0, 0.12)), "off_shoulder": ((0.97, 0.975), (0.06, 0.14)),
        "one_shoulder": ((0.6, 0.7), (0.0, 0.01)),
    }[neckline]  # fmt: skip
    neck_width = float(rng.uniform(*width))
    chest = rng.uniform(*{"slim": (0.98, 1.03), "regular": (1.01, 1.08), "loose": (1.05, 1.16)}[fit])
    hem_width = chest + rng.uniform(*{"slim": (-0.03, 0.03), "regular": (-0.02, 0.08), "loose": (-0.03, 0.14)}[fit])
    strap = 0.93
    if sleeve == "none":
        strap = min(max(rng.uniform(0.5, 0.92), neck_width + rng.uniform(0.05, 0.2)), 0.95)
        if neckline == "camisole":
            strap = neck_width + rng.uniform(0.025, 0.1)
        elif neckline == "halter":
            strap = neck_width + rng.uniform(0.06, 0.2)
        elif neckline == "one_shoulder":
            strap = rng.uniform(0.6, 0.9)
    sleeve_end = rng.uniform(*{
        "none": (0.0, 0.0), "cap": (0.1, 0.2), "short": (0.2, 0.4), "elbow": (0.42, 0.6),
        "three_quarter": (0.62, 0.86), "long": (0.9, 1.0),
    }[sleeve])  # fmt: skip
    top = rng.uniform(*{"slim": (0.135, 0.16), "regular": (0.155, 0.195), "loose": (0.18, 0.25)}[fit])
    wide = rng.random() < 0.12
    cuff = top * rng.uniform(0.8, 1.05) if sleeve_end < 0.62 else rng.uniform(0.1, 0.15)
    cuff = min(cuff + (rng.uniform(0.05, 0.13) if wide else 0.0), WIDEST_SLEEVE - 0.02)
    balloon = rng.uniform(0.02, 0.1) if rng.random() < 0.15 else 0.0
    balloon = max(min(balloon, WIDEST_SLEEVE - 0.02 - max(top, cuff)), 0.0)
    kind = rng.random()
    hem = rng.uniform(0.6, 0.88) if kind < 0.2 else rng.uniform(0.92, 1.08) if kind < 0.72 else rng.uniform(1.08, 1.28)
    return PhotoCut(
        neckline, sleeve, fit, neck_width, float(rng.uniform(*depth)), float(strap), float(chest), float(hem_width),
        float(hem), float(sleeve_end), float(top), float(cuff),
        sleeve_start=float(rng.uniform(0.08, 0.14)) if neckline == "off_shoulder" else 0.0,
        balloon=float(balloon),
        curve=float(rng.uniform(-0.03, 0.08)) if rng.random() < 0.3 else 0.0,
    )  # fmt: skip


def _sample_design(rng, style: Style, pattern: str | None, graphic: str | None) -> Design:
    drawn = pick(rng, PATTERNS)
    pattern = drawn if pattern is None else pattern
    plain = pattern in ("solid", "melange", "rib")
    drawn = pick(rng, GRAPHICS) if plain or rng.random() < 0.12 else "none"
    graphic = drawn if graphic is None else graphic
    base = sample_design(
        rng, style, "solid" if pattern in OWN_PATTERNS else pattern, "none" if graphic in OWN_GRAPHICS else graphic
    )
    colours = base.colours
    if pattern in ("solid", "melange", "rib", "floral") and rng.random() < 0.4:  # what is worn most
        tone = rng.choice([rng.uniform(14, 40), rng.uniform(235, 254), rng.uniform(90, 200)])
        colours = np.concatenate([[(tone + rng.normal(0, 3, 3)).clip(0, 255)], colours[1:]])
    own = base.graphic
    if graphic in OWN_GRAPHICS:
        lines = 1 if graphic in ("box", "small_words") or rng.random() < 0.55 else int(rng.integers(2, 4))
        text = "\n".join(str(WORDS[int(rng.integers(len(WORDS)))]) for _ in range(lines))
        centre = (
            (float(rng.choice([-0.42, 0.42])), float(rng.uniform(0.16, 0.3)))
            if graphic == "small_words"
            else (0.0, float(rng.uniform(0.26, 0.5)))
        )
        size = {"words": (0.12, 0.34), "box": (0.2, 0.5), "image": (0.5, 0.9), "small_words": (0.05, 0.1)}[graphic]
        ink = np.stack([pick_colour(rng, style.fabrics) for _ in range(2)])
        ground = colours[0].mean()
        if abs(ink[0].mean() - ground) < 70:
            ink[0] = lighter(ink[0], 0.85) if ground < 128 else darker(ink[0], 0.85)
        own = Graphic(
            graphic,
            base.graphic.shape,
            text,
            centre,
            float(rng.uniform(*size)),
            ink,
            FONTS[int(rng.integers(len(FONTS)))],
        )
    return dataclasses.replace(base, pattern=pattern, colours=colours, graphic=own)


class PhotoFabric(Fabric):
    """Paints cloth with this style's own weaves and prints besides the others'."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self._rng = np.random.default_rng([self.design.seed, 3])
        self._open = self.cut.neckline in ("v", "scoop", "crew") and self._rng.random() < 0.07

    def _weave(self, cloth, origin, coordinates, place) -> None:
        super()._weave(cloth, origin, coordinates, place)
        kind, rng, shape = self.design.pattern, self._rng, cloth.shape[:2]
        ground, figure = self.design.colours[:2]
        if kind == "acid":
            share = (0.5 + 0.5 * soft_noise(rng, shape, rng.uniform(10, 30))).clip(0, 1)[..., None]
            cloth[...] = ground + share * rng.uniform(0.3, 0.7) * (figure - ground)
        elif kind == "melange":
            grain = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), 1.0, sigmaY=0.6) * rng.uniform(
                12, 40
            )
            cv2.add(cloth, cv2.merge((grain, grain, grain)), cloth, dtype=cv2.CV_8U)
        elif kind == "rib":
            x, _ = self.canvas.fields((*origin, origin[0] + shape[0], origin[1] + shape[1]))
            wave = np.cos(x * (2 * np.pi / (self.layout.scale * rng.uniform(0.03, 0.08)))).astype(np.float32)
            wave = np.ascontiguousarray(np.broadcast_to(wave * rng.uniform(5, 16), shape))
            cv2.add(cloth, cv2.merge((wave, wave, wave)), cloth, dtype=cv2.CV_8U)
        elif kind == "floral":
            self._flowers(cloth, origin)

    def _flowers(self, cloth, origin) -> None:
        rng = np.random.default_rng([self.design.seed, 5, cloth.shape[0] % 7])
        scale, size = self.canvas.scale, self.layout.scale * self.design.period
        height, width = np.array(cloth.shape[:2]) / scale
        palette = [
            *self.design.colours[1:],
            rng.uniform(30, 240, 3),
            rng.uniform(120, 250, 3),
            np.array([60.0, 110, 70]),
        ]
        radius = size * (0.12 + 0.3 * self.design.duty)
        count = min(220, int(0.9 * height * width / radius**2 * rng.uniform(0.2, 0.5)))
        low = np.array([origin[1], origin[0]]) / scale
        for place in low + rng.random((count, 2)) * (width, height):
            motif = emblem(str(rng.choice(["flower", "leaf", "leaf", "disc", "star"])))
            colour, turn = palette[int(rng.integers(len(palette)))], rng.uniform(0, 360)
            for points, index in motif:
                ink = colour if index <= 0 else palette[0]
                self.canvas.fill(cloth, place + rotate(points * radius * rng.uniform(0.5, 1.0), turn), ink, origin)

    def _trims(self) -> None:
        if self._open:  # worn over something else
            colour = (
                lighter(self.design.colours[0], 0.8)
                if self._rng.random() < 0.5
                else darker(self.design.colours[0], 0.75)
            )
            top, width = self.cut.neck_depth, self._rng.uniform(0.06, 0.3)
            wedge = np.array(
                [[-0.04, top - 0.02], [0.04, top - 0.02], [width, self.cut.hem + 0.1], [-width, self.cut.hem + 0.1]]
            )
            self._fill(self.layout.torso(wedge), colour)
            for edge in (wedge[[0, 3]], wedge[[1, 2]]):
                self._line(self.layout.torso(edge), 0.05, self.trim)
        if self.cut.neckline in ("camisole", "halter", "off_shoulder", "one_shoulder"):
            self._line(self.layout.torso(self.cut.neck_curve), 0.022, self.seam)
            self._line(self.layout.torso(self.cut.armhole), 0.022, self.seam)
            return
        super()._trims()

    def _graphic(self) -> None:
        graphic, layout, rng = self.design.graphic, self.layout, self._rng
        if graphic.kind not in OWN_GRAPHICS:
            super()._graphic()
            return
        centre, half, ink = layout.torso(np.array(graphic.centre)), graphic.size * layout.scale / 2, graphic.colours
        lines = graphic.text.split("\n")
        wide = rng.uniform(0.4, 0.9) * layout.scale if graphic.kind != "small_words" else 0.3 * layout.scale
        if graphic.kind == "box":
            x, y = rng.uniform(0.25, 0.5) * layout.scale, half * rng.uniform(0.5, 1.0)
            self._fill(centre + np.array([[-x, -y], [x, -y], [x, y], [-x, y]]), ink[0])
            self._write(
                lines, centre, 1.3 * y, 1.8 * x, lighter(ink[0], 0.9) if ink[0].mean() < 140 else darker(ink[0], 0.85)
            )
        elif graphic.kind == "image":
            x, y = half * rng.uniform(0.6, 1.0), half
            self._print_image(centre, x, y)
            if rng.random() < 0.6:
                self._write(lines[:1], centre + np.array((0, -1.25 * y)), 0.3 * y, 2 * x, ink[0])
        else:
            self._write(lines, centre, 2 * half, wide, ink[0])

    def _write(self, lines: list[str], centre: Points, height: float, widest: float, colour: np.ndarray) -> None:
        step = height / len(lines)
        for index, line in enumerate(lines):
            place = centre + np.array((0, (index - (len(lines) - 1) / 2) * step))
            lettering(
                self.canvas,
                self.cloth,
                line,
                place,
                0.72 * step,
                widest,
                self.design.graphic.font,
                colour,
                self.box[:2],
            )

    def _print_image(self, centre: Points, x: float, y: float) -> None:
        """Something like a printed photo: blots of a few colours, an oval before a ground."""
        rng, scale = self._rng, self.canvas.scale
        left, top = (np.array(centre - (x, y)) * scale).astype(int) - (self.box[1], self.box[0])
        height, width = int(2 * y * scale), int(2 * x * scale)
        top, left = max(top, 0), max(left, 0)
        part = self.cloth[top : top + height, left : left + width]
        if part.size == 0:
            return
        low, high = rng.uniform(0, 160, 3), rng.uniform(90, 255, 3)
        share = (0.5 + 0.4 * soft_noise(rng, part.shape[:2], rng.uniform(3, 12))).clip(0, 1)[..., None]
        part[...] = low + share * (high - low)
        oval = ellipse_points(centre + np.array((0, -0.1 * y)), (0.4 * x, 0.5 * y))
        self._fill(oval, rng.uniform(80, 250, 3))
        self._fill(ellipse_points(centre + np.array((0, 0.7 * y)), (0.7 * x, 0.4 * y)), rng.uniform(20, 250, 3))


def _photographed(garment: Garment, rng: np.random.Generator) -> np.ndarray:
    """The flat garment's image with folds that the worn one doesn't share, its label, and the shop's paper."""
    image, shape = garment.image.copy(), garment.image.shape[:2]
    inside = np.maximum.reduce([panel.alpha for panel in garment.panels.values()])
    cells = rng.uniform(5, 14)
    light = 0.06 * rng.uniform(0.2, 1.4) * folds(rng, shape, cells, rng.uniform(-50, 50), 2.0)
    light += 0.04 * rng.uniform(-1, 1) * np.linspace(-1, 1, shape[1], dtype=np.float32)[None]
    share = inside.astype(np.float32) * (1 / 255)
    light = 1 + light * share
    sheen = (light - 1) * 18
    image = cv2.multiply(image, cv2.merge((light, light, light)), dtype=cv2.CV_8U)
    image = cv2.add(image, cv2.merge((sheen, sheen, sheen)), dtype=cv2.CV_8U)
    cut = garment.cut
    if cut.neckline in ("crew", "scoop", "v", "square", "shirt", "polo", "boat") and rng.random() < 0.5:
        matrix = garment.panels["torso"].to_pixels
        v = shoulder_line(cut.neck_width) + 0.035
        if cut.neck_depth - v > 0.03:
            label = np.array([[-0.07, v, 1], [0.07, v, 1], [0.07, v + 0.05, 1], [-0.07, v + 0.05, 1]]) @ matrix.T
            cv2.fillPoly(
                image, [np.rint(label * 16).astype(np.int32)], (int(rng.choice([235, 30])),) * 3, cv2.LINE_AA, 4
            )
    if rng.random() < 0.25:  # another paper than grey
        paper = rng.choice([255, 252, 240])
        image = np.where(inside[..., None] > 0, image, cv2.add(image, np.full_like(image, max(int(paper) - 246, 0))))
    return image
