"""The command line: `stableviton demo | try-on | prepare | convert | train | evaluate`.

Exit status: 0 done, 1 failed (one line on stderr says why), 2 arguments that make no sense, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence

from .._version import __version__
from ..errors import TryOnError
from . import convert, demo, evaluate, prepare, train, try_on

COMMANDS = (demo, try_on, prepare, convert, train, evaluate)
FAILED, INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments (`Sequence[str]`, *optional*): Without the program's name; the process's own by default.

    Returns:
        `int`: the exit status. Arguments that make no sense end in `SystemExit` with status 2, as argparse does it.
    """
    chosen = build_parser().parse_args(arguments)
    try:
        with _own_voice():
            chosen.run(chosen)
    except KeyboardInterrupt:
        if chosen.traceback:
            traceback.print_exc()
        say("interrupted")
        return INTERRUPTED
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise  # nobody foresaw it: where it happened is what helps
        if chosen.traceback:
            traceback.print_exc()
        say(sentence)
        return FAILED
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; needs nothing heavy, so that help is there at once."""
    parser = argparse.ArgumentParser(
        prog="stableviton", description="Virtual try-on with StableVITON: a person and a garment in, one image out."
    )
    parser.add_argument("--version", action="version", version=f"stableviton {__version__}")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--traceback", action="store_true", help="show where an error came from, to report it")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for command in COMMANDS:
        command.add_parser(commands, parents=[shared])
    return parser


def say(sentence: str) -> None:
    """One line to the user, on stderr."""
    print(f"stableviton: {' '.join(sentence.split())}", file=sys.stderr, flush=True)


def _sentence(error: Exception) -> str | None:
    """What to tell the user about a failure; None if it is a defect of this program."""
    if isinstance(error, TryOnError):
        return str(error)
    # torch's own, without importing it; on the CPU it is a plain RuntimeError
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "CPUAllocator" in str(error):
        return f"there is not enough memory ({error}): pass --dtype fp16, a smaller size, or another --device."
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    return None


@contextlib.contextmanager
def _own_voice() -> Iterator[None]:
    """Warnings and log messages meant for the user come as lines like our own, for as long as a command runs."""
    logger = logging.getLogger(__package__)
    handler = _SayHandler(logging.WARNING)
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what libraries tell developers
            warnings.filterwarnings("default", category=UserWarning, module=__package__)
            warnings.showwarning = lambda message, *_: say(f"warning: {message}")
            yield
    finally:
        logger.removeHandler(handler)


class _SayHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())
