"""Arms in space: where the wrists are, how the elbows hang, and what a camera sees of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry import Arm
from ..style import pick

SHORTEST = 0.34  # of a bone as the camera sees it, in shoulder widths


@dataclass(frozen=True)
class Pose:
    """One arm's pose, in shoulder widths from the middle between the shoulders: outwards, down, towards the camera.

    Args:
        wrist (`tuple`): Low and high ends of the wrist's three coordinates.
        pole (`tuple`): Where the elbow tends to.
        hand (`str`): `"free"`, `"flat"` (on something), `"hidden"`.
        depth (`str`): `"front"`, `"behind"` the torso, or `"over"` the head too.
    """

    wrist: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    pole: tuple[float, float, float]
    hand: str = "free"
    depth: str = "front"


POSES = {
    "hanging": Pose(((0.55, 0.82), (1.6, 1.8), (-0.1, 0.25)), (0.6, 0.0, -1.0)),
    "away": Pose(((0.85, 1.25), (1.35, 1.65), (-0.1, 0.4)), (0.8, 0.2, -1.0)),
    "forward": Pose(((0.45, 0.7), (1.35, 1.65), (0.3, 0.6)), (0.7, 0.2, -1.0)),
    "on_hip": Pose(((0.42, 0.58), (1.1, 1.45), (0.0, 0.2)), (1.0, 0.0, -0.35), "flat"),
    "on_waist_behind": Pose(((0.3, 0.48), (1.1, 1.4), (-0.3, -0.1)), (1.0, 0.0, -0.5), "hidden", "behind"),
    "pocket": Pose(((0.44, 0.6), (1.42, 1.62), (0.1, 0.25)), (1.0, 0.0, -0.6), "hidden"),
    "back_pocket": Pose(((0.4, 0.56), (1.4, 1.62), (-0.3, -0.15)), (1.0, 0.0, -0.8), "hidden", "behind"),
    "behind_back": Pose(((0.0, 0.3), (1.3, 1.7), (-0.4, -0.25)), (0.9, 0.0, -0.9), "hidden", "behind"),
    "clasped": Pose(((0.0, 0.22), (1.45, 1.8), (0.3, 0.45)), (1.0, 0.2, -0.5)),
    "hem": Pose(((0.3, 0.5), (1.2, 1.5), (0.2, 0.35)), (1.0, 0.1, -0.5), "flat"),
    "crossed": Pose(((-0.35, -0.1), (0.62, 0.9), (0.35, 0.5)), (0.5, 1.0, 0.0), "flat"),
    "holding_elbow": Pose(((-0.45, -0.3), (0.85, 1.05), (0.1, 0.3)), (0.6, 1.0, 0.0), "flat"),
    "chest": Pose(((-0.05, 0.25), (0.1, 0.55), (0.3, 0.45)), (0.8, 1.0, 0.0), "flat"),
    "chin": Pose(((0.02, 0.2), (-0.3, -0.1), (0.35, 0.5)), (0.5, 1.0, 0.2), "free", "over"),
    "hair": Pose(((0.2, 0.4), (-0.85, -0.45), (-0.1, 0.2)), (1.0, 0.1, 0.2), "flat", "over"),
    "overhead": Pose(((0.2, 0.7), (-1.5, -1.1), (-0.1, 0.2)), (1.0, -0.2, 0.2), "free", "over"),
    "lifted": Pose(((0.8, 1.3), (0.2, 0.9), (0.1, 0.5)), (0.6, 1.0, -0.3)),
}
POSE_CHANCES = {
    "hanging": 0.4, "away": 0.08, "forward": 0.07, "on_hip": 0.08, "on_waist_behind": 0.03, "pocket": 0.09,
    "back_pocket": 0.03, "behind_back": 0.06, "clasped": 0.03, "hem": 0.03, "crossed": 0.03, "holding_elbow": 0.02,
    "chest": 0.015, "chin": 0.015, "hair": 0.02, "overhead": 0.005, "lifted": 0.02,
}  # fmt: skip
PAIRED = ("behind_back", "clasped", "crossed", "pocket", "hanging")  # both arms tend to do it


@dataclass(frozen=True)
class PosedArm:
    """An arm as the camera sees it.

    Args:
        arm (`Arm`): Its map.
        pose (`str`): A key of `POSES`.
        depth (`str`): `"front"`, `"behind"` or `"over"`.
        hand (`str`): `"free"`, `"flat"` or `"hidden"`.
    """

    arm: Arm
    pose: str
    depth: str
    hand: str


def sample_poses(rng: np.random.Generator) -> tuple[str, str]:
    """Poses of the person's right and left arm."""
    right = pick(rng, POSE_CHANCES)
    both = right in PAIRED and rng.random() < (0.5 if right == "pocket" else 0.8)
    left = right if both else pick(rng, POSE_CHANCES)
    return (right, left) if rng.random() < 0.5 else (left, right)


def pose_arm(
    rng: np.random.Generator, name: str, side: int, shoulder: np.ndarray, yaw: float, unit: float,
    bones: tuple[float, float], thickness: float, trunk: float,
) -> PosedArm:  # fmt: skip
    """Draw an arm in a pose.

    Args:
        rng (`np.random.Generator`): Where the draws come from.
        name (`str`): A key of `POSES`.
        side (`int`): -1 for the person's right arm (the image's left), 1 for the left one.
        shoulder (`np.ndarray`): The shoulder joint in canvas units.
        yaw (`float`): How far the body is turned, in radians; positive shows its right side.
        unit (`float`): Distance of the shoulder joints from the front, in canvas units.
        bones (`tuple[float, float]`): Lengths of upper arm and forearm, in shoulder widths.
        thickness (`float`): Factor on the arm's width.
        trunk (`float`): From shoulders to hips, in shoulder widths; the poses are stated for 1.48.
    """
    for attempt in range(30):
        pose = POSES[name if attempt < 24 else "hanging"]
        wrist = np.array([rng.uniform(*limits) for limits in pose.wrist])
        if wrist[1] > 1:
            wrist[1] *= trunk / 1.48
        start = np.array([0.5, 0.0, 0.0])
        elbow, wrist = _elbow(start, wrist, bones, np.array(pose.pole) + rng.normal(0, 0.2, 3))
        points = np.array([elbow, wrist]) - start
        points[:, 0] *= side
        cos, sin = np.cos(yaw), np.sin(yaw)
        across = points[:, 0] * cos + points[:, 2] * sin
        nearer = 1 + 0.06 * (points[:, 2] * cos - points[:, 0] * sin)  # the camera is not infinitely far away
        seen = np.stack([across * nearer, points[:, 1] * nearer], axis=1)
        lengths = np.hypot(*seen[0]), np.hypot(*(seen[1] - seen[0]))
        if min(lengths) >= SHORTEST:
            break
    joints = shoulder + seen * unit
    arm = Arm(
        tuple(map(float, shoulder)), tuple(map(float, joints[0])), tuple(map(float, joints[1])), unit * thickness
    )
    depth = pose.depth
    if depth == "front" and side * np.sin(yaw) > 0.3 and wrist[0] > 0.4 and wrist[2] < 0.35:
        depth = "behind"  # the far arm of a turned body
    return PosedArm(arm, name, depth, pose.hand)


def _elbow(start: np.ndarray, wrist: np.ndarray, bones: tuple[float, float], pole: np.ndarray):
    """Elbow and reachable wrist of two bones from a shoulder towards a wrist, bent towards a pole."""
    upper, lower = bones
    reach = wrist - start
    distance = float(np.linalg.norm(reach))
    far, near = 0.995 * (upper + lower), abs(upper - lower) + 0.25
    clamped = min(max(distance, near), far)
    along = reach / max(distance, 1e-6)
    wrist = start + along * clamped
    foot = (upper**2 - lower**2 + clamped**2) / (2 * clamped)
    height = np.sqrt(max(upper**2 - foot**2, 0.0))
    side = pole - (pole @ along) * along
    side /= max(float(np.linalg.norm(side)), 1e-6)
    return start + along * foot + side * height, wrist
