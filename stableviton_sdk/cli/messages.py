"""Messages of the command line on stderr: errors, warnings, log messages, each as a line of its own."""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import MESSAGE_LENGTH, SeveralProblems, TryOnError, clipped

PACKAGE = __package__.partition(".")[0]


def print_message(message: str) -> None:
    """Print one line to stderr, under the program's name; a very long one loses its middle."""
    print(f"stableviton: {clipped(message, most=MESSAGE_LENGTH)}", file=sys.stderr, flush=True)


def user_message(error: Exception) -> str | None:
    """The sentence for the user about a failure; None if it is a defect of this program."""
    if isinstance(error, SeveralProblems) and not error.shows_all:
        return error.describe(str(_write_list(error.lines)))
    if isinstance(error, TryOnError):
        return str(error)
    # torch's own, without importing it; on the CPU it is a plain RuntimeError
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "CPUAllocator" in str(error):
        return f"there is not enough memory ({error}): pass --dtype fp16, a smaller size, or another --device."
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    return None


@contextlib.contextmanager
def print_warnings() -> Iterator[None]:
    """While a command runs, this package's warnings and log messages come as lines like the command line's own.

    Other libraries' warnings, which are for developers, stay silent.
    """
    logger = logging.getLogger(PACKAGE)
    handler = _PrintHandler(logging.WARNING)
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("default", category=UserWarning, module=PACKAGE)
            warnings.showwarning = lambda message, *_: print_message(f"warning: {message}")
            yield
    finally:
        logger.removeHandler(handler)


@contextlib.contextmanager
def filter_log(keep: Callable[[logging.LogRecord], object]) -> Iterator[None]:
    """For a while, print only those of this package's log messages for which `keep` returns something true."""
    handlers = list(logging.getLogger(PACKAGE).handlers)
    for handler in handlers:
        handler.addFilter(keep)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(keep)


@contextlib.contextmanager
def progress_bars_only_on_tty() -> Iterator[None]:
    """Keep diffusers' progress bars out of log files."""
    from diffusers.utils import logging as diffusers_logging

    if sys.stderr.isatty() or not diffusers_logging.is_progress_bar_enabled():
        yield
        return
    diffusers_logging.disable_progress_bar()
    try:
        yield
    finally:
        diffusers_logging.enable_progress_bar()


def _write_list(lines: list[str]) -> Path:
    """A new text file among the system's temporary ones, with a line for each problem."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="stableviton-problems-", suffix=".txt", encoding="utf-8", delete=False
    ) as file:
        file.writelines(f"{line}\n" for line in lines)
    return Path(file.name)


class _PrintHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print_message(record.getMessage())
