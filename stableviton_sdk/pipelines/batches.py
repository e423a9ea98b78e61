"""Batches of a call: their entries, which person wears which garment, and what guidance adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch

from ..errors import InvalidInput, TryOnError
from ..images import as_image_list, as_mask_list

T = TypeVar("T")


def split_batch(value: Any, count: int, name: str) -> list[Any]:
    """One map for each person; None for those that are derived.

    Args:
        value (`Any`): A map, a list of them, or None.
        count (`int`): How many persons there are.
        name (`str`): The argument's name in messages.
    """
    if value is None:
        return [None] * count
    items, _ = (as_mask_list if name == "mask" else as_image_list)(value, name=name)
    if len(items) != count:
        raise InvalidInput(f"{name} holds {len(items)} images for {count} persons: pass one for each.")
    return items


def each(
    name: str, entries: Sequence[Any], work: Callable[[int, Any], T], failed: dict[int, TryOnError] | None = None
) -> list[T]:
    """Work on every entry of a batch, and name the one that fails by its place.

    Args:
        name (`str`): The batch's name in messages.
        entries (`Sequence`): Entries to work on.
        work (`Callable`): Takes an entry's place and the entry.
        failed (`dict[int, TryOnError]`, *optional*): Collects failures by place, whose results are None.

    Raises:
        `TryOnError`: the first failure, of its own kind, where they aren't collected.
    """
    results: list[Any] = []
    for place, entry in enumerate(entries):
        try:
            results.append(work(place, entry))
        except TryOnError as error:
            label = name if len(entries) == 1 else f"{name}[{place}]"
            named = error if str(error).startswith(label) else type(error)(f"{label}: {error}")
            if failed is None:
                raise named from error
            failed[place] = named
            results.append(None)
    return results


class Pairs:
    """Which person wears which garment: one with N, N with one, or N with N pairwise.

    Args:
        persons (`int`), garments (`int`): How many there are.
        images_per_pair (`int`): Images of each pair.
        failed_persons (`Mapping`, *optional*), failed_garments (`Mapping`, *optional*):
            Errors of the entries that can't be used, by place; their pairs are left out.

    Raises:
        `InvalidInput`: if the numbers can't be paired.
        `TryOnError`: the first failure, if no pair is left.
    """

    def __init__(
        self,
        persons: int,
        garments: int,
        images_per_pair: int = 1,
        failed_persons: Mapping[int, TryOnError] | None = None,
        failed_garments: Mapping[int, TryOnError] | None = None,
    ):
        if persons != garments and 1 not in (persons, garments):
            raise InvalidInput(
                f"{persons} persons and {garments} garments can't be paired: pass one of either, or equal numbers."
            )
        pairs = [(place % persons, place % garments) for place in range(max(persons, garments))]
        pairs = [pair for pair in pairs for _ in range(int(images_per_pair))]
        self.total: int = len(pairs)
        self.errors: dict[int, TryOnError] = {}
        for place, (person, garment) in enumerate(pairs):
            error = (failed_persons or {}).get(person) or (failed_garments or {}).get(garment)
            if error is not None:
                self.errors[place] = error
        self.kept: list[int] = [place for place in range(self.total) if place not in self.errors]
        if not self.kept:
            raise self.errors[0]
        self.count: int = len(self.kept)
        self._persons = sorted({pairs[place][0] for place in self.kept})
        self._garments = sorted({pairs[place][1] for place in self.kept})
        self.person_index: list[int] = [self._persons.index(pairs[place][0]) for place in self.kept]
        self.garment_index: list[int] = [self._garments.index(pairs[place][1]) for place in self.kept]

    def persons_of(self, persons: list[T]) -> list[T]:
        """The persons that are used; `person_index` counts these."""
        return [persons[place] for place in self._persons]

    def garments_of(self, garments: list[T]) -> list[T]:
        """The garments that are used; `garment_index` counts these."""
        return [garments[place] for place in self._garments]

    def parts(self, batch_size: int | None) -> list[list[int]]:
        """The kept pairs' numbers, so many at a time; all at once for None."""
        size = batch_size or self.count
        return [list(range(first, min(first + size, self.count))) for first in range(0, self.count, size)]

    def select(self, values: Any) -> Any:
        """What belongs to the kept pairs of generators or latents that were given for all."""
        if isinstance(values, torch.Tensor):
            return values[self.kept]
        return [values[place] for place in self.kept] if isinstance(values, (list, tuple)) else values

    def spread(self, results: Any) -> Any:
        """Results of the kept pairs in the places of all: a list with None where a pair was left out."""
        if not self.errors:
            return results
        placed: list[Any] = [None] * self.total
        for place, result in zip(self.kept, results, strict=True):
            placed[place] = result
        return placed


def match_branches(
    tensor: torch.Tensor, count: int, guided: bool, negative: torch.Tensor | None = None
) -> torch.Tensor:
    """A batch with or without guidance's unconditional branch, which stands in front.

    Args:
        tensor (`torch.Tensor`): (count, …) or (2 * count, …).
        count (`int`): How many images the call makes.
        guided (`bool`): Whether there are to be two branches.
        negative (`torch.Tensor`, *optional*): Embeddings of the unconditional branch; by default the same.
    """
    if guided and len(tensor) == count:
        return torch.cat([tensor if negative is None else negative.expand_as(tensor), tensor])
    return tensor if guided else tensor[-count:]
