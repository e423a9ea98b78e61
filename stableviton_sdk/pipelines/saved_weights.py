"""Whether a saved folder's weights are those that its networks need, by the files' headers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from safetensors import safe_open

from ..errors import IncompatibleCheckpoint, WeightsUnavailable, reason_of
from ..models.strict_loading import refuse_differences


def refuse_incomplete_weights(
    folder: Path, components: Mapping[str, tuple[str, str]], weights: Mapping[str, Iterable[str]]
) -> None:
    """Refuse a pipeline's folder whose weights lack a tensor, hold one too many, or one of another shape.

    diffusers would leave such a tensor random, or without memory.

    Args:
        folder (`Path`): The pipeline's.
        components (`Mapping[str, tuple[str, str]]`): Library and class of the components to check.
        weights (`Mapping[str, Iterable[str]]`): Names of each component's weight files and their index.

    Raises:
        `IncompatibleCheckpoint`: naming the component and its first tensor that doesn't fit.
        `WeightsUnavailable`: if a file can't be read.
    """
    for component, (library, class_name) in components.items():
        # nothing is imported because a file names it
        cls = getattr(sys.modules.get(library), class_name, None)
        if component not in weights or not isinstance(cls, type) or not issubclass(cls, ModelMixin):
            continue
        owner = f"{folder}'s {component}"
        config = cls.load_config(folder / component)
        if config.get("quantization_config"):
            continue  # what is stored are not the network's own tensors
        model = _build_without_weights(cls, config, owner)
        stored = read_shapes(folder, weights[component])
        model._fix_state_dict_keys_on_load(stored)  # names from before diffusers' attention layers had to_q
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        refuse_differences(owner, expected, stored)


def read_shapes(folder: Path, names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in one component's weight files.

    Args:
        folder (`Path`): The folder that the names are relative to.
        names (`Iterable[str]`): Files; where an index is among them, it says which files count.

    Returns:
        `dict[str, tuple[int, ...]]`: by the tensor's name.

    Raises:
        `WeightsUnavailable`: if a file can't be read.
    """
    paths = [folder / name for name in names]
    index = next((path for path in paths if ".index." in path.name), None)
    shapes: dict[str, tuple[int, ...]] = {}
    path = index
    try:
        if index is not None:
            content = json.loads(index.read_text(encoding="utf-8"))
            listed = sorted(set(content["weight_map"].values()))
            if "metadata" not in content or any(Path(name).name != name for name in listed):
                raise ValueError("it isn't an index of files beside it")
            paths = [index.parent / name for name in listed]
        for path in paths:
            shapes |= _shapes_in(path)
    except Exception as error:  # safetensors', torch's and json's own kinds, for a file cut short or of another kind
        reason = reason_of(error)
        raise WeightsUnavailable(f"{path} can't be read ({reason}): fetch or save it again.") from error
    return shapes


def _shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    tensors = torch.load(path, map_location="meta", weights_only=True)
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _build_without_weights(cls: type[ModelMixin], config: dict[str, Any], owner: str) -> ModelMixin:
    try:
        with torch.device("meta"):
            return cls.from_config(config)
    except Exception as error:  # torch's, diffusers' and transformers' own kinds, for a size that can't be
        reason = reason_of(error)
        raise IncompatibleCheckpoint(
            f"no network can be built of {owner}/config.json ({reason}): save or fetch the folder again."
        ) from error
