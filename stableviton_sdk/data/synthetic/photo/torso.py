"""The torso's map for bodies of any shape that are turned a little: a free profile, and a middle that moves aside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..canvas import Points
from ..geometry import Torso

PROFILE_AT = np.array([-0.3, 0.0, 0.13, 0.28, 0.45, 0.62, 0.8, 1.0, 1.3])  # v of the profile's points
_TABLE = np.linspace(PROFILE_AT[0], PROFILE_AT[-1], 161)


@dataclass(frozen=True)
class ShapedTorso(Torso):
    """A torso whose half widths are given at `PROFILE_AT`, in shoulder widths, and whose front may look aside.

    Args:
        profile (`tuple[float, ...]`): Half widths, one for each of `PROFILE_AT`.
        turn (`float`):
            Where the middle of the front lies, as a share of the half width, in (-0.5, 0.5); positive to the image's
            right. The side seams stay at the silhouette.
    """

    profile: tuple[float, ...] = ()
    turn: float = 0.0

    @cached_property
    def _table(self) -> np.ndarray:
        from ..canvas import smooth

        curve = smooth(np.column_stack([PROFILE_AT, self.profile]), 8)
        return np.interp(_TABLE, curve[:, 0], curve[:, 1]).astype(np.float32)

    def half_width(self, v: np.ndarray) -> np.ndarray:
        """Half width of the body in canvas units."""
        if np.ndim(v) == 0:
            return self.unit * np.interp(v, _TABLE, self._table)
        place = ((v - _TABLE[0]) * (1 / (_TABLE[1] - _TABLE[0]))).clip(0, len(_TABLE) - 1.001)
        index = place.astype(np.int32)
        share = place - index
        low = self._table[index]
        return (low + share * (self._table[index + 1] - low)) * v.dtype.type(self.unit)

    def to_fabric(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Canvas units to (u, v)."""
        u, v = super().to_fabric(x, y)
        if self.turn:
            inside = np.minimum(np.abs(u), 1)
            u = u - np.float32(self.turn) * (1 - inside * inside)
        return u, v

    def to_canvas(self, points: np.ndarray) -> Points:
        """(N, 2) as u, v to canvas units; the inverse of `to_fabric`."""
        if self.turn:
            points = np.array(points, dtype=np.float64)
            u, s = points[..., 0], self.turn
            # w - s (1 - w^2) = u, for w within [-1, 1]
            w = 2 * (u + s) / (1 + np.sqrt(np.maximum(1 + 4 * s * (u + s), 0)))
            points[..., 0] = np.where(np.abs(u) < 1, w, u)
        return super().to_canvas(points)

    def hanging(self, looseness: float) -> ShapedTorso:
        """The torso as a garment sees it that doesn't follow the waist: 0 follows it, 1 hangs from chest to hip."""
        profile = np.array(self.profile)
        chest, hip = 3, 7
        line = np.interp(PROFILE_AT, PROFILE_AT[[chest, hip]], profile[[chest, hip]])
        fuller = np.where((PROFILE_AT[chest] < PROFILE_AT) & (PROFILE_AT[hip] > PROFILE_AT), line, profile)
        fuller = np.maximum(profile, fuller)
        return replace(self, profile=tuple((profile + looseness * (fuller - profile)).tolist()))
