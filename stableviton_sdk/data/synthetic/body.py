"""Who is drawn: proportions, pose and looks of one figure, and its joints as OpenPose would state them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

from ...errors import InvalidInput
from .canvas import UNITS_HIGH, UNITS_WIDE, Points, smooth, steps, xy
from .geometry import Arm, Torso
from .style import Style, pick, pick_colour

LOWERS = {"slim": 0.3, "straight": 0.2, "wide": 0.12, "shorts": 0.12, "skirt": 0.16, "flared": 0.1}
# Upper arm and forearm, in degrees from straight down, positive outwards, as ranges.
POSES: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "down": ((11, 21), (8, 20)),
    "relaxed": ((14, 28), (-8, 12)),
    "bent": ((18, 34), (-40, -12)),
    "on_hip": ((36, 50), (-52, -30)),
    "across": ((3, 14), (-106, -80)),
    "raised": ((40, 66), (140, 168)),
    "half_raised": ((28, 48), (40, 84)),
}
POSE_CHANCES = {
    "down": 0.36, "relaxed": 0.2, "bent": 0.12, "on_hip": 0.1, "across": 0.1, "raised": 0.06, "half_raised": 0.06,
}  # fmt: skip
RULE_ARM = 5 / 16  # half width of an arm in HR-VITON's rule, in shoulder distances
SIDES = (-1, 1)  # the person's right side is on the image's left


def widest_sleeve(s: np.ndarray) -> np.ndarray:
    """Half width of the widest sleeve that any garment may have, in `Arm.unit`; the agnostic rule's arms are wider."""
    return 0.225 - 0.04 * s.clip(0, 1)


@dataclass(frozen=True)
class Head:
    """Centre, half axes (across, down) in canvas units, and the tilt in degrees."""

    centre: tuple[float, float]
    half_width: float
    half_height: float
    tilt: float

    @cached_property
    def _axes(self) -> np.ndarray:
        cos, sin = np.cos(np.radians(self.tilt)), np.sin(np.radians(self.tilt))
        return np.array([[cos, sin], [-sin, cos]]) * [[self.half_width], [self.half_height]]

    def to_canvas(self, points: np.ndarray) -> Points:
        """(N, 2) in half axes (x to the image's right, y down) to canvas units."""
        return points @ self._axes + self.centre


@dataclass(frozen=True)
class Legs:
    """Joints of both legs (right, left) in canvas units and the lower garment over them.

    Args:
        hips, knees, ankles (`tuple`): Two points each, the person's right first.
        kind (`str`): `"slim"`, `"straight"`, `"wide"`, `"shorts"`, `"skirt"` or `"flared"`.
        top (`float`): v of the torso where the lower garment begins.
        hem (`float`): How far a skirt or shorts reach, as a share of the thigh.
    """

    hips: tuple[tuple[float, float], tuple[float, float]]
    knees: tuple[tuple[float, float], tuple[float, float]]
    ankles: tuple[tuple[float, float], tuple[float, float]]
    kind: str
    top: float
    hem: float


@dataclass(frozen=True, eq=False)
class Body:
    """One figure without its upper garment; lengths in canvas units (192 x 256).

    Args:
        style (`Style`): Style of the figure.
        torso (`Torso`), head (`Head`), legs (`Legs`): Its geometry.
        arms (`tuple[Arm, Arm]`): The person's right one first.
        tucked (`bool`): Whether upper garments go into the lower one, or hang over it.
        colours (`dict[str, np.ndarray]`): RGB of skin, hair, lower, shoes, lips, eyes.
        hair (`str`): Name of the hair style.
        glasses, beard (`bool`): Whether the face has them.
        light (`float`): -1 lit from the image's left, 1 from the right.
        background (`str`): Kind of background.
        details (`int`): Seed of everything that only decorates.
    """

    style: Style
    torso: Torso
    arms: tuple[Arm, Arm]
    head: Head
    legs: Legs
    tucked: bool
    colours: dict[str, np.ndarray]
    hair: str
    glasses: bool
    beard: bool
    light: float
    background: str
    details: int

    @property
    def unit(self) -> float:
        """Distance of the shoulder joints."""
        return self.torso.unit

    def joints(self, shape: tuple[int, int]) -> np.ndarray:
        """BODY_25 joints in pixels of an image of `shape` (height, width).

        Returns:
            `np.ndarray`: float32, (25, 3) as x, y, confidence; all zero where a joint lies outside the image.
        """
        points = np.zeros((25, 2))
        face = self.head.to_canvas(np.array([[0, 0.22], [-0.4, -0.06], [0.4, -0.06], [-0.98, 0.05], [0.98, 0.05]]))
        points[[0, 15, 16, 17, 18]] = face
        points[1] = self.torso.neck
        for arm, first in zip(self.arms, (2, 5), strict=True):
            points[first : first + 3] = arm.shoulder, arm.elbow_joint, arm.wrist
        points[8] = np.mean(self.legs.hips, axis=0)
        for side, first, heel, toe in ((0, 9, 24, 22), (1, 12, 21, 19)):
            ankle = np.array(self.legs.ankles[side])
            points[first : first + 3] = self.legs.hips[side], self.legs.knees[side], ankle
            foot = np.array([[0.08, 0.24], [0.16, 0.2]]) * (SIDES[side] * self.unit, self.unit)
            points[toe : toe + 2] = ankle + foot
            points[heel] = ankle + np.array([0.0, 0.08 * self.unit])
        joints = np.zeros((25, 3), np.float32)
        scale = shape[0] / UNITS_HIGH
        inside = ((points >= 0) & (points < (UNITS_WIDE, UNITS_HIGH))).all(axis=1)
        joints[inside, :2] = points[inside] * scale - 0.5
        joints[inside, 2] = 0.9
        return joints

    def lower_outlines(self) -> list[Points]:
        """Closed outlines of the lower garment."""
        return lower_outlines(self.torso, self.legs)


def sample_drawn_body(rng: np.random.Generator, style: Style) -> Body:
    """A figure in one of the drawn styles."""
    unit = rng.uniform(*style.shoulder_width)
    head_height = rng.uniform(*style.head_height) * unit
    crown = rng.uniform(9, 20) if unit > 50 else rng.uniform(10, 34)
    chin_to_neck = rng.uniform(0.36, 0.42) * unit
    neck = (UNITS_WIDE / 2 + rng.uniform(-7, 7), crown + head_height + chin_to_neck)
    trunk = rng.uniform(*style.torso) * unit
    lean, tilt = rng.uniform(-0.07, 0.07), rng.uniform(-0.07, 0.07)
    build = rng.uniform(0, 1)  # slim to sturdy

    def girth(limits: tuple[float, float]) -> float:
        return limits[0] + (limits[1] - limits[0]) * min(max(build + rng.normal(0, 0.22), 0.0), 1.0)

    torso = Torso(
        neck, unit, trunk + rng.uniform(0.0, 0.12) * unit, lean, tilt, girth(style.chest), girth(style.waist),
        girth(style.hip),
    )  # fmt: skip
    tucked = bool(rng.random() < 0.4)
    kind = pick(rng, LOWERS)
    legs = _sample_legs(rng, style, torso, trunk, kind, rng.uniform(0.925, 0.965) if tucked else 1.0)
    thickness = style.thickness[0] + (style.thickness[1] - style.thickness[0]) * build
    bones = rng.uniform(*style.upper_arm) * unit, rng.uniform(*style.forearm) * unit
    arms = _sample_arms(rng, torso, legs, bones, unit * thickness)
    half_height = head_height / 2
    half_width = half_height * rng.uniform(*style.head_shape)
    nod = rng.uniform(-7, 7)
    head = Head(
        (neck[0] + 0.35 * nod / 7 * half_width * 0.4, crown + half_height), float(half_width), float(half_height), nod
    )
    skin = pick_colour(rng, style.skins, 5.0)
    colours = {
        "skin": skin,
        "hair": pick_colour(rng, style.hairs, 6.0),
        "lower": pick_colour(rng, style.lowers, 10.0),
        "shoes": pick_colour(rng, style.lowers, 10.0),
        "lips": skin * 0.6 + np.array([176, 60, 66]) * 0.4,
        "eyes": pick_colour(rng, ((60, 40, 30), (40, 70, 60), (50, 80, 120), (36, 30, 30)), 4.0),
    }
    hair = pick(rng, style.hair_styles)
    short = hair in ("crop", "bald", "swept")
    return Body(
        style=style,
        torso=torso,
        arms=arms,
        head=head,
        legs=legs,
        tucked=tucked,
        colours=colours,
        hair=hair,
        glasses=bool(rng.random() < 0.14),
        beard=bool(rng.random() < (0.3 if short else 0.0)),
        light=float(rng.uniform(-1, 1)),
        background=pick(rng, style.backgrounds),
        details=int(rng.integers(2**31)),
    )


@lru_cache(maxsize=2)  # called when a pose is drawn, and again when the figure is
def lower_outlines(torso: Torso, legs: Legs) -> list[Points]:
    """Closed outlines of the lower garment: both trouser legs, or one skirt."""
    unit = torso.unit
    (hip_x, hip_y) = np.mean(legs.hips, axis=0)
    ease = {"slim": 1.0, "straight": 1.03, "wide": 1.05, "shorts": 1.05, "skirt": 1.03, "flared": 1.05}[legs.kind]
    waist = torso.to_canvas(np.array([[-ease, legs.top], [ease, legs.top]]))
    band = torso.to_canvas(xy(ease * (2 * steps(9) - 1), legs.top))
    half = torso.hip * unit * (1.02 if legs.kind == "slim" else 1.05)
    if legs.kind in ("skirt", "flared"):
        knees = np.mean(legs.knees, axis=0)
        hem = hip_y + legs.hem * (knees[1] - hip_y)
        spread = half * (1.04 if legs.kind == "skirt" else 1.38)
        middle = hip_x + legs.hem * (knees[0] - hip_x)
        thigh_y = hip_y + 0.12 * unit
        right = smooth([waist[1], (hip_x + half, thigh_y), (middle + spread, hem)])
        left = smooth([(middle - spread, hem), (hip_x - half, thigh_y), waist[0]])
        bottom = smooth([(middle + spread, hem), (middle, hem + 0.06 * unit), (middle - spread, hem)])
        return [np.concatenate([band, right[1:-1], bottom[:-1], left[:-1]])]
    knee_width, cuff_width = {
        "slim": (0.17, 0.125), "straight": (0.22, 0.2), "wide": (0.29, 0.34), "shorts": (0.28, 0.28),
    }[legs.kind]  # fmt: skip
    outlines = []
    crotch = np.array([hip_x, hip_y + 0.24 * unit])
    for side, sign in enumerate(SIDES):
        root, knee, ankle = (np.array(joints[side]) for joints in (legs.hips, legs.knees, legs.ankles))
        hip = np.array([hip_x + sign * half, hip_y + 0.1 * unit])
        outward = np.array([sign * unit, 0.0])
        if legs.kind == "shorts":
            end = root + legs.hem * (knee - root)
            outer = smooth([waist[side], hip, end + knee_width * outward])
            inner = smooth([end - 0.2 * outward, crotch])
        else:
            outer = smooth([waist[side], hip, knee + knee_width * outward, ankle + cuff_width * outward])
            inner = smooth([ankle - cuff_width * outward, knee - min(knee_width, 0.22) * outward, crotch])
        top = band[:5][::-1] if sign < 0 else band[4:]
        outlines.append(np.concatenate([top, outer[1:], inner, [(hip_x, hip_y)]]))
    return outlines


def _sample_legs(rng, style: Style, torso: Torso, trunk: float, kind: str, top: float) -> Legs:
    unit = torso.unit
    middle = np.array([torso.neck[0] + torso.lean * trunk, torso.neck[1] + trunk])
    thigh, shin = rng.uniform(*style.thigh) * unit, rng.uniform(*style.shin) * unit
    stance = rng.uniform(0.0, 0.12, 2)
    shift = -torso.lean * rng.uniform(0.4, 1.0)
    hips, knees, ankles = [], [], []
    for side, sign in enumerate(SIDES):
        hip = middle + np.array([sign * 0.27 * unit, 0.0])
        knee = hip + np.array([sign * stance[side] * unit + shift * thigh, thigh])
        ankle = knee + np.array([sign * stance[side] * 0.5 * unit, shin])
        for joints, joint in zip((hips, knees, ankles), (hip, knee, ankle), strict=True):
            joints.append((float(joint[0]), float(joint[1])))
    hem = rng.uniform(0.42, 0.8) if kind == "shorts" else rng.uniform(0.5, 1.2)
    return Legs(tuple(hips), tuple(knees), tuple(ankles), kind, float(top), float(hem))


def _sample_arms(rng, torso: Torso, legs: Legs, bones: tuple[float, float], unit: float) -> tuple[Arm, Arm]:
    """Draw poses until no sleeve could leave the image, or the region that HR-VITON's rule draws around the joints.

    The rule gives visible trousers back even inside of that region, so that a wide sleeve in front of them would leak:
    only hands may lie there.
    """
    outlines = [outline.astype(np.float32) for outline in lower_outlines(torso, legs)]
    right = pick(rng, POSE_CHANCES)
    left = right if rng.random() < (0.9 if right == "across" else 0.45) else pick(rng, POSE_CHANCES)
    return tuple(
        _sample_arm(rng, torso, sign, name, bones, unit, outlines)
        for sign, name in zip(SIDES, (right, left), strict=True)
    )


def _sample_arm(rng, torso: Torso, sign: int, name: str, bones: tuple[float, float], unit: float, outlines) -> Arm:
    for attempt in range(60):
        if attempt and attempt % 12 == 0:
            name = pick(rng, POSE_CHANCES) if attempt < 48 else "down"
        shift = 1.5 * (attempt % 12)  # the same pose, a little further from the body with every try
        upper, lower = (rng.uniform(*limits) + shift for limits in POSES[name])
        arm = _arm(torso, sign, upper, lower, bones, unit)
        if _is_clear(arm, torso.unit, outlines):
            return arm
    raise InvalidInput("no pose of this style keeps its sleeves inside the agnostic mask: use longer or thinner arms.")


def _arm(torso: Torso, sign: int, upper: float, lower: float, bones: tuple[float, float], unit: float) -> Arm:
    out, down = sign * torso.unit / 2, sign * torso.tilt * torso.unit / 2
    shoulder = np.array(torso.neck) + np.array([out + torso.lean * down, down])
    angles = np.radians([upper, lower])
    steps = xy(sign * np.sin(angles), np.cos(angles)) * np.array(bones)[:, None]
    elbow = shoulder + steps[0]
    wrist = elbow + steps[1]
    joints = (tuple(float(value) for value in joint) for joint in (shoulder, elbow, wrist))
    return Arm(*joints, unit=unit)


def _is_clear(arm: Arm, distance: float, outlines: list[np.ndarray]) -> bool:
    for x, y in (arm.elbow, arm.wrist):
        if not (6 <= x <= UNITS_WIDE - 6 and 6 <= y <= UNITS_HIGH - 10):
            return False

    def near_lower_garment(point: tuple[float, float], radius: float) -> bool:
        return any(cv2.pointPolygonTest(outline, point, True) > -radius for outline in outlines)

    s = 0.12 + 0.92 * steps(16)
    wide = widest_sleeve(s)
    reach = (wide * arm.unit + 2.5).tolist()
    if near_lower_garment(arm.wrist, reach[-1]):  # most poses that fail, fail here: look before the costlier tests
        return False
    axis, *edges = np.split(arm.to_canvas(np.concatenate([xy(s, 0.0), xy(s, wide), xy(s, -wide)])), 3)
    if arm.distance_to_bones(np.concatenate(edges)).max() > RULE_ARM * distance - 1.2:
        return False
    top = min(float(outline[:, 1].min()) for outline in outlines)
    return not any(
        y + radius > top and near_lower_garment((x, y), radius)
        for (x, y), radius in zip(axis.tolist(), reach, strict=True)
    )
