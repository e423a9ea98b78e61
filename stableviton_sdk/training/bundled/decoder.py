"""The small autoencoder's way back, trained on latents as the try-on network paints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ...data.synthetic import render_pair
from ...files import replacing
from ...models.patch_autoencoder import PatchAutoencoder
from ...pipelines.pipeline_tryon import TryOnPipeline
from ...preprocessing.inputs import TryOnInputs
from ..config import refuse, too_small
from ..loop.dataloader import stack_images
from ..tryon.initialise import load_autoencoder
from ..tryon.latent_cache import fingerprint
from .assemble import check_same_encoder, few_steps
from .autoencoder import image_loss
from .fit import Batch, FitConfig, fit

PAINTED = "painted.npz"
OUTSIDE_WEIGHT = 0.05  # of what the photo's own pixels replace in the end


@dataclass(frozen=True)
class PaintedConfig:
    """Which figures are dressed to learn from.

    Args:
        seed (`int`, *optional*, defaults to 2000), length (`int`, *optional*, defaults to 1000):
            Of the rendered samples. The try-on network must not have been trained with them: it would err less than
            it does for its users.
        batch_size (`int`, *optional*, defaults to 16): Figures that are dressed at once.
        steps (`int`, *optional*, defaults to 1): Denoising steps.
        crop (`int`, *optional*, defaults to 128): Side of the square that is looked at, in pixels.
        exact (`float`, *optional*, defaults to 0.25): How often a crop has the image's own latents instead.
    """

    seed: int = 2000
    length: int = 1000
    batch_size: int = 16
    steps: int = 1
    crop: int = 128
    exact: float = 0.25


@dataclass(frozen=True)
class DecoderConfig:
    """One training run of the autoencoder's correction.

    Args:
        output (`str`): Folder for painted latents, checkpoints, metrics and the trained autoencoder.
        autoencoder (`str`), try_on (`str`): Folders that the other trainings have written.
        structure_weight (`float`, *optional*, defaults to 0.0): Of 1 - SSIM; see `structural_loss`.
        data (`PaintedConfig`), fit (`FitConfig`): See there.
    """

    output: str
    autoencoder: str
    try_on: str
    structure_weight: float = 0.0
    data: PaintedConfig = field(default_factory=PaintedConfig)
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self):
        least = {"structure_weight": 0, "data.seed": 0}
        least |= {"data.length": 1, "data.batch_size": 1, "data.steps": 1, "data.crop": 8}
        problems = too_small(self, least)
        if not 0 <= self.data.exact < 1:
            problems.append(f"data.exact is {self.data.exact!r}: pass a number from 0 to less than 1.")
        refuse(problems)


def train_decoder(config: DecoderConfig, *, progress: bool = True) -> Path:
    """Train the correction of the autoencoder's way back on results, from the start or from the last checkpoint.

    A network that was trained for minutes paints latents that are off in ways that their neighbours give away. Latents
    stay what they are: the encoder isn't trained.

    Args:
        config (`DecoderConfig`): See there.
        progress (`bool`, *optional*, defaults to `True`): Show progress bars.

    Returns:
        `Path`: the folder of the autoencoder.

    Raises:
        `InvalidInput`: if the crop doesn't fit the images.
        `IncompatibleCheckpoint`: if the networks were trained with latents of another autoencoder; see also `fit`.
        `TrainingDiverged`: see `fit`.
    """
    output = Path(config.output)
    vae = load_autoencoder(config.autoencoder)
    pipeline = TryOnPipeline.from_pretrained(config.try_on, dtype=torch.float32)
    check_same_encoder(pipeline, vae, config.try_on, config.autoencoder)
    patch = pipeline.vae_scale_factor
    height, width = pipeline.default_size
    if config.data.crop % patch or config.data.crop > min(height, width):
        refuse([f"data.crop is {config.data.crop}: pass a multiple of {patch} up to {min(height, width)}."])
    output.mkdir(parents=True, exist_ok=True)
    data = paint_latents(pipeline, config.data, output / PAINTED, progress=progress)
    for linear in (vae.encoder, vae.decoder):
        linear.requires_grad_(False)
    fit(
        vae,
        partial(painting_loss, structure_weight=config.structure_weight),
        data,
        config.fit,
        output,
        collate=collate_painted,
        augmentation=PaintedCrops(config.data.crop, patch, config.data.exact),
        progress=progress,
    )
    vae.save_pretrained(output / "autoencoder")
    return output / "autoencoder"


class PaintedLatents(torch.utils.data.Dataset):
    """What was painted, and what should have been.

    Args:
        arrays (`Mapping[str, np.ndarray]`):
            `latents` (float16, (N, channels, h, w)), `image` (uint8, (N, H, W, 3)), `mask` (bool, (N, H, W), True
            where the result was painted).
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays["latents"])

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {name: array[index] for name, array in self.arrays.items()}


def paint_latents(
    pipeline: TryOnPipeline, config: PaintedConfig, path: Path, *, progress: bool = True
) -> PaintedLatents:
    """Dress rendered figures in their other garments, once: another call reads the file.

    Args:
        pipeline (`TryOnPipeline`): The trained networks.
        config (`PaintedConfig`): Which figures.
        path (`Path`): A file, made if it isn't there or was made by other networks or of other figures.
        progress (`bool`, *optional*, defaults to `True`): Show a progress bar.
    """
    source = f"{fingerprint(pipeline.unet)} {config.seed} {config.length} {config.batch_size} {config.steps}"
    if path.is_file():
        with np.load(path) as stored:
            if str(stored["source"]) == source:
                return PaintedLatents({name: stored[name] for name in stored.files if name != "source"})
    pipeline.register_modules(scheduler=few_steps(pipeline.scheduler))
    pipeline.set_progress_bar_config(disable=True)
    parts: dict[str, list[np.ndarray]] = {"latents": [], "image": [], "mask": []}
    with tqdm(total=config.length, unit="figure", disable=not progress) as bar:
        for first in range(0, config.length, config.batch_size):
            indices = range(first, min(first + config.batch_size, config.length))
            samples = [render_pair(config.seed, index, size=pipeline.default_size) for index in indices]
            painted = pipeline(
                [TryOnInputs.of_whole_photo(one.person, one.mask, one.densepose, one.agnostic) for one in samples],
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
    return PaintedLatents(arrays)


class PaintedCrops:
    """Makes a training item: a square around a painted pixel, and whether it has its image's own latents instead.

    Args:
        side (`int`): Of the square, in pixels.
        patch (`int`): Pixels to a cell of the latents.
        exact (`float`): How often the latents are the image's own.
    """

    def __init__(self, side: int, patch: int, exact: float):
        self.cells, self.patch, self.exact = side // patch, patch, exact

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
            "exact": random.random() < self.exact,
        }


def collate_painted(items: Sequence[Mapping[str, Any]]) -> Batch:
    """Float `latents`, `image` in [-1, 1], (N, 3, side, side); bool `mask`, (N, 1, side, side), `exact`, (N,)."""
    return {
        "latents": torch.from_numpy(np.stack([item["latents"] for item in items])).float(),
        "image": stack_images(item["image"] for item in items),
        "mask": torch.from_numpy(np.stack([item["mask"] for item in items]))[:, None],
        "exact": torch.tensor([item["exact"] for item in items]),
    }


def painting_loss(vae: PatchAutoencoder, batch: Batch, structure_weight: float = 0.0) -> Batch:
    """How far the images are from what is made of the painted latents, and of their own where `exact`.

    Args:
        vae (`PatchAutoencoder`): Whose correction is trained.
        batch (`dict[str, torch.Tensor]`): Of `collate_painted`.
        structure_weight (`float`, *optional*, defaults to 0.0): Of `structural_loss`.
    """
    images, exact = batch["image"], batch["exact"].view(-1, 1, 1, 1)
    latents = torch.where(exact, vae.encode(images).latents, batch["latents"])
    weight = (batch["mask"] | exact).to(images).clamp_min(OUTSIDE_WEIGHT)
    return image_loss(vae.decode(latents).sample, images, weight, structure_weight)
