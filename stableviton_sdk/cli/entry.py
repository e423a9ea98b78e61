"""The command line: `stableviton demo | app | try-on | batch | prepare | convert | train | evaluate | doctor`.

Exit status: 0 done, 1 failed (one line on stderr says why), 2 unusable arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Sequence

from .._version import __version__
from . import app, batch, convert, demo, doctor, evaluate, prepare, train, try_on
from .messages import print_message, print_warnings, user_message

COMMANDS = (demo, app, try_on, batch, prepare, convert, train, evaluate, doctor)
FAILED, INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments (`Sequence[str]`, *optional*): Arguments without the program's name; by default the process's own.

    Returns:
        `int`: the exit status.

    Raises:
        `SystemExit`: with status 2 for unusable arguments, with status 0 after help, as argparse does it.
    """
    chosen = build_parser().parse_args(arguments)
    try:
        with print_warnings():
            return chosen.run(chosen) or 0
    except KeyboardInterrupt:
        if chosen.traceback:
            traceback.print_exc()
        print_message("interrupted")
        return INTERRUPTED
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise  # a defect: its traceback is what helps
        if chosen.traceback:
            traceback.print_exc()
        print_message(message)
        return FAILED


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; imports nothing heavy, so that help is there at once."""
    parser = argparse.ArgumentParser(
        prog="stableviton", description="Virtual try-on with StableVITON: a person and a garment in, one image out."
    )
    parser.add_argument("--version", action="version", version=f"stableviton {__version__}")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--traceback", action="store_true", help="show where an error came from, to report it")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for command in COMMANDS:
        epilog = "\n  ".join(["examples:", *command.EXAMPLES])
        command.add_parser(commands, parents=[shared], formatter_class=_HelpFormatter, epilog=epilog)
    return parser


class _HelpFormatter(argparse.HelpFormatter):
    """Wraps paragraphs, and leaves the lines of the examples at the end as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("examples:") else super()._fill_text(text, width, indent)
