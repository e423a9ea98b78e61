"""Addresses of files on the Hub, as its pages show them, taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ..errors import InvalidInput

HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
PATH = re.compile(r"/(?:(spaces|datasets)/)?([^/]+/[^/]+)/(?:blob|resolve|raw)/([^/]+)/(.+)")


@dataclass(frozen=True)
class HubFile:
    """A file on the Hub.

    Args:
        repo_id (`str`): Owner and name.
        filename (`str`): Path in the repository.
        revision (`str`): Branch, tag or commit.
        repo_type (`str`): `"model"`, `"space"` or `"dataset"`.
    """

    repo_id: str
    filename: str
    revision: str
    repo_type: str


def parse_address(address: str) -> HubFile | None:
    """The file that an address names; None for what is no address.

    Args:
        address (`str`): Such as `https://huggingface.co/owner/name/blob/main/model.ckpt`.

    Raises:
        `InvalidInput`: for an address of anything else.
    """
    from huggingface_hub import constants

    if address.split("/")[0] in HOSTS:
        address = f"https://{address}"
    if not re.match(r"https?://", address):
        return None
    parts = urlsplit(address)
    match = PATH.fullmatch(parts.path)
    if match is None or parts.netloc not in (*HOSTS, urlsplit(constants.ENDPOINT).netloc):
        raise InvalidInput(
            f"{address} is no address of a file on the Hub (https://huggingface.co/owner/name/blob/main/file): "
            "download it and pass its path."
        )
    kind, repo_id, revision, filename = match.groups()
    return HubFile(repo_id, unquote(filename), unquote(revision), (kind or "models").removesuffix("s"))
