"""Networks of LPIPS, FID and KID, and where their weights come from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..choices import FEATURE_LIBRARIES, FeatureLibrary
from ..errors import WeightsUnavailable, clipped
from ..files import file_sha256
from ..validation import check_choice
from .metrics import as_floats, check_images, require

NOT_REQUESTED = "nothing is downloaded without consent"


@dataclass(frozen=True)
class WeightsFile:
    """A metric's weights file: its origin and its place on this machine.

    Args:
        name (`str`): Name of the file.
        url (`str`): Address at its publisher.
        size (`int`): Size in bytes, roughly.
        licence (`str`): Licence, as far as it is known.
        sha256 (`str`): First digits of the file's sha256; empty if its publisher states none.
    """

    name: str
    url: str
    size: int
    licence: str
    sha256: str = ""

    @property
    def path(self) -> Path:
        """Beside what torchvision downloads itself: `torch.hub`'s folder of checkpoints."""
        import torch

        return Path(torch.hub.get_dir()) / "checkpoints" / self.name


ALEXNET = WeightsFile(
    "alexnet-owt-7be5be79.pth",
    "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    244_408_911,
    "torchvision, BSD-3-Clause; trained on ImageNet",
    "7be5be79",
)
INCEPTION = {
    "clean-fid": WeightsFile(
        "inception-2015-12-05.pt",
        "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
        95_600_000,
        "Inception as NVIDIA publishes it for StyleGAN2-ADA; see there",
    ),
    "torchmetrics": WeightsFile(
        "weights-inception-2015-12-05-6726825d.pth",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        95_628_359,
        "torch-fidelity, Apache-2.0",
        "6726825d",
    ),
}


@dataclass(frozen=True)
class MetricNetworks:
    """Networks that are there to measure with.

    Args:
        distance (`PerceptualDistance`, *optional*): Network of LPIPS.
        features (`FeatureExtractor`, *optional*): Network of FID and KID.
        reasons (`dict[str, str]`): Reason why a metric can't be measured, by its name.
        weights (`dict[str, str]`): sha256 of the weights, by network.
    """

    distance: PerceptualDistance | None = None
    features: FeatureExtractor | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)


class PerceptualDistance:
    """LPIPS (Zhang et al. 2018) by torchmetrics.

    Args:
        metric (`torch.nn.Module`): A `torchmetrics.image.LearnedPerceptualImagePatchSimilarity` with `normalize=True`.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): Device to compute on.
    """

    def __init__(self, metric: Any, device: Any = "cpu"):
        self.metric: Any = metric.to(device)
        self.device = device

    def __call__(self, result: np.ndarray, truth: np.ndarray) -> float:
        """Distance of two images, uint8 RGB, (H, W, 3)."""
        check_images(result, truth)
        import torch

        images = (as_floats(image).transpose(2, 0, 1)[None].copy() for image in (result, truth))
        with torch.no_grad():
            value = self.metric(*(torch.from_numpy(image).to(self.device) for image in images))
        self.metric.reset()  # it would keep every score
        return float(value)


class FeatureExtractor:
    """An image's feature vector, from an image prepared as the library prepares it.

    Args:
        network (`Callable`):
            Takes float (1, 3, 299, 299) in [0, 255] for clean-fid (its `custom_feat_extractor`), uint8 (1, 3, H, W)
            for torchmetrics; returns (1, D).
        library (`str`, *optional*, defaults to `"clean-fid"`): `"clean-fid"` or `"torchmetrics"`.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): Device of the network.
    """

    def __init__(self, network: Callable[[Any], Any], library: FeatureLibrary = "clean-fid", device: Any = "cpu"):
        self.network = network
        self.library = library
        self.device = device
        self._resize = require("cleanfid.resize").build_resizer("clean") if library == "clean-fid" else None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Features, float32, (D,), of uint8 RGB, (H, W, 3)."""
        check_images(image, image)
        import torch

        prepared = image if self._resize is None else self._resize(image)
        batch = torch.from_numpy(prepared.transpose(2, 0, 1)[None].copy()).to(self.device)
        with torch.no_grad():
            return self.network(batch)[0].float().cpu().numpy()


def weights_needed(metrics: Collection[str], library: FeatureLibrary = "clean-fid") -> dict[str, WeightsFile]:
    """The files behind some metrics, by network, whether they are there or not."""
    needed = {}
    if "lpips" in metrics:
        needed["alexnet"] = ALEXNET
    if "fid" in metrics or "kid_x1000" in metrics:
        check_choice("feature_library", library, FEATURE_LIBRARIES)
        needed["inception"] = INCEPTION[library]
    return needed


def fetch_weights(file: WeightsFile, *, progress: bool = True) -> None:
    """Download a metric's weights; the file appears when it is complete.

    Raises:
        `WeightsUnavailable`: if they can't be had.
    """
    import torch

    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(file.url, str(file.path), hash_prefix=file.sha256 or None, progress=progress)
    except (OSError, RuntimeError) as error:  # torch.hub raises RuntimeError for a wrong hash
        raise WeightsUnavailable(f"{file.name} could not be downloaded ({error}).") from error


def load_networks(
    metrics: Collection[str],
    library: FeatureLibrary = "clean-fid",
    device: Any = "cpu",
    *,
    refusals: Mapping[str, str] | None = None,
) -> MetricNetworks:
    """Networks of some metrics, loaded from this machine; nothing is downloaded.

    Args:
        metrics (`Collection[str]`): Names of the metrics to measure.
        library (`str`, *optional*, defaults to `"clean-fid"`): Library of FID and KID, or `"torchmetrics"`.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): Device to compute on.
        refusals (`dict[str, str]`, *optional*): Reason why missing weights weren't downloaded, by network.

    Returns:
        `MetricNetworks`: with a reason for each metric that can't be measured.

    Raises:
        `MissingDependency`: without the extra `[eval]`.
    """
    makers = {"alexnet": _load_distance, "inception": _load_features}
    users = {"alexnet": ("lpips",), "inception": ("fid", "kid_x1000")}
    loaded, reasons, weights = {}, {}, {}
    for network, file in weights_needed(metrics, library).items():
        try:
            weights[network] = _check(file, (refusals or {}).get(network, NOT_REQUESTED))
            loaded[network] = makers[network](file, library, device)
        except (WeightsUnavailable, OSError, RuntimeError) as error:
            weights.pop(network, None)
            reasons |= {metric: clipped(str(error)) for metric in users[network] if metric in metrics}
    return MetricNetworks(loaded.get("alexnet"), loaded.get("inception"), reasons, weights)


def _check(file: WeightsFile, reason: str) -> str:
    if not file.path.is_file():
        raise WeightsUnavailable(
            f"its weights aren't on this machine, and {reason}; put {file.url} at {file.path} to measure it."
        )
    digest = file_sha256(file.path)
    if not digest.startswith(file.sha256):
        raise WeightsUnavailable(f"{file.path} is damaged (its sha256 begins with {digest[:8]}): delete it.")
    return digest


def _load_distance(file: WeightsFile, library: FeatureLibrary, device: Any) -> PerceptualDistance:
    lpips = require("torchmetrics.image").LearnedPerceptualImagePatchSimilarity
    # torchvision reads AlexNet from where the file has just been seen; the linear layers come with torchmetrics
    return PerceptualDistance(lpips(net_type="alex", normalize=True), device)


def _load_features(file: WeightsFile, library: FeatureLibrary, device: Any) -> FeatureExtractor:
    if library == "clean-fid":
        inception = require("cleanfid.inception_torchscript").InceptionV3W
        network = inception(str(file.path.parent), download=False, resize_inside=False).to(device)
    else:
        fid = require("torchmetrics.image").FrechetInceptionDistance
        network = fid(feature=2048, feature_extractor_weights_path=str(file.path)).inception.to(device)
    return FeatureExtractor(network.eval(), library, device)
