"""Which pair comes when: a function of seed and position alone, so that a resumed run goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..tryon.augmentation import Augmentation

AUGMENTATION, NOISE = 1, 2  # streams of random numbers, apart from the order's own


class ShuffledItems(torch.utils.data.Dataset):
    """The items of a data set, epoch after epoch, each in another order and with another augmentation.

    Args:
        data: A map-style data set of item dictionaries.
        seed (`int`): Of order and augmentation.
        augmentation (`Augmentation`, *optional*): Applied to every item.
    """

    def __init__(self, data: Any, seed: int, augmentation: Augmentation | None = None):
        self.data, self.seed, self.augmentation = data, seed, augmentation
        self._epoch: int | None = None
        self._order: np.ndarray | None = None

    def __getitem__(self, position: int) -> dict[str, Any]:
        """The item that comes at this position, which it notes as `position`."""
        item = dict(self.data[self.index(position)], position=position)
        if self.augmentation is None:
            return item
        return self.augmentation(item, np.random.default_rng([self.seed, AUGMENTATION, position]))

    def index(self, position: int) -> int:
        """Which item of the data set comes at this position."""
        epoch, place = divmod(position, len(self.data))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.data))
        return int(self._order[place])

    def named(self, positions: list[int]) -> list[str]:
        """What the items at these positions are called, or their numbers in the data set."""
        indices = [self.index(position) for position in positions]
        records = getattr(self.data, "records", None)
        if records is None:
            return [f"item {index}" for index in indices]
        return [f"{records[index].name} with {records[index].garment_name}" for index in indices]


class Batches:
    """Positions of every batch of this process from one step to another, for a `DataLoader`'s `batch_sampler`.

    Args:
        start (`int`), stop (`int`): Optimizer steps, stop exclusive.
        parts (`int`): Batches of a step.
        batch_size (`int`): Items of a batch.
        process (`int`), processes (`int`): This process, and how many share each part.
    """

    def __init__(self, start: int, stop: int, parts: int, batch_size: int, process: int = 0, processes: int = 1):
        self.start, self.stop, self.parts, self.batch_size = start, stop, parts, batch_size
        self.process, self.processes = process, processes

    def __len__(self) -> int:
        return (self.stop - self.start) * self.parts

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.start * self.parts, self.stop * self.parts):
            first = (batch * self.processes + self.process) * self.batch_size
            yield list(range(first, first + self.batch_size))


def noise_generator(seed: int, position: int) -> torch.Generator:
    """The generator of everything that training leaves to chance about the item at a position."""
    state = np.random.SeedSequence([seed, NOISE, position]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
