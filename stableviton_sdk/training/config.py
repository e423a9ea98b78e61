"""Options of a try-on training, and configurations read from YAML."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from ..choices import Trainable
from ..errors import InvalidInput, MissingDependency
from .augmentation import Augmentation
from .loop.config import (
    Config,
    Count,
    CountOrZero,
    Field,
    LoopConfig,
    NotNegative,
    Number,
    Probability,
    ValidationInfo,
    field_validator,
)

# Options that had other names in the first layout of checkpoints.
FIRST_LAYOUT = {"vision_tower": "train_vision_tower", "timestep_exponent": "timestep_power"}
FIRST_LAYOUT_LOSS = {
    "outside_weight": "unmasked_weight",
    "structure_weight": "ssim_weight",
    "structure_pictures": "ssim_batch_limit",
    "structure_images": "ssim_batch_limit",
}


class StartConfig(Config):
    """Where the weights come from."""

    source: Literal["paint-by-example", "pipeline", "scratch"] = "paint-by-example"
    """Paint-by-Example, as the authors did; a StableVITON; or random weights."""
    path: str | None = None
    """Folder or Hub repository: of Paint-by-Example (the released one by default), or of a StableVITON in this
    package's layout."""
    vae: str | None = None
    """Folder of a trained autoencoder to use instead."""
    architecture: dict[str, Any] = Field(default_factory=dict)
    """For `"scratch"`: options of `unet`, `garment_encoder` and `vae`; see `from_scratch`."""
    scheduler: dict[str, Any] = Field(default_factory=dict)
    """For `"scratch"`: changes to the method's schedule, such as `prediction_type`."""


class DataConfig(Config):
    """Pairs to train on."""

    kind: Literal["viton-hd", "dress-code", "folder", "synthetic"] = "viton-hd"
    """The reader."""
    size: tuple[Count, Count] = (384, 512)
    """Width and height in pixels."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The reader's own arguments, such as `root` or `split`."""
    latent_cache: str | None = None
    """Folder to keep every item's latents in, so that the data is read and encoded once instead of in every epoch;
    without augmentation only."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.size[1], self.size[0]


class LossConfig(Config):
    """Losses beside the denoising error, and the weights of all."""

    total_variation: NotNegative = 0.001
    """Weight of the attention total variation loss, in the stage `"atv"`; the paper's is 0.0001."""
    correspondence: Literal["none", "cross-entropy", "expected-coordinate"] = "none"
    """Loss of the attention where the data knows the true correspondence."""
    correspondence_weight: NotNegative = 0.03
    """Its weight."""
    coordinate_weight: NotNegative = 0.0
    """Weight of the expected-coordinate loss beside the cross-entropy, which asks most of the attention to lie at the
    right place and hardly minds how far off the rest is."""
    panels_weight: NotNegative = 0.0
    """Weight of the garment coordinates' own errors, for networks that have them and rendered data, which knows its
    garments' panels."""
    blocks: list[CountOrZero] | None = None
    """Decoder blocks that these losses supervise; the authors' choice by default."""
    unmasked_weight: NotNegative = 1.0
    """Weight of the denoising error outside the mask."""
    channel_weights: list[Annotated[Number, Field(gt=0)]] | None = None
    """Weight of the denoising error of every latent channel, 1 by default: for latents that were scaled to equal
    variance, and whose channels therefore count for unequal parts of the image."""
    min_snr_gamma: NotNegative | None = None
    """Largest signal-to-noise ratio in the weights of timesteps, after Min-SNR; see `denoising_loss`."""
    ssim_weight: NotNegative = 0.0
    """Weight of 1 - SSIM between the decoded estimate of the clean latents and the decoded truth; for networks that
    predict velocity. Gradients go through the autoencoder's decoder, which costs memory."""
    ssim_batch_limit: Count | None = None
    """Images of a batch that are decoded for it; all by default."""

    @field_validator("coordinate_weight")
    @classmethod
    def _beside_the_cross_entropy(cls, value: float, info: ValidationInfo) -> float:
        if value and info.data.get("correspondence") != "cross-entropy":
            raise ValueError(
                "loss.coordinate_weight goes beside correspondence: cross-entropy; on its own, that loss is "
                "correspondence: expected-coordinate."
            )
        return value


class ValidationConfig(Config):
    """Images painted along the way."""

    every: CountOrZero = 0
    """Steps between two sheets; 0 for none."""
    count: Count = 4
    """Pairs on a sheet."""
    inference_steps: Count = 20
    """Denoising steps."""
    data: DataConfig | None = None
    """Other pairs than the first ones of the training data."""


class TrainingConfig(LoopConfig):
    """One training of the try-on network. The defaults are the authors'."""

    output: str
    """Folder for checkpoints, metrics, images and the trained pipeline."""
    stage: Literal["base", "atv"] = "base"
    """`"atv"` adds the attention total variation loss."""
    start: StartConfig = Field(default_factory=StartConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    loss: LossConfig = Field(default_factory=LossConfig)
    validation: ValidationConfig = Field(default_factory=ValidationConfig)
    augmentation: Annotated[Augmentation | None, Field(validate_default=True)] = Field(default_factory=Augmentation)
    """Random changes of every item; null for none."""
    trainable: Trainable = "authors"
    """Parameters that are trained; see `choose_trainable`."""
    train_vision_tower: bool = False
    """With `"full"`, train the garment encoder's tower and mapper too, as is needed from scratch."""
    lora_rank: Count = 16
    """Rank of the adapters of `"lora"`."""
    gradient_accumulation: Count = 1
    """Micro-batches that a batch is computed in, one after the other."""
    unconditional_probability: Probability = 0.2
    """How often the unconditional token replaces the garment's embedding."""
    timestep_power: NotNegative = 1.0
    """Timesteps are drawn as u ** power of the schedule, u being uniform: below 1, noisy ones come more often, where
    all that is known of the image is the garment and the body; 0 is the last one alone."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them."""

    @classmethod
    def from_first_layout(cls, stored: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
        options, loss = dict(stored), dict(stored["loss"])
        for mapping, names in ((options, FIRST_LAYOUT), (loss, FIRST_LAYOUT_LOSS)):
            for old, new in names.items():
                if old in mapping:
                    mapping[new] = mapping.pop(old)
        size = options["data"]["size"][::-1]  # it was height and width
        return {**options, "loss": loss, "data": {**options["data"], "size": size}}

    @field_validator("augmentation")
    @classmethod
    def _cached_items_stay_as_they_are(cls, value: Augmentation | None, info: ValidationInfo) -> Augmentation | None:
        if value is not None and "data" in info.data and info.data["data"].latent_cache:
            raise ValueError("data.latent_cache keeps items as they are: pass augmentation: null, or no cache.")
        return value

    @field_validator("gradient_accumulation")
    @classmethod
    def _splits_the_batch(cls, value: int, info: ValidationInfo) -> int:
        batch_size = info.data.get("batch_size", value)
        if batch_size % value:
            raise ValueError(f"batch_size is {batch_size}, which can't be split into {value} equal micro-batches.")
        return value


def load_config(path: str | os.PathLike[str]) -> TrainingConfig:
    """The try-on training that a YAML file configures.

    Raises:
        `InvalidInput`: naming everything that is wrong with it.
    """
    return TrainingConfig.from_mapping(read_yaml(path))


def parse_config(content: Any, kind: type[Config] = TrainingConfig) -> Any:
    """The configuration that nested mappings say.

    Args:
        content: What a YAML file says.
        kind (`type[Config]`, *optional*, defaults to `TrainingConfig`): The class to make.

    Raises:
        `InvalidInput`: naming every unknown, missing or unfit option, with the likely intention.
    """
    return kind.from_mapping(content)


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """The content of a YAML file.

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
