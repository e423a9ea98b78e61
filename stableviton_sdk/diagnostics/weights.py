"""Caches, the way to the Hub, and which weights are at hand."""

from __future__ import annotations

import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from ..errors import TryOnError, clipped
from ..files import format_bytes
from ..hub.download import hub_cache, is_offline, sdk_cache
from ..hub.known_repos import KNOWN_REPOS
from .finding import Finding, without_home

SECTION = "weights"
TIMEOUT = 5  # seconds
CHECKPOINT_ROOM = 15 * 10**9  # bytes of the authors' checkpoint and of what it is converted to


def check_weights(can_import_torch: bool = True) -> list[Finding]:
    """Findings about caches, the Hub and weights.

    Args:
        can_import_torch (`bool`, *optional*, defaults to `True`): Whether to load the bundled model.
    """
    findings = [*_check_cache(), _check_hub(), _check_token()]
    if can_import_torch:
        findings += [_check_bundled(), *_check_photo_networks()]
    return [*findings, *_check_authors()]


def _check_cache() -> Iterator[Finding]:
    cache = hub_cache()
    nearest = next(place for place in (cache, *cache.parents) if place.exists())
    free = shutil.disk_usage(nearest).free
    if not os.access(nearest, os.W_OK):
        cure = "set HF_HOME to a folder that can be written to"
        yield Finding(SECTION, "cache", "broken", f"{without_home(nearest)} can't be written to", cure)
        return
    value = f"{without_home(cache)}, {format_bytes(free)} free"
    if free < CHECKPOINT_ROOM:
        value += f"; the authors' weights need up to {format_bytes(CHECKPOINT_ROOM)} while they are converted"
        yield Finding(SECTION, "cache", "warning", value, "make room, or set HF_HOME to a folder on another disk")
    else:
        yield Finding(SECTION, "cache", "ok", value)


def _check_hub() -> Finding:
    from huggingface_hub import constants

    if is_offline():
        return Finding(SECTION, "Hub", "note", "downloading is off (HF_HUB_OFFLINE)", "unset HF_HUB_OFFLINE")
    started = time.perf_counter()
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT):
            pass
    except urllib.error.HTTPError:
        pass  # it has answered
    except (OSError, ValueError) as error:
        cure = "check network and proxy (HTTPS_PROXY); what is in the cache, and the bundled model, work without"
        return Finding(SECTION, "Hub", "note", f"{constants.ENDPOINT} can't be reached ({clipped(str(error))})", cure)
    return Finding(SECTION, "Hub", "ok", f"{constants.ENDPOINT} answers in {time.perf_counter() - started:.1f} s")


def _check_token() -> Finding:
    from huggingface_hub import get_token

    value = "stored" if get_token() else "none; only private and gated repositories need one"
    return Finding(SECTION, "access token", "ok", value)


def _check_bundled() -> Finding:
    try:
        from diffusers.utils import logging

        from ..pipelines.pipeline_tryon import TryOnPipeline

        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            licence = TryOnPipeline.from_bundled().config.weights_licence
        finally:
            if shown:
                logging.enable_progress_bar()
    except Exception as error:  # above all of other packages, when they are imported
        is_own = isinstance(error, TryOnError | OSError)
        cure = "pip install --force-reinstall --no-deps stableviton-sdk" if is_own else None
        return Finding(SECTION, "bundled", "broken", clipped(f"{type(error).__name__}: {error}"), cure)
    return Finding(SECTION, "bundled", "ok", f"loads; licence {licence}")


def _check_photo_networks() -> Iterator[Finding]:
    from huggingface_hub import try_to_load_from_cache

    from ..preprocessing.analyzers.photo import WEIGHTS

    for name, source in WEIGHTS.items():
        where = {**source, "repo_type": source.get("repo_type", "model")}
        if isinstance(try_to_load_from_cache(**where, cache_dir=hub_cache()), str):
            yield Finding(SECTION, name, "ok", "in the cache")
        else:
            yield Finding(SECTION, name, "note", f"not in the cache; downloaded from {source['repo_id']} when needed")


def _check_authors() -> Iterator[Finding]:
    from huggingface_hub import try_to_load_from_cache

    for name, repo in KNOWN_REPOS.items():
        for checkpoint, entry in repo.checkpoints.items():
            folder = sdk_cache() / "converted" / f"{repo.repo_type}--{repo.repo_id.replace('/', '--')}"
            kinds = sorted(path.name.removeprefix(f"{checkpoint}-") for path in folder.glob(f"{checkpoint}-*"))
            cached = try_to_load_from_cache(repo.repo_id, entry.filename, hub_cache(), repo_type=repo.repo_type)
            if kinds:
                value = f"converted to {', '.join(kinds)}"
            elif isinstance(cached, str):
                value = "downloaded, to be converted when first loaded"
            else:
                value = "not here"
            status = "ok" if kinds or isinstance(cached, str) else "note"
            yield Finding(SECTION, f"{name} {checkpoint}", status, f"{value}; licence: {repo.licence}")
