"""The skeleton of the agnostic mask's rule: joints completed from the parse, and shapes drawn around them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ..joints import Body25
from ..labels import CIHP, UPPER_GARMENTS

NECK = Body25.NECK
HIPS = (Body25.RIGHT_HIP, Body25.LEFT_HIP)
SHOULDERS = (Body25.RIGHT_SHOULDER, Body25.LEFT_SHOULDER)
# shoulder, elbow, wrist, by the parse's label of the arm
ARMS = {
    CIHP.LEFT_ARM: (Body25.LEFT_SHOULDER, Body25.LEFT_ELBOW, Body25.LEFT_WRIST),
    CIHP.RIGHT_ARM: (Body25.RIGHT_SHOULDER, Body25.RIGHT_ELBOW, Body25.RIGHT_WRIST),
}

RULE_SIZE = (768, 1024)  # width and height that the rule's lengths are whole pixels of
TORSO_LENGTH = 1.45  # neck to hips in shoulder distances, seen from the front
HIP_WIDTH = 0.6  # distance of the hip joints in shoulder distances
NARROWEST_SHOULDERS = 0.3  # shoulder distance in torso lengths below which the body is in profile
FACE_TO_TORSO = 2.2  # neck to hips in heights of the face


@dataclass(frozen=True)
class Skeleton:
    """Joints of a body in the rule's pixels, with neck, shoulders and hips completed.

    Args:
        joints (`np.ndarray`): BODY_25 joints, float, (25, 2) as x, y.
        seen (`np.ndarray`): Joints with a position, detected or estimated, bool, (25,).
        shoulder_distance (`float`): Distance of the shoulders, at least 0.3 torso lengths.
        down (`np.ndarray`): Unit vector from the neck to the hips, (2,).
        whole (`bool`): True if the torso was detected in full and from the front.
        scale (`float`): Rule pixels per pixel of the parse.
        canvas (`tuple[int, int]`): Width and height of the image in the rule's pixels.
    """

    joints: np.ndarray
    seen: np.ndarray
    shoulder_distance: float
    down: np.ndarray
    whole: bool
    scale: float
    canvas: tuple[int, int]

    @property
    def unit(self) -> int:
        """Length that the rule's widths are multiples of, in its pixels."""
        return int(self.shoulder_distance / 16) + 1


def complete_skeleton(parsing: np.ndarray, keypoints: np.ndarray) -> Skeleton | None:
    """Skeleton of a body, its missing joints estimated from the others and the parse.

    Args:
        parsing (`np.ndarray`): CIHP label map, uint8, (H, W).
        keypoints (`np.ndarray`): BODY_25 joints in pixels of `parsing`, float, (25, 3); confidence 0 means missing.

    Returns:
        `Skeleton`, or None if neither joints nor parse say where the shoulders are.
    """
    height, width = parsing.shape
    scale = min(RULE_SIZE[0] / width, RULE_SIZE[1] / height)
    canvas = (max(1, round(width * scale)), max(1, round(height * scale)))
    seen = keypoints[:, 2] > 0
    joints = keypoints[:, :2] * (canvas[0] / width, canvas[1] / height)
    whole = bool(seen[[NECK, *SHOULDERS, *HIPS]].all())
    face = clothes = np.empty((0, 2))
    if not whole:
        face = _points(parsing, (CIHP.FACE,), scale)
        clothes = _points(parsing, UPPER_GARMENTS, scale)
        if len(clothes) == 0:
            clothes = _points(parsing, (CIHP.TORSO_SKIN,), scale)

    if not seen[list(SHOULDERS)].all() and not _add_shoulders(joints, seen, face, clothes):
        return None
    if not seen[NECK]:
        joints[NECK] = joints[list(SHOULDERS)].mean(axis=0)
        seen[NECK] = True

    middle = joints[list(SHOULDERS)].mean(axis=0)
    across = joints[Body25.LEFT_SHOULDER] - joints[Body25.RIGHT_SHOULDER]
    distance = float(np.linalg.norm(across))
    across = across / distance if distance > 1 else np.array([1.0, 0.0])

    hips = joints[[hip for hip in HIPS if seen[hip]]]
    if len(hips):
        length = float(np.linalg.norm(hips.mean(axis=0) - joints[NECK]))
        down = (hips.mean(axis=0) - joints[NECK]) / max(length, 1.0)
    else:
        length = TORSO_LENGTH * distance
        if len(face):
            length = max(length, FACE_TO_TORSO * float(np.ptp(face[:, 1])))
        down = _down(joints, seen, face, across, profile=distance < NARROWEST_SHOULDERS * length)
    narrowest = NARROWEST_SHOULDERS * length
    if distance < narrowest:
        whole, distance = False, narrowest
    if len(hips) == 1:
        known, missing = HIPS if seen[HIPS[0]] else HIPS[::-1]
        joints[missing] = joints[known] + across * HIP_WIDTH * distance * (1 if missing == HIPS[1] else -1)
    elif len(hips) == 0:
        if len(clothes):
            hem = float(np.quantile((clothes - middle) @ down, 0.95))
            length = min(max(hem, 0.75 * length), 1.3 * length)
        for hip, side in zip(HIPS, (-0.5, 0.5), strict=True):
            joints[hip] = middle + down * length + across * distance * side
    # the rule: hips as far apart as the shoulders, about their middle
    between = joints[HIPS[1]] - joints[HIPS[0]]
    apart = float(np.linalg.norm(between))
    between = between / apart if apart > 1e-6 else across
    middle = joints[list(HIPS)].mean(axis=0)
    joints[HIPS[0]], joints[HIPS[1]] = middle - between * distance / 2, middle + between * distance / 2
    seen[[*SHOULDERS, *HIPS]] = True
    return Skeleton(joints, seen, distance, down, whole, scale, canvas)


def _add_shoulders(joints: np.ndarray, seen: np.ndarray, face: np.ndarray, clothes: np.ndarray) -> bool:
    """Estimate the missing shoulders in place; False if neither joints nor parse say where they are."""
    hips = [hip for hip in HIPS if seen[hip]]
    for known, missing in (SHOULDERS, SHOULDERS[::-1]):
        if seen[known]:
            if seen[NECK]:
                joints[missing] = 2 * joints[NECK] - joints[known]
                return True
            middle = [joints[hips].mean(axis=0)] if len(hips) == 2 else []
            middle += [joints[Body25.NOSE]] if seen[Body25.NOSE] else []
            middle += [cloud.mean(axis=0) for cloud in (face, clothes) if len(cloud)]
            if not middle:
                return False
            joints[missing] = (2 * middle[0][0] - joints[known][0], joints[known][1])
            return True
    if len(clothes) == 0:
        return False
    top, bottom = np.quantile(clothes[:, 1], (0.02, 0.98))
    chest = clothes[(clothes[:, 1] >= top) & (clothes[:, 1] <= (top + bottom) / 2)]
    left, right = np.quantile(chest[:, 0], (0.05, 0.95))
    half = (right - left) * 0.4  # the clothes reach beyond the joints on either side
    centre = joints[NECK][0] if seen[NECK] else (left + right) / 2
    height = joints[NECK][1] if seen[NECK] else top + 0.2 * half
    side = -1 if len(hips) == 2 and joints[HIPS[0]][0] > joints[HIPS[1]][0] else 1  # seen from behind
    joints[Body25.RIGHT_SHOULDER] = (centre - side * half, height)
    joints[Body25.LEFT_SHOULDER] = (centre + side * half, height)
    return True


def _down(joints: np.ndarray, seen: np.ndarray, face: np.ndarray, across: np.ndarray, *, profile: bool) -> np.ndarray:
    """Unit vector from the shoulders to the hips, estimated without the hips."""
    neck = joints[NECK]
    head = joints[Body25.NOSE] if seen[Body25.NOSE] else face.mean(axis=0) if len(face) else neck - (0.0, 1.0)
    away = neck - head
    away = away / max(float(np.linalg.norm(away)), 1e-6)
    if profile:
        # a head in profile juts forward: the image's vertical is the better guess, unless the person lies
        return np.array([0.0, 1.0]) if away[1] >= 0.3 else away
    upright = np.array([-across[1], across[0]])
    return upright if upright @ away >= 0 else -upright


def _points(parsing: np.ndarray, labels: tuple[int, ...], scale: float) -> np.ndarray:
    """Pixel centres, (N, 2) in the rule's pixels, of the largest connected region of these labels."""
    pixels = np.isin(parsing, labels).astype(np.uint8)
    _, regions, statistics, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8)
    if len(statistics) < 2:
        return np.empty((0, 2))
    y, x = np.nonzero(regions == 1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA])))
    return (np.stack([x, y], axis=1) + 0.5) * scale


class SkeletonCanvas:
    """Mask drawn as shapes around a skeleton's joints; widths and half-axes are in the skeleton's units.

    Args:
        skeleton (`Skeleton`): The joints.
    """

    def __init__(self, skeleton: Skeleton):
        self.joints: np.ndarray = skeleton.joints
        self.seen: np.ndarray = skeleton.seen
        self.unit: int = skeleton.unit
        self.image: Image.Image = Image.new("L", skeleton.canvas)
        self.draw: ImageDraw.ImageDraw = ImageDraw.Draw(self.image)

    def ellipse(self, joint: int, half_width: float, half_height: float) -> None:
        """Draw an ellipse around a joint.

        Args:
            joint (`int`): BODY_25 index of the joint.
            half_width (`float`), half_height (`float`): Half-axes in units.
        """
        (x, y), a, b = self.joints[joint], half_width * self.unit, half_height * self.unit
        self.draw.ellipse((x - a, y - b, x + a, y + b), 255, 255)

    def line(self, start: int, end: int, width: float) -> None:
        """Draw a line between two joints.

        Args:
            start (`int`), end (`int`): BODY_25 indices of the joints.
            width (`float`): Width in units.
        """
        self.draw.line([tuple(self.joints[start]), tuple(self.joints[end])], 255, round(width * self.unit))

    def polygon(self, *joints: int) -> None:
        """Draw the polygon with these joints as corners."""
        self.draw.polygon([tuple(self.joints[joint]) for joint in joints], 255, 255)

    def neck(self) -> None:
        """Draw the rectangle above the neck joint."""
        (x, y), unit = self.joints[NECK], self.unit
        self.draw.rectangle((x - 5 * unit, y - 9 * unit, x + 5 * unit, y), 255, 255)

    def arm(self, arm: tuple[int, int, int], *, wrist: float, width: float = 10) -> None:
        """Draw an arm's seen segments, with circles at elbow and wrist.

        Args:
            arm (`tuple[int, int, int]`): BODY_25 indices of shoulder, elbow and wrist.
            wrist (`float`): Radius of the circle at the wrist in units.
            width (`float`, *optional*, defaults to 10): Width of the segments in units.
        """
        for start, end in itertools.pairwise(arm):
            if self.seen[start] and self.seen[end]:
                self.line(start, end, width)
                half_axis = width / 2 if end != arm[-1] else wrist
                self.ellipse(end, half_axis, half_axis)

    def clear(self) -> None:
        """Erase what is drawn."""
        self.image.paste(0, (0, 0, *self.image.size))

    def as_mask(self, shape: tuple[int, int], within: tuple[slice, slice] | None = None) -> np.ndarray:
        """Mask at the size of another image.

        Args:
            shape (`tuple[int, int]`): Height and width of the image.
            within (`tuple[slice, slice]`, *optional*): Rows and columns of the image to return; by default all.

        Returns:
            `np.ndarray`: bool, (H, W), or its part `within`.
        """
        (height, width), (canvas_width, canvas_height) = shape, self.image.size
        if (canvas_width, canvas_height) == (width, height):
            mask = np.asarray(self.image) >= 128
            return mask if within is None else mask[within]
        if canvas_width % width or canvas_height % height:
            # weights of a part could differ in their last bit from those of the whole
            mask = np.asarray(self.image.resize((width, height), Image.Resampling.BILINEAR)) >= 128
            return mask if within is None else mask[within]
        step_x, step_y = canvas_width // width, canvas_height // height
        if within is None:
            mask = np.zeros(shape, bool)
            box = self.image.getbbox()
            if box is not None:
                left, top, right, bottom = box
                drawn = (
                    slice(max(top // step_y - 1, 0), min(-(-bottom // step_y) + 1, height)),
                    slice(max(left // step_x - 1, 0), min(-(-right // step_x) + 1, width)),
                )
                mask[drawn] = self.as_mask(shape, drawn)
            return mask
        rows, columns = within
        part = self.image.resize(
            (columns.stop - columns.start, rows.stop - rows.start),
            Image.Resampling.BILINEAR,
            box=(columns.start * step_x, rows.start * step_y, columns.stop * step_x, rows.stop * step_y),
        )
        return np.asarray(part) >= 128
