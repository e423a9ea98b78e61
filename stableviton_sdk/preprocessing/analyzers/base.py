"""What is known about a body in an image, and the one protocol that whoever finds it out follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from ...errors import InvalidInput, NoPersonFound
from ..labels import CIHP

OFF_CENTRE = 0.6  # how much of its weight a person at the photo's corner loses against one in the middle


@dataclass(frozen=True, eq=False)
class BodyAnalysis:
    """What was found in one image, (H, W), about the person who was asked for.

    Args:
        parsing (`np.ndarray`): CIHP label map, uint8 in 0..19, (H, W).
        keypoints (`np.ndarray`):
            BODY_25 joints, float32, (25, 3) as x, y in pixels of the image, and confidence; confidence 0 = missing.
        densepose (`np.ndarray`): DensePose labels, uint8 in 0..24, (H, W), 0 = background.
        boxes (`np.ndarray`):
            All people seen, best first, float32, (N, 4) as left, top, right, bottom in pixels of the image.
        scores (`np.ndarray`): How sure it is of each of them, float32 in [0, 1], (N,).
    """

    parsing: np.ndarray
    keypoints: np.ndarray
    densepose: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray

    def __post_init__(self):
        for name, top in (("parsing", len(CIHP) - 1), ("densepose", 24)):
            labels = getattr(self, name)
            if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype != np.uint8:
                raise InvalidInput(f"a body analysis needs {name} labels as a uint8 array (H, W), not {_say(labels)}.")
            if labels.size and labels.max() > top:
                raise InvalidInput(f"a body analysis has {name} label {labels.max()}: labels go from 0 to {top}.")
        if self.parsing.shape != self.densepose.shape:
            raise InvalidInput(
                f"a body analysis has a parsing of {self.parsing.shape} and a densepose of {self.densepose.shape}: "
                "both must have the image's shape."
            )
        count = len(self.scores) if np.ndim(self.scores) == 1 else 0
        for name, shape in (("keypoints", (25, 3)), ("boxes", (count, 4)), ("scores", (count,))):
            if np.shape(getattr(self, name)) != shape:
                raise InvalidInput(f"a body analysis needs {name} of shape {shape}, not {_say(getattr(self, name))}.")


@runtime_checkable
class BodyAnalyzer(Protocol):
    """Whoever analyses bodies. Images are PIL, mode RGB, upright; calls may come from several threads.

    An analyzer may also have `parse(image) -> np.ndarray`, the CIHP label map alone, where that is cheaper than a
    whole analysis: garments are cut out of photos with it.
    """

    def find_people(self, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        """People in a photo, best first, or none.

        Returns:
            `tuple[np.ndarray, np.ndarray]`: boxes (N, 4) in pixels of the image, and scores in [0, 1], (N,).
        """
        ...

    def __call__(
        self, image: Image.Image, *, person_box: tuple[float, float, float, float] | None = None
    ) -> BodyAnalysis:
        """Analyse one person: the one at `person_box` (in pixels of the image), or the best one.

        Raises:
            `NoPersonFound`: if there is nobody.
        """
        ...


def choose_person(boxes: np.ndarray, scores: np.ndarray, photo_size: tuple[int, int]) -> int:
    """Index of the person whom a photo is most likely about: the largest and most central one.

    A person counts with the area of their box on the photo, less the further its centre is off the photo's centre (by
    up to 60 % at a corner), times the score.

    Args:
        boxes (`np.ndarray`): (N, 4), left, top, right, bottom in pixels of the photo.
        scores (`np.ndarray`): (N,), in [0, 1].
        photo_size (`tuple[int, int]`): Width and height of the photo.

    Raises:
        `NoPersonFound`: if there are no boxes.
    """
    if len(boxes) == 0:
        raise NoPersonFound(
            "nobody was found in the photo: pass one that shows more of the person, or a person_box around them."
        )
    size = np.array(photo_size, dtype=np.float64)
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 2, 2).clip(0, size)
    areas = (corners[:, 1] - corners[:, 0]).clip(0).prod(axis=1)
    off_centre = np.linalg.norm((corners.mean(axis=1) - size / 2) / (size / 2), axis=1) / np.sqrt(2)
    return int(np.argmax(areas * (1 - OFF_CENTRE * off_centre) * np.asarray(scores)))


def _say(value: object) -> str:
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
