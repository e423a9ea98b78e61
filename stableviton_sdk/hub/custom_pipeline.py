"""The modules that let `DiffusionPipeline.from_pretrained` load a folder or repository of this package's layout.

diffusers looks for pipelines and networks among its own only. Others it imports from modules in the folder itself,
where the caller passes `trust_remote_code=True`: `pipeline.py`, and one beside each network's weights. Each of them
imports one class of this package, whose own loading reads none of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import write_text_atomically

PIPELINE = ("pipeline", "TryOnPipeline")
# the components' classes that are this package's, by the modules that define them
COMPONENTS = {
    "GarmentEncoder": "stableviton_sdk.models.garment_encoder",
    "PatchAutoencoder": "stableviton_sdk.models.patch_autoencoder",
    "PersonPreprocessor": "stableviton_sdk.preprocessing.preprocessor",
    "SpatialEncoder": "stableviton_sdk.models.spatial_encoder",
    "TryOnUNet": "stableviton_sdk.models.unet",
}


def write_custom_pipeline(folder: Path, index: Mapping[str, Any]) -> None:
    """Write the modules into a saved pipeline's folder, and the model_index.json that names classes by them.

    Args:
        folder (`Path`): The pipeline's, with a folder for each component in it.
        index (`Mapping[str, Any]`): Content of its model_index.json, with the classes by the package's modules. Where
            another file has the place of one of the modules, it is written as it is.
    """
    names: dict[str, Any] = {"_class_name": list(PIPELINE)}
    sources = {folder / f"{PIPELINE[0]}.py": _source("stableviton_sdk", PIPELINE[1])}
    for component, value in index.items():
        if isinstance(value, list | tuple) and len(value) == 2 and COMPONENTS.get(value[1]) == value[0] is not None:
            module = value[0].rpartition(".")[2]
            names[component] = [module, value[1]]
            sources[folder / component / f"{module}.py"] = _source(*value)
    if any(path.exists() and path.read_bytes() != source.encode() for path, source in sources.items()):
        names = {}
    else:
        for path, source in sources.items():
            write_text_atomically(path, source)
    write_text_atomically(folder / "model_index.json", json.dumps({**index, **names}, indent=2) + "\n")


def without_custom_modules(index: Mapping[str, Any]) -> dict[str, Any]:
    """Content of a model_index.json with the classes by this package's own modules, as if it had no others."""
    content = dict(index)
    for name, value in index.items():
        if isinstance(value, list | tuple) and len(value) == 2:
            module = COMPONENTS.get(value[1]) if isinstance(value[1], str) else None
            if name == "_class_name":
                content[name] = value[1]
            elif module is not None and value[0] == module.rpartition(".")[2]:
                content[name] = [module, value[1]]
    return content


def _source(module: str, name: str) -> str:
    return (
        f'"""Lets diffusers find {name} where this code is trusted; needs `pip install stableviton-sdk`."""\n\n'
        f"from {module} import {name}  # noqa: F401\n"
    )
