"""Downloads that loading would start, with their sizes and licences, before the first byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput, WeightsUnavailable
from .download import hub_cache, is_offline
from .errors import as_sdk_error
from .known_repos import KNOWN_REPOS, known_repo
from .layout import select_files


@dataclass(frozen=True)
class Download:
    """A download that loading would start.

    Args:
        what (`str`): Which weights, and where from.
        size (`int`, *optional*): Bytes; None if the Hub doesn't state it.
        licence (`str`): Licence of the weights.
    """

    what: str
    size: int | None
    licence: str


def describe_file(repo_id: str, filename: str, repo_type: str = "model") -> Download | None:
    """What `hub.fetch_file` would download; only metadata is fetched.

    Args:
        repo_id (`str`), filename (`str`), repo_type (`str`, *optional*, defaults to `"model"`): Which file.

    Returns:
        `Download`, or None if the file is in the cache.

    Raises:
        `WeightsUnavailable`: if the Hub can't be reached, or downloading is off.
    """
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    hub_file = {"repo_id": repo_id, "filename": filename, "repo_type": repo_type}
    if isinstance(try_to_load_from_cache(**hub_file, cache_dir=hub_cache()), str):
        return None
    page = repo_id if repo_type == "model" else f"{repo_type}s/{repo_id}"
    what = f"{filename} of {page}"
    _refuse_offline(what)
    licence = next(
        (repo.licence for repo in KNOWN_REPOS.values() if (repo.repo_id, repo.repo_type) == (repo_id, repo_type)), None
    )
    try:
        size = get_hf_file_metadata(hf_hub_url(**hub_file)).size
        if licence is None:
            licence = _stated_licence(HfApi().repo_info(repo_id, repo_type=repo_type), page)
    except Exception as error:
        raise as_sdk_error(error, what) from error
    return Download(what, size, licence)


def describe_pipeline(name: str, checkpoint: str | None = None) -> list[Download]:
    """What `TryOnPipeline.from_pretrained` would download; only metadata is fetched.

    Args:
        name (`str`): Name of a repository, as users pass it.
        checkpoint (`str`, *optional*): Which of an authors' repository's checkpoints.

    Returns:
        `list[Download]`: empty if everything is in the cache.

    Raises:
        `WeightsUnavailable`: if the Hub can't be reached, or downloading is off.
        `InvalidInput`: if there is no such checkpoint, or the repository is of another kind.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    repo = known_repo(name)
    if repo is not None:
        entry = repo.pick(checkpoint)[1]
        download = describe_file(repo.repo_id, entry.filename, repo.repo_type)
        return [] if download is None else [download]
    _refuse_offline(name)
    try:
        info = HfApi().model_info(name, files_metadata=True)
    except Exception as error:
        raise as_sdk_error(error, f"the repository {name}") from error
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or []}
    if "model_index.json" not in sizes:
        raise InvalidInput(
            f"{name} holds no model_index.json, so it isn't in this package's layout: pass another repository "
            f"(known ones in the authors' layout: {', '.join(KNOWN_REPOS)})."
        )
    absent = [
        sizes[file]
        for file in select_files(sizes, None)
        if not isinstance(try_to_load_from_cache(name, file, cache_dir=hub_cache(), revision=info.sha), str)
    ]
    if not absent:
        return []
    return [Download(name, None if None in absent else sum(absent), _stated_licence(info, name))]


def _stated_licence(info: Any, page: str) -> str:
    """What a repository's card says, and where to read it."""
    stated = getattr(info.card_data, "license", None) or "not stated"
    return f"{stated} (https://huggingface.co/{page})"


def _refuse_offline(what: str) -> None:
    if is_offline():
        raise WeightsUnavailable(f"{what} is not in the cache and downloading is off: run once with a network first.")
