"""Where in the garment did each pixel come from? The record of one call's zero cross-attentions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from ..errors import InvalidInput
from ..models.attention_maps import expected_coordinates
from ..preprocessing.inputs import Frame


class Source(NamedTuple):
    """
    Args:
        x (`float`), y (`float`): Pixel of the prepared garment picture.
        certainty (`float`): 1 where all attention rests on one spot, 0 where it is spread evenly over the garment.
    """

    x: float
    y: float
    certainty: float


class CoordinateRecorder:
    """Notes, at chosen steps, the garment place that every query expects and how far its attention spreads.

    Args:
        batch (`slice`): The part of the network's batch to note: the conditional branch.
        steps (`Collection[int]`, *optional*): Steps to note; all by default.
        blocks (`Collection[int]`, *optional*): Blocks to note; all by default.
    """

    def __init__(self, batch: slice, steps: Collection[int] | None = None, blocks: Collection[int] | None = None):
        self.batch, self.steps, self.blocks = batch, steps, blocks
        self.step = 0
        self.records: dict[int, dict[int, np.ndarray]] = {}

    def wants(self, block: int) -> bool:
        return (self.steps is None or self.step in self.steps) and (self.blocks is None or block in self.blocks)

    def record(
        self,
        block: int,
        query: torch.Tensor,
        key: torch.Tensor,
        query_size: tuple[int, int],
        key_size: tuple[int, int],
    ) -> None:
        mean, spread = expected_coordinates(query[self.batch], key[self.batch], key_size)
        note = torch.cat([mean, spread[..., None]], dim=-1).unflatten(1, query_size)  # (images, h, w, 3)
        # half precision resolves 1/2000 of the garment's sides and halves what a long run keeps
        self.records.setdefault(block, {})[self.step] = note.half().cpu().numpy()


# the root of the variances' sum of an even spread over the unit square
EVEN_SPREAD = float(np.sqrt(2.0 / 12.0))


@dataclass(frozen=True)
class TryOnAttention:
    """Where the network looked, for every zero cross-attention block, noted step and picture.

    Args:
        records (`dict[int, dict[int, np.ndarray]]`):
            By block and step: float16, (images, height, width, 3): expected y and x in [0, 1] of the garment's height
            and width, and the standard deviation in the same unit.
        frames (`list[Frame]`): The frame of each picture's photo.
        garments (`list[PIL.Image.Image]`): The prepared garment of each picture; coordinates are in its pixels.
    """

    records: dict[int, dict[int, np.ndarray]]
    frames: list[Frame] = field(default_factory=list)
    garments: list[Image.Image] = field(default_factory=list)

    @property
    def blocks(self) -> list[int]:
        """The blocks noted; 0 is the decoder's lowest resolution."""
        return sorted(self.records)

    @property
    def steps(self) -> list[int]:
        """The denoising steps noted."""
        return sorted({step for records in self.records.values() for step in records})

    def coordinates(self, block: int | None = None, *, step: int | None = None, image: int = 0) -> np.ndarray:
        """Garment place that every cell of a block's map expects.

        Args:
            block (`int`, *optional*): One of `blocks`; by default the sharpest (the most certain on average).
            step (`int`, *optional*): One of `steps`; by default the mean over the last half of them.
            image (`int`, *optional*, defaults to 0): Which picture.

        Returns:
            `np.ndarray`: float32, (height, width, 3): x and y in pixels of the prepared garment, certainty in [0, 1].

        Raises:
            `InvalidInput`: for a block, step or picture that wasn't noted.
        """
        if not 0 <= image < len(self.garments):
            raise InvalidInput(f"there is no picture {image}: the call made {len(self.garments)}.")
        if block is None:
            block = min(self.blocks, key=lambda candidate: float(self._note(candidate, step, image)[..., 2].mean()))
        note = self._note(block, step, image)
        width, height = self.garments[image].size
        certainty = (1.0 - note[..., 2] / EVEN_SPREAD).clip(0.0, 1.0)
        return np.stack([note[..., 1] * width, note[..., 0] * height, certainty], axis=-1)

    def source_of(
        self, x: float, y: float, *, image: int = 0, block: int | None = None, step: int | None = None
    ) -> Source:
        """Where in the garment a pixel of the result came from.

        Args:
            x (`float`), y (`float`): Pixel of the result, which has the photo's size.
            image (`int`, *optional*, defaults to 0): Which picture.
            block (`int`, *optional*), step (`int`, *optional*): As for `coordinates`.

        Returns:
            `Source`: pixel of the prepared garment, and how certain.

        Raises:
            `InvalidInput`: if the pixel lies outside the part of the photo that the network saw.
        """
        cells = self.coordinates(block, step=step, image=image)
        frame = self.frames[image]
        left, top, right, bottom = frame.inside
        if not (left <= x < right and top <= y < bottom):
            raise InvalidInput(
                f"({x}, {y}) lies outside what the network saw of the photo: x {left} to {right}, y {top} to {bottom}."
            )
        height, width = cells.shape[:2]
        column = (x + 0.5 - frame.box[0]) / frame.size[0] * width - 0.5
        row = (y + 0.5 - frame.box[1]) / frame.size[1] * height - 0.5
        return Source(*(float(value) for value in _sample(cells, row, column)))

    def _note(self, block: int, step: int | None, image: int) -> np.ndarray:
        if block not in self.records:
            raise InvalidInput(f"block {block} was not noted: the call noted {self.blocks}.")
        records = self.records[block]
        if step is None:
            steps = sorted(records)
            return np.mean([records[step][image] for step in steps[len(steps) // 2 :]], axis=0, dtype=np.float32)
        if step not in records:
            raise InvalidInput(f"step {step} was not noted: the call noted {sorted(records)}.")
        return records[step][image].astype(np.float32)


def _sample(cells: np.ndarray, row: float, column: float) -> np.ndarray:
    """Bilinear, clamped at the border."""
    height, width = cells.shape[:2]
    row, column = min(max(row, 0.0), height - 1.0), min(max(column, 0.0), width - 1.0)
    y, x = int(row), int(column)
    y1, x1 = min(y + 1, height - 1), min(x + 1, width - 1)
    dy, dx = row - y, column - x
    upper = cells[y, x] * (1 - dx) + cells[y, x1] * dx
    lower = cells[y1, x] * (1 - dx) + cells[y1, x1] * dx
    return upper * (1 - dy) + lower * dy
