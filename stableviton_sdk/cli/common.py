"""What several commands share: reading arguments, devices, number types, preparation, and asking before a download."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, WeightsUnavailable
from ..hub import pending as hub_downloads
from ..hub.pending import Download

if TYPE_CHECKING:
    import torch

    from ..preprocessing.preprocessor import PersonPreprocessor

CATEGORIES = ("upper", "lower", "dress")
DTYPES = ("fp16", "bf16", "fp32")
POSES = ("openpose", "dwpose")
PREPARATION = ("person_box", "pose", "mask_grow")


def add_device(parser: Any) -> None:
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps …; default: cuda or mps where there is one, else cpu")


def add_consent(parser: Any) -> None:
    parser.add_argument("--yes", action="store_true", help="download what is missing, and accept its licence, unasked")


def add_preparation(parser: Any) -> None:
    """How a photo is prepared; options that aren't given are None."""
    parser.add_argument("--category", choices=CATEGORIES, default="upper", help="kind of garment (%(default)s)")
    parser.add_argument(
        "--person-box",
        type=parse_box,
        metavar="X0,Y0,X1,Y1",
        help="which person, in pixels of the upright photo; default: the largest, most central one",
    )
    parser.add_argument("--pose", choices=POSES, help="which network finds the joints (openpose)")
    parser.add_argument(
        "--mask-grow",
        type=parse_share,
        metavar="SHARE",
        help="widen the mask by this share of the shoulder distance, 0 to 1, against an old sleeve's outline (0)",
    )


def preparation_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_preparation` that were given."""
    given = {name: getattr(arguments, name) for name in PREPARATION}
    return {name: value for name, value in given.items() if value is not None}


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Left, top, right, bottom, from numbers between commas; the errors are argparse's."""
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not four numbers with commas between them") from None
    if not (right > left and bottom > top):
        raise argparse.ArgumentTypeError(f"{text!r} is empty: left must be less than right, top less than bottom")
    return left, top, right, bottom


def parse_share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return share


def parse_steps(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1000")
    return int(text)


def parse_seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2**63 - 1")
    return int(text)


def parse_guidance(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = -1.0
    if not 0 <= scale < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 (1 turns guidance off)")
    return scale


def check_outputs(
    arguments: argparse.Namespace, second: str, sources: Iterable[str | os.PathLike | None]
) -> tuple[Path, Path | None]:
    """The images to write, `--output` and perhaps a second one, before the long work.

    Args:
        arguments (`argparse.Namespace`): With `output`, and `second` or None.
        second (`str`): Name of the second's argument.
        sources (`Iterable`): Paths or addresses of the images to read; None stands for one that isn't.

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


def choose_device(name: str | None) -> torch.device:
    """The device of this name, or the best there is.

    Raises:
        `InvalidInput`: if torch knows no such device, or can't compute on it.
    """
    import torch

    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).tolist()  # also refuses the device that holds no values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InvalidInput(
            f"--device {name} can't be used on this machine: pass cpu, or leave it out for the best there is."
        ) from error
    return device


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """The number type of this name; by default half precision on CUDA, where it pays, and float32 elsewhere."""
    from ..conversion.convert import DTYPES as TORCH_DTYPES

    return TORCH_DTYPES[name or ("fp16" if device.type == "cuda" else "fp32")]


def missing_networks(preprocessor: PersonPreprocessor, pose: str | None, wanted: str = "") -> list[Download]:
    """What a preprocessor would have to download.

    Args:
        preprocessor (`PersonPreprocessor`): Whose.
        pose (`str`, *optional*): Which pose network will be used; by default the preprocessor's own choice.
        wanted (`str`, *optional*): Only the networks whose names begin with this.
    """
    others = tuple(set(POSES) - {pose or preprocessor.config["pose"]})
    downloads = [
        hub_downloads.describe_file(source["repo_id"], source["filename"], source.get("repo_type", "model"))
        for name, source in preprocessor.config["weights"].items()
        if source and "repo_id" in source and name.startswith(wanted) and not name.startswith(others)
    ]
    return [download for download in downloads if download is not None]


class Consent:
    """Says what is about to be downloaded, and asks, before the first byte; the same is asked only once.

    Args:
        yes (`bool`): Consent was given on the command line.
    """

    def __init__(self, yes: bool):
        self.yes = yes
        self.given: list[Download] = []

    def ask(self, downloads: list[Download]) -> None:
        """
        Raises:
            `WeightsUnavailable`: if the answer is no, or there is no terminal to ask on.
        """
        downloads = [download for download in downloads if download not in self.given]
        if not downloads:
            return
        for download in downloads:
            line = f"to download: {download.what}, {human_size(download.size)}; licence: {download.licence}"
            print(f"stableviton: {line}", file=sys.stderr, flush=True)
        if not self.yes:
            if not (sys.stdin.isatty() and sys.stderr.isatty()):
                raise WeightsUnavailable(
                    "nothing is downloaded without consent, and there is no terminal to ask on: pass --yes to agree "
                    "to the download and its licence."
                )
            total = human_size(sum(download.size or 0 for download in downloads))
            print(f"Download {total} and accept the licence? [y/N] ", end="", file=sys.stderr, flush=True)
            if sys.stdin.readline().strip().lower() not in ("y", "yes"):
                raise WeightsUnavailable(
                    "nothing was downloaded, as you wish: --model takes a folder or checkpoint file of your own."
                )
        self.given += downloads


def human_size(size: int | None) -> str:
    if size is None:
        return "of unknown size"
    return f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.0f} MB"


@contextlib.contextmanager
def filter_log(keep: Callable[[logging.LogRecord], object]) -> Iterator[None]:
    """For a while, show only those of this package's log messages that `keep` returns something true for."""
    handlers = list(logging.getLogger("stableviton_sdk").handlers)
    for handler in handlers:
        handler.addFilter(keep)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(keep)


@contextlib.contextmanager
def bars_on_terminals_only() -> Iterator[None]:
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
