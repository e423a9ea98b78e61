"""A photo in, its DensePose labels out: the one place that knows both images and the network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from ...errors import InvalidInput, NoPersonFound
from ...images import ImageLike, load_image
from ..boxes import check_box, find_at
from .network import DensePoseNetwork
from .render import render_labels, render_uv

SHORT_SIDE = 800
LONG_SIDE = 1333


class DensePoseMaps(NamedTuple):
    """Body surface of one person.

    Args:
        labels (`np.ndarray`): uint8 in [0, 24], (H, W), 0 = background.
        u (`np.ndarray`): float32 in [0, 1], (H, W), first coordinate within the part that the label names.
        v (`np.ndarray`): float32 in [0, 1], (H, W), second coordinate.
    """

    labels: np.ndarray
    u: np.ndarray
    v: np.ndarray


class DensePoseEstimator:
    """Finds people in a photo and labels the surface of one of them.

    Args:
        network (`DensePoseNetwork`): On any device, in any precision.
        score_threshold (`float`, *optional*, defaults to 0.8): Least score at which somebody counts as found.
    """

    def __init__(self, network: DensePoseNetwork, *, score_threshold: float = 0.8):
        if not 0 <= score_threshold < 1:
            raise InvalidInput(f"score_threshold is {score_threshold}: pass a number from 0 up to, not including, 1.")
        self.network = network
        self.score_threshold = score_threshold

    def analyse(self, photo: ImageLike) -> DensePoseAnalysis:
        """Run the network's search for people once; the result gives boxes, and labels of whom you choose.

        Args:
            photo (`PIL.Image.Image`, or anything image-like): The photo; it is turned upright by its EXIF data.
        """
        photo = load_image(photo, name="image")
        size = network_size(photo.size)
        resized = photo.resize(size, Image.Resampling.BILINEAR)
        # (H, W, RGB) -> (BGR, H, W)
        pixels = np.ascontiguousarray(np.asarray(resized)[..., ::-1].transpose(2, 0, 1))
        image = torch.from_numpy(pixels).to(self.network.device).float()
        features = self.network.extract_features(image)
        boxes, scores = self.network.detect(features, (size[1], size[0]))
        return DensePoseAnalysis(self.network, features, photo.size, size, boxes, scores, self.score_threshold)

    def find_people(self, image: ImageLike) -> tuple[np.ndarray, np.ndarray]:
        """People in a photo, best first; none where nobody is found.

        Returns:
            `tuple[np.ndarray, np.ndarray]`:
                boxes, float32, (N, 4), left, top, right, bottom in pixels of the photo, and scores in [0, 1], (N,).
        """
        analysis = self.analyse(image)
        return analysis.boxes, analysis.scores

    def __call__(self, image: ImageLike, person_box: Sequence[float] | None = None) -> np.ndarray:
        """DensePose labels of one person: the best one, or the one in `person_box`.

        Args:
            image (`PIL.Image.Image`, or anything image-like): The photo.
            person_box (`tuple[float, float, float, float]`, *optional*):
                Left, top, right, bottom in pixels of the photo. Chooses the person found there; if nobody was, the
                surface is read in this box itself.

        Returns:
            `np.ndarray`: uint8 in [0, 24], (H, W), 0 = background.

        Raises:
            `NoPersonFound`: if nobody is found and no box was given.
            `InvalidInput`: if the box is empty or lies outside of the photo.
        """
        return self.analyse(image).labels(person_box)


class DensePoseAnalysis:
    """What one run over one photo found. Reading a person's surface adds only the head's work.

    Args:
        boxes (`np.ndarray`): float32, (N, 4), people best first: left, top, right, bottom in pixels of the photo.
        scores (`np.ndarray`): float32 in [0, 1], (N,).
        size (`tuple[int, int]`): Width and height of the photo.
    """

    def __init__(
        self,
        network: DensePoseNetwork,
        features: list[torch.Tensor],
        size: tuple[int, int],
        resized: tuple[int, int],
        boxes: torch.Tensor,
        scores: torch.Tensor,
        score_threshold: float,
    ):
        self.size = size
        self.score_threshold = score_threshold
        self.best_score = float(scores[0]) if len(scores) else 0.0
        found = scores >= score_threshold
        self._network = network
        self._features = features
        self._scale = np.array((size[0] / resized[0], size[1] / resized[1]) * 2)
        self._network_boxes = boxes[found]
        limit = np.array(size * 2, dtype=np.float32)
        self.boxes = (self._network_boxes.cpu().numpy() * self._scale).astype(np.float32).clip(0, limit)
        self.scores = scores[found].cpu().numpy()

    def labels(self, person_box: Sequence[float] | None = None) -> np.ndarray:
        """DensePose labels of one person, as from `DensePoseEstimator`."""
        network_box, box = self._choose(person_box)
        coarse_segm, fine_segm, _, _ = self._network.read_surface(self._decoded, network_box)
        return render_labels(coarse_segm[0], fine_segm[0], box, self.size)

    def maps(self, person_box: Sequence[float] | None = None) -> DensePoseMaps:
        """Labels and surface coordinates of one person."""
        network_box, box = self._choose(person_box)
        coarse_segm, fine_segm, u, v = self._network.read_surface(self._decoded, network_box)
        labels = render_labels(coarse_segm[0], fine_segm[0], box, self.size)
        return DensePoseMaps(labels, *render_uv(u[0], v[0], labels, box))

    @cached_property
    def _decoded(self) -> torch.Tensor:
        decoded = self._network.decode(self._features)
        self._features = []  # the pyramid has served
        return decoded

    def _choose(self, person_box: Sequence[float] | None) -> tuple[torch.Tensor, np.ndarray]:
        """The person's box twice: (1, 4) for the network, (4,) in the photo."""
        if person_box is None:
            if not len(self.boxes):
                raise NoPersonFound(
                    f"nobody was found in the photo (best score {self.best_score:.2f}, needed "
                    f"{self.score_threshold:.2f}): pass a photo that shows more of the person, or a `person_box`."
                )
            return self._network_boxes[:1], self.boxes[0]
        wanted = check_box(person_box, self.size)
        index = find_at(self.boxes, wanted)
        if index is not None:
            return self._network_boxes[index : index + 1], self.boxes[index]
        network_box = torch.from_numpy((wanted / self._scale).astype(np.float32)[None])
        return network_box.to(self._network.device), wanted


def network_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height at which the network sees an image: short side 800, unless the long one would exceed 1333."""
    scale = SHORT_SIDE / min(size)
    width, height = (SHORT_SIDE if side == min(size) else side * scale for side in size)
    if max(width, height) > LONG_SIDE:
        shrink = LONG_SIDE / max(width, height)
        width, height = width * shrink, height * shrink
    return max(int(width + 0.5), 1), max(int(height + 0.5), 1)
