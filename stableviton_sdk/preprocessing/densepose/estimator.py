"""DensePose labels of a person in a photo."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from PIL import Image

from ...errors import InvalidInput, NoPersonFound
from ..boxes import check_box, match_box
from ..resampling import check_image
from .network import DensePoseNetwork
from .render import render_labels

SHORT_SIDE = 800
LONG_SIDE = 1333


class DensePoseEstimator:
    """Finds people in a photo and labels the body surface of one of them.

    Args:
        network (`DensePoseNetwork`): The network, on any device, in any precision.
        score_threshold (`float`, *optional*, defaults to 0.8): Least score of a person found, in [0, 1).
    """

    def __init__(self, network: DensePoseNetwork, *, score_threshold: float = 0.8):
        if not 0 <= score_threshold < 1:
            raise InvalidInput(f"score_threshold is {score_threshold}: pass a number from 0 up to, not including, 1.")
        self.network = network
        self.score_threshold = score_threshold

    def analyse(self, image: Image.Image) -> DensePoseAnalysis:
        """Boxes of the people in a photo, with labels of any of them on demand; the search for people runs once.

        Args:
            image (`PIL.Image.Image`): RGB, of any size.

        Raises:
            `InvalidInput`: if the image isn't a PIL image of mode RGB.
        """
        check_image(image)
        size = network_size(image.size)
        resized = image.resize(size, Image.Resampling.BILINEAR)
        # (H, W, RGB) -> (BGR, H, W)
        pixels = np.ascontiguousarray(np.asarray(resized)[..., ::-1].transpose(2, 0, 1))
        features = self.network.extract_features(torch.from_numpy(pixels).to(self.network.device).float())
        boxes, scores = self.network.detect(features, (size[1], size[0]))
        return DensePoseAnalysis(self.network, features, image.size, size, boxes, scores, self.score_threshold)

    def find_people(self, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        """People in a photo, best first.

        Args:
            image (`PIL.Image.Image`): RGB, of any size.

        Returns:
            `tuple[np.ndarray, np.ndarray]`:
                boxes, float32, (N, 4), left, top, right, bottom in pixels of the photo, and scores in [0, 1], (N,).
        """
        analysis = self.analyse(image)
        return analysis.boxes, analysis.scores

    def __call__(self, image: Image.Image, person_box: Sequence[float] | None = None) -> np.ndarray:
        """DensePose labels of one person: the best one, or the one in `person_box`.

        Args:
            image (`PIL.Image.Image`): RGB, of any size.
            person_box (`tuple[float, float, float, float]`, *optional*):
                Left, top, right, bottom in pixels of the photo. Chooses the person found there; if nobody is, the
                surface is read in this box itself.

        Returns:
            `np.ndarray`: uint8 in [0, 24], (H, W), 0 = background.

        Raises:
            `NoPersonFound`: if nobody is found and `person_box` is None.
            `InvalidInput`: if the image isn't a PIL image of mode RGB, or the box covers nothing of it.
        """
        return self.analyse(image).labels(person_box)


class DensePoseAnalysis:
    """People found in one photo. Reading the labels of one of them runs the network's last part only.

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
        self.best_score: float = float(scores[0]) if len(scores) else 0.0
        found = scores >= score_threshold
        self._network = network
        self._features = features
        self._scale = np.array((size[0] / resized[0], size[1] / resized[1]) * 2)
        self._network_boxes = boxes[found]
        limit = np.array(size * 2, dtype=np.float32)
        self.boxes: np.ndarray = (self._network_boxes.cpu().numpy() * self._scale).astype(np.float32).clip(0, limit)
        self.scores: np.ndarray = scores[found].cpu().numpy()

    def labels(self, person_box: Sequence[float] | None = None) -> np.ndarray:
        """DensePose labels of one person: the best one, or the one in `person_box`.

        Args:
            person_box (`tuple[float, float, float, float]`, *optional*):
                Left, top, right, bottom in pixels of the photo. Chooses the person found there; if nobody is, the
                surface is read in this box itself.

        Returns:
            `np.ndarray`: uint8 in [0, 24], (H, W), 0 = background.

        Raises:
            `NoPersonFound`: if nobody was found and `person_box` is None.
            `InvalidInput`: if the box covers nothing of the photo.
        """
        network_box, box = self._choose(person_box)
        coarse_segm, fine_segm, _, _ = self._network.read_surface(self._decoded, network_box)
        return render_labels(coarse_segm[0], fine_segm[0], box, self.size)

    @cached_property
    def _decoded(self) -> torch.Tensor:
        decoded = self._network.decode(self._features)
        self._features = []  # free the feature pyramid
        return decoded

    def _choose(self, person_box: Sequence[float] | None) -> tuple[torch.Tensor, np.ndarray]:
        """Box of the person in pixels of the network's image, (1, 4), and in pixels of the photo, (4,)."""
        if person_box is None:
            if not len(self.boxes):
                raise NoPersonFound(
                    f"nobody was found in the photo (best score {self.best_score:.2f}, needed "
                    f"{self.score_threshold:.2f}): pass a photo that shows more of the person, or a `person_box`."
                )
            return self._network_boxes[:1], self.boxes[0]
        wanted = check_box(person_box, self.size)
        index = match_box(self.boxes, wanted)
        if index is not None:
            return self._network_boxes[index : index + 1], self.boxes[index]
        network_box = torch.from_numpy((wanted / self._scale).astype(np.float32)[None])
        return network_box.to(self._network.device), wanted


def network_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the network's image: the short side 800 pixels, the long one at most 1333."""
    scale = SHORT_SIDE / min(size)
    width, height = (SHORT_SIDE if side == min(size) else side * scale for side in size)
    if max(width, height) > LONG_SIDE:
        shrink = LONG_SIDE / max(width, height)
        width, height = width * shrink, height * shrink
    return max(int(width + 0.5), 1), max(int(height + 0.5), 1)
