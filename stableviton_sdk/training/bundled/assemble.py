"""Trained parts -> the folder of the bundled model: half precision, few steps, and held-out images to try it on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from PIL import Image

from ...data.synthetic import render_pair
from ...errors import IncompatibleCheckpoint, InvalidInput
from ...images import save_atomically
from ...pipelines.pipeline_tryon import TryOnPipeline
from ...preprocessing.preprocessor import PersonPreprocessor
from ..config import refuse, too_small
from ..tryon.initialise import load_autoencoder

LICENCE = "Apache-2.0"
MAX_FILE_BYTES, MAX_BYTES = 16e6, 25e6


@dataclass(frozen=True)
class BundleConfig:
    """What the bundled model is put together from.

    Args:
        output (`str`): Folder to write; a README.md that is there stays.
        try_on (`str`), autoencoder (`str`), preprocessor (`str`): Folders that the other trainings have written.
        steps (`int`, *optional*, defaults to 1): Denoising steps that suit the weights.
        attention_block (`int`, *optional*, defaults to 2): The block that was trained to look at the right place.
        sample_seed (`int`, *optional*, defaults to 3), samples (`list[int]`, *optional*):
            Of the rendered images to try it on; trained with were others.
    """

    output: str
    try_on: str
    autoencoder: str
    preprocessor: str
    steps: int = 1
    attention_block: int = 2
    sample_seed: int = 3
    samples: list[int] = field(default_factory=lambda: [0, 12])

    def __post_init__(self):
        refuse(too_small(self, {"steps": 1, "sample_seed": 0, "attention_block": 0}))


def make_bundle(config: BundleConfig, *, progress: bool = True) -> Path:
    """Put the bundled model together.

    Args:
        config (`BundleConfig`): See there.
        progress (`bool`, *optional*, defaults to `True`): Unused: it takes a second.

    Returns:
        `Path`: the folder, for `TryOnPipeline.from_pretrained`.

    Raises:
        `IncompatibleCheckpoint`: if the networks were trained with latents of another autoencoder.
        `InvalidInput`: if it became too large for a package.
    """
    pipeline = TryOnPipeline.from_pretrained(config.try_on, dtype=torch.float32)
    vae = load_autoencoder(config.autoencoder)
    check_same_encoder(pipeline, vae, config.try_on, config.autoencoder)
    bundle = TryOnPipeline(
        vae=vae.half(),
        garment_encoder=pipeline.garment_encoder.half(),
        spatial_encoder=pipeline.spatial_encoder.half(),
        unet=pipeline.unet.half(),
        scheduler=few_steps(pipeline.scheduler),
        preprocessor=PersonPreprocessor.from_pretrained(config.preprocessor),
        weights_licence=LICENCE,
        default_steps=config.steps,
        attention_block=config.attention_block,
    )
    folder = Path(config.output)
    bundle.save_pretrained(folder)
    (folder / "samples").mkdir(exist_ok=True)
    for number, index in enumerate(config.samples, 1):
        sample = render_pair(config.sample_seed, index)
        for name, image in (("person", sample.person), ("garment", sample.garment_other)):
            save_atomically(Image.fromarray(image), folder / "samples" / f"{name}_{number}.png")
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    largest = max(sizes, key=sizes.get)
    if sizes[largest] > MAX_FILE_BYTES or sum(sizes.values()) > MAX_BYTES:
        raise InvalidInput(
            f"{folder} has {sum(sizes.values()) / 1e6:.1f} MB, {sizes[largest] / 1e6:.1f} MB of them {largest.name}: "
            "too much for a package, train smaller networks."
        )
    return folder


def few_steps(scheduler: Any) -> DDIMScheduler:
    """What small networks paint with: few steps, the first of which is at the schedule's very end, where the start is.

    With the released weights' own spacing four steps would begin at t = 751, and what the network isn't told of the
    start's noise would stay in the image.

    Args:
        scheduler (`SchedulerMixin`): For the schedule and what is predicted.
    """
    names = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type", "set_alpha_to_one")
    options = {name: scheduler.config[name] for name in names}
    return DDIMScheduler(**options, timestep_spacing="trailing", steps_offset=0, clip_sample=False)


def check_same_encoder(pipeline: TryOnPipeline, vae: torch.nn.Module, try_on: str, autoencoder: str) -> None:
    """Refuse networks that know other latents than an autoencoder makes.

    Raises:
        `IncompatibleCheckpoint`: naming the folders `try_on` and `autoencoder`.
    """
    if not torch.equal(vae.encoder.weight, pipeline.vae.encoder.weight):
        raise IncompatibleCheckpoint(
            f"{try_on} was trained with another autoencoder than {autoencoder}: train it anew."
        )
