"""The weights that exist in the world, and how they get here: download, check, cache, and one sentence on failure."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import InvalidInput, WeightsUnavailable

AUTHORS_LICENCE = (
    "CC BY-NC-SA 4.0: non-commercial use only, with attribution, share alike "
    "(https://creativecommons.org/licenses/by-nc-sa/4.0/)"
)


@dataclass(frozen=True)
class Checkpoint:
    """One file of a repository that isn't in our layout.

    Args:
        filename (`str`): Path in the repository.
        size (`tuple[int, int]`): Height and width in pixels that it was trained at.
        sha256 (`str`, *optional*): Its checksum, or the beginning of it.
    """

    filename: str
    size: tuple[int, int] = (512, 384)
    sha256: str | None = None


@dataclass(frozen=True)
class KnownRepo:
    """A repository in the authors' layout.

    Args:
        repo_id (`str`): Owner and name.
        licence (`str`): Shown when the weights are downloaded.
        checkpoints (`Mapping[str, Checkpoint]`): By name; the first is the default.
        repo_type (`str`, *optional*, defaults to `"model"`): `"model"` or `"space"`.
    """

    repo_id: str
    licence: str
    checkpoints: Mapping[str, Checkpoint]
    repo_type: str = "model"

    def pick(self, checkpoint: str | None) -> tuple[str, Checkpoint]:
        """The named checkpoint, or the default one."""
        name = checkpoint or next(iter(self.checkpoints))
        if name not in self.checkpoints:
            raise InvalidInput(
                f"{self.repo_id} has no checkpoint {name!r}: pass checkpoint= one of {', '.join(self.checkpoints)}."
            )
        return name, self.checkpoints[name]


# By the name that users pass to `from_pretrained`; spaces have the prefix that they have in the Hub's addresses.
KNOWN_REPOS: dict[str, KnownRepo] = {
    "rlawjdghek/StableVITON": KnownRepo(
        "rlawjdghek/StableVITON", AUTHORS_LICENCE, {"VITONHD": Checkpoint("ckpts/VITONHD.ckpt")}
    ),
    "spaces/rlawjdghek/StableVITON": KnownRepo(
        "rlawjdghek/StableVITON",
        AUTHORS_LICENCE,
        {
            "VITONHD": Checkpoint("checkpoints/VITONHD.ckpt", sha256="d4e44bc5"),
            "VITONHD_1024": Checkpoint("checkpoints/VITONHD_1024.ckpt", (1024, 768), sha256="b6f9c91d"),
        },
        repo_type="space",
    ),
    "takesuke/SIFT-VTON": KnownRepo(
        "takesuke/SIFT-VTON",
        "see the model page, https://huggingface.co/takesuke/SIFT-VTON (built on StableVITON: non-commercial)",
        {"SIFT-VTON": Checkpoint("model.ckpt")},
    ),
}


def known_repo(name: str | os.PathLike) -> KnownRepo | None:
    """The repository in the authors' layout that goes by this name, or None."""
    return KNOWN_REPOS.get(os.fspath(name))


def sdk_cache(cache_dir: str | os.PathLike | None = None) -> Path:
    """Where converted weights are kept: beside the Hub's cache, or in `cache_dir`."""
    from huggingface_hub import constants

    return (Path(cache_dir) if cache_dir else Path(constants.HF_HOME)) / "stableviton_sdk"


def fetch_file(
    repo_id: str,
    filename: str,
    *,
    repo_type: str = "model",
    revision: str | None = None,
    sha256: str | None = None,
    cache_dir: str | os.PathLike | None = None,
    token: str | bool | None = None,
    local_files_only: bool | None = None,
    force_download: bool = False,
    extra_space: float = 0.0,
) -> Path:
    """Get one file from the Hub's cache, or download and check it.

    Args:
        repo_id (`str`), filename (`str`), repo_type (`str`), revision (`str`, *optional*): Which file.
        sha256 (`str`, *optional*):
            Checksum or its beginning that the file must have, besides the one that the Hub's metadata states.
        cache_dir, token, local_files_only, force_download: As for `huggingface_hub.hf_hub_download`.
        extra_space (`float`, *optional*, defaults to 0.0): Room needed on the disk afterwards, as a share of the file.

    Returns:
        `Path`: the file in the cache.

    Raises:
        `WeightsUnavailable`: one sentence on what failed; a damaged download doesn't stay in the cache.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    what = f"{filename} of {_page(repo_id, repo_type)}"
    place = {"repo_id": repo_id, "filename": filename, "repo_type": repo_type, "cache_dir": cache_dir}
    if local_files_only or constants.HF_HUB_OFFLINE:
        cached = try_to_load_from_cache(**place, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
        raise WeightsUnavailable(f"{what} is not in the cache and downloading is off: run once with a network first.")
    try:
        url = hf_hub_url(repo_id, filename, repo_type=repo_type, revision=revision)
        metadata = get_hf_file_metadata(url, token=token)
    except Exception as error:
        cached = None if force_download else try_to_load_from_cache(**place, revision=revision)
        if isinstance(cached, str) and _is_connection_error(error):
            return Path(cached)
        raise _translate(error, what) from error
    cached = try_to_load_from_cache(**place, revision=metadata.commit_hash)
    if isinstance(cached, str) and not force_download:
        return Path(cached)
    folder = Path(cache_dir or constants.HF_HUB_CACHE)
    check_space(folder, (metadata.size or 0) * (1 + extra_space), what)
    try:
        path = Path(hf_hub_download(**place, revision=revision, token=token, force_download=force_download))
    except Exception as error:
        raise _translate(error, what) from error
    for expected in (metadata.etag, sha256):
        if expected and re.fullmatch(r"[0-9a-f]{8,64}", expected) and (expected == sha256 or len(expected) == 64):
            _verify(path, expected, what)
    return path


def latest_commit(repo_id: str, filename: str, repo_type: str, place: Mapping[str, Any]) -> str | None:
    """Commit that a revision stands for, by the Hub or, without a network, by the cache; None if neither knows."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    if not (place["local_files_only"] or constants.HF_HUB_OFFLINE):
        url = hf_hub_url(repo_id, filename, repo_type=repo_type, revision=place["revision"])
        try:
            return get_hf_file_metadata(url, token=place["token"]).commit_hash
        except Exception as error:
            if not _is_connection_error(error):
                raise _translate(error, f"{filename} of {_page(repo_id, repo_type)}") from error
    cached = try_to_load_from_cache(
        repo_id, filename, cache_dir=place["cache_dir"], revision=place["revision"], repo_type=repo_type
    )
    return Path(cached).parents[filename.count("/")].name if isinstance(cached, str) else None


def fetch_folder(
    repo_id: str,
    *,
    variant: str | None = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike | None = None,
    token: str | bool | None = None,
    local_files_only: bool | None = None,
    force_download: bool = False,
) -> Path:
    """Get a repository in our layout: its configurations and the weights of one variant.

    Arguments as for `fetch_file`; `variant` as for diffusers' `from_pretrained`.

    Returns:
        `Path`: the snapshot's folder in the cache.

    Raises:
        `WeightsUnavailable`: one sentence on what failed.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    what = f"the repository {repo_id}"
    info = None
    if not (local_files_only or constants.HF_HUB_OFFLINE):
        try:
            info = HfApi(token=token).model_info(repo_id, revision=revision)
        except Exception as error:
            if not _is_connection_error(error):
                raise _translate(error, what) from error
            failure = error
    if info is None:
        try:
            folder = snapshot_download(repo_id, revision=revision, cache_dir=cache_dir, local_files_only=True)
        except Exception as error:
            if local_files_only or constants.HF_HUB_OFFLINE:
                raise WeightsUnavailable(
                    f"{repo_id} is not in the cache and downloading is off: run once with a network first, "
                    "or pass the path of a local folder."
                ) from error
            raise _translate(failure, what) from error
        return Path(folder)
    files = [sibling.rfilename for sibling in info.siblings or []]
    if "model_index.json" not in files:
        known = ", ".join(KNOWN_REPOS)
        raise WeightsUnavailable(
            f"{repo_id} holds no model_index.json, so it isn't in this package's layout: pass another repository "
            f"(known ones in the authors' layout: {known})."
        )
    folders = {
        fetch_file(
            repo_id,
            name,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            force_download=force_download,
        ).parents[name.count("/")]
        for name in select_files(files, variant)
    }
    if len(folders) != 1:
        raise WeightsUnavailable(f"{repo_id} changed while it was downloaded: try again.")
    return folders.pop()


def select_files(files: list[str], variant: str | None) -> list[str]:
    """The files of a pipeline repository that one variant needs: configurations, and safetensors weights.

    A component without weights of the variant comes in its plain ones, as diffusers loads it.
    """
    chosen = [name for name in files if name.endswith(".json") and ".index." not in name and name.count("/") <= 1]
    chosen += [name for name in ("README.md", "LICENSE") if name in files]
    weights: dict[str, dict[str | None, list[str]]] = {}
    for name in files:
        folder, _, base = name.rpartition("/")
        match = re.fullmatch(
            r"[^.]+?(?:\.([^.-]+))?(?:-\d+-of-\d+)?\.safetensors(?:\.index(?:\.([^.]+))?\.json)?", base
        )
        if match and name.count("/") == 1:
            weights.setdefault(folder, {}).setdefault(match[1] or match[2], []).append(name)
    for variants in weights.values():
        chosen += variants.get(variant) or variants.get(None) or []
    return chosen


def check_space(folder: Path, needed: float, what: str) -> None:
    """
    Raises:
        `WeightsUnavailable`: if the folder's disk has less than `needed` bytes left.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise WeightsUnavailable(
            f"{what} needs {needed / 1e9:.1f} GB on the disk of {folder}, which has {free / 1e9:.1f} GB left: "
            "make room, or set HF_HOME (or cache_dir=) to another disk."
        )


def _verify(path: Path, expected: str, what: str) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(2**22):
            digest.update(block)
    if not digest.hexdigest().startswith(expected):
        blob = path.resolve()
        path.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)
        raise WeightsUnavailable(
            f"{what} arrived damaged (its sha256 is {digest.hexdigest()[:12]}…, not {expected[:12]}…) "
            "and was deleted: try again."
        )


def _page(repo_id: str, repo_type: str) -> str:
    return f"{repo_type}s/{repo_id}" if repo_type != "model" else repo_id


def _is_connection_error(error: BaseException) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    offline = {"ConnectError", "NetworkError", "TimeoutException", "OfflineModeIsEnabled", "LocalEntryNotFoundError"}
    return bool(names & offline) or isinstance(error, (ConnectionError, TimeoutError))


def _translate(error: Exception, what: str) -> WeightsUnavailable:
    """One sentence for whatever the Hub's client or the disk said."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    chain: list[Any] = [error]
    while chain[-1] is not None and len(chain) < 10:
        chain.append(chain[-1].__cause__ or chain[-1].__context__)
    if any(isinstance(link, OSError) and link.errno == errno.ENOSPC for link in chain):
        return WeightsUnavailable(
            f"{what}: the disk is full; make room, or set HF_HOME (or cache_dir=) to another one."
        )
    if isinstance(error, GatedRepoError):
        return WeightsUnavailable(
            f"{what}: access is restricted; accept its terms on its page and log in (hf auth login)."
        )
    if isinstance(error, RepositoryNotFoundError):
        return WeightsUnavailable(f"{what}: there is no such repository, or it is private; check the name, or log in.")
    if isinstance(error, RevisionNotFoundError):
        return WeightsUnavailable(f"{what}: there is no such revision; check revision=.")
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return WeightsUnavailable(f"{what}: there is no such file in the repository; it may have moved.")
    if any(link is not None and _is_connection_error(link) for link in chain):
        return WeightsUnavailable(f"{what} can't be downloaded: there is no connection to the Hub; check the network.")
    return WeightsUnavailable(f"{what} could not be downloaded ({type(error).__name__}: {error}): try again.")
