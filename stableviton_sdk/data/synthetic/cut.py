"""The cut of an upper garment: necklines, sleeves, fits, as outlines in the torso's and the arms' coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .canvas import Points, mirrored, smooth, steps, xy
from .style import pick

NECKLINES = {
    "crew": 0.28, "v": 0.18, "scoop": 0.16, "boat": 0.08, "square": 0.08, "turtleneck": 0.1, "polo": 0.07,
    "shirt": 0.05,
}  # fmt: skip
SLEEVES = {"none": 0.2, "short": 0.34, "elbow": 0.1, "long": 0.36}
FITS = {"slim": 0.32, "regular": 0.42, "loose": 0.26}
SLEEVE_ROOT = 0.94  # u of the torso where a sleeve's axis begins
_SIDE = np.linspace(0, 1, 10)[1:]
_TURN = np.linspace(-np.pi / 2, np.pi / 2, 13)[1:-1]
_CAP = xy(np.cos(_TURN), np.sin(_TURN))
PANELS = ("torso", "right_sleeve", "left_sleeve")


@dataclass(frozen=True)
class Cut:
    """Shape of an upper garment, in the coordinates of `Torso` (u, v) and `Arm` (s, t).

    Args:
        neckline (`str`): A key of `NECKLINES`.
        sleeve (`str`): A key of `SLEEVES`.
        fit (`str`): A key of `FITS`.
        neck_width (`float`): u of the neckline's ends.
        neck_depth (`float`): v of its lowest point.
        strap (`float`): u where the shoulder line ends.
        chest, hem_width (`float`): u of the sides at the armpit and at the hem.
        hem (`float`): v of the hem; below 1 for a cropped garment.
        sleeve_end (`float`): s of the cuff.
        sleeve_top, sleeve_cuff (`float`): Half widths of the sleeve, in t.
    """

    neckline: str
    sleeve: str
    fit: str
    neck_width: float
    neck_depth: float
    strap: float
    chest: float
    hem_width: float
    hem: float
    sleeve_end: float
    sleeve_top: float
    sleeve_cuff: float

    @property
    def spread(self) -> tuple[int, int]:
        """Range of the angle, in degrees from straight down, at which the sleeves of a flat garment lie."""
        return {"none": (0, 1), "short": (26, 48), "elbow": (22, 38), "long": (17, 28)}[self.sleeve]

    @cached_property
    def neck_curve(self) -> Points:
        """Front neckline from the image's left to its right."""
        width, depth, top = self.neck_width, self.neck_depth, shoulder_line(self.neck_width)
        if self.neckline == "turtleneck":
            return np.array([[-0.285, top], [-0.275, -0.25], [0, -0.24], [0.275, -0.25], [0.285, top]])
        if self.neckline in ("v", "shirt"):
            x = steps(9)
            side = xy(width * (1 - x), top + (depth - top) * (x * 0.86 + 0.14 * np.sin(x * np.pi / 2)))
        elif self.neckline == "square":
            side = np.array([[width, top], [width * 0.95, depth - 0.008], [width * 0.9, depth], [0, depth]])
        else:
            turn = np.pi / 2 * steps(12)
            power = 0.7 if self.neckline == "boat" else 0.85
            side = xy(width * np.cos(turn) ** power, top + (depth - top) * np.sin(turn))
        return np.concatenate([side * (-1, 1), side[::-1][1:]])

    def back_neck(self) -> Points:
        """Edge of the neckline's back, which shows inside of a garment that lies flat; left to right."""
        top = shoulder_line(self.neck_width)
        x = 2 * steps(9) - 1
        return xy(x * self.neck_width, top + 0.022 * (1 - x**2))

    @cached_property
    def armhole(self) -> Points:
        """The armhole on the image's right, from the shoulder to the armpit."""
        end = (self.strap, shoulder_line(self.strap))
        if self.sleeve != "none":
            return smooth([end, (0.955, 0.08), (0.975, 0.17), (self.chest, 0.27)])
        middle = self.strap + 0.1 * (self.chest - self.strap)
        return smooth([end, (self.strap * 0.97, 0.06), (middle, 0.16), (self.chest, 0.27)])

    @cached_property
    def seam(self) -> Points:
        """Where a sleeve's cloth begins, on the image's right: further in than the torso's panel reaches."""
        return smooth([(0.84, shoulder_line(0.84)), (0.8, 0.06), (0.84, 0.17), (self.chest, 0.27)])

    @cached_property
    def torso_outline(self) -> Points:
        """Closed outline in (u, v)."""
        widths = self.chest + (self.hem_width - self.chest) * _SIDE**1.4
        side = xy(widths, 0.27 + (self.hem - 0.27) * _SIDE)
        right = np.concatenate([self.armhole, side])
        return np.concatenate([self.neck_curve, right, mirrored(right)])

    def sleeve_half_width(self, s: np.ndarray) -> np.ndarray:
        """Half width of the sleeve in t at s."""
        share = (s / max(self.sleeve_end, 1e-6)).clip(0, 1)
        narrow = max(0.72 * self.sleeve_top, 0.122)  # over the shoulder's round, still wider than an arm
        top = narrow + (self.sleeve_top - narrow) * (s / 0.16).clip(0, 1)
        return top + (self.sleeve_cuff - self.sleeve_top) * share**0.85

    def sleeve_outline(self, arm_length: float, widen: float = 0.0) -> Points:
        """Closed outline in (s, t), round at the shoulder; `arm_length` in units of t, `widen` in t."""
        s = (self.sleeve_end + widen / arm_length) * steps(14)
        width = self.sleeve_half_width(s) + widen
        cap = _CAP * (-0.115 / arm_length, width[0])
        return np.concatenate([xy(s, width), xy(s, -width)[::-1], cap])


def shoulder_line(u: float) -> float:
    """v of the garment's upper edge: from the neck down to the shoulder's tip."""
    share = min(max((u - 0.28) / (0.95 - 0.28), 0.0), 1.0)
    return float(-0.15 + 0.062 * share**1.15)


def sample_cut(rng: np.random.Generator, neckline: str | None, sleeve: str | None, fit: str | None) -> Cut:
    """Draw a cut; what is given is fixed."""
    drawn = pick(rng, NECKLINES), pick(rng, SLEEVES), pick(rng, FITS)
    neckline, sleeve, fit = (
        value if given is None else given for given, value in zip((neckline, sleeve, fit), drawn, strict=True)
    )
    width, depth = {
        "crew": ((0.3, 0.35), (-0.04, 0.02)), "v": ((0.32, 0.42), (0.1, 0.24)), "scoop": ((0.38, 0.5), (0.04, 0.11)),
        "boat": ((0.5, 0.62), (-0.06, -0.03)), "square": ((0.42, 0.52), (0.07, 0.14)),
        "turtleneck": ((0.285, 0.286), (0.0, 0.01)), "polo": ((0.31, 0.34), (0.0, 0.03)),
        "shirt": ((0.31, 0.34), (0.06, 0.14)),
    }[neckline]  # fmt: skip
    neck_width = rng.uniform(*width)
    chest = {"slim": (0.99, 1.02), "regular": (1.02, 1.07), "loose": (1.07, 1.13)}[fit]
    chest = rng.uniform(*chest)
    hem_width = min(chest + {"slim": 0.0, "regular": 0.02, "loose": 0.04}[fit] + rng.uniform(-0.02, 0.03), 1.15)
    strap = max(rng.uniform(0.6, 0.84), neck_width + rng.uniform(0.07, 0.16)) if sleeve == "none" else 0.93
    end = {"none": (0.0, 0.0), "short": (0.2, 0.36), "elbow": (0.46, 0.62), "long": (0.93, 1.0)}[sleeve]
    sleeve_end = rng.uniform(*end)
    top = {"slim": (0.145, 0.16), "regular": (0.165, 0.19), "loose": (0.185, 0.21)}[fit]
    sleeve_top = rng.uniform(*top)
    narrowest = {"slim": 0.1, "regular": 0.115, "loose": 0.13}[fit] if sleeve == "long" else sleeve_top * 0.82
    sleeve_cuff = min(narrowest + rng.uniform(0.0, 0.025), sleeve_top)
    hem = rng.uniform(0.89, 0.94) if rng.random() < 0.12 else 1.0
    return Cut(
        neckline, sleeve, fit, float(neck_width), float(rng.uniform(*depth)), float(strap), float(chest),
        float(hem_width), hem, float(sleeve_end), float(sleeve_top), float(sleeve_cuff),
    )  # fmt: skip
