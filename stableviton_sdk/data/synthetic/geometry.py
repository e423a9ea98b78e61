"""Where a garment's fabric lies on a posed body: closed-form smooth maps for the torso and the two arms.

The torso's coordinates are u (across, +-1 at the body's silhouette) and v (down, 0 at the shoulder joints, 1 at the
hem). A sleeve's are s (along the arm, 0 at the shoulder joint, 1 at the wrist) and t (across, in shoulder widths).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .canvas import Points, steps, xy

ROUNDNESS = 0.7  # how much fabric turns away towards the silhouette
_EDGE = float(np.sinh(ROUNDNESS))
_TURN = np.linspace(-np.pi / 2, np.pi / 2, 11)[1:-1]
_CAP = xy(np.cos(_TURN), np.sin(_TURN))
_PARABOLA = np.linalg.inv(np.vander([0.15, 0.6, 1.0]))


@dataclass(frozen=True)
class Torso:
    """The torso's map; lengths in canvas units unless stated otherwise.

    Args:
        neck (`tuple[float, float]`): Midpoint between the shoulder joints.
        unit (`float`): Distance of the shoulder joints.
        length (`float`): Distance from `neck` to the hem.
        lean (`float`): Sideways shift of the body per unit down.
        tilt (`float`): Slope of the shoulder line.
        chest, waist, hip (`float`): Half widths of the body at v = 0.15, 0.6 and 1, in shoulder widths.
        sag (`float`): How far level lines hang in the middle, as a share of `length`.
    """

    neck: tuple[float, float]
    unit: float
    length: float
    lean: float
    tilt: float
    chest: float
    waist: float
    hip: float
    sag: float = 0.03

    @cached_property
    def _profile(self) -> list[float]:
        """Coefficients of the parabola through chest, waist and hip, highest power first."""
        return (_PARABOLA @ (self.chest, self.waist, self.hip)).tolist()

    def half_width(self, v: np.ndarray) -> np.ndarray:
        """Half width of the body in canvas units."""
        a, b, c = self._profile
        v = np.maximum(v, 0.0)
        return self.unit * ((a * v + b) * v + c)

    def to_fabric(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Canvas units to (u, v)."""
        q = y - self.neck[1]
        p = x - self.neck[0] - self.lean * q
        level = q - self.tilt * p * (1 - q / self.length)
        v = level / self.length - self.sag * (1 - (p / (0.56 * self.unit)) ** 2)
        u = _sinh(ROUNDNESS * p / self.half_width(v)) * (1 / _EDGE)
        return u, v

    def to_canvas(self, points: np.ndarray) -> Points:
        """(N, 2) as u, v to canvas units; the exact inverse of `to_fabric`."""
        u, v = points[..., 0], points[..., 1]
        p = self.half_width(v) * np.arcsinh(u * _EDGE) / ROUNDNESS
        level = self.length * (v + self.sag * (1 - (p / (0.56 * self.unit)) ** 2))
        q = (level + self.tilt * p) / (1 + self.tilt * p / self.length)
        return xy(self.neck[0] + p + self.lean * q, self.neck[1] + q)


@dataclass(frozen=True)
class Arm:
    """An arm's map: two straight bones and a round elbow, so that no fabric tears where it bends.

    Args:
        shoulder, elbow, wrist (`tuple[float, float]`): Ends of the bones in canvas units.
        unit (`float`): Distance of the shoulder joints, in canvas units, times the arm's thickness.
        roundness (`float`): Radius of the elbow's curve, in `unit`, where the bones leave room for it.
    """

    shoulder: tuple[float, float]
    elbow: tuple[float, float]
    wrist: tuple[float, float]
    unit: float
    roundness: float = 0.28

    @cached_property
    def _parts(self):
        shoulder, elbow, wrist = (
            np.array(joint, dtype=np.float64) for joint in (self.shoulder, self.elbow, self.wrist)
        )
        upper, lower = elbow - shoulder, wrist - elbow
        upper_length, lower_length = float(np.hypot(*upper)), float(np.hypot(*lower))
        first, second = upper / upper_length, lower / lower_length
        turn = float(np.arctan2(first[0] * second[1] - first[1] * second[0], first @ second))
        side = 1.0 if turn >= 0 else -1.0
        half = abs(turn) / 2
        radius = self.roundness * self.unit
        tangent = radius * np.tan(half)
        longest = 0.85 * min(upper_length, lower_length)
        if tangent > longest:
            tangent, radius = longest, longest / np.tan(half)
        start, end = elbow - tangent * first, elbow + tangent * second
        centre = start + side * radius * np.array([-first[1], first[0]])
        bend = upper_length - tangent, radius * abs(turn), lower_length - tangent
        return shoulder, first, second, start, end, centre, radius, side, bend

    @cached_property
    def _complex(self):
        """The parts as complex numbers, x + iy: a turn is one product."""
        shoulder, first, second, start, end, centre, radius, side, (upper, curve, _) = self._parts
        spoke = start - centre
        places = (complex(*part) for part in (shoulder, first, second, end, centre, spoke))
        return *places, radius, side, upper, upper + curve

    @cached_property
    def length(self) -> float:
        """Length of the axis from shoulder to wrist, in canvas units."""
        return float(sum(self._parts[-1]))

    @cached_property
    def turn(self) -> float:
        """How far the elbow is bent, in radians; positive towards the side where t grows."""
        *_, radius, side, bend = self._parts
        return side * bend[1] / radius

    @cached_property
    def elbow_at(self) -> float:
        """s of the elbow."""
        upper, curve, _ = self._parts[-1]
        return (upper + curve / 2) / self.length

    @cached_property
    def elbow_joint(self) -> np.ndarray:
        """Where a pose network would see the elbow: on the round arm, towards its outer side."""
        return 0.4 * np.array(self.elbow) + 0.6 * self.to_canvas(np.array([[self.elbow_at, 0.0]]))[0]

    def distance_to_bones(self, points: Points) -> np.ndarray:
        """Distance of points (N, 2) from the lines shoulder, elbow joint, wrist, as a pose network would see them."""
        joints = np.array([self.shoulder, self.elbow_joint, self.wrist])
        starts, bones = joints[:2], np.diff(joints, axis=0)
        from_start = points[:, None] - starts
        share = ((from_start * bones).sum(axis=-1) / (bones**2).sum(axis=-1)).clip(0, 1)
        return np.sqrt(((from_start - share[..., None] * bones) ** 2).sum(axis=-1)).min(axis=1)

    @property
    def direction(self) -> np.ndarray:
        """Unit vector from elbow to wrist."""
        return self._parts[2]

    def to_fabric(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Canvas units to (s, t); straight extension beyond both ends."""
        shoulder, first, second, start, end, centre, radius, side, (upper, curve, _) = (
            _single(part) for part in self._parts
        )
        along = (x - shoulder[0]) * first[0] + (y - shoulder[1]) * first[1]
        across = (y - shoulder[1]) * first[0] - (x - shoulder[0]) * first[1]
        beyond = (x - end[0]) * second[0] + (y - end[1]) * second[1]
        across_lower = (y - end[1]) * second[0] - (x - end[0]) * second[1]
        in_upper = along <= upper
        in_lower = (beyond >= 0) & (~in_upper | (np.abs(across_lower) < np.abs(across)))
        s = np.where(in_lower, upper + curve + beyond, along)
        t = np.where(in_lower, across_lower, across)
        rows, columns = np.nonzero(~(in_upper | in_lower))
        if rows.size:
            qx = np.broadcast_to(x, s.shape)[rows, columns] - centre[0]
            qy = np.broadcast_to(y, s.shape)[rows, columns] - centre[1]
            fromx, fromy = start - centre
            angle = np.arctan2(side * (fromx * qy - fromy * qx), fromx * qx + fromy * qy)
            s[rows, columns] = upper + radius * angle
            t[rows, columns] = side * (radius - np.hypot(qx, qy))
        s *= np.float32(1 / self.length)
        t *= np.float32(1 / self.unit)
        return s, t

    def to_canvas(self, points: np.ndarray) -> Points:
        """(N, 2) as s, t to canvas units."""
        shoulder, first, second, end, centre, spoke, radius, side, upper, lower = self._complex
        along, across = points[:, 0] * self.length, points[:, 1] * self.unit
        offset = 1j * across
        on_upper = shoulder + (along + offset) * first
        on_lower = end + (along - lower + offset) * second
        on_curve = centre + np.exp(1j * (side / radius) * (along - upper)) * (spoke - (spoke * side / radius) * across)
        place = np.where(along <= upper, on_upper, np.where(along >= lower, on_lower, on_curve))
        return place.view(np.float64).reshape(-1, 2)

    def outline(
        self,
        start: float,
        end: float,
        half_width: Callable[[np.ndarray], np.ndarray],
        *,
        cap: float = 1.0,
        count: int = 20,
    ) -> Points:
        """Closed outline of the arm between two s; `half_width(s)` in `unit`; `cap` is the first end's roundness."""
        s = start + (end - start) * steps(count)
        width = half_width(s)
        sides = [xy(s, width), xy(s, -width)[::-1]]
        if cap:
            reach = cap * width[0] * self.unit / self.length
            sides.append(_CAP * (-reach, width[0]) + (start, 0))
        return self.to_canvas(np.concatenate(sides))


def _sinh(x: np.ndarray) -> np.ndarray:
    """sinh by its series: exact to 1e-5 for the |x| < 1.2 of a torso, and ten times as fast as numpy's."""
    square = x * x
    return x * (1 + square * (1 / 6) * (1 + square * (1 / 20) * (1 + square * (1 / 42) * (1 + square * (1 / 72)))))


def _single(part):
    """Fields are float32: float64 constants would double their memory traffic."""
    if isinstance(part, tuple):
        return tuple(np.float32(value) for value in part)
    return np.asarray(part, dtype=np.float32) if isinstance(part, np.ndarray) else np.float32(part)
