"""Errors of the Hub's client and of the disk as this package's own, one sentence each."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from ..errors import InvalidInput, TryOnError, WeightsUnavailable, reason_of

# By name, because the client's HTTP library has changed before.
UNREACHABLE = {"TransportError", "OfflineModeIsEnabled", "LocalEntryNotFoundError", "FileMetadataError"}
NO_SUCH_FILE = {"RevisionNotFoundError", "EntryNotFoundError"}
BROKEN = {"RemoteProtocolError", "ReadError", "WriteError"}
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def cause_chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        yield link
        seen.append(link)
        link = link.__cause__ or link.__context__


def is_unreachable(error: BaseException) -> bool:
    """Whether the Hub itself gave no answer."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & UNREACHABLE) or isinstance(error, (ConnectionError, TimeoutError))


def can_use_cache(error: BaseException) -> bool:
    """Whether what is in the cache still serves: the Hub can't be reached, or refuses to answer.

    So a repository that was deleted or closed goes on working where it was downloaded before.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    return is_unreachable(error) or (http_status(error) is not None and not names & NO_SUCH_FILE)


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk, or the user's share of it, is full."""
    return any(
        (isinstance(link, OSError) and link.errno in DISK_FULL)
        or any(f"os error {number}" in str(link) for number in DISK_FULL)  # compiled libraries pass the text only on
        for link in cause_chain(error)
    )


def http_status(error: BaseException) -> int | None:
    """Status of the answer that an error was made of."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def as_sdk_error(error: BaseException, what: str, action: str = "downloaded") -> TryOnError:
    """Make one sentence of an error.

    Args:
        error (`BaseException`): Exception of the Hub's client or the disk.
        what (`str`): Name of the thing, the sentence's subject.
        action (`str`, *optional*, defaults to `"downloaded"`): Participle of what failed.

    Returns:
        `TryOnError`: to raise from `error`.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, TryOnError):
        return error
    if isinstance(error, HFValidationError):
        return InvalidInput(f"{what}: that is no name of a repository; pass owner/name.")
    if is_disk_full(error):
        return WeightsUnavailable(
            f"{what}: the disk is full; make room, or set HF_HOME (or cache_dir=) to another one."
        )
    if isinstance(error, GatedRepoError):
        return WeightsUnavailable(
            f"{what}: access is restricted; accept its terms on its page and log in (hf auth login)."
        )
    if isinstance(error, RepositoryNotFoundError):
        return WeightsUnavailable(
            f"{what}: there is no such repository, or it is private; check the name, or log in (hf auth login)."
        )
    if isinstance(error, RevisionNotFoundError):
        return WeightsUnavailable(f"{what}: there is no such revision; check revision=.")
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return WeightsUnavailable(f"{what}: there is no such file in the repository; it may have moved.")
    if isinstance(error, LocalTokenNotFoundError) or http_status(error) in (401, 403):
        return WeightsUnavailable(f"{what}: access is denied; log in with a token that may do this (hf auth login).")
    if isinstance(error, PermissionError):
        return WeightsUnavailable(
            f"{what}: {error.filename} can't be written; set HF_HOME (or cache_dir=) to a folder that can."
        )
    for link in cause_chain(error):
        if (status := http_status(link)) is not None:
            return WeightsUnavailable(
                f"{what} can't be {action}: the Hub answers with HTTP {status}; try again later."
            )
        if type(link).__name__ in ("FileMetadataError", "JSONDecodeError"):
            return WeightsUnavailable(
                f"{what} can't be {action}: what answers is not the Hub; check the network's login page or proxy, "
                "and HF_ENDPOINT."
            )
        if type(link).__name__ in BROKEN or "Consistency check" in str(link):
            return WeightsUnavailable(f"{what} can't be {action}: the connection broke off; try again.")
    if any(is_unreachable(link) for link in cause_chain(error)):
        return WeightsUnavailable(f"{what} can't be {action}: there is no connection to the Hub; check the network.")
    return WeightsUnavailable(f"{what} could not be {action} ({type(error).__name__}: {reason_of(error)}): try again.")
