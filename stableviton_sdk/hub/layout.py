"""What a repository or folder in this package's layout consists of, and which of its files one loading needs."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, WeightsUnavailable

# A file, or a file in a component's folder, and no way out of it.
PLAIN_NAME = re.compile(r"(?:\w[\w.-]*/)?\w[\w.-]*")
WEIGHTS_NAME = re.compile(r"[^.]+?(?:\.([^.-]+))?(?:-\d+-of-\d+)?\.safetensors(?:\.index(?:\.([^.]+))?\.json)?")


def select_files(files: Iterable[str], variant: str | None) -> list[str]:
    """The files of a pipeline repository that one variant needs: configurations, and safetensors weights.

    A component without weights of the variant comes in its plain ones, as diffusers loads it; a preprocessor may have
    ONNX graphs. Nothing else is taken, so no code and no pickle can come along.
    """
    files = [name for name in files if PLAIN_NAME.fullmatch(name)]
    chosen = [name for name in files if name.endswith(".json") and ".index." not in name]
    chosen += [name for name in ("README.md", "LICENSE") if name in files]
    chosen += [name for name in files if name.startswith("preprocessor/") and name.endswith(".onnx")]
    for variants in _weights(files).values():
        chosen += variants.get(variant) or variants.get(None) or []
    return chosen


def read_index(folder: Path) -> dict[str, Any]:
    """Content of a pipeline folder's model_index.json.

    Raises:
        `InvalidInput`: if it can't be read.
    """
    try:
        content = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{folder / 'model_index.json'} can't be read ({error}): it is damaged.") from error
    if not isinstance(content, dict):
        raise InvalidInput(f"{folder / 'model_index.json'} describes no pipeline: it is damaged.")
    return content


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
    repo_id: str, index: Mapping[str, Any], files: Collection[str], variant: str | None, skip: Collection[str] = ()
) -> None:
    """Refuse a repository before it is downloaded if one variant can't be loaded from it.

    Raises:
        `InvalidInput`: if no component has weights of the variant, or one has neither them nor plain ones.
        `WeightsUnavailable`: if files of a component are missing altogether.
    """
    weights = {component: found for component, found in _weights(files).items() if component not in skip}
    if variant is not None and not any(variant in found for found in weights.values()):
        raise InvalidInput(f"{repo_id} holds no weights of the variant {variant!r}: leave variant= out.")
    for component in index_components(index).keys() - set(skip):
        found = weights.get(component)
        if found and not (variant in found or None in found):
            names = ", ".join(repr(name) for name in found)
            raise InvalidInput(f"{repo_id} holds the weights of {component} as variant {names} only: pass variant=.")
        is_model = f"{component}/config.json" in files
        if (is_model and not found) or not any(name.startswith(f"{component}/") for name in files):
            raise WeightsUnavailable(
                f"{repo_id} is incomplete: it lacks {component}'s {'safetensors weights' if is_model else 'files'}; "
                "pass another repository or revision."
            )


def missing_file(folder: Path, variant: str | None, skip: Collection[str] = ()) -> str | None:
    """The first file or component that a folder lacks of what one variant needs; None if it is whole."""
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    chosen = select_files(present, variant)
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
            absent = sorted({f"{component}/{name}" for name in listed} - present)
            if absent:
                return absent[0]
    return None


def _weights(files: Iterable[str]) -> dict[str, dict[str | None, list[str]]]:
    """Weights files by component and variant."""
    weights: dict[str, dict[str | None, list[str]]] = {}
    for name in files:
        component, _, base = name.rpartition("/")
        match = WEIGHTS_NAME.fullmatch(base)
        if match and name.count("/") == 1:
            weights.setdefault(component, {}).setdefault(match[1] or match[2], []).append(name)
    return weights
