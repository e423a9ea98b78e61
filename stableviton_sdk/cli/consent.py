"""Consent to downloads: what is missing, how large it is and under which licence, before the first byte."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ..choices import POSE_METHODS
from ..errors import WeightsUnavailable
from ..files import format_bytes
from ..hub import pending
from ..hub.download import hub_cache
from ..hub.pending import Download
from .messages import print_message

if TYPE_CHECKING:
    from ..preprocessing.preprocessor import PersonPreprocessor


class Consent:
    """The user's consent to downloads and their licences. One question for each download.

    Args:
        yes (`bool`): Whether it was given on the command line.
    """

    def __init__(self, yes: bool):
        self.yes = yes
        self.given: list[Download] = []

    def ask(self, downloads: list[Download]) -> None:
        """Print what is to be downloaded, and ask for consent unless it was given.

        Args:
            downloads (`list[Download]`): Missing downloads; nothing is printed for an empty list.

        Raises:
            `WeightsUnavailable`: if the answer is no, or there is no terminal to ask on.
        """
        downloads = [download for download in downloads if download not in self.given]
        if not downloads:
            return
        for download in downloads:
            size = "of unknown size" if download.size is None else format_bytes(download.size)
            print_message(f"to download: {download.what}, {size}; licence: {download.licence}")
        print_message(f"kept in {hub_cache()} (HF_HOME moves it), and not downloaded again")
        if not self.yes:
            if not (sys.stdin.isatty() and sys.stderr.isatty()):
                raise WeightsUnavailable(
                    "nothing is downloaded without consent, and there is no terminal to ask on: pass --yes to agree "
                    "to the download and its licence."
                )
            total = format_bytes(sum(download.size or 0 for download in downloads))
            print(f"Download {total} and accept the licence? [y/N] ", end="", file=sys.stderr, flush=True)
            if sys.stdin.readline().strip().lower() not in ("y", "yes"):
                raise WeightsUnavailable(
                    "the download was declined: --model takes a folder or checkpoint file of your own."
                )
        self.given += downloads


def missing_networks(preprocessor: PersonPreprocessor, pose: str | None, wanted: str = "") -> list[Download]:
    """What a preprocessor has to download before it can work.

    Args:
        preprocessor (`PersonPreprocessor`): The preprocessor.
        pose (`str`, *optional*): Pose network that will be used; by default the preprocessor's own choice.
        wanted (`str`, *optional*): Beginning of the names of the networks that will be used; by default all are.
    """
    others = tuple(set(POSE_METHODS) - {pose or preprocessor.config["pose"]})
    downloads = [
        pending.describe_file(source["repo_id"], source["filename"], source.get("repo_type", "model"))
        for name, source in preprocessor.config["weights"].items()
        if source and "repo_id" in source and name.startswith(wanted) and not name.startswith(others)
    ]
    return [download for download in downloads if download is not None]
