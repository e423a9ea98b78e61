"""Arguments that several commands share, and how their texts are read."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..choices import CATEGORIES, DTYPE_NAMES, POSE_METHODS, QUALITIES
from ..errors import InvalidInput

PREPARATION = ("person_box", "pose", "mask_dilation", "zoom_to_person")


def add_device(parser: Any) -> None:
    """Add `--device`; see `choose_device`."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps …; default: cuda or mps where there is one, else cpu")


def add_model(parser: Any, *, help: str, default: str | None = None) -> None:
    """Add the options that choose a model, its device and number type, and consent to its download.

    Args:
        parser (`argparse.ArgumentParser` or a group of it): Gets the options.
        help (`str`): Help of `--model`.
        default (`str`, *optional*): Default of `--model`.
    """
    parser.add_argument("--model", default=default, metavar="PLACE", help=help)
    parser.add_argument("--checkpoint", metavar="NAME", help="which one, where a repository has several")
    add_device(parser)
    parser.add_argument(
        "--dtype",
        choices=("auto", *DTYPE_NAMES),
        help="number type; default: auto, the fastest that the device computes well (fp32 for the bundled model)",
    )
    add_consent(parser)


def add_quality(parser: Any, *, default: str | None = "exact") -> None:
    """Add `--quality`; see `TryOnPipeline.__call__`."""
    parser.add_argument(
        "--quality",
        choices=QUALITIES,
        default=default,
        help="how much time to take: as the weights were run by their authors, or fewer steps (exact); the bundled "
        "model paints in one step whatever the quality",
    )


def add_consent(parser: Any) -> None:
    """Add `--yes`; see `Consent`."""
    parser.add_argument(
        "--yes", action="store_true", help="download what is missing and accept its licence without asking"
    )


def add_metadata(parser: Any) -> None:
    """Add `--no-metadata`."""
    parser.add_argument(
        "--no-metadata",
        dest="metadata",
        action="store_false",
        help="don't write into the result that a network painted in it, and with which model, seed and options",
    )


def add_preparation(parser: Any) -> None:
    """Add the options of a photo's preparation; those that aren't given are None."""
    parser.add_argument("--category", choices=CATEGORIES, default="upper", help="kind of garment (%(default)s)")
    parser.add_argument(
        "--person-box",
        type=parse_box,
        metavar="X0,Y0,X1,Y1",
        help="which person, in pixels of the upright photo; default: the largest, most central one",
    )
    parser.add_argument("--pose", choices=POSE_METHODS, help="which network finds the joints (openpose)")
    parser.add_argument(
        "--mask-dilation",
        type=parse_share,
        metavar="SHARE",
        help="widen the mask by this share of the shoulder distance, 0 to 1, against an old sleeve's outline (0)",
    )
    parser.add_argument(
        "--zoom-to-person",
        action="store_true",
        default=None,
        help="show a person who fills less than half of the photo larger, instead of as much of the photo as possible",
    )


def given_preparation_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_preparation`, other than the category, that were given; by the names of the library's."""
    given = {name: getattr(arguments, name) for name in PREPARATION}
    return {name: value for name, value in given.items() if value is not None}


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Left, top, right and bottom, from four numbers with commas between them; errors are for argparse."""
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not four numbers with commas between them") from None
    if not (right > left and bottom > top):
        raise argparse.ArgumentTypeError(f"{text!r} is empty: left must be less than right, top less than bottom")
    return left, top, right, bottom


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """Reader of a whole number from `low` to `high`, for argparse's `type`."""

    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else -1
        if number < low or (high is not None and number > high):
            upper = "" if high is None else f" to {high}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low}{upper}")
        return number

    return read


def number_from_0(high: float | None = None, *, hint: str = "") -> Callable[[str], float]:
    """Reader of a finite number from 0 to `high`, for argparse's `type`; `hint` ends its error."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 <= number < float("inf") or (high is not None and number > high):
            upper = "" if high is None else f" to {high:g}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0{upper}{hint}")
        return number

    return read


parse_share: Callable[[str], float] = number_from_0(1)
parse_number: Callable[[str], float] = number_from_0()
parse_guidance: Callable[[str], float] = number_from_0(hint=" (1 turns guidance off)")
parse_count: Callable[[str], int] = whole_number(1)
parse_count_or_zero: Callable[[str], int] = whole_number(0)
parse_steps: Callable[[str], int] = whole_number(1, 1000)
parse_seed: Callable[[str], int] = whole_number(0, 2**63 - 1)


def check_outputs(
    arguments: argparse.Namespace, second: str, sources: Iterable[str | os.PathLike[str] | None]
) -> tuple[Path, Path | None]:
    """Paths of the images to write, `--output` and perhaps a second one, checked before the long work.

    Args:
        arguments (`argparse.Namespace`): Parsed arguments, with `output` and the one that `second` names.
        second (`str`): Name of the second image's argument; its value may be None.
        sources (`Iterable`): Images to read; those that aren't paths of files on this machine are passed over.

    Returns:
        `tuple[Path, Path | None]`: of the output, and of the second image if one is wanted.

    Raises:
        `InvalidInput`: if one can't be written, is an image to read, or both are the same.
    """
    from ..images import check_image_path

    output, other = check_image_path(arguments.output), getattr(arguments, second)
    other = None if other is None else check_image_path(other)
    sources = [source for source in sources if source is not None and os.path.exists(source)]
    for path in filter(None, (output, other)):
        if any(path.exists() and path.samefile(source) for source in sources):
            raise InvalidInput(f"{path} is one of the images to read: write the result to another file.")
    if other is not None and other.absolute() == output.absolute():
        raise InvalidInput(f"--output and --{second.replace('_', '-')} both name {output}: pass two files.")
    return output, other
