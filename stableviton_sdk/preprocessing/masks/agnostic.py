"""Agnostic mask: the part of a person to repaint, from a CIHP parse and BODY_25 joints."""

from __future__ import annotations

import warnings

import cv2
import numpy as np

from ...choices import CATEGORIES, Category
from ...errors import InvalidInput, NoPersonFound
from ...validation import check_choice, is_number
from ..joints import Body25
from ..labels import CIHP, UPPER_GARMENTS
from .skeleton import ARMS, HIPS, NECK, RULE_SIZE, SHOULDERS, Skeleton, SkeletonCanvas, complete_skeleton


def agnostic_mask(
    parsing: np.ndarray, keypoints: np.ndarray, *, category: Category = "upper", dilation: float = 0.0
) -> np.ndarray:
    """Region of the photo to repaint; for `"upper"` after HR-VITON's rule (the one StableVITON was trained with).

    The rule draws torso, neck, shoulders and arms around the joints, in widths that follow the shoulder distance, and
    gives back the face, the lower body and the hands. It is exact where neck, shoulders, hips and arms were detected
    and the person is not in profile. Otherwise missing neck, shoulders and hips are estimated from the other joints
    and the parse, an arm is drawn as far as its joints are known, and worn upper clothes outside the drawing are
    added with a small rim.

    `"lower"` and `"dress"` take the parsed clothes (and legs, or neck and arms), dilate them, fill holes, keep the
    largest region, and give back everything else that the parse labels.

    Args:
        parsing (`np.ndarray`): CIHP label map, uint8 in 0..19, (H, W).
        keypoints (`np.ndarray`):
            BODY_25 joints in pixels of `parsing`, float, (25, 3) as x, y, confidence; confidence 0 means missing.
        category (`str`, *optional*, defaults to `"upper"`): `"upper"`, `"lower"` or `"dress"`.
        dilation (`float`, *optional*, defaults to 0.0):
            Radius in shoulder distances (0 to 1; 0.1 is about the width of a collar) by which the mask is dilated, so
            that the worn garment's outline doesn't leak. What the rule gives back isn't covered.

    Returns:
        `np.ndarray`: bool, (H, W), True = repaint.

    Raises:
        `InvalidInput`: if an argument has another type, shape or range.
        `NoPersonFound`: if neither shoulder was detected and the parse shows no upper body, or for `"lower"` and
            `"dress"` if the parse shows no such clothes.
    """
    parsing, keypoints = _check(parsing, keypoints, category, dilation)
    skeleton = complete_skeleton(parsing, keypoints)
    if category == "upper":
        if skeleton is None:
            raise NoPersonFound(
                "the pose shows too little of a person's shoulders, and the parse no upper body to guess them from: "
                "use a photo that shows the upper body, or pass a mask of your own."
            )
        mask, kept = _upper(parsing, skeleton)
    else:
        warnings.warn(
            f'category="{category}": the released StableVITON weights were trained on upper bodies only, '
            "so expect worse images than with weights trained for it.",
            stacklevel=2,
        )
        mask, kept = _lower(parsing, keypoints) if category == "lower" else _dress(parsing, skeleton)
    if dilation:
        # without shoulders a quarter of the parse's height stands in: a person is about four shoulder distances high
        distance = skeleton.shoulder_distance / skeleton.scale if skeleton is not None else parsing.shape[0] / 4
        mask = _dilate(mask, dilation * distance)
    mask &= ~kept
    return mask


def _upper(parsing: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Mask of HR-VITON's rule, and the pixels that it gives back."""
    torso = SkeletonCanvas(skeleton)
    for hip in HIPS:
        torso.ellipse(hip, 3, 6)
    for shoulder, hip in zip(SHOULDERS, HIPS, strict=True):
        torso.line(shoulder, hip, 6)
    torso.line(*HIPS, 12)
    torso.polygon(*SHOULDERS, *reversed(HIPS))
    torso.neck()
    torso.line(*SHOULDERS, 12)
    for shoulder in SHOULDERS:
        torso.ellipse(shoulder, 5, 6)
    for arm in ARMS.values():
        torso.arm(arm, wrist=5)
    mask = torso.as_mask(parsing.shape)
    kept = _is_any(
        parsing,
        CIHP.GLASSES,
        CIHP.FACE,
        CIHP.TROUSERS,
        CIHP.SKIRT,
        CIHP.LEFT_LEG,
        CIHP.RIGHT_LEG,
        CIHP.LEFT_SHOE,
        CIHP.RIGHT_SHOE,
    )
    kept |= _hands(parsing, skeleton, torso)
    mask |= _missed_clothes(parsing, skeleton, mask)
    return mask, kept


def _is_any(parsing: np.ndarray, *labels: int) -> np.ndarray:
    """`np.isin` for labels through a table, in a tenth of the time."""
    table = np.zeros(256, bool)
    table[list(labels)] = True
    return table[parsing]


def _hands(parsing: np.ndarray, skeleton: Skeleton, canvas: SkeletonCanvas) -> np.ndarray:
    """Parsed arm pixels outside the arm's drawing, which ends at the wrist. Redraws `canvas`."""
    hands = np.zeros(parsing.shape, bool)
    for label, arm in ARMS.items():
        pixels = parsing == label
        rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
        if not rows.size:
            continue
        canvas.clear()
        if skeleton.seen[arm[0]]:
            canvas.ellipse(arm[0], 5, 6)
        canvas.arm(arm, wrist=4)
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        hands[box] |= pixels[box] & ~canvas.as_mask(parsing.shape, box)
    return hands


def _missed_clothes(parsing: np.ndarray, skeleton: Skeleton, mask: np.ndarray) -> np.ndarray:
    """Worn upper clothes outside the mask because of missing joints, with a rim of one unit."""
    cut = [not skeleton.seen[list(arm)].all() for arm in ARMS.values()]
    missed = np.zeros_like(mask)
    if skeleton.whole and not any(cut):
        return missed
    own = _own_parts(np.isin(parsing, UPPER_GARMENTS), mask, skeleton.shoulder_distance / skeleton.scale)
    y, x = np.nonzero(own & ~mask)
    points = (np.stack([x, y], axis=1) + 0.5) * skeleton.scale
    hips = skeleton.joints[list(HIPS)].mean(axis=0)
    # a dress is an upper garment down to the hips only
    wanted = (parsing[y, x] != CIHP.DRESS) | ((points - hips) @ skeleton.down <= 6 * skeleton.unit)
    if skeleton.whole:
        left = skeleton.joints[Body25.LEFT_SHOULDER] - skeleton.joints[Body25.RIGHT_SHOULDER]
        on_left = (points - skeleton.joints[NECK]) @ left > 0
        wanted &= np.where(on_left, cut[0], cut[1])
    missed[y[wanted], x[wanted]] = True
    return _dilate(missed, skeleton.unit / skeleton.scale)


def _own_parts(clothes: np.ndarray, mask: np.ndarray, reach: float) -> np.ndarray:
    """Parts of parsed clothes that this person wears, not a bystander.

    These are the parts that touch the person's mask, and small ones (the end of a sleeve behind an arm or a bag)
    within `reach` pixels of it.
    """
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(clothes.astype(np.uint8), connectivity=8)
    touched, near = np.zeros(len(statistics), bool), np.zeros(len(statistics), bool)
    touched[parts[mask]] = True
    near[parts[_dilate(mask, reach)]] = True
    touched[0] = near[0] = False  # what isn't clothes
    areas = statistics[:, cv2.CC_STAT_AREA]
    small = areas <= 0.15 * areas[touched].sum()
    return (touched | (near & small))[parts]


def _lower(parsing: np.ndarray, keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mask of a lower garment, and the pixels that are given back."""
    clothes = np.isin(parsing, (CIHP.TROUSERS, CIHP.SKIRT, CIHP.LEFT_LEG, CIHP.RIGHT_LEG, CIHP.SOCKS))
    dress = parsing == CIHP.DRESS
    kept = np.isin(
        parsing,
        (
            CIHP.HAT,
            CIHP.GLOVE,
            CIHP.GLASSES,
            CIHP.FACE,
            CIHP.UPPER_CLOTHES,
            CIHP.COAT,
            CIHP.TORSO_SKIN,
            CIHP.SCARF,
            CIHP.LEFT_ARM,
            CIHP.RIGHT_ARM,
            CIHP.LEFT_SHOE,
            CIHP.RIGHT_SHOE,
        ),
    )
    if dress.any():
        # a dress is a lower garment from the hips down; without hips, its lower half
        hips = keypoints[list(HIPS)]
        hips = hips[hips[:, 2] > 0]
        rows = np.flatnonzero(dress.any(axis=1))
        waist = hips[:, 1].mean() if len(hips) else rows.mean()
        skirt = dress & (np.arange(parsing.shape[0])[:, None] >= waist)
        clothes |= skirt
        kept |= dress & ~skirt
    if not clothes.any():
        raise NoPersonFound(
            'the parse shows no trousers, skirt or legs, so there is nothing to repaint for category="lower": '
            "use a photo that shows the lower body, or pass a mask of your own."
        )
    return _grown_region(clothes, parsing.shape), kept


def _dress(parsing: np.ndarray, skeleton: Skeleton | None) -> tuple[np.ndarray, np.ndarray]:
    """Mask of a dress, and the pixels that are given back."""
    region = np.isin(parsing, (CIHP.UPPER_CLOTHES, CIHP.DRESS, CIHP.COAT, CIHP.TROUSERS, CIHP.SKIRT))
    if not region.any():
        raise NoPersonFound(
            'the parse shows no clothes, so there is nothing to repaint for category="dress": '
            "use a photo of a dressed person, or pass a mask of your own."
        )
    region |= parsing == CIHP.TORSO_SKIN
    kept = np.isin(parsing, (CIHP.HAT, CIHP.GLOVE, CIHP.GLASSES, CIHP.FACE, CIHP.LEFT_SHOE, CIHP.RIGHT_SHOE))
    if skeleton is None:
        kept |= np.isin(parsing, (CIHP.LEFT_ARM, CIHP.RIGHT_ARM))
        return _grown_region(region, parsing.shape), kept
    arms = SkeletonCanvas(skeleton)
    arms.neck()
    # 45 to 60 pixels at 512 rows; within that, as wide as the upper-body rule
    narrow, wide = (pixels * RULE_SIZE[1] / 512 for pixels in (45, 60))
    width = min(max(10 * skeleton.unit, narrow), wide) / skeleton.unit
    for arm in ARMS.values():
        arms.ellipse(arm[0], width / 2, width / 2)
        arms.arm(arm, wrist=width / 2, width=width)
    drawn = arms.as_mask(parsing.shape)
    # hands and whatever else of the arms the lines don't cover
    kept |= np.isin(parsing, (CIHP.LEFT_ARM, CIHP.RIGHT_ARM)) & ~drawn
    return _grown_region(region, parsing.shape, drawn), kept


def _grown_region(clothes: np.ndarray, shape: tuple[int, int], drawn: np.ndarray | None = None) -> np.ndarray:
    """Clothes dilated by ten pixels at 512 rows (five times 5 x 5) and what is drawn: the largest region, filled."""
    reach = round(10 * max(shape[0] / 512, shape[1] / 384))
    kernel = np.ones((2 * reach + 1, 1), np.uint8)
    region = cv2.dilate(cv2.dilate(clothes.astype(np.uint8), kernel), kernel.T)
    if drawn is not None:
        region |= drawn
    outlines, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(region)
    cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
    _, regions, statistics, _ = cv2.connectedComponentsWithStats(filled, connectivity=8)
    return regions == 1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))


def _dilate(mask: np.ndarray, radius: float) -> np.ndarray:
    """Mask dilated by a disc of this radius in pixels."""
    if radius <= 0 or not mask.any():
        return mask
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= radius


def _check(
    parsing: np.ndarray, keypoints: np.ndarray, category: str, dilation: float
) -> tuple[np.ndarray, np.ndarray]:
    """Parse as uint8 and joints as float64, validated."""
    check_choice("category", category, CATEGORIES)
    if not is_number(dilation, 0, 1):
        raise InvalidInput(f"dilation is {dilation!r}: pass a share of the shoulder distance, from 0 to 1.")
    parsing, keypoints = np.asarray(parsing), np.asarray(keypoints)
    if parsing.ndim != 2 or 0 in parsing.shape or not np.issubdtype(parsing.dtype, np.integer):
        raise InvalidInput(
            f"parsing is an array of shape {parsing.shape} and {parsing.dtype}: pass CIHP labels, uint8, (H, W)."
        )
    if parsing.min() < 0 or parsing.max() > CIHP.RIGHT_SHOE:
        raise InvalidInput(
            f"parsing has values from {parsing.min()} to {parsing.max()}: pass CIHP labels 0..19 (a palette PNG's "
            "indices, not its colours)."
        )
    if keypoints.shape != (25, 3) or not np.issubdtype(keypoints.dtype, np.number):
        raise InvalidInput(f"keypoints have shape {keypoints.shape}: pass BODY_25 joints (25, 3) as x, y, confidence.")
    keypoints = keypoints.astype(np.float64)
    seen = keypoints[np.nan_to_num(keypoints[:, 2]) > 0, :2]
    height, width = parsing.shape
    if (
        not np.isfinite(keypoints).all()
        or (np.abs(seen - (width / 2, height / 2)) > (1.5 * width, 1.5 * height)).any()
    ):
        raise InvalidInput(
            f"keypoints are not finite or lie far outside the {width} x {height} parsing: pass pixels of the parsing."
        )
    if len(seen) > 1 and seen.max() <= 1.0 and min(width, height) > 8:
        raise InvalidInput(
            f"keypoints are all within 0..1: multiply them by the parsing's width and height ({width} x {height})."
        )
    return parsing.astype(np.uint8, copy=False), keypoints
