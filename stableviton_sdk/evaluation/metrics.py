"""Metrics as pure functions of images (uint8 RGB) and of feature vectors.

- `ssim`: by torchmetrics; Gaussian window of 11 x 11, sigma 1.5, reflected edges, data range 1.0.
- `psnr`: over all pixels and channels, in dB.
- `ssim_region`, `psnr_region`: the same where the mask says repaint; see `SimilarityMap.over` and `psnr`.
- `lpips`: by torchmetrics, with AlexNet; its network is `metric_networks.PerceptualDistance`.
- `fid`, `kid_x1000`: of all results and the photos of all persons, by clean-fid or torchmetrics; see
  `frechet_distance` and `kernel_distance`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..choices import FeatureLibrary
from ..errors import InvalidInput, MissingDependency

HIGHER_IS_BETTER = {"ssim": True, "psnr": True, "ssim_region": True, "psnr_region": True}
HIGHER_IS_BETTER |= {"lpips": False, "fid": False, "kid_x1000": False}
PSNR_CAP = 100.0  # dB; what a report states for identical images, whose PSNR is infinite
DATA_RANGE = 1.0


@dataclass(frozen=True, eq=False)
class SimilarityMap:
    """Structural similarity of two images at every pixel.

    Args:
        values (`np.ndarray`): float32, (H, W, 3), each channel's index of the window around the pixel.
        mean (`float`): The SSIM of the images, as torchmetrics reduces it.
    """

    values: np.ndarray
    mean: float

    def over(self, mask: np.ndarray) -> float:
        """SSIM of a region: the mean over its pixels and the three channels, of windows that are centred in it.

        The windows of pixels near the region's edge reach up to 5 pixels outside of it.

        Args:
            mask (`np.ndarray`): bool, (H, W), True = in the region.

        Raises:
            `InvalidInput`: if the mask has another size, or is empty.
        """
        return float(self.values[check_region(mask, self.values)].mean(dtype=np.float64))


def similarity_map(result: np.ndarray, truth: np.ndarray) -> SimilarityMap:
    """SSIM (Wang et al. 2004) by torchmetrics, in float32 on the CPU, data range 1.0.

    Args:
        result (`np.ndarray`), truth (`np.ndarray`): uint8 RGB, (H, W, 3), at least 6 pixels a side.

    Raises:
        `InvalidInput`: if they aren't of one size.
        `MissingDependency`: without torchmetrics.
    """
    check_images(result, truth)
    import torch

    ssim = require("torchmetrics.functional.image").structural_similarity_index_measure
    first, second = (torch.from_numpy(as_floats(image).transpose(2, 0, 1)[None].copy()) for image in (result, truth))
    with torch.no_grad():
        mean, values = ssim(first, second, data_range=DATA_RANGE, return_full_image=True)
    return SimilarityMap(values[0].permute(1, 2, 0).numpy(), float(mean))


def psnr(result: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB: -10 log10 of the mean squared error of values in [0, 1].

    Args:
        result (`np.ndarray`), truth (`np.ndarray`): uint8 RGB, (H, W, 3).
        mask (`np.ndarray`, *optional*): bool, (H, W): only the pixels that are True count, each with its 3 channels.

    Returns:
        `float`: infinite if nothing differs.

    Raises:
        `InvalidInput`: if sizes differ, or the mask is empty.
    """
    check_images(result, truth)
    difference = result.astype(np.int32) - truth
    if mask is not None:
        difference = difference[check_region(mask, result)]
    # whole numbers up to here, so the sum is exact whatever the order
    error = int((difference * difference).sum(dtype=np.int64)) / (difference.size * 255.0**2)
    return math.inf if error == 0 else -10 * math.log10(error)


def frechet_distance(features: np.ndarray, reference: np.ndarray, library: FeatureLibrary = "clean-fid") -> float:
    """Frechet distance of the Gaussians fitted to two sets of features (FID), by the library's own code.

    Args:
        features (`np.ndarray`), reference (`np.ndarray`): float, (N, D) and (M, D), at least two rows each.
        library (`str`, *optional*, defaults to `"clean-fid"`): `"clean-fid"` or `"torchmetrics"`.

    Raises:
        `InvalidInput`: for fewer than two rows, or features that the library can't take a square root of.
    """
    _check_features(features, reference)
    if library == "clean-fid":
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # clean-fid's own use of what SciPy is about to drop
            fid = require("cleanfid.fid")
            try:
                distance = float(fid.fid_from_feats(features, reference))
            except ValueError as error:
                raise InvalidInput(f"clean-fid found no real square root of the covariances ({error}).") from error
    else:
        import torch

        metric = require("torchmetrics.image").FrechetInceptionDistance(feature=_Identity.of_width(features.shape[1]))
        metric.update(torch.from_numpy(reference), real=True)
        metric.update(torch.from_numpy(features), real=False)
        distance = float(metric.compute())
    if not math.isfinite(distance):
        raise InvalidInput("the Frechet distance of these features isn't finite: too few images.")
    return distance


def kernel_distance(
    features: np.ndarray,
    reference: np.ndarray,
    *,
    subsets: int = 100,
    max_subset_size: int = 1000,
    seed: int = 0,
) -> float:
    """Kernel distance (KID): the unbiased MMD^2 of the kernel (x y / D + 1)^3, averaged over random subsets.

    Equal to clean-fid's `kernel_distance` after `numpy.random.seed(seed)`, without touching numpy's global generator.

    Args:
        features (`np.ndarray`), reference (`np.ndarray`): float, (N, D) and (M, D), at least two rows each.
        subsets (`int`, *optional*, defaults to 100): Number of pairs of subsets.
        max_subset_size (`int`, *optional*, defaults to 1000): Rows of a subset; fewer where there are fewer.
        seed (`int`, *optional*, defaults to 0): Seed of the subsets.

    Raises:
        `InvalidInput`: for fewer than two rows.
    """
    _check_features(features, reference)
    draw = np.random.RandomState(seed)  # the generator behind numpy's global one: the same draws as clean-fid's
    width = features.shape[1]
    size = min(len(features), len(reference), max_subset_size)
    total = 0.0
    for _ in range(subsets):
        x = reference[draw.choice(len(reference), size, replace=False)]
        y = features[draw.choice(len(features), size, replace=False)]
        within = (x @ x.T / width + 1) ** 3 + (y @ y.T / width + 1) ** 3
        across = (x @ y.T / width + 1) ** 3
        total += (within.sum() - np.diag(within).sum()) / (size - 1) - across.sum() * 2 / size
    return float(total / subsets / size)


def as_floats(image: np.ndarray) -> np.ndarray:
    """uint8 in [0, 255] to float32 in [0, 1]."""
    return image.astype(np.float32) / np.float32(255)


def check_images(result: np.ndarray, truth: np.ndarray) -> None:
    """Check a result and its truth.

    Raises:
        `InvalidInput`: if they aren't uint8 RGB images of one size.
    """
    for name, image in (("result", result), ("truth", truth)):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,):
            kind = getattr(image, "dtype", type(image).__name__)
            raise InvalidInput(f"{name} is {kind} of shape {np.shape(image)}: pass uint8 RGB, (H, W, 3).")
    if result.shape != truth.shape:
        sizes = " and ".join(f"{image.shape[1]} x {image.shape[0]}" for image in (result, truth))
        raise InvalidInput(f"result and truth are {sizes}: bring them to one size first.")


def check_region(mask: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The mask, checked against an image.

    Raises:
        `InvalidInput`: if the mask isn't bool of the image's size, or is empty.
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != image.shape[:2]:
        kind = getattr(mask, "dtype", type(mask).__name__)
        raise InvalidInput(f"the mask is {kind} of shape {np.shape(mask)}: pass bool of shape {image.shape[:2]}.")
    if not mask.any():
        raise InvalidInput("the mask is empty: there is no region to measure.")
    return mask


def require(module: str) -> Any:
    """A module of the extra `[eval]`, imported.

    Raises:
        `MissingDependency`: naming the extra.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependency(
            f"evaluation needs {module.split('.')[0]} ({error}): pip install 'stableviton-sdk[eval]'."
        ) from error


def _check_features(features: np.ndarray, reference: np.ndarray) -> None:
    for rows in (features, reference):
        if np.ndim(rows) != 2 or np.shape(rows)[1:] != np.shape(features)[1:]:
            raise InvalidInput(f"features have shapes {np.shape(features)} and {np.shape(reference)}: pass (N, D).")
        if len(rows) < 2:
            raise InvalidInput("a distance of sets needs at least two images on either side.")


class _Identity:
    @staticmethod
    def of_width(width: int):
        """In place of torchmetrics' network: features that are there already."""
        import torch

        network = torch.nn.Identity()
        network.num_features = width
        return network
