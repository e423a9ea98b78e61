"""Results against the truth with a smooth shift forgiven, as an eye forgives it."""

from __future__ import annotations

import cv2
import numpy as np

BLUR = 5  # pixels of the Gaussian window that the registration looks through
MOST_STEPS, LEAST_GAIN = 60, 1e-5


def register(result: np.ndarray, truth: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The result after the affine map under which it correlates best with the truth (ECC, Evangelidis 2008).

    Args:
        result (`np.ndarray`), truth (`np.ndarray`): uint8 RGB, (H, W, 3).
        region (`np.ndarray`): bool, (H, W): where it counts.

    Returns:
        `np.ndarray`: uint8 RGB, (H, W, 3): the result as it is where no map is found, as on plain fabric.
    """
    first, second = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (truth, result))
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, MOST_STEPS, LEAST_GAIN)
    start, mask = np.eye(2, 3, dtype=np.float32), region.astype(np.uint8) * 255
    try:
        _, warp = cv2.findTransformECC(first, second, start, cv2.MOTION_AFFINE, criteria, mask, BLUR)
    except cv2.error:  # it did not converge
        return result
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(result, warp, result.shape[1::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
