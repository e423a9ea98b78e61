"""The order of items: a function of seed and position alone, so that a resumed training goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

AUGMENTATION, NOISE = 1, 2  # streams of random numbers, apart from the order's own


class EpochShuffle(torch.utils.data.Dataset[dict[str, Any]]):
    """The items of a data set, epoch after epoch, each in another order and with another augmentation.

    Args:
        data: A map-style data set of item dictionaries.
        seed (`int`): Seed of order and augmentation.
        augmentation (`Callable`, *optional*): Makes of an item and a `numpy.random.Generator` the item to use.
    """

    def __init__(self, data: Any, seed: int, augmentation: Callable[..., dict[str, Any]] | None = None):
        self.data = data
        self.seed = seed
        self.augmentation = augmentation
        self._epoch: int | None = None
        self._order: np.ndarray | None = None

    def __getitem__(self, position: int) -> dict[str, Any]:
        """The item at this position, which it holds as `position`."""
        item = dict(self.data[self.index(position)], position=position)
        if self.augmentation is None:
            return item
        return self.augmentation(item, np.random.default_rng([self.seed, AUGMENTATION, position]))

    def index(self, position: int) -> int:
        """Number in the data set of the item at this position."""
        epoch, offset = divmod(position, len(self.data))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.data))
        return int(self._order[offset])

    def names_of(self, positions: list[int]) -> list[str]:
        """Names of the items at these positions, or their numbers in the data set."""
        indices = [self.index(position) for position in positions]
        records = getattr(self.data, "records", None)
        if records is None:
            return [f"item {index}" for index in indices]
        return [f"{records[index].name} with {records[index].garment_name}" for index in indices]


class ResumableBatchSampler:
    """Positions of every batch of this process from one step to another, for a `DataLoader`'s `batch_sampler`.

    Args:
        start (`int`), stop (`int`): Optimizer steps, stop exclusive.
        micro_batches (`int`): Number of batches of a step.
        batch_size (`int`): Number of items of a batch.
        process (`int`, *optional*, defaults to 0), processes (`int`, *optional*, defaults to 1):
            Number of this process, and of all that share each batch.
    """

    def __init__(
        self, start: int, stop: int, micro_batches: int, batch_size: int, process: int = 0, processes: int = 1
    ):
        self.start = start
        self.stop = stop
        self.micro_batches = micro_batches
        self.batch_size = batch_size
        self.process = process
        self.processes = processes

    def __len__(self) -> int:
        return (self.stop - self.start) * self.micro_batches

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.start * self.micro_batches, self.stop * self.micro_batches):
            first = (batch * self.processes + self.process) * self.batch_size
            yield list(range(first, first + self.batch_size))


def noise_generator(seed: int, position: int) -> torch.Generator:
    """The random generator of noise, timestep and dropped condition of the item at a position."""
    state = np.random.SeedSequence([seed, NOISE, position]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
