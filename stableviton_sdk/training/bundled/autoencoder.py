"""Training of the small autoencoder: principal components of the rendered images' patches, and a correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...data.synthetic import SyntheticDataset
from ...models.patch_autoencoder import PatchAutoencoder
from ..loop import checkpoints
from ..loop.config import Config, Count, CountOrZero, Field, NotNegative, ValidationInfo, field_validator
from ..loop.dataloader import stack_images
from ..tryon.losses import ssim_loss, weighted_mean
from .fit import Batch, FitTask, fit

# How often a crop is of which image: persons and garments are painted or looked up, the others only read.
SHARES = {"person": 0.45, "garment": 0.4, "agnostic": 0.05, "densepose": 0.1}
# Gains are a component's standard deviation to this power: -1 would make faint components, which are mostly noise, as
# important as strong ones; 0 would leave colour alone to count.
WHITENING = -0.6
ABSOLUTE_WEIGHT = 0.05  # of the absolute error beside the squared one: flat regions stay flat


class ImagesConfig(Config):
    """Rendered images to train on."""

    seed: CountOrZero = 1000
    """Seed of the renderer."""
    length: Count = 400
    """Rendered samples, each with two persons and two garments. They stay in memory, 1.2 MB each."""
    components: Count = 150
    """Samples that the linear map is computed from."""
    crop: Count = 128
    """Side of the square crop that a step sees, in pixels."""
    noise: NotNegative = 0.05
    """Largest standard deviation of the noise added to latents."""


class AutoencoderConfig(FitTask):
    """One training of the autoencoder."""

    latent_channels: Count = 16
    """Principal components of a patch."""
    block_out_channels: list[Count] = Field(default_factory=lambda: [12, 24, 48, 96], min_length=1)
    """Channels of the correction at every scale; patches are 2 ** (their number - 1) pixels wide."""
    layers_per_block: CountOrZero = 2
    """Residual blocks of every scale."""
    data: ImagesConfig = Field(default_factory=ImagesConfig)

    @field_validator("data")
    @classmethod
    def _crops_are_of_whole_patches(cls, value: ImagesConfig, info: ValidationInfo) -> ImagesConfig:
        side = 2 ** (len(info.data.get("block_out_channels", [1])) - 1)
        if value.crop % side or value.crop > 192:
            raise ValueError(f"data.crop is {value.crop}: pass a multiple of {side} up to 192.")
        return value


def train_autoencoder(config: AutoencoderConfig, *, progress: bool = True) -> Path:
    """Train the autoencoder on rendered images, from the start or from the last checkpoint in the output folder.

    The linear map is the patches' principal components and stays; what corrects its way back is trained.

    Args:
        config (`AutoencoderConfig`): All options.
        progress (`bool`, *optional*, defaults to `True`): Show a progress bar with the time left.

    Returns:
        `Path`: the folder of the autoencoder.

    Raises:
        `InvalidInput`, `IncompatibleCheckpoint`, `TrainingDiverged`: see `fit`.
    """
    output = Path(config.output)
    data = InMemoryDataset(SyntheticDataset(config.data.length, config.data.seed, garments="both"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.fit.seed)
        vae = PatchAutoencoder(
            latent_channels=config.latent_channels,
            block_out_channels=tuple(config.block_out_channels),
            layers_per_block=config.layers_per_block,
        )
    if not checkpoints.list_checkpoints(output / "checkpoints"):  # they hold the linear map
        samples = min(2 * config.data.components, len(data))
        initialise_components(vae, sample_images(data, range(samples)))
    side = vae.encoder.kernel_size[0]
    for linear in (vae.encoder, vae.decoder):
        linear.requires_grad_(False)  # the best there is; steps as large as the correction needs would only spoil it
    fit(
        vae,
        reconstruction_loss,
        data,
        config.fit,
        output,
        settings=config,
        collate=collate_crops,
        augmentation=RandomCrops(config.data.crop, side, config.latent_channels, config.data.noise),
        progress=progress,
    )
    vae.save_pretrained(output / "autoencoder")
    return output / "autoencoder"


def initialise_components(vae: PatchAutoencoder, images: Mapping[str, np.ndarray]) -> None:
    """Make the autoencoder's linear map the principal components of images' patches, latents of unit mean square.

    Args:
        vae (`PatchAutoencoder`): The autoencoder to initialise.
        images (`Mapping[str, np.ndarray]`): Images by kind (those of `SHARES`), uint8, (N, H, W, 3).
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
    vae.load_principal_components(
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


class InMemoryDataset:
    """A data set whose images stay in memory: rendering one takes longer than a step on a crop of it.

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


class RandomCrops:
    """Makes a training item of a rendered one: a square of one of its images, and noise for its latents.

    Args:
        side (`int`): Side of the square, in pixels.
        patch (`int`): Side of a patch, in pixels.
        channels (`int`): Channels of latents.
        noise (`float`): Largest standard deviation of their noise.
    """

    def __init__(self, side: int, patch: int, channels: int, noise: float):
        self.side = side
        self.noise = noise
        self.latent_shape: tuple[int, int, int] = (channels, side // patch, side // patch)

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
    """Errors of images decoded from their own latents with noise on them, as diffusion never hits latents exactly.

    Args:
        vae (`PatchAutoencoder`): The autoencoder in training.
        batch (`dict[str, torch.Tensor]`): Result of `collate_crops`.
    """
    images = batch["image"]
    decoded = vae.decode(vae.encode(images).latents + batch["noise"]).sample
    return image_loss(decoded, images, torch.ones_like(images[:, :1]))


def image_loss(decoded: torch.Tensor, images: torch.Tensor, weight: torch.Tensor, ssim_weight: float = 0.0) -> Batch:
    """The errors of decoded images, and `loss`, which adds them up.

    Args:
        decoded (`torch.Tensor`), images (`torch.Tensor`): In [-1, 1], (N, 3, H, W).
        weight (`torch.Tensor`): Weight of every pixel, (N, 1, H, W).
        ssim_weight (`float`, *optional*, defaults to 0.0): Weight of `ssim_loss`.
    """
    error = decoded - images
    squared, absolute = (weighted_mean(values, weight) for values in (error.square(), error.abs()))
    losses = {"loss": squared + ABSOLUTE_WEIGHT * absolute, "squared": squared, "absolute": absolute}
    if ssim_weight:
        losses["ssim"] = ssim_loss(decoded, images, weight)
        losses["loss"] = losses["loss"] + ssim_weight * losses["ssim"]
    return losses


def _patches(images: np.ndarray, side: int) -> np.ndarray:
    """(N * h * w, 3 * side * side), channel first as a convolution's filters, in [-1, 1]."""
    count, height, width, channels = images.shape
    split = images.reshape(count, height // side, side, width // side, side, channels)
    return split.transpose(0, 1, 3, 5, 2, 4).reshape(-1, channels * side * side).astype(np.float64) / 127.5 - 1
