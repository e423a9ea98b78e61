"""Training of the small autoencoder's decoder on latents that the try-on network generated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ...data.synthetic import render_pair
from ...files import replacing
from ...models.patch_autoencoder import PatchAutoencoder
from ...pipelines.pipeline_tryon import TryOnPipeline
from ...preprocessing.inputs import TryOnInputs
from ..loop.config import Config, Count, CountOrZero, Field, NotNegative, Number, refusal
from ..loop.dataloader import stack_images
from ..loop.resumption import check_steps
from ..tryon.initialise import load_autoencoder
from ..tryon.latent_cache import fingerprint
from .assemble import check_same_encoder, few_step_scheduler
from .autoencoder import image_loss
from .fit import Batch, FitTask, fit

GENERATED = "painted.npz"
UNMASKED_WEIGHT = 0.05  # of pixels that the photo's own replace in the end


class GeneratedConfig(Config):
    """Rendered figures that are dressed to learn from."""

    seed: CountOrZero = 2000
    """Seed of the renderer. The try-on network must not have been trained with these figures: it would err less than
    it does for its users."""
    length: Count = 1000
    """Figures."""
    batch_size: Count = 16
    """Figures that are dressed at once."""
    steps: Count = 1
    """Denoising steps."""
    crop: Annotated[int, Field(ge=8)] = 128
    """Side of the square crop that a step sees, in pixels."""
    clean_probability: Annotated[Number, Field(ge=0, lt=1)] = 0.25
    """How often a crop has the image's own latents instead of the generated ones."""


class DecoderConfig(FitTask):
    """One training of the autoencoder's correction."""

    autoencoder: str
    """Folder of the trained autoencoder."""
    try_on: str
    """Folder of the trained pipeline."""
    ssim_weight: NotNegative = 0.0
    """Weight of 1 - SSIM."""
    data: GeneratedConfig = Field(default_factory=GeneratedConfig)


def train_decoder(config: DecoderConfig, *, progress: bool = True) -> Path:
    """Train the correction of the autoencoder's decoder, from the start or from the last checkpoint.

    A network that was trained for minutes generates latents whose errors show in their neighbours, so they can be
    corrected. The encoder stays as it is.

    Args:
        config (`DecoderConfig`): All options.
        progress (`bool`, *optional*, defaults to `True`): Show progress bars.

    Returns:
        `Path`: the folder of the autoencoder.

    Raises:
        `InvalidInput`: if the crop doesn't fit the images; see also `fit`.
        `IncompatibleCheckpoint`: if the networks were trained with latents of another autoencoder; see also `fit`.
        `TrainingDiverged`: see `fit`.
    """
    output = Path(config.output)
    check_steps(output, config.fit)
    vae = load_autoencoder(config.autoencoder)
    pipeline = TryOnPipeline.from_pretrained(config.try_on, dtype=torch.float32)
    check_same_encoder(pipeline, vae, config.try_on, config.autoencoder)
    patch = pipeline.vae_scale_factor
    width, height = pipeline.default_size
    if config.data.crop % patch or config.data.crop > min(height, width):
        raise refusal([f"data.crop is {config.data.crop}: pass a multiple of {patch} up to {min(height, width)}."])
    output.mkdir(parents=True, exist_ok=True)
    data = generate_latents(pipeline, config.data, output / GENERATED, progress=progress)
    for linear in (vae.encoder, vae.decoder):
        linear.requires_grad_(False)
    fit(
        vae,
        partial(decoding_loss, ssim_weight=config.ssim_weight),
        data,
        config.fit,
        output,
        settings=config,
        collate=collate_generated,
        augmentation=MaskedCrops(config.data.crop, patch, config.data.clean_probability),
        progress=progress,
    )
    vae.save_pretrained(output / "autoencoder")
    return output / "autoencoder"


class GeneratedLatents(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Generated latents, and the images that they should decode to.

    Args:
        arrays (`Mapping[str, np.ndarray]`):
            `latents` (float16, (N, channels, h, w)), `image` (uint8, (N, H, W, 3)), `mask` (bool, (N, H, W), True
            where the image was repainted).
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays["latents"])

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {name: array[index] for name, array in self.arrays.items()}


def generate_latents(
    pipeline: TryOnPipeline, config: GeneratedConfig, path: Path, *, progress: bool = True
) -> GeneratedLatents:
    """Latents of rendered figures in their other garments, generated once: another call reads the file.

    Args:
        pipeline (`TryOnPipeline`): The trained networks.
        config (`GeneratedConfig`): The figures.
        path (`Path`): A file, made if it isn't there or is of other networks or other figures.
        progress (`bool`, *optional*, defaults to `True`): Show a progress bar.
    """
    source = f"{fingerprint(pipeline.unet)} {config.seed} {config.length} {config.batch_size} {config.steps}"
    if path.is_file():
        with np.load(path) as stored:
            if str(stored["source"]) == source:
                return GeneratedLatents({name: stored[name] for name in stored.files if name != "source"})
    pipeline.register_modules(scheduler=few_step_scheduler(pipeline.scheduler))
    pipeline.set_progress_bar_config(disable=True)
    parts: dict[str, list[np.ndarray]] = {"latents": [], "image": [], "mask": []}
    with tqdm(total=config.length, unit="figure", disable=not progress) as bar:
        for first in range(0, config.length, config.batch_size):
            indices = range(first, min(first + config.batch_size, config.length))
            samples = [render_pair(config.seed, index, size=pipeline.default_size) for index in indices]
            painted = pipeline(
                [
                    TryOnInputs.from_maps(one.person, mask=one.mask, densepose=one.densepose, agnostic=one.agnostic)
                    for one in samples
                ],
                [Image.fromarray(one.garment_other) for one in samples],
                num_inference_steps=config.steps,
                generator=[torch.Generator().manual_seed(index) for index in indices],
                output_type="latent",
            ).images
            parts["latents"].append(painted.half().cpu().numpy())
            parts["image"].append(np.stack([one.person_in_other for one in samples]))
            parts["mask"].append(np.stack([one.mask for one in samples]))
            bar.update(len(indices))
    arrays = {name: np.concatenate(values) for name, values in parts.items()}
    with replacing(path) as unfinished:
        np.savez(unfinished, source=source, **arrays)
    return GeneratedLatents(arrays)


class MaskedCrops:
    """Makes a training item: a square around a masked pixel, and whether it has its image's own latents instead.

    Args:
        side (`int`): Side of the square, in pixels.
        patch (`int`): Pixels to a cell of the latents, along either axis.
        clean_probability (`float`): How often the latents are the image's own.
    """

    def __init__(self, side: int, patch: int, clean_probability: float):
        self.cells: int = side // patch
        self.patch = patch
        self.clean_probability = clean_probability

    def __call__(self, item: Mapping[str, Any], random: np.random.Generator) -> dict[str, Any]:
        rows, columns = np.nonzero(item["mask"])
        chosen = random.integers(len(rows))
        height, width = item["latents"].shape[1:]
        top = int(np.clip(rows[chosen] // self.patch - self.cells // 2, 0, height - self.cells))
        left = int(np.clip(columns[chosen] // self.patch - self.cells // 2, 0, width - self.cells))
        pixels = np.s_[
            top * self.patch : (top + self.cells) * self.patch, left * self.patch : (left + self.cells) * self.patch
        ]
        return {
            "latents": item["latents"][:, top : top + self.cells, left : left + self.cells],
            "image": item["image"][pixels],
            "mask": item["mask"][pixels],
            "clean": random.random() < self.clean_probability,
        }


def collate_generated(items: Sequence[Mapping[str, Any]]) -> Batch:
    """Float `latents`, `image` in [-1, 1], (N, 3, side, side); bool `mask`, (N, 1, side, side), `clean`, (N,)."""
    return {
        "latents": torch.from_numpy(np.stack([item["latents"] for item in items])).float(),
        "image": stack_images(item["image"] for item in items),
        "mask": torch.from_numpy(np.stack([item["mask"] for item in items]))[:, None],
        "clean": torch.tensor([item["clean"] for item in items]),
    }


def decoding_loss(vae: PatchAutoencoder, batch: Batch, ssim_weight: float = 0.0) -> Batch:
    """Errors of images decoded from the generated latents, and from their own where `clean`.

    Args:
        vae (`PatchAutoencoder`): The autoencoder in training.
        batch (`dict[str, torch.Tensor]`): Result of `collate_generated`.
        ssim_weight (`float`, *optional*, defaults to 0.0): Weight of `ssim_loss`.
    """
    images, clean = batch["image"], batch["clean"].view(-1, 1, 1, 1)
    latents = torch.where(clean, vae.encode(images).latents, batch["latents"])
    weight = (batch["mask"] | clean).to(images).clamp_min(UNMASKED_WEIGHT)
    return image_loss(vae.decode(latents).sample, images, weight, ssim_weight)
