"""Who stands before the camera, how they stand, and how much of them the frame holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..body import SIDES, Head
from ..canvas import UNITS_HIGH, UNITS_WIDE
from ..style import Style, pick, pick_colour
from .pose import PosedArm, pose_arm, sample_poses
from .torso import ShapedTorso

LOWERS = {
    "slim": 0.27, "straight": 0.17, "wide": 0.13, "flared_legs": 0.06, "shorts": 0.12, "mini": 0.09, "skirt": 0.07,
    "long_skirt": 0.05, "flared": 0.04,
}  # fmt: skip
SKIRTS = ("mini", "skirt", "long_skirt", "flared")
HAIR = {
    "long_back": 0.17, "long_front": 0.22, "one_side": 0.08, "bob": 0.14, "wavy": 0.1, "bun": 0.08, "ponytail": 0.05,
    "afro": 0.04, "crop": 0.07, "tied": 0.03, "bald": 0.02,
}  # fmt: skip
FABRICS = {"plain": 0.42, "denim": 0.36, "stripes": 0.06, "checks": 0.05, "prints": 0.06, "leather": 0.05}
LOWER_COLOURS = {
    "plain": (
        (26, 26, 30), (24, 28, 42), (236, 234, 230), (222, 208, 184), (120, 96, 70), (92, 98, 78), (112, 34, 44),
        (150, 152, 156), (60, 62, 68), (190, 60, 50), (40, 80, 90), (228, 178, 186), (204, 164, 70), (20, 20, 22),
    ),
    "denim": (
        (46, 62, 92), (78, 106, 146), (126, 156, 188), (170, 194, 214), (34, 40, 56), (44, 46, 50), (96, 124, 160),
        (226, 230, 232),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Lower:
    """Joints of both legs (right, left) in canvas units and the lower garment over them.

    Args:
        hips, knees, ankles (`tuple`): Two points each, the person's right first.
        kind (`str`): A key of `LOWERS`.
        top (`float`): v of the torso where it begins.
        hem (`float`): How far a skirt or shorts reach, as a share of the way from hip to knee.
        width (`float`): Factor on its width.
        fabric (`str`): A key of `FABRICS`.
        belt (`bool`): Whether it has one.
    """

    hips: tuple[tuple[float, float], tuple[float, float]]
    knees: tuple[tuple[float, float], tuple[float, float]]
    ankles: tuple[tuple[float, float], tuple[float, float]]
    kind: str
    top: float
    hem: float
    width: float
    fabric: str
    belt: bool


@dataclass(frozen=True, eq=False)
class PhotoBody:
    """One figure without its upper garment; lengths in canvas units (192 x 256), of which the frame may cut any off.

    Args:
        style (`Style`): Style of the figure.
        unit (`float`): Distance of the shoulder joints, seen from the front.
        yaw (`float`): How far it is turned, in radians; positive to the image's right.
        torso (`ShapedTorso`), head (`Head`), lower (`Lower`): Its geometry.
        shoulders (`np.ndarray`): The shoulder joints, the person's right first, (2, 2).
        arms (`tuple[PosedArm, PosedArm]`): Likewise.
        head_yaw (`float`): How far the head is turned, in radians.
        tucked (`bool`): Whether upper garments go into the lower one, or hang over it.
        end (`float`): v where every upper garment ends at the latest.
        girth (`float`): Factor on the limbs' width.
        colours (`dict[str, np.ndarray]`): RGB of skin, hair, lower, shoes, lips, eyes.
        hair (`str`): A key of `HAIR`.
        glasses, beard, earrings (`bool`): Whether the head has them.
        light (`tuple[float, float]`): Side of the light (-1 left, 1 right), and its hardness in [0, 1].
        details (`int`): Seed of everything that only decorates.
    """

    style: Style
    unit: float
    yaw: float
    torso: ShapedTorso
    head: Head
    lower: Lower
    shoulders: np.ndarray
    arms: tuple[PosedArm, PosedArm]
    head_yaw: float
    tucked: bool
    end: float
    girth: float
    colours: dict[str, np.ndarray]
    hair: str
    glasses: bool
    beard: bool
    earrings: bool
    light: tuple[float, float]
    details: int

    def joints(self, shape: tuple[int, int]) -> np.ndarray:
        """BODY_25 joints in pixels of an image of `shape` (height, width).

        Returns:
            `np.ndarray`: float32, (25, 3) as x, y, confidence; all zero for a joint outside the image, and for ears
            that the head hides.
        """
        points = np.full((25, 2), np.nan)
        points[0] = self.head.to_canvas(self.on_face(np.array([[0.0, 0.24]])))[0]
        points[15:17] = self.head.to_canvas(self.on_face(np.array([[-0.4, -0.06], [0.4, -0.06]])))
        for index, sign in ((17, -1), (18, 1)):
            if sign * np.sin(self.head_yaw) < 0.35:
                points[index] = self.head.to_canvas(self.on_face(np.array([[sign * 0.98, 0.08]]), 0.25))[0]
        points[1] = self.torso.neck
        for posed, first in zip(self.arms, (2, 5), strict=True):
            points[first : first + 3] = posed.arm.shoulder, posed.arm.elbow_joint, posed.arm.wrist
        lower = self.lower
        points[8] = np.mean(lower.hips, axis=0)
        for side, first, heel, toe in ((0, 9, 24, 22), (1, 12, 21, 19)):
            ankle = np.array(lower.ankles[side])
            points[first : first + 3] = lower.hips[side], lower.knees[side], ankle
            foot = np.array([[0.06, 0.24], [0.13, 0.2]]) * (SIDES[side] * self.unit, self.unit)
            points[toe : toe + 2] = ankle + foot
            points[heel] = ankle + np.array([0.0, 0.08 * self.unit])
        joints = np.zeros((25, 3), np.float32)
        scale = shape[0] / UNITS_HIGH
        with np.errstate(invalid="ignore"):
            inside = ((points >= 0) & (points < (UNITS_WIDE, UNITS_HIGH))).all(axis=1)
        joints[inside, :2] = points[inside] * scale - 0.5
        joints[inside, 2] = 0.9
        return joints

    def on_face(self, points: np.ndarray, depth: float = 1.0) -> np.ndarray:
        """Places on a face seen from the front (N, 2) in the head's half axes, moved as the head is turned."""
        x = points[:, 0]
        forward = np.sqrt(np.maximum(1 - 0.9 * x * x, 0.0)) * 0.62 * depth
        sin, cos = np.sin(self.head_yaw), np.cos(self.head_yaw)
        return np.stack([x * cos + forward * sin, points[:, 1]], axis=1)


def sample_photo_body(rng: np.random.Generator, style: Style) -> PhotoBody:
    """Draw a figure: the same generator state gives the same figure."""
    unit, neck = _sample_frame(rng)
    yaw = float(np.radians(rng.uniform(18, 42) * rng.choice([-1, 1]) if rng.random() < 0.3 else rng.normal(0, 8)))
    sturdy = float(rng.beta(1.6, 2.6))  # slim to sturdy
    trunk = rng.uniform(1.34, 1.58)
    lean, tilt = rng.normal(0, 0.05), rng.normal(0, 0.05)
    torso = _sample_torso(rng, neck, unit, trunk, lean, tilt, yaw, sturdy)
    girth = (0.84 + 0.36 * sturdy) * rng.uniform(0.94, 1.06)
    shoulders = np.array([
        np.array(neck) + np.array([sign * np.cos(yaw), sign * tilt + 0.04 * rng.normal()]) * unit / 2
        for sign in SIDES
    ])  # fmt: skip
    lower = _sample_lower(rng, torso, neck, unit, trunk, yaw, lean, sturdy)
    names = sample_poses(rng)
    bones = rng.uniform(0.84, 1.04), rng.uniform(0.78, 0.98)
    arms = tuple(
        pose_arm(rng, names[index], sign, shoulders[index], yaw, unit, bones, girth, trunk)
        for index, sign in enumerate(SIDES)
    )
    head = _sample_head(rng, neck, unit, style)
    head_yaw = float(np.clip(0.5 * yaw + rng.normal(0, 0.22), -0.75, 0.75))
    skin = pick_colour(rng, style.skins, 8.0)
    hair = pick(rng, HAIR)
    tucked = bool(rng.random() < 0.42)
    end = lower.top + 0.012 if tucked else float(rng.choice([rng.uniform(0.82, 1.0), rng.uniform(1.0, 1.28)]))
    palette = LOWER_COLOURS["denim" if lower.fabric == "denim" else "plain"]
    colours = {
        "skin": skin,
        "hair": pick_colour(rng, style.hairs, 8.0),
        "lower": pick_colour(rng, palette, 12.0),
        "shoes": pick_colour(rng, LOWER_COLOURS["plain"], 10.0),
        "lips": skin * 0.62 + np.array([170, 56, 66]) * 0.38,
        "eyes": pick_colour(rng, ((60, 40, 30), (40, 60, 56), (50, 72, 104), (30, 24, 22)), 4.0),
    }
    short = hair in ("crop", "bald", "tied")
    return PhotoBody(
        style=style,
        unit=unit,
        yaw=yaw,
        torso=torso,
        head=head,
        lower=lower,
        shoulders=shoulders,
        arms=arms,
        head_yaw=head_yaw,
        tucked=tucked,
        end=max(end, lower.top + 0.012),
        girth=girth,
        colours=colours,
        hair=hair,
        glasses=bool(rng.random() < 0.07),
        beard=bool(short and rng.random() < 0.4),
        earrings=bool(rng.random() < 0.3),
        light=(float(rng.uniform(-1, 1)), float(rng.beta(1.5, 2.5))),
        details=int(rng.integers(2**31)),
    )


def _sample_frame(rng) -> tuple[float, tuple[float, float]]:
    """Scale, and the place of the neck, of figures from close crops to whole ones."""
    kind = rng.random()
    if kind < 0.68:  # as fashion shops crop: down to the thighs, with the head at the upper edge
        unit = float(np.clip(rng.normal(60, 6), 47, 76))
        crown = rng.uniform(-0.75, 0.0) * unit if rng.random() < 0.33 else rng.uniform(1, 24)
    elif kind < 0.82:  # closer
        unit = rng.uniform(68, 94)
        crown = rng.uniform(-1.1, 0.1) * unit
    else:  # farther, up to the whole figure
        unit = rng.uniform(32, 52)
        crown = rng.uniform(4, 30)
    below = unit * rng.uniform(1.08, 1.3)  # from the crown to the shoulders
    x = UNITS_WIDE / 2 + float(np.clip(rng.normal(0, 10), -28, 28))
    return float(unit), (float(x), float(crown + below))


def _sample_torso(rng, neck, unit, trunk, lean, tilt, yaw, sturdy) -> ShapedTorso:
    chest = 0.42 + 0.11 * sturdy + rng.normal(0, 0.015)
    waist = chest - rng.uniform(0.02, 0.13) * (1 - 0.6 * sturdy)
    hip = 0.46 + 0.14 * sturdy + rng.normal(0, 0.025)
    shoulder = 0.5 + rng.normal(0, 0.01)
    profile = np.array([
        shoulder - 0.02, shoulder, 0.5 * (shoulder + chest) + 0.01, chest, 0.55 * chest + 0.45 * waist, waist,
        0.45 * waist + 0.55 * hip, hip, hip * 1.03,
    ])  # fmt: skip
    depth = rng.uniform(0.56, 0.7) + 0.1 * sturdy
    profile *= np.sqrt(np.cos(yaw) ** 2 + (depth * np.sin(yaw)) ** 2)
    profile[:3] = np.maximum(profile[:3], (0.5 * np.cos(yaw) - 0.02, 0.5 * np.cos(yaw), 0.47 * np.cos(yaw)))
    turn = float(np.clip(0.55 * np.sin(yaw), -0.4, 0.4))
    return ShapedTorso(
        neck, unit, trunk * unit * 1.02, lean, tilt, chest, waist, hip, rng.uniform(0.015, 0.05),
        profile=tuple(profile.tolist()), turn=turn,
    )  # fmt: skip


def _sample_lower(rng, torso, neck, unit, trunk, yaw, lean, sturdy) -> Lower:
    kind = pick(rng, LOWERS)
    middle = np.array([neck[0] + lean * trunk * unit, neck[1] + trunk * unit])
    top = rng.uniform(0.55, 0.8) if rng.random() < 0.6 else rng.uniform(0.8, 1.0)  # high waists are in fashion
    thigh, shin = rng.uniform(1.3, 1.6) * unit, rng.uniform(1.2, 1.45) * unit
    stance = rng.uniform(-0.02, 0.3, 2) if rng.random() < 0.5 else rng.uniform(-0.04, 0.14, 2)
    shift = -lean * rng.uniform(0.3, 1.0) + rng.normal(0, 0.03)
    bent = rng.integers(2) if rng.random() < 0.3 else -1
    hips, knees, ankles = [], [], []
    for side, sign in enumerate(SIDES):
        hip = middle + np.array([sign * 0.3 * np.cos(yaw), 0.03 * rng.normal()]) * unit
        knee = hip + np.array([sign * stance[side] * unit + shift * thigh, thigh * (0.93 if side == bent else 1)])
        turn = rng.normal(0, 0.06) + (rng.uniform(-0.2, 0.2) if side == bent else 0)
        ankle = knee + np.array([sign * stance[side] * 0.4 * unit + turn * unit, shin])
        for joints, joint in zip((hips, knees, ankles), (hip, knee, ankle), strict=True):
            joints.append((float(joint[0]), float(joint[1])))
    hem = {"shorts": (0.25, 0.8), "mini": (0.35, 0.7), "skirt": (0.7, 1.25), "long_skirt": (1.3, 1.85)}.get(
        kind, (0.4, 1.3)
    )
    return Lower(
        tuple(hips), tuple(knees), tuple(ankles), kind, float(top), float(rng.uniform(*hem)),
        float(rng.uniform(0.92, 1.12)), pick(rng, FABRICS), bool(rng.random() < 0.2),
    )  # fmt: skip


def _sample_head(rng, neck, unit, style: Style) -> Head:
    height = rng.uniform(0.74, 0.91) * unit
    half_height = height / 2
    half_width = half_height * rng.uniform(0.66, 0.78)
    chin = neck[1] - rng.uniform(0.2, 0.4) * unit
    tilt = float(np.clip(rng.normal(0, 7), -18, 18))
    x = neck[0] + 0.012 * tilt * half_width + rng.normal(0, 0.03) * unit
    return Head((float(x), float(chin - half_height)), float(half_width), float(half_height), tilt)
