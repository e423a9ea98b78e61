"""Which pairs are painted together: a composition that follows from the list alone, never from what is done already.

A network computes the same image a little differently in another batch, by rounding; a run that was interrupted
therefore has to make the same batches as one that wasn't.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field

from .pairs import Pair

WINDOW = 4096  # rows that are sorted together
PERSONS_TOGETHER = 32  # prepared persons that one block of rows needs at a time


@dataclass(frozen=True, slots=True)
class Batch:
    """Pairs that are painted by one call.

    Args:
        number (`int`): Place in the plan, from 0.
        block (`int`): Number of its block: batches of one block have persons and garments in common.
        pairs (`tuple[Pair, ...]`): The pairs.
        missing (`tuple[bool, ...]`): For each, whether its image is still to be made.
    """

    number: int
    block: int
    pairs: tuple[Pair, ...]
    missing: tuple[bool, ...]


def compose(rows: Sequence[Pair], batch_size: int) -> Iterator[tuple[int, list[int]]]:
    """Batches of a list: its rows, sorted within windows so that persons and garments recur while they are at hand.

    Args:
        rows (`Sequence[Pair]`): The list.
        batch_size (`int`): Most pairs of a batch.

    Yields:
        `tuple[int, list[int]]`: number of the block, and places of the batch's rows in the list.
    """
    block = -1
    persons_together = max(PERSONS_TOGETHER, batch_size)
    for first in range(0, len(rows), WINDOW):
        window = range(first, min(first + WINDOW, len(rows)))
        persons: dict[tuple, int] = {}
        garments: dict[tuple, int] = {}
        keys = []
        for place in window:
            person = persons.setdefault(rows[place].person_key, len(persons))
            garment = garments.setdefault(rows[place].garment_key, len(garments))
            keys.append((person // persons_together, garment, person, place))
        keys.sort()
        start = 0
        while start < len(keys):
            end = start
            while end < len(keys) and keys[end][0] == keys[start][0]:
                end += 1
            block += 1
            for place in range(start, end, batch_size):
                yield block, [key[3] for key in keys[place : min(place + batch_size, end)]]
            start = end


def unfinished(parts: Sequence[Sequence[Pair]], batch_size: int, done: Set[str]) -> Plan:
    """The batches in which something is missing.

    Args:
        parts (`Sequence[Sequence[Pair]]`): Rows that became known together; batches don't mix those of several parts.
        batch_size (`int`): Most pairs of a batch.
        done (`Set[str]`): Ids whose images are there.
    """
    plan = Plan()
    offset = 0
    for rows in parts:
        last = -1
        for block, places in compose(rows, batch_size):
            last = block
            missing = tuple(rows[place].id not in done for place in places)
            if any(missing):
                plan.add(offset + block, [rows[place] for place in places], missing)
        offset += last + 1
    return plan


@dataclass
class Plan:
    """Batches by block, handed out so that a process keeps to a block while there is something left of it."""

    blocks: dict[int, deque[Batch]] = field(default_factory=dict)
    count: int = 0
    _taken: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return sum(map(len, self.blocks.values()))

    def add(self, block: int, pairs: Sequence[Pair], missing: tuple[bool, ...]) -> None:
        """Append a batch."""
        batch = Batch(self.count, block, tuple(pairs), missing)
        self.blocks.setdefault(block, deque()).append(batch)
        self.count += 1

    def put_back(self, batch: Batch) -> None:
        """Hand a batch out again, before the others of its block."""
        self.blocks.setdefault(batch.block, deque()).appendleft(batch)

    def take(self, block: int | None) -> Batch | None:
        """The next batch: of a block while it has any, else of one that no process began, else of the fullest.

        Args:
            block (`int`, *optional*): Block of the process's last batch.
        """
        if block not in self.blocks:
            block = next((number for number in self.blocks if number not in self._taken), None)
        if block is None:
            block = max(self.blocks, key=lambda number: len(self.blocks[number]), default=None)
        if block is None:
            return None
        self._taken.add(block)
        batches = self.blocks[block]
        batch = batches.popleft()
        if not batches:
            del self.blocks[block]
        return batch

    def __iter__(self) -> Iterator[Batch]:
        """All batches, block by block."""
        for batches in self.blocks.values():
            yield from batches
