"""What a training run is told: dataclasses, read from YAML, refused as a whole where anything doesn't fit."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union

from ..errors import InvalidInput, MissingDependency
from .tryon.augmentation import Augmentation


@dataclass(frozen=True)
class StartConfig:
    """Where the weights come from.

    Args:
        source (`str`, *optional*, defaults to `"paint-by-example"`): Or `"pipeline"`, or `"scratch"`.
        path (`str`, *optional*):
            Folder or Hub repository of Paint-by-Example (the released one by default), or of a StableVITON in this
            package's layout.
        vae (`str`, *optional*): Folder of a trained `AutoencoderKL` to use instead.
        architecture (`dict`, *optional*), scheduler (`dict`, *optional*): For `"scratch"`; see `from_scratch`.
    """

    source: Literal["paint-by-example", "pipeline", "scratch"] = "paint-by-example"
    path: str | None = None
    vae: str | None = None
    architecture: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataConfig:
    """Which pairs.

    Args:
        kind (`str`, *optional*, defaults to `"viton-hd"`): `"viton-hd"`, `"dress-code"`, `"folder"` or `"synthetic"`.
        size (`list[int]`, *optional*, defaults to `[512, 384]`): Height and width.
        options (`dict`, *optional*): The reader's own arguments, such as `root` or `split`.
        latent_cache (`str`, *optional*):
            Folder to keep every item's latents in, so that the data is read and encoded once instead of in every
            epoch; without augmentation only.
    """

    kind: Literal["viton-hd", "dress-code", "folder", "synthetic"] = "viton-hd"
    size: list[int] = field(default_factory=lambda: [512, 384])
    options: dict[str, Any] = field(default_factory=dict)
    latent_cache: str | None = None


@dataclass(frozen=True)
class LossConfig:
    """What is minimised, beside the denoising error.

    Args:
        total_variation (`float`, *optional*, defaults to 0.001):
            Weight of the attention total variation loss, in the stage `"atv"`; the paper's is 0.0001.
        correspondence (`str`, *optional*, defaults to `"none"`):
            `"cross-entropy"` or `"expected-coordinate"`, where the data knows the true correspondence.
        correspondence_weight (`float`, *optional*, defaults to 0.03): Its weight.
        coordinate_weight (`float`, *optional*, defaults to 0.0):
            Weight of the expected-coordinate loss beside the cross-entropy, which says where most of the attention
            should lie, but hardly minds how far off the rest is.
        blocks (`list[int]`, *optional*): Decoder places that these losses look at; by default the authors' choice.
        outside_weight (`float`, *optional*, defaults to 1.0): Weight of the denoising error outside the mask.
        channel_weights (`list[float]`, *optional*):
            Weight of the denoising error of every latent channel, 1 by default: for latents that were scaled to equal
            variance, and whose channels therefore count for unequal parts of the image.
        min_snr_gamma (`float`, *optional*): See `denoising_loss`.
        structure_weight (`float`, *optional*, defaults to 0.0):
            Weight of `structural_loss` between the decoded estimate of the clean latents and the decoded truth; for
            networks that predict velocity. Gradients go through the autoencoder's decoder, which costs memory.
        structure_images (`int`, *optional*): How many images of a batch it decodes; all by default.
    """

    total_variation: float = 0.001
    correspondence: Literal["none", "cross-entropy", "expected-coordinate"] = "none"
    correspondence_weight: float = 0.03
    coordinate_weight: float = 0.0
    blocks: list[int] | None = None
    outside_weight: float = 1.0
    channel_weights: list[float] | None = None
    min_snr_gamma: float | None = None
    structure_weight: float = 0.0
    structure_images: int | None = None


@dataclass(frozen=True)
class ValidationConfig:
    """Images painted along the way.

    Args:
        every (`int`, *optional*, defaults to 0): Steps between two sheets; 0 for none.
        count (`int`, *optional*, defaults to 4): Pairs on a sheet.
        inference_steps (`int`, *optional*, defaults to 20): Denoising steps.
        data (`DataConfig`, *optional*): Other pairs than the first ones of the training data.
    """

    every: int = 0
    count: int = 4
    inference_steps: int = 20
    data: DataConfig | None = None


@dataclass(frozen=True)
class TrainingConfig:
    """One training run. The defaults are the authors'.

    Args:
        output (`str`): Folder for checkpoints, metrics, images and the trained pipeline.
        stage (`str`, *optional*, defaults to `"base"`): `"base"`, or `"atv"` with the total variation loss.
        start (`StartConfig`), data (`DataConfig`), loss (`LossConfig`), validation (`ValidationConfig`): See there.
        augmentation (`Augmentation`, *optional*): None for none.
        trainable (`str`, *optional*, defaults to `"authors"`): See `choose_trainable`.
        vision_tower (`bool`, *optional*), lora_rank (`int`, *optional*): See `choose_trainable`.
        steps (`int`, *optional*, defaults to 100000): Optimizer steps.
        batch_size (`int`, *optional*, defaults to 32): Pairs of a step on each device, over all accumulated parts.
        gradient_accumulation (`int`, *optional*, defaults to 1): Parts that the batch is computed in.
        learning_rate (`float`, *optional*, defaults to 1e-4), weight_decay (`float`, *optional*, defaults to 0.01):
            AdamW's.
        schedule (`str`, *optional*, defaults to `"constant"`): `"constant"` or `"cosine"`, to zero.
        warmup_steps (`int`, *optional*, defaults to 0): Linear.
        max_grad_norm (`float`, *optional*, defaults to 1.0): Gradients are clipped to this norm.
        unconditional_probability (`float`, *optional*, defaults to 0.2): How often the unconditional token is seen.
        timestep_exponent (`float`, *optional*, defaults to 1.0):
            Timesteps are drawn as u ** exponent of the schedule, u being uniform: below 1, noisy ones come more often,
            where all that is known of the image is the garment and the body; 0 is the last one alone.
        ema_decay (`float`, *optional*, defaults to 0.9999): Of the averaged weights; None for none.
        mixed_precision (`str`, *optional*, defaults to `"no"`): `"no"`, `"bf16"` or `"fp16"`.
        gradient_checkpointing (`bool`, *optional*, defaults to `False`): Compute activations twice, keep few.
        seed (`int`, *optional*, defaults to 0): Everything that is drawn follows from it and the step.
        workers (`int`, *optional*, defaults to 4): Processes that read data.
        checkpoint_every (`int`, *optional*, defaults to 1000), keep_checkpoints (`int`, *optional*, defaults to 3).
        checkpoint_file_mb (`int`, *optional*, defaults to 4000): Largest file of a checkpoint.
        log_every (`int`, *optional*, defaults to 10): Steps between two lines of metrics.
        cpu (`bool`, *optional*, defaults to `False`): Train on the CPU even where there is something better.
    """

    output: str
    stage: Literal["base", "atv"] = "base"
    start: StartConfig = field(default_factory=StartConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    trainable: Literal["authors", "lora", "full"] = "authors"
    vision_tower: bool = False
    lora_rank: int = 16
    steps: int = 100_000
    batch_size: int = 32
    gradient_accumulation: int = 1
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    max_grad_norm: float = 1.0
    unconditional_probability: float = 0.2
    timestep_exponent: float = 1.0
    ema_decay: float | None = 0.9999
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False
    seed: int = 0
    workers: int = 4
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3
    checkpoint_file_mb: int = 4000
    log_every: int = 10
    cpu: bool = False

    def __post_init__(self):
        problems = too_small(self, LEAST)
        problems += [
            f"{name} is {value!r}: pass a number from 0 to 1."
            for name in ("unconditional_probability", "ema_decay")
            if (value := _get(self, name)) is not None and not 0 <= value <= 1
        ]
        if self.gradient_accumulation >= 1 and self.batch_size % self.gradient_accumulation:
            problems.append(
                f"batch_size is {self.batch_size}, which can't be split into {self.gradient_accumulation} equal parts."
            )
        if self.data.latent_cache and self.augmentation is not None:
            problems.append("data.latent_cache keeps items as they are: pass augmentation: null, or no cache.")
        if self.loss.coordinate_weight and self.loss.correspondence != "cross-entropy":
            problems.append(
                "loss.coordinate_weight goes beside correspondence: cross-entropy; on its own, that loss is "
                "correspondence: expected-coordinate."
            )
        if len(self.data.size) != 2:
            problems.append(f"data.size is {self.data.size!r}: pass height and width.")
        refuse(problems)


LEAST = {
    "steps": 1, "batch_size": 1, "gradient_accumulation": 1, "learning_rate": 0, "weight_decay": 0,
    "warmup_steps": 0, "max_grad_norm": 0, "seed": 0, "workers": 0, "checkpoint_every": 1, "keep_checkpoints": 1,
    "checkpoint_file_mb": 1, "log_every": 1, "lora_rank": 1, "timestep_exponent": 0, "loss.total_variation": 0,
    "loss.correspondence_weight": 0, "loss.coordinate_weight": 0, "loss.outside_weight": 0, "loss.min_snr_gamma": 0,
    "loss.structure_weight": 0, "loss.structure_images": 1, "validation.every": 0,
    "validation.count": 1, "validation.inference_steps": 1,
}  # fmt: skip


def load_config(path: str | os.PathLike) -> TrainingConfig:
    """Read a YAML file.

    Raises:
        `InvalidInput`: naming everything that is wrong with it.
    """
    return parse_config(read_yaml(path))


def read_yaml(path: str | os.PathLike) -> Any:
    """What a YAML file says.

    Raises:
        `InvalidInput`: if it can't be read.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingDependency("training configurations need the package pyyaml: pip install pyyaml.") from error
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"the configuration {os.fspath(path)} can't be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the configuration {os.fspath(path)} is no valid YAML: {error}") from error


def parse_config(content: Any, kind: type = TrainingConfig) -> Any:
    """Make a configuration of nested mappings.

    Args:
        content: What a YAML file says.
        kind (`type`, *optional*, defaults to `TrainingConfig`): The dataclass to make.

    Raises:
        `InvalidInput`: naming every unknown, missing or unfit entry, with the likely intention.
    """
    problems: list[str] = []
    values = _parse(kind, content, "", problems)
    refuse(problems)
    return values


def as_mapping(config: TrainingConfig) -> dict[str, Any]:
    """The nested mappings that `parse_config` reads."""
    return dataclasses.asdict(config)


def _parse(kind: Any, value: Any, place: str, problems: list[str]) -> Any:
    """Check a value against a type annotation; dataclasses are made of mappings."""
    origin, choices = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        (inner,) = (choice for choice in choices if choice is not type(None))
        return _parse(inner, value, place, problems)
    if dataclasses.is_dataclass(kind):
        return _parse_fields(kind, value, place, problems)
    if origin is Literal:
        value = "no" if value is False and "no" in choices else value  # YAML reads no as false
        if value not in choices:
            problems.append(f"{place} is {value!r}: pass one of {', '.join(map(repr, choices))}.")
        return value
    if origin in (list, tuple):
        if not isinstance(value, (list, tuple)):
            problems.append(f"{place} is {value!r}: pass a list.")
            return value
        return origin(_parse(choices[0], entry, f"{place}[{i}]", problems) for i, entry in enumerate(value))
    expected = origin or kind
    if expected is float and isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)  # YAML reads 1e-4 as text
    fits = isinstance(value, (int, float) if expected is float else expected)
    if not fits or (isinstance(value, bool) and expected is not bool):
        names = {float: "a number", int: "a whole number", bool: "true or false", str: "a text", dict: "a mapping"}
        problems.append(f"{place} is {value!r}: pass {names[expected]}.")
    return value


def _parse_fields(kind: type, value: Any, place: str, problems: list[str]) -> Any:
    if not isinstance(value, Mapping):
        problems.append(f"{place or 'the configuration'} is {value!r}: pass a mapping of options.")
        return None
    annotations = typing.get_type_hints(kind)
    fields = {entry.name: entry for entry in dataclasses.fields(kind)}
    prefix = f"{place}." if place else ""
    before, parsed = len(problems), {}
    for key, entry in value.items():
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(fields)}."
            problems.append(f"there is no option {prefix}{key}: {hint}")
        else:
            parsed[key] = _parse(annotations[key], entry, prefix + key, problems)
    for name, entry in fields.items():
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if required and name not in value:
            problems.append(f"the option {prefix}{name} is missing.")
    if len(problems) > before:
        return None
    try:
        return kind(**parsed)
    except InvalidInput as error:
        problems += getattr(error, "problems", [str(error)])
        return None


def _get(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part)
    return config


def too_small(config: Any, least: Mapping[str, float]) -> list[str]:
    """A sentence for every option, by dotted name, that is less than it may be; None is no number and may stay."""
    return [
        f"{name} is {value!r}: pass a number from {limit}."
        for name, limit in least.items()
        if (value := _get(config, name)) is not None and not limit <= value < math.inf
    ]


def refuse(problems: list[str]) -> None:
    """Refuse a configuration for all its problems at once.

    Raises:
        `InvalidInput`: if there are any.
    """
    if problems:
        error = InvalidInput("\n  - ".join(["the training configuration can't be used:", *problems]))
        error.problems = problems
        raise error
