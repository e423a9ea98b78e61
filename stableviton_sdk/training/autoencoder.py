"""The small autoencoder: components of a data set's patches, and the training of what corrects them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..models.patch_autoencoder import PatchAutoencoder

# How often a crop is of which picture: garments and persons are painted, the others only read.
SHARES = {"person": 0.45, "garment": 0.4, "agnostic": 0.05, "densepose": 0.1}
# Gains are a component's standard deviation to this power: -1 would make faint components, which are mostly noise, as
# important as strong ones; 0 would leave colour alone to count.
WHITENING = -0.6
ABSOLUTE_WEIGHT = 0.05  # of the absolute error beside the squared one: flat regions stay flat


def initialise_components(vae: PatchAutoencoder, pictures: Mapping[str, np.ndarray]) -> None:
    """Make the autoencoder's linear map the principal components of pictures' patches, latents of unit mean square.

    Args:
        vae (`PatchAutoencoder`): To initialise.
        pictures (`Mapping[str, np.ndarray]`): By kind (those of `SHARES`), uint8, (N, H, W, 3).
    """
    side = vae.encoder.kernel_size[0]
    channels = vae.config.latent_channels
    covariance, mean = 0.0, 0.0
    for name, share in SHARES.items():
        patches = _patches(pictures[name], side)
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


def reconstruction_loss(vae: PatchAutoencoder, pictures: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """How far pictures are from what is made of their latents.

    Args:
        vae (`PatchAutoencoder`): Whose correction is trained.
        pictures (`torch.Tensor`): In [-1, 1], (batch, 3, H, W).
        noise (`torch.Tensor`):
            Added to the latents, which diffusion never hits exactly either; (batch, channels, h, w).
    """
    decoded = vae.decode(vae.encode(pictures).latents + noise).sample
    return F.mse_loss(decoded, pictures) + ABSOLUTE_WEIGHT * F.l1_loss(decoded, pictures)


def peak_signal_to_noise(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """PSNR of pictures in [-1, 1], in dB, (batch,)."""
    return -10 * torch.log10(((first - second) / 2).square().flatten(1).mean(1))


def _patches(pictures: np.ndarray, side: int) -> np.ndarray:
    """(N * h * w, 3 * side * side), channel first as a convolution's filters, in [-1, 1]."""
    count, height, width, channels = pictures.shape
    split = pictures.reshape(count, height // side, side, width // side, side, channels)
    return split.transpose(0, 1, 3, 5, 2, 4).reshape(-1, channels * side * side).astype(np.float64) / 127.5 - 1


def sample_pictures(data: Any, indices: Sequence[int]) -> dict[str, np.ndarray]:
    """The pictures of some items, stacked by kind."""
    items = [data[index] for index in indices]
    return {name: np.stack([item[name] for item in items]) for name in SHARES}
