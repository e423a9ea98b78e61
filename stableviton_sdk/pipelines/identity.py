"""Which model a result is of, under a name that says nothing of the machine it was made on."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._version import __version__
from ..errors import InvalidInput
from ..files import file_sha256
from .loading import BUNDLED

if TYPE_CHECKING:
    from .pipeline_tryon import TryOnPipeline

# Of the Hub's cache, and of what is converted beside it (see `conversion.cache`).
DOWNLOADED = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})$")
CONVERTED = re.compile(r"converted/(model|space)--([^/]+?)--([^/]+)/([^/]+)/([0-9a-f]+)$")
WEIGHT_ENDINGS = (".safetensors", ".bin", ".onnx")


def model_identity(pipeline: TryOnPipeline, checkpoint_file: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Public name and revision of a pipeline's model, for the settings of a result.

    Args:
        pipeline (`TryOnPipeline`): Pipeline as it was loaded; components exchanged or merged since then don't count.
        checkpoint_file (`str` or `os.PathLike`, *optional*): The file that it was loaded from, if it was one.

    Returns:
        `dict[str, str]`: `model`: `"bundled"`, the Hub repository, or `"checkpoint"` for weights of one's own; and
        `revision`: the package's version, the Hub's commit or content, or the sha256 of the weights.

    Raises:
        `InvalidInput`: if a pipeline of one's own making has weights that are offloaded.
    """
    if checkpoint_file is not None and os.path.isfile(checkpoint_file):
        return {"model": "checkpoint", "revision": f"sha256:{file_sha256(checkpoint_file)}"}
    place = pipeline.config.get("_name_or_path")
    folder = Path(place) if place else None
    if folder is None or not folder.is_dir():
        return {"model": "checkpoint", "revision": f"tensors-sha256:{weights_sha256(pipeline)}"}
    if folder == BUNDLED:
        return {"model": "bundled", "revision": f"stableviton-sdk {__version__}"}
    name = folder.absolute().as_posix()
    if found := DOWNLOADED.search(name):
        owner, repository, commit = found.groups()
        return {"model": f"{owner}/{repository}", "revision": commit}
    if found := CONVERTED.search(name):
        kind, owner, repository, checkpoint, content = found.groups()
        prefix = "spaces/" if kind == "space" else ""
        return {"model": f"{prefix}{owner}/{repository}", "revision": f"{checkpoint}, content {content}"}
    return {"model": "checkpoint", "revision": f"sha256:{_folder_sha256(folder)}"}


def result_settings(
    pipeline: TryOnPipeline, identity: Mapping[str, str], *, seed: int | None, **options: Any
) -> dict[str, Any]:
    """What a result follows from, beside its images, for `provenance.save_image`.

    Args:
        pipeline (`TryOnPipeline`): Pipeline whose defaults replace options that are None.
        identity (`Mapping[str, str]`): From `model_identity`.
        seed (`int`, *optional*): Seed of the noise.
        options: Arguments of the call, of JSON's types.
    """
    if "num_inference_steps" in options and options["num_inference_steps"] is None:
        preset = pipeline.quality_preset(options.get("quality", "exact"))
        options["num_inference_steps"] = preset.num_inference_steps
    if "detail" in options and options["detail"] is None:
        options["detail"] = pipeline.config.default_detail
    width, height = pipeline.default_size
    return {**identity, "seed": seed, "width": width, "height": height, **options}


def weights_sha256(pipeline: TryOnPipeline) -> str:
    """sha256 of the networks' tensors: names, shapes, types and values, in the order of their names.

    It doesn't depend on how the weights are stored; it does on their number type.

    Raises:
        `InvalidInput`: if weights are offloaded, so that their hash can't be computed.
    """
    import torch

    digest = hashlib.sha256()
    for name, component in sorted(pipeline.components.items()):
        if not isinstance(component, torch.nn.Module):
            continue
        for key, tensor in sorted(component.state_dict().items()):
            if tensor.device.type == "meta":
                raise InvalidInput("the pipeline's weights are offloaded: take their hash before you turn that on.")
            digest.update(f"{name}.{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            values = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(memoryview(values.view(torch.uint8).numpy()) if values.numel() else b"")
    return digest.hexdigest()


def describe_model(pipeline: TryOnPipeline, name: str | None = None) -> dict[str, Any]:
    """Description of a model by all that its results depend on: weights, number type, scheduler.

    Args:
        pipeline (`TryOnPipeline`): The model, whose weights are all on a device, none offloaded.
        name (`str`, *optional*): Name of the model, for the report.

    Raises:
        `InvalidInput`: if weights are offloaded, so that their hash can't be computed.
    """
    trained_width, trained_height = pipeline.default_size
    scheduler = {key: value for key, value in pipeline.scheduler.config.items() if not key.startswith("_")}
    return {
        "name": name,
        "weights_sha256": weights_sha256(pipeline),
        "dtype": str(pipeline.unet.dtype).removeprefix("torch."),
        "trained_width": trained_width,
        "trained_height": trained_height,
        "scheduler": {"class": type(pipeline.scheduler).__name__, **json.loads(json.dumps(scheduler, default=str))},
    }


def _folder_sha256(folder: Path) -> str:
    """sha256 of what `sha256sum` prints of a pipeline folder's weights, in the order of their names."""
    files = sorted(path for path in folder.glob("*/*") if path.suffix in WEIGHT_ENDINGS and path.is_file())
    listing = "".join(f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()
