"""Files that are there whole or not at all, whatever interrupts their writing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import InvalidInput


def check_writable(folder: Path, what: Path) -> None:
    """Make sure that a folder, there already or not, can be written to; call it before long work.

    Raises:
        `InvalidInput`: naming `what` is to be written there.
    """
    nearest = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InvalidInput(f"{what} can't be written: {nearest} is no folder that can be written to.")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden path beside `path` to write to; renamed onto it when the block ends well, removed when it doesn't.

    It has the target's suffix, for writers that look at it, and the process's number, for several that write at once.
    A process that is killed leaves it behind; `.*.partial*` finds it.

    Args:
        path (`Path`): The file to make or replace, in a folder that exists.
    """
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):  # where it couldn't even be made
            partial.unlink()
        raise


def write_text_atomically(path: Path, text: str) -> None:
    """Make or replace a text file, in UTF-8.

    Args:
        path (`Path`): The file, in a folder that exists.
        text (`str`): All of its content.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
