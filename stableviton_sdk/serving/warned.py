"""This package's warnings, by the thread that they were given in: one person's are not another's."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator

PACKAGE = __package__.partition(".")[0]
_collected = threading.local()


@contextlib.contextmanager
def warnings_by_thread() -> Iterator[None]:
    """While it lasts, `collect_warnings` gets what its thread is warned of; for a process's main function.

    Python keeps warnings' filters and their way out for the whole process, so this is done once, not for each call.
    """
    with warnings.catch_warnings():
        shown = warnings.showwarning
        warnings.filterwarnings("always", category=UserWarning, module=PACKAGE)

        def show(message: Warning | str, category: type[Warning], *place: object) -> None:
            sentences = getattr(_collected, "sentences", None)
            if sentences is None:
                shown(message, category, *place)
            elif issubclass(category, UserWarning):
                sentences.append(str(message))

        warnings.showwarning = show
        yield


@contextlib.contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """A list that fills with what this thread is warned of; only where `warnings_by_thread` lasts."""
    sentences: list[str] = []
    _collected.sentences = sentences
    try:
        yield sentences
    finally:
        _collected.sentences = None
