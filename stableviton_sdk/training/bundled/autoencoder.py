"""Training of the small autoencoder: components of the rendered images' patches, and what corrects them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...data.synthetic import SyntheticDataset
from ...models.patch_autoencoder import PatchAutoencoder
from ..config import refuse, too_small
from ..loop import checkpoints
from ..loop.dataloader import stack_images
from ..tryon.losses import structural_loss, weighted_mean
from .fit import Batch, FitConfig, fit

# How often a crop is of which image: persons and garments are painted or looked up, the others only read.
SHARES = {"person": 0.45, "garment": 0.4, "agnostic": 0.05, "densepose": 0.1}
# Gains are a component's standard deviation to this power: -1 would make faint components, which are mostly noise, as
# important as strong ones; 0 would leave colour alone to count.
WHITENING = -0.6
ABSOLUTE_WEIGHT = 0.05  # of the absolute error beside the squared one: flat regions stay flat


@dataclass(frozen=True)
class ImagesConfig:
    """Which images.

    Args:
        seed (`int`, *optional*, defaults to 1000), length (`int`, *optional*, defaults to 400):
            Of the rendered samples, each with two persons and two garments. They stay in memory, 1.2 MB each.
        components (`int`, *optional*, defaults to 150): Samples that the linear map is computed from.
        crop (`int`, *optional*, defaults to 128): Side of the square that is looked at, in pixels.
        noise (`float`, *optional*, defaults to 0.05): Largest standard deviation of what is added to latents.
    """

    seed: int = 1000
    length: int = 400
    components: int = 150
    crop: int = 128
    noise: float = 0.05


@dataclass(frozen=True)
class AutoencoderConfig:
    """One training run of the autoencoder.

    Args:
        output (`str`): Folder for checkpoints, metrics and the trained autoencoder.
        data (`ImagesConfig`), fit (`FitConfig`): See there.
        latent_channels (`int`, *optional*, defaults to 16), layers_per_block (`int`, *optional*, defaults to 2),
            block_out_channels (`list[int]`, *optional*): See `PatchAutoencoder`.
    """

    output: str
    data: ImagesConfig = field(default_factory=ImagesConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    latent_channels: int = 16
    block_out_channels: list[int] = field(default_factory=lambda: [12, 24, 48, 96])
    layers_per_block: int = 2

    def __post_init__(self):
        least = {
            "latent_channels": 1, "layers_per_block": 0, "data.seed": 0, "data.length": 1, "data.components": 1,
            "data.crop": 1, "data.noise": 0,
        }  # fmt: skip
        problems = too_small(self, least)
        side = 2 ** (len(self.block_out_channels) - 1)
        if self.data.crop % side or self.data.crop > 192:
            problems.append(f"data.crop is {self.data.crop}: pass a multiple of {side} up to 192.")
        refuse(problems)


def train_autoencoder(config: AutoencoderConfig, *, progress: bool = True) -> Path:
    """Train the autoencoder on rendered images, from the start or from the last checkpoint in the output folder.

    The linear map is the patches' principal components and stays; what corrects its way back is trained.

    Args:
        config (`AutoencoderConfig`): See there.
        progress (`bool`, *optional*, defaults to `True`): Show a progress bar with the time left.

    Returns:
        `Path`: the folder of the autoencoder.

    Raises:
        `IncompatibleCheckpoint`, `TrainingDiverged`: see `fit`.
    """
    output = Path(config.output)
    data = Remembered(SyntheticDataset(config.data.length, config.data.seed, garments="both"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.fit.seed)
        vae = PatchAutoencoder(
            latent_channels=config.latent_channels,
            block_out_channels=tuple(config.block_out_channels),
            layers_per_block=config.layers_per_block,
        )
    if not checkpoints.list_checkpoints(output / "checkpoints"):
        samples = min(2 * config.data.components, len(data))
        initialise_components(vae, sample_images(data, range(samples)))
    for linear in (vae.encoder, vae.decoder):
        linear.requires_grad_(False)  # the best there is; steps as large as the correction needs would only spoil it
    fit(
        vae,
        reconstruction_loss,
        data,
        config.fit,
        output,
        collate=collate_crops,
        augmentation=Crops(config.data.crop, vae.encoder.kernel_size[0], config.latent_channels, config.data.noise),
        progress=progress,
    )
    vae.save_pretrained(output / "autoencoder")
    return output / "autoencoder"


def initialise_components(vae: PatchAutoencoder, images: Mapping[str, np.ndarray]) -> None:
    """Make the autoencoder's linear map the principal components of images' patches, latents of unit mean square.

    Args:
        vae (`PatchAutoencoder`): To initialise.
        images (`Mapping[str, np.ndarray]`): By kind (those of `SHARES`), uint8, (N, H, W, 3).
    """
    side = vae.encoder.kernel_size[0]
    channels = vae.config.latent_channels
    covariance, mean = 0.0, 0.0
    for name, share in SHARES.items():
        patches = _patches(images[name], side)
        mean = mean + share * patches.mean(axis=0)
        covariance = covariance + share * (patches.T @ patches) / len(patches)
    values, vectors = np.linalg.eigh(covariance - np.outer(mean, mean))
    deviations = np.sqrt(values[::-1][:channels])
    gains = deviations**WHITENING
    gains /= np.sqrt(np.mean((deviations * gains) ** 2))
    components = vectors[:, ::-1][:, :channels].T
    # the sign of an eigenvector is arbitrary: the largest entry is positive
    components = components * np.sign(np.take_along_axis(components, np.abs(components).argmax(1)[:, None], 1))
    shape = (-1, vae.config.in_channels, side, side)
    vae.set_components(
        torch.tensor(mean.reshape(shape[1:]), dtype=torch.float32),
        torch.tensor(components.reshape(shape), dtype=torch.float32),
        torch.tensor(gains, dtype=torch.float32),
    )


def sample_images(data: Any, indices: Sequence[int]) -> dict[str, np.ndarray]:
    """The images of some items, stacked by kind."""
    images: dict[str, list[np.ndarray]] = {name: [] for name in SHARES}
    for index in indices:
        item = data[index]
        for name in SHARES:
            images[name].append(item[name])
    return {name: np.stack(stacked) for name, stacked in images.items()}


class Remembered:
    """A data set whose images are kept once they are read: drawing one takes longer than learning from a crop of it.

    Args:
        data: A map-style data set of item dictionaries.
    """

    def __init__(self, data: Any):
        self.data = data
        self._items: dict[int, dict[str, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if index not in self._items:
            item = self.data[index]
            self._items[index] = {name: item[name] for name in SHARES}
        return self._items[index]


class Crops:
    """Makes a training item of a rendered one: a square of one of its images, and noise for its latents.

    Args:
        side (`int`): Of the square, in pixels.
        patch (`int`): Side of a patch, in pixels.
        channels (`int`): Of latents.
        noise (`float`): Largest standard deviation.
    """

    def __init__(self, side: int, patch: int, channels: int, noise: float):
        self.side, self.noise = side, noise
        self.latent_shape = (channels, side // patch, side // patch)

    def __call__(self, item: Mapping[str, Any], random: np.random.Generator) -> dict[str, np.ndarray]:
        image = item[random.choice(list(SHARES), p=list(SHARES.values()))]
        top, left = (random.integers(length - self.side + 1) for length in image.shape[:2])
        crop = image[top : top + self.side, left : left + self.side]
        if random.random() < 0.5:
            crop = crop[:, ::-1]
        deviation = self.noise * random.random(dtype=np.float32)
        return {"image": crop, "noise": deviation * random.standard_normal(self.latent_shape, np.float32)}


def collate_crops(items: Sequence[Mapping[str, np.ndarray]]) -> Batch:
    """`image`, float in [-1, 1], (N, 3, side, side), and `noise`."""
    return {
        "image": stack_images(item["image"] for item in items),
        "noise": torch.from_numpy(np.stack([item["noise"] for item in items])),
    }


def reconstruction_loss(vae: PatchAutoencoder, batch: Batch) -> Batch:
    """How far images are from what is made of their latents, which diffusion never hits exactly either.

    Args:
        vae (`PatchAutoencoder`): Whose correction is trained.
        batch (`dict[str, torch.Tensor]`): Of `collate_crops`.
    """
    images = batch["image"]
    decoded = vae.decode(vae.encode(images).latents + batch["noise"]).sample
    return image_loss(decoded, images, torch.ones_like(images[:, :1]))


def image_loss(
    decoded: torch.Tensor, images: torch.Tensor, weight: torch.Tensor, structure_weight: float = 0.0
) -> Batch:
    """The errors of decoded images, and `loss`, which adds them up.

    Args:
        decoded (`torch.Tensor`), images (`torch.Tensor`): In [-1, 1], (N, 3, H, W).
        weight (`torch.Tensor`): Of every pixel, (N, 1, H, W).
        structure_weight (`float`, *optional*, defaults to 0.0): Of `structural_loss`.
    """
    error = decoded - images
    squared, absolute = (weighted_mean(values, weight) for values in (error.square(), error.abs()))
    losses = {"loss": squared + ABSOLUTE_WEIGHT * absolute, "squared": squared, "absolute": absolute}
    if structure_weight:
        losses["structure"] = structural_loss(decoded, images, weight)
        losses["loss"] = losses["loss"] + structure_weight * losses["structure"]
    return losses


def _patches(images: np.ndarray, side: int) -> np.ndarray:
    """(N * h * w, 3 * side * side), channel first as a convolution's filters, in [-1, 1]."""
    count, height, width, channels = images.shape
    split = images.reshape(count, height // side, side, width // side, side, channels)
    return split.transpose(0, 1, 3, 5, 2, 4).reshape(-1, channels * side * side).astype(np.float64) / 127.5 - 1
