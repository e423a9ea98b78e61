"""The bundled model put together of trained parts: half precision, few steps, and held-out sample images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
from diffusers import DDIMScheduler
from PIL import Image

from ...choices import QUALITIES
from ...data.synthetic import render_pair
from ...errors import IncompatibleCheckpoint, InvalidInput
from ...images import save_atomically
from ...pipelines.pipeline_tryon import TryOnPipeline
from ...preprocessing.preprocessor import PersonPreprocessor
from ..loop.config import Config, Count, CountOrZero, Field
from ..tryon.initialise import load_autoencoder

LICENCE = "Apache-2.0"
MAX_FILE_BYTES, MAX_BYTES = 16e6, 25e6


class BundleConfig(Config):
    """Parts of the bundled model."""

    output: str
    """Folder to write; a README.md that is there stays."""
    try_on: str
    """Folder of the trained pipeline."""
    autoencoder: str
    """Folder of the trained autoencoder."""
    preprocessor: str
    """Folder of the trained preprocessor."""
    steps: Count = 1
    """Denoising steps that suit the weights."""
    correspondence_block: CountOrZero = 2
    """Decoder block whose attention was supervised."""
    detail: Annotated[float, Field(ge=0, le=1)] = 0.85
    """How much of the garment's own fine detail a call carries over by default."""
    sample_seed: CountOrZero = 3
    """Seed of the rendered sample images; not the trainings'."""
    samples: list[CountOrZero] = Field(default_factory=lambda: [0, 12])
    """Their numbers."""


def make_bundle(config: BundleConfig, *, progress: bool = True) -> Path:
    """Put the bundled model together.

    Args:
        config (`BundleConfig`): The parts.
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
        scheduler=few_step_scheduler(pipeline.scheduler),
        preprocessor=PersonPreprocessor.from_pretrained(config.preprocessor),
        weights_licence=LICENCE,
        default_num_inference_steps=config.steps,
        correspondence_block=config.correspondence_block,
        default_detail=config.detail,
        restores_background=True,
        quality_presets=quality_presets(config.steps),
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


def quality_presets(steps: int) -> dict[str, dict[str, Any]]:
    """The bundled model's presets: it paints in so few steps that no quality takes fewer."""
    return {"exact": {"scheduler": "DDIMScheduler"}} | {
        name: {"num_inference_steps": steps} for name in QUALITIES if name != "exact"
    }


def few_step_scheduler(scheduler: Any) -> DDIMScheduler:
    """The scheduler of small networks: few steps, the first of them at the schedule's very end, where the start is.

    With the released weights' own spacing four steps would begin at t = 751, below the start's noise level, and some
    of that noise would stay in the image.

    Args:
        scheduler (`SchedulerMixin`): Noise schedule and prediction type.
    """
    names = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type", "set_alpha_to_one")
    options = {name: scheduler.config[name] for name in names}
    return DDIMScheduler(**options, timestep_spacing="trailing", steps_offset=0, clip_sample=False)


def check_same_encoder(pipeline: TryOnPipeline, vae: torch.nn.Module, try_on: str, autoencoder: str) -> None:
    """Refuse networks that were trained with other latents than an autoencoder's.

    Raises:
        `IncompatibleCheckpoint`: naming the folders `try_on` and `autoencoder`.
    """
    if not torch.equal(vae.encoder.weight, pipeline.vae.encoder.weight):
        raise IncompatibleCheckpoint(
            f"{try_on} was trained with another autoencoder than {autoencoder}: train it anew."
        )
