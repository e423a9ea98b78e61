"""Whether a saved folder's weights are those that its networks need, by the files' headers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

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
        config = _read_config(folder / component / "config.json")
        if config.get("quantization_config"):
            continue  # what is stored are not the network's own tensors
        model = _build_without_weights(cls, config, owner)
        stored = read_headers(folder, weights[component])
        model._fix_state_dict_keys_on_load(stored)  # names from before diffusers' attention layers had to_q
        expected = model.state_dict()
        refuse_differences(
            owner,
            {name: tuple(tensor.shape) for name, tensor in expected.items()},
            {name: tensor.shape for name, tensor in stored.items()},
        )
        for name, tensor in stored.items():
            if expected[name].is_floating_point() and not tensor.is_floating:
                raise IncompatibleCheckpoint(
                    f"{owner} has the tensor {name!r} in {tensor.type} where floating-point numbers are needed: it is "
                    "damaged, or quantized."
                )


class StoredTensor(NamedTuple):
    """What a file says of a tensor: its shape, and the name of its number type."""

    shape: tuple[int, ...]
    type: str

    @property
    def is_floating(self) -> bool:
        return self.type.startswith(("F", "BF", "torch.float", "torch.bfloat"))


def read_headers(folder: Path, names: Iterable[str]) -> dict[str, StoredTensor]:
    """Shapes and types of the tensors in one component's weight files.

    Args:
        folder (`Path`): The folder that the names are relative to.
        names (`Iterable[str]`): Files; where an index is among them, it says which files count.

    Returns:
        `dict[str, StoredTensor]`: by the tensor's name; where there is an index, only of tensors that it lists, since
        no others are loaded.

    Raises:
        `WeightsUnavailable`: if a file can't be read.
    """
    paths = [folder / name for name in names]
    index = next((path for path in paths if ".index." in path.name), None)
    found: dict[str, StoredTensor] = {}
    listed: dict[str, str] | None = None
    path = index
    try:
        if index is not None:
            content = json.loads(index.read_text(encoding="utf-8"))
            listed = content["weight_map"]
            files = sorted(set(listed.values()))
            if "metadata" not in content or any(Path(name).name != name for name in files):
                raise ValueError("it isn't an index of files beside it")
            paths = [index.parent / name for name in files]
        for path in paths:
            found |= _headers_in(path)
    except Exception as error:  # safetensors', torch's and json's own kinds, for a file cut short or of another kind
        reason = reason_of(error)
        raise WeightsUnavailable(f"{path} can't be read ({reason}): fetch or save it again.") from error
    return found if listed is None else {name: tensor for name, tensor in found.items() if name in listed}


def _headers_in(path: Path) -> dict[str, StoredTensor]:
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return {name: StoredTensor(tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    tensors = torch.load(path, map_location="meta", weights_only=True)
    return {name: StoredTensor(tuple(tensor.shape), str(tensor.dtype)) for name, tensor in tensors.items()}


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsUnavailable(f"{path} can't be read ({reason_of(error)}): fetch or save it again.") from error
    if not isinstance(config, dict):
        raise WeightsUnavailable(f"{path} describes no network: fetch or save it again.")
    return config


def _build_without_weights(cls: type[ModelMixin], config: dict[str, Any], owner: str) -> ModelMixin:
    try:
        with torch.device("meta"):
            return cls.from_config(config)
    except Exception as error:  # torch's, diffusers' and transformers' own kinds, for a size that can't be
        reason = reason_of(error)
        raise IncompatibleCheckpoint(
            f"no network can be built of {owner}/config.json ({reason}): save or fetch the folder again."
        ) from error
