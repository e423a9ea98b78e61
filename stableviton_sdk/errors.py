"""Everything the SDK raises on purpose. Each message is one sentence that says what was wrong and what to do."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence

PROBLEMS_SHOWN = 10  # lines of a message
ITEMS_SHOWN = 8  # of a list in a sentence
CHARACTERS_SHOWN = 400  # of one item
MESSAGE_LENGTH = 6000  # characters of a whole message


class TryOnError(Exception):
    """Base of all errors that the SDK raises on purpose. A message that would fill screens loses its middle."""

    def __init__(self, *args: object):
        super().__init__(*(_bounded(argument) for argument in args))


class InvalidInput(TryOnError, ValueError):
    """An argument or a file can't be used as it is: wrong type, size, range, or unreadable."""


class NoPersonFound(InvalidInput):
    """The photo shows nobody whom the preprocessing could find, or too little of them."""


class IncompatibleCheckpoint(TryOnError, ValueError):
    """A checkpoint's tensors don't fit the architecture: unknown, missing or wrongly shaped keys."""


class WeightsUnavailable(TryOnError, OSError):
    """Weights could not be had: no network, not enough disk, a damaged download, or no such file."""


class CallCancelled(TryOnError):
    """A call was cancelled through its `cancel_event`; it leaves no result."""


class MissingDependency(TryOnError, ImportError):
    """An optional package is not installed, or is installed in a version that can't work."""


class SeveralProblems(InvalidInput):
    """Several things are wrong at once. The message shows the first few; `problems` holds all of them.

    Args:
        summary (`str`): First line of the message, without a colon.
        problems (`Sequence[str]` or `Mapping[str, str]`): One sentence each, by name in a mapping.
    """

    def __init__(self, summary: str, problems: Sequence[str] | Mapping[str, str]):
        self.summary = summary
        self.problems: dict[str, str] | list[str] = dict(problems) if isinstance(problems, Mapping) else list(problems)
        super().__init__(self.describe("`problems` of this error"))

    @property
    def lines(self) -> list[str]:
        """All problems, each in one line."""
        if isinstance(self.problems, dict):
            return [f"{name}: {problem}" for name, problem in self.problems.items()]
        return self.problems

    @property
    def shows_all(self) -> bool:
        """Whether the message holds all problems."""
        return len(self.problems) <= PROBLEMS_SHOWN

    def describe(self, whole_list: str) -> str:
        """The message.

        Args:
            whole_list (`str`): Place that lists all problems; mentioned only where the message doesn't hold them all.
        """
        shown = [clipped(line) for line in self.lines[:PROBLEMS_SHOWN]]
        if rest := len(self.problems) - len(shown):
            shown.append(f"and {rest} more: see {whole_list} for the whole list.")
        return "\n  - ".join([f"{self.summary}:", *shown])


def shortened(items: Collection[object], separator: str = ", ", *, most: int = ITEMS_SHOWN) -> str:
    """A collection as part of a message: the first few items, and how many there are in all.

    Args:
        items (`Collection`): The items; each is shortened as `clipped` does.
        separator (`str`, *optional*, defaults to `", "`): Text between two items.
        most (`int`, *optional*, defaults to 8): Items to show.

    Returns:
        `str`: such as `"a, b, c, … (12 in all)"`.
    """
    shown = [clipped(str(item)) for item in itertools.islice(items, most)]
    if len(items) > most:
        shown.append(f"… ({len(items)} in all)")
    return separator.join(shown)


def clipped(text: str, *, most: int = CHARACTERS_SHOWN) -> str:
    """A text as part of a message, in one line: its middle is left out where it's longer than `most` characters."""
    return _without_middle(" ".join(text.split()), most)


def reason_of(error: BaseException) -> str:
    """An exception's own words as part of a sentence: in one line, bounded, without a full stop."""
    return clipped(str(error), most=200).rstrip(".")


def _bounded(argument: object) -> object:
    return _without_middle(argument, MESSAGE_LENGTH) if isinstance(argument, str) else argument


def _without_middle(text: str, most: int) -> str:
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"
