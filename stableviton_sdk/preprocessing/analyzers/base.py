"""The result of a body analysis, and the protocol of body analyzers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from ...errors import InvalidInput
from ..labels import CIHP, PARULA


@dataclass(frozen=True, eq=False)
class BodyAnalysis:
    """Parse, joints and DensePose labels of one person in an image, and the boxes of all people in it.

    Args:
        parsing (`np.ndarray`): CIHP label map, uint8 in 0..19, (H, W).
        keypoints (`np.ndarray`):
            BODY_25 joints, float32, (25, 3) as x, y in pixels of the image, and confidence; confidence 0 = missing.
        densepose (`np.ndarray`): DensePose labels, uint8 in 0..24, (H, W), 0 = background.
        boxes (`np.ndarray`):
            All people found, best first, float32, (N, 4) as left, top, right, bottom in pixels of the image.
        scores (`np.ndarray`): Confidence in each of them, float32 in [0, 1], (N,).

    Raises:
        `InvalidInput`: if an array has another type, shape or range.
    """

    parsing: np.ndarray
    keypoints: np.ndarray
    densepose: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        for name, label_count in (("parsing", len(CIHP)), ("densepose", len(PARULA))):
            labels = getattr(self, name)
            if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype != np.uint8:
                raise InvalidInput(
                    f"a body analysis needs {name} labels as a uint8 array (H, W), not {_describe(labels)}."
                )
            if labels.size and labels.max() >= label_count:
                raise InvalidInput(
                    f"a body analysis has {name} label {labels.max()}: labels go from 0 to {label_count - 1}."
                )
        if self.parsing.shape != self.densepose.shape:
            raise InvalidInput(
                f"a body analysis has a parsing of {self.parsing.shape} and a densepose of {self.densepose.shape}: "
                "both must have the image's shape."
            )
        count = len(self.scores) if np.ndim(self.scores) == 1 else 0
        for name, shape in (("keypoints", (25, 3)), ("boxes", (count, 4)), ("scores", (count,))):
            value = getattr(self, name)
            if np.shape(value) != shape:
                raise InvalidInput(f"a body analysis needs {name} of shape {shape}, not {_describe(value)}.")


@runtime_checkable
class BodyAnalyzer(Protocol):
    """Interface of body analyzers. Images are PIL, mode RGB, upright; calls may come from several threads.

    An analyzer may also have `parse(image) -> np.ndarray`, which returns the CIHP label map alone, if that is cheaper
    than a whole analysis: garments are cut out of photos with it.
    """

    def find_people(self, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        """People in an image, best first.

        Args:
            image (`PIL.Image.Image`): RGB, upright.

        Returns:
            `tuple[np.ndarray, np.ndarray]`:
                boxes, (N, 4), left, top, right, bottom in pixels of the image, and scores in [0, 1], (N,); N may be 0.
        """
        ...

    def __call__(
        self, image: Image.Image, *, person_box: tuple[float, float, float, float] | None = None
    ) -> BodyAnalysis:
        """Parse, joints and DensePose labels of one person.

        Args:
            image (`PIL.Image.Image`): RGB, upright.
            person_box (`tuple[float, float, float, float]`, *optional*):
                Left, top, right, bottom of the person in pixels of the image; by default the best person.

        Returns:
            `BodyAnalysis`

        Raises:
            `NoPersonFound`: if nobody is found.
        """
        ...


def _describe(value: object) -> str:
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
