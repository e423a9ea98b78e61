"""Where a pipeline comes from and goes to: folders, Hub repositories in either layout, released files."""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from diffusers.utils import logging

from ..conversion.architecture import SCHEDULER
from ..conversion.cache import ArchitectureOverride, fetch_converted
from ..conversion.convert import LIBRARY, UNKNOWN_LICENCE, licence_of_card, load_components, model_card, parse_dtype
from ..errors import InvalidInput, WeightsUnavailable
from ..files import write_text_atomically
from ..hub import download as hub
from ..hub.errors import translate
from ..hub.known_repos import KNOWN_REPOS, known_repo
from ..hub.layout import index_components, read_index
from ..preprocessing.preprocessor import PersonPreprocessor

logger = logging.get_logger(__name__)

BUNDLED = Path(__file__).parents[1] / "bundled"
HUB_OPTIONS = ("revision", "cache_dir", "token", "local_files_only", "force_download")
# Whose classes a repository may name. Anything else would be code that came along with the weights.
TRUSTED_LIBRARIES = ("diffusers", "transformers", "stableviton_sdk")


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
                (`hub_repos.KNOWN_REPOS`), whose checkpoint is downloaded, converted to `dtype` once and kept beside
                the Hub's cache; it has no `variant`.
            checkpoint (`str`, *optional*): Which of an authors' repository's checkpoints.
            architecture (`Mapping`, *optional*): For the conversion, what shapes can't tell.
            kwargs: As for `DiffusionPipeline.from_pretrained`: `dtype`, `variant`, `revision`, `cache_dir`, `token`,
                `local_files_only`, `force_download`, `device_map`, components …

        Raises:
            `WeightsUnavailable`: if the weights can't be had.
            `IncompatibleCheckpoint`: if a checkpoint doesn't fit.
            `InvalidInput`: if the name is of something else.
        """
        try:
            name = os.fspath(pretrained_model_name_or_path)
        except TypeError as error:
            raise InvalidInput(
                f"{type(pretrained_model_name_or_path).__name__} is no place to load a pipeline from: pass a folder's "
                "path or a Hub repository's name."
            ) from error
        for option in ("dtype", "torch_dtype"):
            if isinstance(kwargs.get(option), str):
                kwargs[option] = parse_dtype(kwargs[option])
        is_folder = os.path.isdir(name)
        if not is_folder and known_repo(name) is not None:
            name = cls.download(name, checkpoint=checkpoint, architecture=architecture, **kwargs)
            # the checkpoint has no variants, and all that concerns the Hub is done
            kwargs = {key: value for key, value in kwargs.items() if key not in (*HUB_OPTIONS, "variant")}
        elif checkpoint is not None or architecture is not None:
            raise InvalidInput(
                f"checkpoint= and architecture= are for repositories in the authors' layout, which {name} isn't: "
                f"leave them out, or pass one of {', '.join(KNOWN_REPOS)}."
            )
        elif os.path.isfile(name):
            raise InvalidInput(f"{name} is a file: load it with TryOnPipeline.from_single_file.")
        elif is_folder and not os.path.isfile(os.path.join(name, "model_index.json")):
            raise InvalidInput(f"{name} holds no model_index.json, so it is no pipeline folder: check the path.")
        elif is_folder:
            _refuse_other_pipelines(name, read_index(Path(name)), kwargs)
        elif os.path.isabs(name) or name.startswith((".", "~")) or name.count("/") != 1:
            raise InvalidInput(f"{name} is neither a folder nor a Hub repository (owner/name): check the path.")
        # where there are no safetensors, diffusers would otherwise go for pickles
        kwargs.setdefault("use_safetensors", True)
        try:
            return super().from_pretrained(name, **kwargs)
        except OSError as error:
            if not is_folder:
                raise
            reason = " ".join(str(error).split()).rstrip(".")
            raise WeightsUnavailable(
                f"{name}: its weights can't be read ({reason}): fetch or save them again."
            ) from error

    @classmethod
    def from_bundled(cls, **kwargs: Any) -> Self:
        """Load the small model that comes with the package: no download, no network.

        It was trained from nothing on rendered figures, works at 256 x 192, and is there to try things out, for tests
        and for measurements. It knows no photos. `BUNDLED / "README.md"` is its model card.

        Args:
            kwargs: As for `from_pretrained`. The networks compute in float32 by default.
        """
        if "torch_dtype" not in kwargs:
            kwargs.setdefault("dtype", torch.float32)
        return cls.from_pretrained(BUNDLED, **kwargs)

    @classmethod
    def download(
        cls,
        pretrained_model_name: str | os.PathLike,
        *,
        checkpoint: str | None = None,
        architecture: ArchitectureOverride | None = None,
        **kwargs: Any,
    ) -> str:
        """Download a Hub repository, convert it if it is in the authors' layout, and return the folder.

        From a repository in this package's layout only configurations and safetensors weights are fetched, so no code
        can come along. (diffusers' own refuses pipelines whose classes live outside of it.)

        Args:
            pretrained_model_name, checkpoint, architecture, kwargs: As for `from_pretrained`.

        Returns:
            `str`: a folder that `from_pretrained` loads.
        """
        name = os.fspath(pretrained_model_name)
        options = {key: kwargs[key] for key in HUB_OPTIONS if kwargs.get(key) is not None}
        repo = known_repo(name)
        if repo is not None:
            dtype = kwargs.get("dtype", kwargs.get("torch_dtype"))
            folder = fetch_converted(repo, checkpoint=checkpoint, architecture=architecture, dtype=dtype, **options)
            return str(folder)

        def check(content: dict[str, Any]) -> None:
            _refuse_other_pipelines(name, content, kwargs)
            _refuse_foreign_classes(name, content, kwargs)

        skip = [component for component in inspect.signature(cls.__init__).parameters if component in kwargs]
        options |= {"variant": kwargs.get("variant"), "check_index": check, "skip": skip, "whole": True}
        return str(hub.fetch_folder(name, **options))

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
            `InvalidInput`: if there is no such file, or an argument is none of these.
            `IncompatibleCheckpoint`: if the file isn't a StableVITON checkpoint.
        """
        from diffusers import PNDMScheduler

        known = inspect.signature(cls.__init__).parameters
        for component in components:
            if component not in known:
                raise InvalidInput(f"from_single_file has no argument {component!r}: leave it out.")
        loaded, report = load_components(path, dtype=parse_dtype(dtype), architecture=architecture)
        if report.foreign_line():
            logger.warning(f"{os.fspath(path)}: {report.foreign_line()}")
        components.setdefault("scheduler", PNDMScheduler(**SCHEDULER))
        components.setdefault("preprocessor", PersonPreprocessor())
        return cls(**{**loaded, **components})

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Save as `DiffusionPipeline` does, with a model card that carries the weights' licence on.

        A card that somebody has written or changed stays; a warning is given if it doesn't name the licence.

        Args:
            save_directory (`str` or `os.PathLike`): Folder to write.
            args, kwargs: As for `DiffusionPipeline.save_pretrained`.
        """
        push_to_hub, repo_id = kwargs.pop("push_to_hub", False), kwargs.pop("repo_id", None)
        names = ("commit_message", "private", "token", "create_pr")
        hub_options = {key: kwargs.pop(key) for key in names if key in kwargs}
        super().save_pretrained(save_directory, *args, **kwargs)
        card, licence = Path(save_directory) / "README.md", self.config.get("weights_licence")
        named = licence_of_card(card) if card.exists() else None
        is_own = named is not None or not card.exists()
        if is_own and named != (licence or UNKNOWN_LICENCE):
            write_text_atomically(card, model_card(None, licence))
        elif licence and licence not in card.read_text(encoding="utf-8", errors="replace"):
            logger.warning(f"{card} stays as it is, but doesn't name these weights' licence, {licence}: add it.")
        if push_to_hub:
            self._upload(save_directory, repo_id or Path(save_directory).name, keep_card=is_own, **hub_options)

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        create_pr: bool = False,
        *,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
    ) -> str:
        """Upload the pipeline with a model card that carries the weights' licence; a card that is there stays.

        Args:
            repo_id (`str`): Owner and name; created if it isn't there.
            commit_message (`str`, *optional*): First line of the commit.
            private (`bool`, *optional*): Whether a repository that is created is private.
            token (`str` or `bool`, *optional*): Access token; the stored one by default.
            create_pr (`bool`, *optional*, defaults to `False`): Make a pull request of it.
            variant (`str`, *optional*): Part of the weights' file names.
            max_shard_size (`int` or `str`, *optional*): Of the weights' files.

        Returns:
            `str`: address of the commit.

        Raises:
            `WeightsUnavailable`: one sentence on why it couldn't be uploaded.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, variant=variant, max_shard_size=max_shard_size)
            return self._upload(
                folder,
                repo_id,
                keep_card=True,
                commit_message=commit_message,
                private=private,
                token=token,
                create_pr=create_pr,
            )

    def _upload(
        self,
        folder: str | os.PathLike,
        repo_id: str,
        keep_card: bool,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        create_pr: bool = False,
    ) -> str:
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        try:
            repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            keep_card = keep_card and api.file_exists(repo_id, "README.md")
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=commit_message or "Upload TryOnPipeline",
                create_pr=create_pr,
                ignore_patterns=["README.md"] if keep_card else None,
            )
        except Exception as error:
            raise translate(error, repo_id, "uploaded") from error
        return str(commit)


def _refuse_other_pipelines(name: str, content: Mapping[str, Any], given: Collection[str]) -> None:
    """A folder or repository must name every component that isn't passed along."""
    needed = [component for component in LIBRARY if component != "preprocessor"]  # maps can be given instead
    missing = [component for component in needed if component not in content and component not in given]
    if missing:
        raise InvalidInput(
            f"{name} holds a {content.get('_class_name') or 'pipeline'} without {', '.join(missing)}, not a "
            "TryOnPipeline: pass another folder or repository."
        )


def _refuse_foreign_classes(name: str, content: Mapping[str, Any], given: Collection[str]) -> None:
    for component, (library, class_name) in index_components(content).items():
        if component not in given and library.split(".")[0] not in TRUSTED_LIBRARIES:
            raise InvalidInput(
                f"{name} wants {library}.{class_name} for its {component}, and code of others is not loaded from the "
                f"Hub: pass {component}= yourself, or another repository."
            )
