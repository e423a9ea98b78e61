"""A released checkpoint -> a folder that `TryOnPipeline.from_pretrained` loads, or networks in memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..dtypes import resolve_dtype
from ..errors import IncompatibleCheckpoint, WeightsUnavailable, shortened
from ..files import check_new_folder, format_bytes, replacing_folder
from ..hub.custom_pipeline import PIPELINE, write_custom_pipeline
from ..hub.errors import is_disk_full
from ..preprocessing.preprocessor import PersonPreprocessor
from .architecture import SCHEDULER, Architecture, build_on_meta, check_shapes, component_class, infer_architecture
from .key_mapping import COMPONENTS, KeyPlan, Rename, plan_keys
from .model_card import model_card
from .reading import SafetensorsCheckpoint, read_checkpoint

LIBRARY = {
    "vae": ["diffusers", "AutoencoderKL"],
    "garment_encoder": ["stableviton_sdk.models.garment_encoder", "GarmentEncoder"],
    "spatial_encoder": ["stableviton_sdk.models.spatial_encoder", "SpatialEncoder"],
    "unet": ["stableviton_sdk.models.unet", "TryOnUNet"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "preprocessor": ["stableviton_sdk.preprocessing.preprocessor", "PersonPreprocessor"],
}
WEIGHTS_NAME = "diffusion_pytorch_model"
MAX_SHARD_BYTES = 10 * 10**9  # diffusers' own default


@dataclass
class ConversionReport:
    """Report of a conversion.

    Args:
        target (`Path`, *optional*): The folder written; None if it was loaded into memory.
        parameters (`dict[str, int]`): Parameters of each component.
        unused (`list[str]`): Tensors of the authors' layout that reach no result.
        foreign (`dict[str, int]`): Parts that don't belong to the method, with their size in bytes.
        architecture (`dict`): The configuration of each component.
    """

    target: Path | None = None
    parameters: dict[str, int] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    foreign: dict[str, int] = field(default_factory=dict)
    architecture: Architecture = field(default_factory=dict)

    def foreign_line(self) -> str | None:
        """One line that names what was left out and its size; None if nothing was."""
        if not self.foreign:
            return None
        parts = [f"{name} ({format_bytes(size)})" for name, size in sorted(self.foreign.items())]
        return f"left out, not part of the method: {shortened(parts)}"


def map_state_dict(state_dict: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Rename a released state dict to this package's names.

    Args:
        state_dict (`Mapping[str, torch.Tensor]`): Tensors by the released `.ckpt`'s names; meta tensors will do.

    Returns:
        `dict[str, dict[str, torch.Tensor]]`: for `"unet"`, `"spatial_encoder"`, `"garment_encoder"` and `"vae"` its
        state dict. Views of the given tensors where nothing has to be split.

    Raises:
        `IncompatibleCheckpoint`: if a key is unknown, missing, or of a shape that doesn't fit the others.
    """
    plan = plan_keys(state_dict)
    mapped: dict[str, dict[str, torch.Tensor]] = {component: {} for component in COMPONENTS}
    for rename in plan.renames:
        mapped[rename.component][rename.target] = rename.apply(state_dict[rename.source])
    shapes = {
        component: {key: tuple(value.shape) for key, value in part.items()} for component, part in mapped.items()
    }
    check_shapes(shapes, infer_architecture(shapes, plan), plan)
    return mapped


def convert_checkpoint(
    source: str | Path,
    target: str | Path,
    *,
    dtype: torch.dtype | str | None = None,
    architecture: Mapping[str, Mapping[str, Any]] | None = None,
    licence: str | None = None,
    progress: bool = True,
) -> ConversionReport:
    """Convert a released checkpoint to this package's folder layout.

    The checkpoint is memory-mapped and written one component at a time; nothing that a pickle names is imported or
    called. The folder appears under its name only when it is complete.

    Args:
        source (`str` or `Path`): The authors' `.ckpt`, or a safetensors file of the same keys.
        target (`str` or `Path`): Folder to write; must not exist, or be empty.
        dtype (`torch.dtype` or `str`, *optional*):
            Type to store floating-point weights in, or its name (see `dtypes.resolve_dtype`); by default as they are.
        architecture (`Mapping`, *optional*): What shapes don't determine; see `infer_architecture`.
        licence (`str`, *optional*): The weights' licence, written into the folder's model card.
        progress (`bool`, *optional*, defaults to `True`): Show a progress bar.

    Returns:
        `ConversionReport`

    Raises:
        `IncompatibleCheckpoint`: if a tensor is unknown, missing, or of the wrong shape.
        `InvalidInput`: if source or target can't be used.
        `WeightsUnavailable`: if the disk has no room for the result.
    """
    target = Path(target)
    dtype = resolve_dtype(dtype)
    check_new_folder(target)
    tensors, plan, report = _inspect(source, architecture)
    report.target = target
    target.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(_stored_bytes(tensors, rename, dtype) for rename in plan.renames)
    free = shutil.disk_usage(target.parent).free
    if free < needed * 1.02 + 2**20:
        raise WeightsUnavailable(
            f"{target.parent} has {format_bytes(free)} free, the converted weights need {format_bytes(needed)}: "
            "make room, or pass another folder or a smaller dtype."
        )
    try:
        with replacing_folder(target) as partial:
            with tqdm(total=needed, unit="B", unit_scale=True, desc="Converting", disable=not progress) as bar:
                for component in COMPONENTS:
                    renames = [rename for rename in plan.renames if rename.component == component]
                    config = report.architecture[component]
                    _write_component(partial / component, component, config, tensors, renames, dtype, bar)
            _write_scheduler(partial / "scheduler")
            PersonPreprocessor().save_pretrained(partial / "preprocessor")
            _write_index(partial, licence)
            (partial / "README.md").write_text(model_card(Path(source).name, licence), encoding="utf-8")
    except Exception as error:
        if is_disk_full(error):  # safetensors' own error says so in passing only
            raise WeightsUnavailable(
                f"{target} can't be written: the disk is full; make room, or pass a folder on another disk."
            ) from error
        raise
    return report


def load_components(
    source: str | Path,
    *,
    dtype: torch.dtype | None = None,
    architecture: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[dict[str, torch.nn.Module], ConversionReport]:
    """Load a released checkpoint's networks, in evaluation mode. Arguments and errors as for `convert_checkpoint`."""
    from accelerate import init_empty_weights

    tensors, plan, report = _inspect(source, architecture)
    components = {}
    for component in COMPONENTS:
        state = {}
        for rename in plan.renames:
            if rename.component == component:
                tensor = rename.apply(tensors[rename.source])
                # a copy: a memory-mapped weight would change, or crash, with its file
                cast = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
                state[rename.target] = tensor.to(cast, copy=True).contiguous()
        with init_empty_weights(include_buffers=False):
            model = component_class(component)(**report.architecture[component])
        model.load_state_dict(state, assign=True, strict=True)
        components[component] = model.eval()
    return components, report


def _inspect(
    source: str | Path, architecture: Mapping[str, Mapping[str, Any]] | None
) -> tuple[Mapping[str, torch.Tensor], KeyPlan, ConversionReport]:
    """Open a checkpoint, and make sure that it fits before anything is written."""
    tensors, beside = read_checkpoint(source)
    plan = plan_keys(tensors)
    shapes = _target_shapes(tensors, plan.renames)
    config = infer_architecture(shapes, plan, architecture)
    check_shapes(shapes, config, plan)
    report = ConversionReport(unused=sorted(plan.unused), architecture=config, foreign=dict(beside))
    for prefix, keys in plan.foreign.items():
        report.foreign[prefix] = report.foreign.get(prefix, 0) + sum(_nbytes(tensors, key) for key in keys)
    for component, part in shapes.items():
        report.parameters[component] = sum(torch.Size(shape).numel() for shape in part.values())
    return tensors, plan, report


def _shape(tensors: Mapping[str, torch.Tensor], key: str) -> tuple[int, ...]:
    return tensors.shape(key) if isinstance(tensors, SafetensorsCheckpoint) else tuple(tensors[key].shape)


def _is_floating(tensors: Mapping[str, torch.Tensor], key: str) -> bool:
    if isinstance(tensors, SafetensorsCheckpoint):
        return tensors.is_floating(key)
    return tensors[key].is_floating_point()


def _nbytes(tensors: Mapping[str, torch.Tensor], key: str) -> int:
    tensor = tensors[key]
    return tensor.numel() * tensor.element_size()


def _stored_bytes(tensors: Mapping[str, torch.Tensor], rename: Rename, dtype: torch.dtype | None) -> int:
    size = _nbytes(tensors, rename.source) // (1 if rename.part is None else 3)
    source_dtype = tensors[rename.source].dtype
    return size * dtype.itemsize // source_dtype.itemsize if dtype and source_dtype.is_floating_point else size


def _target_shapes(
    tensors: Mapping[str, torch.Tensor], renames: list[Rename]
) -> dict[str, dict[str, tuple[int, ...]]]:
    shapes: dict[str, dict[str, tuple[int, ...]]] = {component: {} for component in COMPONENTS}
    for rename in renames:
        if not _is_floating(tensors, rename.source):
            raise IncompatibleCheckpoint(
                f"the checkpoint's {rename.source!r} holds no floating-point numbers: it is damaged, or quantized."
            )
        like = torch.empty(_shape(tensors, rename.source), device="meta")
        try:
            shape = tuple(rename.apply(like).shape)
        except (IndexError, RuntimeError) as error:
            raise IncompatibleCheckpoint(
                f"the checkpoint's {rename.source!r} has the shape {tuple(like.shape)}, which can't be used."
            ) from error
        shapes[rename.component][rename.target] = shape
    return shapes


def _write_component(
    folder: Path,
    component: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    renames: list[Rename],
    dtype: torch.dtype | None,
    bar: tqdm,
) -> None:
    from safetensors.torch import save_file

    folder.mkdir()
    build_on_meta(component, config).save_config(folder)
    shards: list[list[Rename]] = [[]]
    filled = 0
    for rename in renames:
        size = _stored_bytes(tensors, rename, dtype)
        if filled + size > MAX_SHARD_BYTES and shards[-1]:
            shards.append([])
            filled = 0
        shards[-1].append(rename)
        filled += size
    index: dict[str, Any] = {"metadata": {"total_size": 0}, "weight_map": {}}
    for number, shard in enumerate(shards, start=1):
        name = WEIGHTS_NAME if len(shards) == 1 else f"{WEIGHTS_NAME}-{number:05d}-of-{len(shards):05d}"
        state = {}
        for rename in shard:
            tensor = rename.apply(tensors[rename.source])
            if dtype is not None and tensor.is_floating_point():
                tensor = tensor.to(dtype)
            state[rename.target] = tensor.contiguous()
            size = tensor.numel() * tensor.element_size()
            index["metadata"]["total_size"] += size
            index["weight_map"][rename.target] = f"{name}.safetensors"
            bar.update(size)
        save_file(state, folder / f"{name}.safetensors", metadata={"format": "pt"})
    if len(shards) > 1:
        text = json.dumps(index, indent=2, sort_keys=True)
        (folder / f"{WEIGHTS_NAME}.safetensors.index.json").write_text(text, encoding="utf-8")


def _write_scheduler(folder: Path) -> None:
    from diffusers import PNDMScheduler

    PNDMScheduler(**SCHEDULER).save_pretrained(folder)


def _write_index(folder: Path, licence: str | None) -> None:
    from diffusers import __version__ as diffusers_version

    index: dict[str, Any] = {"_class_name": PIPELINE[1], "_diffusers_version": diffusers_version, **LIBRARY}
    if licence:
        index["weights_licence"] = licence
    write_custom_pipeline(folder, index)
