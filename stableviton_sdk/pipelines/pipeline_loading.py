"""Where a pipeline comes from and goes to: folders, Hub repositories in either layout, released files."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from diffusers.utils import logging

from .. import hub
from ..conversion import convert_checkpoint
from ..conversion.architecture import SCHEDULER
from ..conversion.convert import DTYPES, load_components, model_card, parse_dtype
from ..errors import InvalidInput, WeightsUnavailable

logger = logging.get_logger(__name__)

ArchitectureOverride = Mapping[str, Mapping[str, Any]]


class TryOnLoadingMixin:
    """`from_pretrained`, `from_single_file`, `save_pretrained` and `push_to_hub` of `TryOnPipeline`."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *,
        checkpoint: str | None = None,
        architecture: ArchitectureOverride | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a pipeline.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`):
                A folder or Hub repository in this package's layout, or one of the authors' repositories
                (`hub.KNOWN_REPOS`), whose checkpoint is downloaded, converted once and cached beside the Hub's cache.
            checkpoint (`str`, *optional*): Which of an authors' repository's checkpoints.
            architecture (`Mapping`, *optional*): For the conversion, what shapes can't tell.
            kwargs: As for `DiffusionPipeline.from_pretrained`: `dtype`, `variant`, `revision`, `cache_dir`, `token`,
                `local_files_only`, `force_download`, `device_map`, components …

        Raises:
            `WeightsUnavailable`: if the weights can't be had.
            `IncompatibleCheckpoint`: if a checkpoint doesn't fit.
            `InvalidInput`: if the name is of something else.
        """
        name = os.fspath(pretrained_model_name_or_path)
        repo = None if os.path.isdir(name) else hub.known_repo(name)
        if repo is not None:
            name = str(_fetch_converted(repo, checkpoint, architecture, kwargs))
        elif checkpoint is not None or architecture is not None:
            raise InvalidInput(
                f"checkpoint= and architecture= are for repositories in the authors' layout, which {name} isn't: "
                f"leave them out, or pass one of {', '.join(hub.KNOWN_REPOS)}."
            )
        elif os.path.isfile(name):
            raise InvalidInput(f"{name} is a file: load it with TryOnPipeline.from_single_file.")
        elif os.path.isdir(name) and not os.path.isfile(os.path.join(name, "model_index.json")):
            raise InvalidInput(f"{name} holds no model_index.json, so it is no pipeline folder: check the path.")
        elif not os.path.isdir(name) and (os.path.isabs(name) or name.startswith(".") or name.count("/") != 1):
            raise InvalidInput(f"{name} is neither a folder nor a Hub repository (owner/name): check the path.")
        return super().from_pretrained(name, **kwargs)

    @classmethod
    def download(cls, pretrained_model_name: str | os.PathLike, **kwargs: Any) -> str:
        """Download a Hub repository in this package's layout into the Hub's cache and return its folder.

        diffusers' own refuses pipelines whose classes live outside of it; this one fetches configurations and
        safetensors weights only, so no code can come along.
        """
        known = ("variant", "revision", "cache_dir", "token", "local_files_only", "force_download")
        options = {key: kwargs[key] for key in known if kwargs.get(key) is not None}
        return str(hub.fetch_folder(os.fspath(pretrained_model_name), **options))

    @classmethod
    def from_single_file(
        cls,
        path: str | os.PathLike,
        *,
        dtype: torch.dtype | str | None = None,
        architecture: ArchitectureOverride | None = None,
        **components: Any,
    ) -> Self:
        """Load the authors' checkpoint file, without converting it on disk.

        Args:
            path (`str` or `os.PathLike`): `.ckpt`, or a safetensors file of the same keys.
            dtype (`torch.dtype` or `str`, *optional*): Type of the weights; by default as stored.
            architecture (`Mapping`, *optional*): What shapes can't tell; see `conversion.infer_architecture`.
            components: `scheduler=…`, `preprocessor=…`, to use instead of the released ones.

        Raises:
            `IncompatibleCheckpoint`: if the file isn't a StableVITON checkpoint.
        """
        from diffusers import PNDMScheduler

        loaded, report = load_components(path, dtype=parse_dtype(dtype), architecture=architecture)
        if report.foreign_line():
            logger.warning(f"{os.fspath(path)}: {report.foreign_line()}")
        components.setdefault("scheduler", PNDMScheduler(**SCHEDULER))
        return cls(**{**loaded, **components})

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Save as `DiffusionPipeline` does, with a model card that carries the weights' licence on.

        Args:
            save_directory (`str` or `os.PathLike`): Folder to write.
            args, kwargs: As for `DiffusionPipeline.save_pretrained`.
        """
        push_to_hub, repo_id = kwargs.pop("push_to_hub", False), kwargs.pop("repo_id", None)
        hub_options = {
            key: kwargs.pop(key) for key in ("commit_message", "private", "token", "create_pr") if key in kwargs
        }
        super().save_pretrained(save_directory, *args, **kwargs)
        card = Path(save_directory) / "README.md"
        if not card.exists():
            card.write_text(model_card(None, self.config.get("weights_licence")), encoding="utf-8")
        if push_to_hub:
            self._upload(save_directory, repo_id or Path(save_directory).name, **hub_options)

    def push_to_hub(self, repo_id: str, *, variant: str | None = None, **hub_options: Any) -> str:
        """Upload the pipeline and its model card.

        Args:
            repo_id (`str`): Owner and name; created if it isn't there.
            variant (`str`, *optional*): Part of the weights' file names.
            hub_options: `commit_message`, `private`, `token`, `create_pr`.

        Returns:
            `str`: address of the commit.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, variant=variant)
            return self._upload(folder, repo_id, **hub_options)

    def _upload(
        self,
        folder: str | os.PathLike,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        create_pr: bool = False,
    ) -> str:
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=commit_message or "Upload TryOnPipeline",
            create_pr=create_pr,
        )
        return str(commit)


def _fetch_converted(
    repo: hub.KnownRepo, checkpoint: str | None, architecture: ArchitectureOverride | None, kwargs: dict[str, Any]
) -> Path:
    """The converted folder of an authors' checkpoint; downloads and converts it the first time."""
    from huggingface_hub.utils import WeakFileLock

    name, entry = repo.pick(checkpoint)
    place = {
        key: kwargs.pop(key, None) for key in ("revision", "cache_dir", "token", "local_files_only", "force_download")
    }
    force = bool(place["force_download"])
    kwargs.pop("variant", None)
    dtype = kwargs.get("dtype", kwargs.get("torch_dtype"))
    stored = parse_dtype(dtype) if isinstance(dtype, (torch.dtype, str)) else torch.float32
    overrides = {"unet": {"sample_size": [side // 8 for side in entry.size]}}
    for component, options in (architecture or {}).items():
        overrides[component] = {**overrides.get(component, {}), **options}
    tag = next(key for key, value in DTYPES.items() if value == stored)
    if architecture:
        tag += "-" + hashlib.sha256(json.dumps(overrides, sort_keys=True).encode()).hexdigest()[:8]
    home = hub.sdk_cache(place["cache_dir"]) / "converted" / f"{repo.repo_type}--{repo.repo_id.replace('/', '--')}"

    def converted(commit: str) -> Path:
        return home / f"{name}-{tag}" / commit

    commit = None if force else hub.latest_commit(repo.repo_id, entry.filename, repo.repo_type, place)
    if commit is not None and converted(commit).is_dir():
        return converted(commit)
    if commit is None and not force and place["revision"] is None:
        # no network, and the checkpoint itself may have been deleted to save room: what was converted still serves
        folders = sorted(home.glob(f"{name}-{tag}/[0-9a-f]*"), key=lambda folder: folder.stat().st_mtime)
        if folders and folders[-1].is_dir():
            return folders[-1]
    logger.warning(f"Weights of {repo.repo_id}, {name}: licence {repo.licence}.")
    path = hub.fetch_file(
        repo.repo_id,
        entry.filename,
        repo_type=repo.repo_type,
        sha256=entry.sha256,
        revision=place["revision"],
        cache_dir=place["cache_dir"],
        token=place["token"],
        local_files_only=place["local_files_only"],
        force_download=force,
        extra_space=stored.itemsize / 4,
    )
    target = converted(path.parents[entry.filename.count("/")].name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(target.parent / f"{target.name}.lock"):
        if not target.is_dir():  # another process may have converted it meanwhile
            try:
                report = convert_checkpoint(path, target, dtype=stored, architecture=overrides, licence=repo.licence)
            except OSError as error:
                if isinstance(error, WeightsUnavailable):
                    raise
                raise WeightsUnavailable(
                    f"{repo.repo_id} was downloaded but could not be converted ({error}): make room on the disk of "
                    f"{home}, or pass cache_dir=."
                ) from error
            if report.foreign_line():
                logger.warning(f"{entry.filename}: {report.foreign_line()}")
    return target
