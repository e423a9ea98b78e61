"""Downloads from the Hub: cached, checked, and one sentence on failure."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, WeightsUnavailable
from ..files import file_sha256, format_bytes
from .errors import as_sdk_error, can_use_cache
from .known_repos import KNOWN_REPOS
from .layout import SAFE, missing_file, read_index, refuse_incomplete, select_files

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

FORCED_OFFLINE = "force_download=True needs a network: leave it out, or leave the offline mode."


def hub_cache(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The Hub client's cache, or `cache_dir`."""
    from huggingface_hub import constants

    return Path(cache_dir or constants.HF_HUB_CACHE).expanduser().resolve()


def sdk_cache(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where converted weights are kept: beside the Hub's cache, or inside of one that was moved elsewhere."""
    from huggingface_hub import constants

    home, cache = Path(constants.HF_HOME).resolve(), hub_cache(cache_dir)
    return (home if cache == home / "hub" else cache) / "stableviton_sdk"


def is_offline(local_files_only: bool | None = None) -> bool:
    """Whether downloading is off, by argument or by `HF_HUB_OFFLINE`."""
    from huggingface_hub import constants

    return bool(local_files_only or constants.HF_HUB_OFFLINE)


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a whole commit hash, whose files never change."""
    return revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def fetch_file(
    repo_id: str,
    filename: str,
    *,
    repo_type: str = "model",
    revision: str | None = None,
    sha256: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool | None = None,
    force_download: bool = False,
    extra_space_ratio: float = 0.0,
    verify_cached: bool = False,
) -> Path:
    """Get one file from the Hub's cache, or download it; a download is checked before it is used.

    Args:
        repo_id (`str`), filename (`str`), repo_type (`str`), revision (`str`, *optional*): Which file.
        sha256 (`str`, *optional*):
            Checksum or its beginning that the file must have, besides the one that the Hub's metadata states.
        cache_dir, token, local_files_only, force_download: See `huggingface_hub.hf_hub_download`.
        extra_space_ratio (`float`, *optional*, defaults to 0.0):
            Space needed on the disk afterwards, as a share of the file.
        verify_cached (`bool`, *optional*, defaults to `False`): Check the file even if it was in the cache.

    Returns:
        `Path`: the file in the cache.

    Raises:
        `WeightsUnavailable`: one sentence on what failed; a damaged file doesn't stay in the cache.
        `InvalidInput`: if the repository's name is none, or a download is forced in offline mode.
    """
    from huggingface_hub import hf_hub_download

    what = _describe(repo_id, filename, repo_type)
    offline = is_offline(local_files_only)
    if offline and force_download:
        raise InvalidInput(FORCED_OFFLINE)
    hub_file = {"repo_id": repo_id, "filename": filename, "repo_type": repo_type, "cache_dir": hub_cache(cache_dir)}
    cached = None if force_download else _cached(hub_file, revision)
    etag, size, answered = _blob_name(cached), 0, False
    if not offline and not (etag and is_commit(revision)):
        try:
            metadata = _metadata(repo_id, filename, repo_type, revision, token)
        except Exception as error:
            if cached is None or not can_use_cache(error):
                raise as_sdk_error(error, what) from error
        else:
            etag, size, answered = metadata.etag, metadata.size or 0, True
            cached = None if force_download else _cached(hub_file, metadata.commit_hash)
            if sha256 and _is_sha256(etag) and not etag.startswith(sha256):
                raise WeightsUnavailable(
                    f"{what} has changed: the Hub states the sha256 {etag[:12]}…, where stableviton_sdk knows "
                    f"{sha256[:12]}…; update the package, or pass revision={metadata.commit_hash!r} to trust it."
                )
    if cached is None and not answered:
        raise WeightsUnavailable(f"{what} is not in the cache and downloading is off: run once with a network first.")
    # Stands while a download hasn't been checked, so that one that was cut off just then is checked the next time.
    unchecked = sdk_cache(cache_dir) / "unchecked" / f"{_repo_folder(hub_file).name}--{etag}"
    if cached is not None and (verify_cached or unchecked.exists()):
        if has_expected_hash(cached, etag, sha256):
            unchecked.unlink(missing_ok=True)
        else:
            _delete(cached)
            if not answered:
                raise WeightsUnavailable(f"{what} was damaged in the cache and is deleted now: try again.")
            cached = None
    if cached is not None and not answered:
        return cached
    try:
        if cached is None:
            downloaded = not force_download and (_repo_folder(hub_file) / "blobs" / str(etag)).exists()
            check_space(hub_file["cache_dir"], size * (extra_space_ratio + (not downloaded)), what)
            unchecked.parent.mkdir(parents=True, exist_ok=True)
            unchecked.touch()
        # For a cached file the client only records which commit the revision is, so that it is found offline.
        path = Path(hf_hub_download(**hub_file, revision=revision, token=token, force_download=force_download))
    except Exception as error:
        raise as_sdk_error(error, what) from error
    if path != cached:
        if not has_expected_hash(path, _blob_name(path) or etag, sha256):
            _delete(path)
            raise WeightsUnavailable(f"{what} arrived damaged (its checksum is wrong) and was deleted: try again.")
        unchecked.unlink(missing_ok=True)
    return path


def file_etag(
    repo_id: str,
    filename: str,
    *,
    repo_type: str = "model",
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool | None = None,
) -> str | None:
    """What identifies a file's content (its sha256, for large files): by the Hub or, without it, by the cache.

    Arguments and errors as for `fetch_file`.

    Returns:
        `str` or None: None if neither knows.
    """
    if not is_offline(local_files_only):
        try:
            return _metadata(repo_id, filename, repo_type, revision, token).etag
        except Exception as error:
            if not can_use_cache(error):
                raise as_sdk_error(error, _describe(repo_id, filename, repo_type)) from error
    hub_file = {"repo_id": repo_id, "filename": filename, "repo_type": repo_type, "cache_dir": hub_cache(cache_dir)}
    return _blob_name(_cached(hub_file, revision))


def fetch_folder(
    repo_id: str,
    *,
    variant: str | None = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool | None = None,
    force_download: bool = False,
    check_index: Callable[[dict[str, Any]], None] | None = None,
    skip: Collection[str] = (),
    require_complete: bool = False,
    formats: Collection[str] = SAFE,
) -> Path:
    """Get a pipeline's repository: its configurations and the weights of one variant.

    Arguments as for `fetch_file`; `variant` as for diffusers' `from_pretrained`.

    Args:
        check_index (`Callable[[dict], None]`, *optional*):
            Called with the content of model_index.json before anything else is downloaded, to refuse it.
        skip (`Collection[str]`, *optional*): Components that aren't needed.
        require_complete (`bool`, *optional*, defaults to `False`):
            Refuse what lacks a component or its weights, before it is downloaded.
        formats (`Collection[str]`, *optional*, defaults to `SAFE`): Endings of weight files that may be downloaded.

    Returns:
        `Path`: the snapshot's folder in the cache.

    Raises:
        `WeightsUnavailable`: one sentence on what failed.
        `InvalidInput`: if the repository is no pipeline, or doesn't have the variant.
    """
    from huggingface_hub import HfApi, constants, hf_hub_download

    what = f"the repository {repo_id}"
    offline = is_offline(local_files_only)
    if offline and force_download:
        raise InvalidInput(FORCED_OFFLINE)
    hub_file = {"repo_id": repo_id, "repo_type": "model", "cache_dir": hub_cache(cache_dir)}
    failure: Exception = WeightsUnavailable(
        f"{repo_id} is not in the cache and downloading is off: run once with a network first, "
        "or pass the path of a local folder."
    )
    info = None
    if not offline:
        try:
            api = HfApi(token=token)
            info = api.model_info(
                repo_id, revision=revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
            )
        except Exception as error:
            failure = as_sdk_error(error, what)
            if force_download or not can_use_cache(error):
                raise failure from error
    if info is None:
        index = _cached({**hub_file, "filename": "model_index.json"}, revision)
        if index is None:
            raise failure
        if check_index:
            check_index(read_index(index.parent))
        missing = missing_file(index.parent, variant, skip, formats) if require_complete else None
        if missing:
            raise WeightsUnavailable(
                f"{repo_id} is only in part in the cache ({missing} is missing) and can't be downloaded now: "
                "run once with a network."
            )
        return index.parent
    sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}
    if "model_index.json" not in sizes:
        raise InvalidInput(
            f"{repo_id} holds no model_index.json, so it isn't in this package's layout: pass another repository "
            f"(known ones in the authors' layout: {', '.join(KNOWN_REPOS)})."
        )
    options = {"revision": info.sha, "cache_dir": cache_dir, "token": token, "force_download": force_download}
    index = fetch_file(repo_id, "model_index.json", **options)
    content = read_index(index.parent)
    if check_index:
        check_index(content)
    if require_complete:
        refuse_incomplete(repo_id, content, list(sizes), variant, skip, formats)
    unwanted = {"model_index.json", *skip}
    names = [name for name in select_files(sizes, variant, formats) if name.split("/")[0] not in unwanted]
    absent = [name for name in names if force_download or _cached({**hub_file, "filename": name}, info.sha) is None]
    check_space(hub_file["cache_dir"], sum(sizes[name] for name in absent), what)
    for name in names:
        fetch_file(repo_id, name, **options)
    # All is there: let the client record which commit the revision is, so that it is found offline.
    try:
        recorded = hf_hub_download(**hub_file, filename="model_index.json", revision=revision, token=token)
    except Exception as error:
        raise as_sdk_error(error, what) from error
    if Path(recorded).parent != index.parent:
        raise WeightsUnavailable(f"{repo_id} changed while it was downloaded: try again.")
    return index.parent


def content_id(path: Path) -> str:
    """What identifies a cached file's content: its etag, or where the cache has no links its sha256."""
    return _blob_name(path) or file_sha256(path)


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
            f"{what} needs {format_bytes(needed)} on the disk of {folder}, which has {format_bytes(free)} left: "
            "make room, or set HF_HOME (or cache_dir=) to another disk."
        )


def has_expected_hash(path: Path, etag: str | None, sha256: str | None = None) -> bool:
    """Whether a file has the content that its checksums promise.

    Args:
        path (`Path`): The file.
        etag (`str`, *optional*):
            What the Hub names it by: the sha256 of large files, git's hash of small ones; else nothing to check.
        sha256 (`str`, *optional*): The sha256, or its beginning.
    """
    from huggingface_hub.utils import tqdm

    if not path.is_file():
        return False  # another process has found it damaged
    size = path.stat().st_size
    large, git, plain = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size), hashlib.sha1()
    by_sha256 = sha256 is not None or _is_sha256(etag)
    by_sha1 = etag is not None and re.fullmatch(r"[0-9a-f]{40}", etag) is not None
    hashers = [large] * by_sha256 + [git, plain] * by_sha1
    if hashers:
        with path.open("rb") as stream, tqdm(total=size, unit="B", unit_scale=True, desc="Checking", delay=1) as bar:
            while block := stream.read(2**22):
                for hasher in hashers:
                    hasher.update(block)
                bar.update(len(block))
    if by_sha1 and etag not in (git.hexdigest(), plain.hexdigest()):  # some mirrors state the plain one
        return False
    if _is_sha256(etag) and etag != large.hexdigest():
        return False
    return sha256 is None or large.hexdigest().startswith(sha256)


def _describe(repo_id: str, filename: str, repo_type: str) -> str:
    return f"{filename} of {'' if repo_type == 'model' else f'{repo_type}s/'}{repo_id}"


def _metadata(
    repo_id: str, filename: str, repo_type: str, revision: str | None, token: str | bool | None
) -> HfFileMetadata:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import FileMetadataError

    url = hf_hub_url(repo_id, filename, repo_type=repo_type, revision=revision)
    metadata = get_hf_file_metadata(url, token=token, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    if metadata.commit_hash is None or metadata.etag is None:
        raise FileMetadataError("the answer lacks what the Hub states of a file")
    return metadata


def _cached(hub_file: Mapping[str, Any], revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(**hub_file, revision=revision)
    except HFValidationError as error:
        raise as_sdk_error(error, str(hub_file["repo_id"])) from error
    return Path(found) if isinstance(found, str) else None


def _repo_folder(hub_file: Mapping[str, Any]) -> Path:
    return hub_file["cache_dir"] / f"{hub_file['repo_type']}s--{hub_file['repo_id'].replace('/', '--')}"


def _blob_name(path: Path | None) -> str | None:
    """The etag that a cached file was stored by; None where the file system has no links."""
    return Path(os.readlink(path)).name if path is not None and path.is_symlink() else None


def _delete(path: Path) -> None:
    """Delete a cached file, not just the link to it."""
    doomed = [path]
    while doomed[-1].is_symlink():
        doomed.append(doomed[-1].parent / os.readlink(doomed[-1]))
    for entry in doomed:
        entry.unlink(missing_ok=True)


def _is_sha256(etag: str | None) -> bool:
    return re.fullmatch(r"[0-9a-f]{64}", etag or "") is not None
