"""What several commands share: devices, number types, and asking before anything is downloaded."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..errors import InvalidInput, WeightsUnavailable

if TYPE_CHECKING:
    import torch

CATEGORIES = ("upper", "lower", "dress")
DTYPES = ("fp16", "bf16", "fp32")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps …; default: cuda or mps where there is one, else cpu")


def add_consent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="download what is missing, and accept its licence, unasked")


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
    from ..conversion.convert import DTYPES

    return DTYPES[name or ("fp16" if device.type == "cuda" else "fp32")]


def ask_to_download(what: str, size: int | None, licence: str, *, yes: bool) -> None:
    """Say what is about to be downloaded, and ask, before the first byte.

    Args:
        what (`str`): What, and where from.
        size (`int`, *optional*): Bytes; None if the Hub doesn't say.
        licence (`str`): Of the weights.
        yes (`bool`): Consent was given on the command line.

    Raises:
        `WeightsUnavailable`: if the answer is no, or there is no terminal to ask on.
    """
    amount = "size unknown" if size is None else f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.0f} MB"
    print(f"stableviton: to download: {what}, {amount}; licence: {licence}", file=sys.stderr, flush=True)
    if yes:
        return
    if not sys.stdin.isatty():
        raise WeightsUnavailable(
            "nothing is downloaded without consent, and there is no terminal to ask on: pass --yes to agree to the "
            "download and its licence."
        )
    print("Download it and accept the licence? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise WeightsUnavailable(
            "nothing was downloaded, as you wish: pass --model with a folder or file that is here already."
        )


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
