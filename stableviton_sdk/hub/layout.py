"""Contents of a repository or folder in this package's layout, and the files of it that one loading needs."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, WeightsUnavailable
from .custom_pipeline import without_custom_modules

# A file, or a file in a component's folder, and no way out of it.
PLAIN_NAME = re.compile(r"(?:\w[\w.-]*/)?\w[\w.-]*")
WEIGHTS_NAME = re.compile(r"[^.]+?(?:\.([^.-]+))?(?:-\d+-of-\d+)?\.(safetensors|bin)(?:\.index(?:\.([^.]+))?\.json)?")
SAFE: tuple[str, ...] = ("safetensors",)
PICKLED: tuple[str, ...] = ("bin",)


def select_files(files: Iterable[str], variant: str | None, formats: Collection[str] = SAFE) -> list[str]:
    """The files of a pipeline repository that one variant needs: configurations, and weights.

    A preprocessor may have ONNX graphs. Nothing else is taken, so no code can come along.

    Args:
        files (`Iterable[str]`): Names in the repository.
        variant (`str`, *optional*): Variant of the weights.
        formats (`Collection[str]`, *optional*, defaults to `SAFE`): Endings of weight files, the preferred one first.
    """
    files = [name for name in files if PLAIN_NAME.fullmatch(name)]
    chosen = [name for name in files if name.endswith(".json") and ".index." not in name]
    chosen += [name for name in ("README.md", "LICENSE") if name in files]
    chosen += [name for name in files if name.startswith("preprocessor/") and name.endswith(".onnx")]
    for names in select_weights(files, variant, formats).values():
        chosen += names
    return chosen


def select_weights(files: Iterable[str], variant: str | None, formats: Collection[str] = SAFE) -> dict[str, list[str]]:
    """Weight files of every component, with their index where they are sharded.

    A component without weights of the variant comes in its plain ones, as diffusers loads it. Arguments as for
    `select_files`.
    """
    chosen = {}
    for component, found in _weights(files).items():
        for name in dict.fromkeys((variant, None)):
            names = next((found[name, ending] for ending in formats if (name, ending) in found), None)
            if names:
                chosen[component] = names
                break
    return chosen


def read_index(folder: Path) -> dict[str, Any]:
    """Content of a pipeline folder's model_index.json, with this package's classes by its own modules.

    Raises:
        `InvalidInput`: if it can't be read.
    """
    try:
        content = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{folder / 'model_index.json'} can't be read ({error}): it is damaged.") from error
    if not isinstance(content, dict):
        raise InvalidInput(f"{folder / 'model_index.json'} describes no pipeline: it is damaged.")
    return without_custom_modules(content)


def index_components(content: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Library and class of every component that a model_index.json names."""
    return {
        name: (value[0], value[1])
        for name, value in content.items()
        if not name.startswith("_")
        and isinstance(value, list)
        and len(value) == 2
        and all(isinstance(part, str) for part in value)
    }


def refuse_incomplete(
    name: str,
    index: Mapping[str, Any],
    files: Collection[str],
    variant: str | None,
    skip: Collection[str] = (),
    formats: Collection[str] = SAFE,
) -> None:
    """Refuse a repository before it is downloaded, or a folder before it is loaded, if one variant isn't all there.

    Args:
        name (`str`): Name of the repository or folder, for the message.
        index (`Mapping[str, Any]`): Content of its model_index.json.
        files (`Collection[str]`): Names of its files.
        variant (`str`, *optional*): Variant of the weights.
        skip (`Collection[str]`, *optional*): Components that aren't needed.
        formats (`Collection[str]`, *optional*, defaults to `SAFE`): Endings of weight files that may be read.

    Raises:
        `InvalidInput`: if no component has weights of the variant, or one has neither them nor plain ones.
        `WeightsUnavailable`: if files of a component are missing altogether.
    """
    weights = {
        component: {(kind, ending): names for (kind, ending), names in found.items() if ending in formats}
        for component, found in _weights(files).items()
        if component not in skip
    }
    if variant is not None and not any(kind == variant for found in weights.values() for kind, _ in found):
        # in diffusers' words as far as they go: people search for them
        raise InvalidInput(
            f"You are trying to load the model files of the `variant={variant}`, but {name} holds no weights of the "
            f"variant {variant!r}: leave variant= out."
        )
    selected = select_weights(files, variant, formats)
    for component in index_components(index).keys() - set(skip):
        if component not in selected and weights.get(component):
            names = ", ".join(dict.fromkeys(repr(kind) for kind, _ in weights[component]))
            raise InvalidInput(f"{name} holds the weights of {component} as variant {names} only: pass variant=.")
        is_model = f"{component}/config.json" in files
        if is_model and component not in selected:
            pickled = "; it has pickled ones, which use_safetensors=False would load"
            others = select_weights(files, variant, PICKLED) if formats == SAFE else {}
            raise WeightsUnavailable(
                f"{name} is incomplete: it lacks {component}'s {' or '.join(formats)} weights"
                f"{pickled if component in others else ''}; pass another folder, repository or revision."
            )
        if not any(file.startswith(f"{component}/") for file in files):
            raise WeightsUnavailable(
                f"{name} is incomplete: it lacks {component}'s files; pass another folder, repository or revision."
            )


def missing_file(
    folder: Path, variant: str | None, skip: Collection[str] = (), formats: Collection[str] = SAFE
) -> str | None:
    """The first file or component that a folder lacks of what one variant needs; None if nothing is missing."""
    present = files_in(folder)
    chosen = select_files(present, variant, formats)
    for component in index_components(read_index(folder)):
        own = [name for name in chosen if name.startswith(f"{component}/")]
        if component in skip:
            continue
        if not own:
            return component
        shards = [name for name in own if re.search(r"-\d+-of-\d+\.", name)]
        indices = [name for name in own if ".index." in name]
        if f"{component}/config.json" in own and not _weights(own):
            return f"{component}'s weights"
        if shards and not indices:
            return f"{component}'s index of weights"
        for index in indices:
            listed = json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values()
            absent = sorted({f"{component}/{name}" for name in listed} - set(present))
            if absent:
                return absent[0]
    return None


def files_in(folder: Path) -> list[str]:
    """Names of all files in a folder and below it, relative to it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _weights(files: Iterable[str]) -> dict[str, dict[tuple[str | None, str], list[str]]]:
    """Weights files by component, then by variant and ending."""
    weights: dict[str, dict[tuple[str | None, str], list[str]]] = {}
    for name in files:
        component, _, base = name.rpartition("/")
        match = WEIGHTS_NAME.fullmatch(base)
        if match and name.count("/") == 1:
            weights.setdefault(component, {}).setdefault((match[1] or match[3], match[2]), []).append(name)
    return weights
