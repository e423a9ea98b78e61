"""The authors' checkpoints, downloaded, converted once, and kept beside the Hub's cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from logging import Logger
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from diffusers.utils import logging
from safetensors import SafetensorError

from ..dtypes import DTYPES, resolve_dtype
from ..errors import InvalidInput, WeightsUnavailable, reason_of
from ..files import remove_leftovers, write_text_atomically
from ..hub import download as hub
from ..hub.errors import is_disk_full
from ..hub.known_repos import Checkpoint, KnownRepo
from . import convert_checkpoint

logger: Logger = logging.get_logger(__name__)

ArchitectureOverride = Mapping[str, Mapping[str, Any]]


def fetch_converted(
    repo: KnownRepo,
    *,
    checkpoint: str | None = None,
    architecture: ArchitectureOverride | None = None,
    dtype: Any = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool | None = None,
    force_download: bool = False,
) -> Path:
    """The converted folder of an authors' checkpoint; downloads and converts it the first time.

    What was converted is found by the checkpoint's content, so a new commit that leaves the checkpoint alone costs
    nothing. It is also found without a network, and after the checkpoint was deleted to save room.

    Args:
        repo (`KnownRepo`): Repository of the checkpoint.
        checkpoint (`str`, *optional*): Which of its checkpoints.
        architecture (`Mapping`, *optional*): What shapes don't determine; see `conversion.infer_architecture`.
        dtype (`torch.dtype`, *optional*):
            Type to store the weights in; float32 by default, and where they are to be loaded in several types.
        revision, cache_dir, token, local_files_only, force_download: See `hub.fetch_file`.

    Returns:
        `Path`: a folder in this package's layout.

    Raises:
        `WeightsUnavailable`, `IncompatibleCheckpoint`, `InvalidInput`: one sentence on what failed.
    """
    name, entry = repo.pick(checkpoint)
    stored = resolve_dtype(dtype) if isinstance(dtype, (torch.dtype, str)) else torch.float32
    overrides = merge_architecture(architecture, entry)
    hub_options = {
        "repo_type": repo.repo_type,
        "revision": revision,
        "cache_dir": cache_dir,
        "token": token,
        "local_files_only": local_files_only,
    }
    repo_cache = hub.sdk_cache(cache_dir) / "converted" / f"{repo.repo_type}--{repo.repo_id.replace('/', '--')}"
    variant = next(key for key, value in DTYPES.items() if value == stored)
    if architecture:
        variant += "-" + hashlib.sha256(json.dumps(overrides, sort_keys=True, default=str).encode()).hexdigest()[:8]

    def converted(etag: str) -> Path:
        return repo_cache / f"{name}-{variant}" / etag[:16]

    # Holds which content a revision stood for: all that is needed without a network, or for a pinned commit.
    revision_file = repo_cache / "revisions" / f"{name}@{quote(revision or 'main', safe='')}"
    if not force_download:
        etag = _current_etag(repo.repo_id, entry.filename, hub_options, revision_file)
        if etag and converted(etag).is_dir():
            _write(revision_file, etag)
            return converted(etag)
    logger.warning(f"Weights of {repo.repo_id}, {name}: licence {repo.licence}.")
    path = hub.fetch_file(
        repo.repo_id,
        entry.filename,
        **hub_options,
        sha256=entry.sha256 if revision is None else None,  # another revision is the caller's own choice
        force_download=force_download,
        extra_space_ratio=stored.itemsize / 4,
        verify_cached=True,
    )
    etag = hub.content_id(path)
    target = converted(etag)
    try:
        _convert_once(path, target, stored, overrides, repo.licence, again=force_download)
    except WeightsUnavailable:
        raise
    except Exception as error:
        if not isinstance(error, OSError | SafetensorError):
            raise
        reason = "the disk is full" if is_disk_full(error) else reason_of(error)
        raise WeightsUnavailable(
            f"{repo.repo_id} was downloaded but can't be converted in {repo_cache}: {reason}; make room, or set "
            "HF_HOME (or cache_dir=) to a folder on another disk."
        ) from error
    _write(revision_file, etag)
    return target


def _current_etag(repo_id: str, filename: str, hub_options: Mapping[str, Any], revision_file: Path) -> str | None:
    """What identifies the checkpoint's content: by the Hub, the Hub's cache, or as recorded when it was last used."""
    recorded = _read(revision_file)
    if recorded and hub.is_commit(hub_options["revision"]):
        return recorded
    try:
        return hub.file_etag(repo_id, filename, **hub_options) or recorded
    except WeightsUnavailable as error:
        if recorded is None:
            raise
        logger.warning(f"{error} What was converted before is used.")
        return recorded


def _convert_once(
    path: Path, target: Path, dtype: torch.dtype, overrides: ArchitectureOverride, licence: str, again: bool
) -> None:
    from huggingface_hub.utils import WeakFileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(target.parent / f".{target.name}.lock"):
        if target.is_dir() and not again:  # another process has converted it meanwhile
            return
        remove_leftovers(target.parent, target.name)  # of a process that was killed: whoever works holds the lock
        if target.is_dir():
            shutil.rmtree(target)
        report = convert_checkpoint(path, target, dtype=dtype, architecture=overrides, licence=licence)
        if report.foreign_line():
            logger.warning(f"{path.name}: {report.foreign_line()}")


def merge_architecture(architecture: ArchitectureOverride | None, entry: Checkpoint) -> dict[str, dict[str, Any]]:
    """What the registry knows about a checkpoint, and the caller's own on top.

    Raises:
        `InvalidInput`: if the caller's own is no mapping of mappings.
    """
    if architecture is not None and not (
        isinstance(architecture, Mapping) and all(isinstance(options, Mapping) for options in architecture.values())
    ):
        raise InvalidInput(
            "architecture is no mapping of mappings: pass options by component, such as "
            '{"garment_encoder": {"num_attention_heads": 16}}.'
        )
    overrides: dict[str, dict[str, Any]] = {"unet": {"sample_size": [side // 8 for side in entry.size]}}
    for component, options in (architecture or {}).items():
        overrides[component] = {**overrides.get(component, {}), **options}
    return overrides


def _read(revision_file: Path) -> str | None:
    try:
        return revision_file.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def _write(revision_file: Path, etag: str) -> None:
    """Best effort: a cache that can't be written to still serves."""
    if _read(revision_file) == etag:
        return
    try:
        revision_file.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(revision_file, etag)
    except OSError:
        logger.info(
            f"{revision_file} can't be written: without a network, these weights won't be found by their revision."
        )
