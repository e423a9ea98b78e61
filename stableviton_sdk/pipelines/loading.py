"""Where a pipeline comes from and goes to: folders, Hub repositories in either layout, released files."""

from __future__ import annotations

import contextlib
import inspect
import json
import logging as std_logging
import os
from collections.abc import Collection, Iterator, Mapping
from logging import Logger
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging

from ..conversion.architecture import SCHEDULER
from ..conversion.cache import ArchitectureOverride, fetch_converted, merge_architecture
from ..conversion.convert import LIBRARY, load_components
from ..conversion.model_card import UNKNOWN_LICENCE, licence_of_card, model_card
from ..dtypes import resolve_dtype
from ..errors import InvalidInput, TryOnError, WeightsUnavailable, reason_of
from ..files import write_text_atomically
from ..hub import download as hub
from ..hub.addresses import parse_address
from ..hub.custom_pipeline import PIPELINE, write_custom_pipeline
from ..hub.errors import as_sdk_error
from ..hub.known_repos import KNOWN_REPOS, known_checkpoint, known_repo
from ..hub.layout import PICKLED, SAFE, files_in, index_components, read_index, refuse_incomplete, select_weights
from ..preprocessing.preprocessor import PersonPreprocessor
from .components import check_components, check_same_dtype, remember_noise
from .saved_weights import refuse_incomplete_weights

logger: Logger = logging.get_logger(__name__)

BUNDLED = Path(__file__).parents[1] / "bundled"
HUB_OPTIONS = ("revision", "cache_dir", "token", "local_files_only", "force_download")
# Whose classes a repository may name. Anything else would be code that came along with the weights.
TRUSTED_LIBRARIES = ("diffusers", "transformers", "stableviton_sdk")


def find_folder(
    cls: type[DiffusionPipeline],
    name: str | os.PathLike[str],
    checkpoint: str | None,
    architecture: ArchitectureOverride | None,
    options: dict[str, Any],
) -> tuple[Path, dict[str, Any]]:
    """The local folder that a pipeline is to be loaded from, downloaded where needed and checked.

    Args:
        cls (`type[DiffusionPipeline]`): The class to load; its `download` gets what isn't here.
        name (`str` or `os.PathLike`), checkpoint (`str`, *optional*), architecture (`Mapping`, *optional*):
            See `TryOnPipeline.from_pretrained`.
        options (`dict[str, Any]`): Its other arguments.

    Returns:
        `tuple[Path, dict[str, Any]]`: the folder, and the arguments left for diffusers' own loading of it.
    """
    try:
        name = os.fspath(name)
    except TypeError as error:
        raise InvalidInput(
            f"{type(name).__name__} is no place to load a pipeline from: pass a folder's path or a Hub repository's "
            "name."
        ) from error
    check_components(options)
    for option in ("dtype", "torch_dtype"):
        if isinstance(options.get(option), Mapping):
            dtypes = {name: resolve_dtype(dtype) for name, dtype in options[option].items()}
            default = dtypes.get("default", torch.float32)
            check_same_dtype(dtypes.get("unet", default), dtypes.get("spatial_encoder", default))
            options[option] = dtypes
        elif option in options:
            options[option] = resolve_dtype(options[option])
    if os.path.isdir(name):
        if not os.path.isfile(os.path.join(name, "model_index.json")):
            raise InvalidInput(f"{name} holds no model_index.json, so it is no pipeline folder: check the path.")
        _refuse_authors_options(name, checkpoint, architecture)
        folder = Path(name)
    elif known_repo(name) is not None:
        folder = Path(cls.download(name, checkpoint=checkpoint, architecture=architecture, **options))
        for option in ("variant", "use_safetensors"):  # what was converted has one variant, in safetensors
            options.pop(option, None)
    else:
        _refuse_authors_options(name, checkpoint, architecture)
        if os.path.isfile(name):
            raise InvalidInput(f"{name} is a file: load it with TryOnPipeline.from_single_file.")
        if os.path.isabs(name) or name.startswith((".", "~")) or name.count("/") != 1:
            raise InvalidInput(f"{name} is neither a folder nor a Hub repository (owner/name): check the path.")
        folder = Path(cls.download(name, **options))
        # pickles that an earlier download left beside them are not read unless asked for
        options["use_safetensors"] = options.get("use_safetensors") is not False
    for option in HUB_OPTIONS:
        options.pop(option, None)
    _check_folder(cls, name, folder, options)
    return folder, options


def download(
    cls: type[DiffusionPipeline],
    name: str,
    checkpoint: str | None,
    architecture: ArchitectureOverride | None,
    options: Mapping[str, Any],
) -> Path:
    """The folder that a Hub repository was downloaded to, or converted to if it is in the authors' layout.

    Arguments and errors as for `find_folder`.
    """
    hub_options = {key: options[key] for key in HUB_OPTIONS if options.get(key) is not None}
    repo = known_repo(name)
    if repo is not None:
        dtype = options.get("dtype", options.get("torch_dtype"))
        return fetch_converted(repo, checkpoint=checkpoint, architecture=architecture, dtype=dtype, **hub_options)

    def check(content: dict[str, Any]) -> None:
        _refuse_other_pipelines(name, content, options)
        _refuse_foreign_classes(name, content, options)

    return hub.fetch_folder(
        name,
        variant=options.get("variant"),
        check_index=check,
        skip=_given(cls, options),
        require_complete=True,
        formats=PICKLED if options.get("use_safetensors") is False else SAFE,
        **hub_options,
    )


def load_single_file(
    cls: type[DiffusionPipeline],
    path: str | os.PathLike[str],
    dtype: torch.dtype | str | None,
    architecture: ArchitectureOverride | None,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Arguments of a pipeline made of the authors' checkpoint file and, where given, of other components.

    Arguments and errors as for `TryOnPipeline.from_single_file`.
    """
    from diffusers import PNDMScheduler

    hub_options = {name: options.pop(name) for name in HUB_OPTIONS if name in options}
    other_dtype = options.pop("torch_dtype", None)
    dtype = resolve_dtype(other_dtype if dtype is None else dtype)
    for option in options:
        if option not in inspect.signature(cls.__init__).parameters:
            raise InvalidInput(f"from_single_file has no argument {option!r}: leave it out.")
    check_components(options)
    address = parse_address(path) if isinstance(path, str) else None
    if address is not None:
        known = known_checkpoint(address.repo_id, address.repo_type, address.filename)
        page = f"{'' if address.repo_type == 'model' else f'{address.repo_type}s/'}{address.repo_id}"
        licence = known[0].licence if known else f"see the weights' page, https://huggingface.co/{page}"
        options = {"weights_licence": licence, **options}
        if known:
            architecture = merge_architecture(architecture, known[1])
        place = {"repo_type": address.repo_type, "revision": address.revision}
        path = hub.fetch_file(address.repo_id, address.filename, **{**place, **hub_options})
    loaded, report = load_components(path, dtype=dtype, architecture=architecture)
    if report.foreign_line():
        logger.warning(f"{os.fspath(path)}: {report.foreign_line()}")
    remember_noise(loaded["unet"], SCHEDULER)
    loaded |= {"scheduler": PNDMScheduler(**SCHEDULER), "preprocessor": PersonPreprocessor()}
    return {**loaded, **options}


def shared_arguments(
    cls: type[DiffusionPipeline], pipeline: DiffusionPipeline, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments of a pipeline that shares another one's components and options, unless others are given."""
    names = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
    for name in given:
        if name not in names:
            raise InvalidInput(f"from_pipe has no argument {name!r}: leave it out.")
    shared = {name: pipeline.components.get(name, pipeline.config.get(name)) for name in names}
    missing = [name for name in LIBRARY if name != "preprocessor" and shared[name] is None and name not in given]
    if missing:
        raise InvalidInput(f"{type(pipeline).__name__} has no {missing[0]}: pass a TryOnPipeline, or {missing[0]}=.")
    return {**shared, **given}


def switch_vae(vae: Any, option: str, on: bool) -> None:
    """Turn slicing or tiling of an autoencoder on or off, where it has it."""
    if hasattr(vae, f"use_{option}"):
        getattr(vae, f"{'enable' if on else 'disable'}_{option}")()
    elif on:
        logger.warning(f"{type(vae).__name__} has no {option}, and needs little memory as it is: nothing changes.")


def write_entry(folder: Path, cls: type[DiffusionPipeline]) -> None:
    """Let diffusers find the class of a saved pipeline; a derived class, which only its author has, stays a name."""
    if cls.__name__ == PIPELINE[1]:
        write_custom_pipeline(folder, read_index(folder))


def write_card(folder: Path, licence: str | None) -> bool:
    """Write a model card that carries the weights' licence on; one that was written or changed by hand stays.

    Args:
        folder (`Path`): The saved pipeline's.
        licence (`str`, *optional*): Licence of the weights.

    Returns:
        `bool`: whether the card is one of ours.
    """
    card = folder / "README.md"
    named = licence_of_card(card) if card.exists() else None
    is_own = named is not None or not card.exists()
    if is_own and named != (licence or UNKNOWN_LICENCE):
        write_text_atomically(card, model_card(None, licence))
    elif licence and licence not in card.read_text(encoding="utf-8", errors="replace"):
        logger.warning(f"{card} stays as it is, but doesn't name these weights' licence, {licence}: add it.")
    return is_own


def upload(
    folder: str | os.PathLike[str],
    repo_id: str,
    keep_card: bool,
    commit_message: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    create_pr: bool = False,
) -> str:
    """Address of the commit that a saved pipeline was uploaded with.

    Args:
        folder (`str` or `os.PathLike`): Folder that `save_pretrained` has written.
        keep_card (`bool`): Leave a model card that the repository has.
        repo_id, commit_message, private, token, create_pr: See `TryOnPipeline.push_to_hub`.
    """
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
        raise as_sdk_error(error, repo_id, "uploaded") from error
    return str(commit)


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turns what diffusers says of a folder that can't be read into one sentence."""
    try:
        yield
    except TryOnError:
        raise
    except OSError as error:
        raise WeightsUnavailable(
            f"{folder}: its weights can't be read ({reason_of(error)}): fetch or save them again."
        ) from error
    except (ValueError, ImportError) as error:
        raise InvalidInput(
            f"{folder} can't be loaded ({reason_of(error)}): check its model_index.json and the options."
        ) from error


def remember_noise_of_folder(unet: torch.nn.Module, folder: Path) -> None:
    """Have a U-Net carry the noise schedule of the folder that it was loaded from, if the folder has one."""
    with contextlib.suppress(WeightsUnavailable):
        if config := _read_scheduler_config(folder):
            remember_noise(unet, config, replace=True)


def _read_scheduler_config(folder: Path) -> dict[str, Any]:
    """Configuration of a saved pipeline's scheduler; empty if the folder has none.

    Raises:
        `WeightsUnavailable`: if it can't be read, or lacks the noise schedule, which no default may stand in for.
    """
    path = folder / "scheduler" / "scheduler_config.json"
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        lacking = [name for name in ("beta_start", "beta_end", "beta_schedule") if name not in config]
        if not isinstance(config, dict) or (lacking and not config.get("trained_betas")):
            raise ValueError(f"it has no {lacking[0]}" if lacking else "it describes no scheduler")
    except (OSError, ValueError, TypeError) as error:
        raise WeightsUnavailable(f"{path} can't be used ({reason_of(error)}): fetch or save it again.") from error
    return config


@contextlib.contextmanager
def without_empty_warnings() -> Iterator[None]:
    """Suppresses diffusers' warning, once a network, about modules kept in float32, where there are none."""
    models = std_logging.getLogger("diffusers.models.modeling_utils")

    def names_modules(record: std_logging.LogRecord) -> bool:
        return "kept in float32: []" not in record.getMessage()

    models.addFilter(names_modules)
    try:
        yield
    finally:
        models.removeFilter(names_modules)


def _check_folder(cls: type[DiffusionPipeline], name: str, folder: Path, options: dict[str, Any]) -> None:
    """Refuse a folder that lacks something, and choose the format of its weights."""
    index = read_index(folder)
    _refuse_other_pipelines(name, index, options)
    files, variant, skip = files_in(folder), options.get("variant"), _given(cls, options)
    use_safetensors = options.get("use_safetensors")
    formats = (*SAFE, *PICKLED) if use_safetensors is None else SAFE if use_safetensors else PICKLED
    refuse_incomplete(name, index, files, variant, skip, formats)
    components = {key: value for key, value in index_components(index).items() if key not in skip}
    if "scheduler" in components:
        _read_scheduler_config(folder)
    weights = {key: names for key, names in select_weights(files, variant, formats).items() if key in components}
    # diffusers itself would try the other format first, and log an error
    safe = {file.endswith((".safetensors", ".safetensors.index.json")) for names in weights.values() for file in names}
    options["use_safetensors"] = safe.pop() if len(safe) == 1 else None
    if "quantization_config" not in options:
        refuse_incomplete_weights(folder, components, weights)


def _given(cls: type[DiffusionPipeline], options: Collection[str]) -> list[str]:
    """Components that the caller passes along."""
    return [component for component in inspect.signature(cls.__init__).parameters if component in options]


def _refuse_authors_options(name: str, checkpoint: Any, architecture: Any) -> None:
    if checkpoint is not None or architecture is not None:
        raise InvalidInput(
            f"checkpoint= and architecture= are for repositories in the authors' layout, which {name} isn't: "
            f"leave them out, or pass one of {', '.join(KNOWN_REPOS)}."
        )


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
