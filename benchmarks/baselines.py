"""Reference images made without a try-on network, for comparison with a network's results."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from stableviton_sdk.images import to_tensor
from stableviton_sdk.preprocessing.garment import CANVAS

CANVAS_TOLERANCE = 4  # a garment's pixel differs from its canvas by more


def mean_colour(garment: np.ndarray) -> np.ndarray:
    """Mean colour of a garment's image without its canvas, float, (3,).

    Args:
        garment (`np.ndarray`): uint8, (H, W, 3).
    """
    inside = np.abs(garment.astype(int) - CANVAS[0]).max(-1) > CANVAS_TOLERANCE
    return garment[inside].mean(0) if inside.any() else garment.reshape(-1, 3).mean(0)


@torch.no_grad()
def reference_images(
    truth: np.ndarray, garment: np.ndarray, mask: np.ndarray, worn_mask: np.ndarray, vae: Any
) -> dict[str, np.ndarray]:
    """Fill the agnostic mask without a try-on network.

    Args:
        truth (`np.ndarray`): The person in the garment, uint8, (H, W, 3).
        garment (`np.ndarray`): The garment's image, uint8, (H, W, 3).
        mask (`np.ndarray`), worn_mask (`np.ndarray`): bool, (H, W): what is repainted; where the garment is worn.
        vae (`AutoencoderKL` or `PatchAutoencoder`): The autoencoder.

    Returns:
        `dict[str, np.ndarray]`: uint8 images of the truth's size. `"mean colour"`: the mask filled with the
        garment's mean colour. `"oracle"`: only the worn garment filled with it, so silhouette, arms and background are
        the truth's own. `"autoencoder"`: the truth encoded and decoded, which no result can beat.
    """
    colour = mean_colour(garment).round().astype(np.uint8)
    image = Image.fromarray(truth)
    pixels = to_tensor(image, image.size)[None].to(vae.device, vae.dtype)
    decoded = vae(pixels).sample[0].float().permute(1, 2, 0).clamp(-1, 1).cpu().numpy()
    decoded = (decoded * 127.5 + 127.5).round().astype(np.uint8)
    return {
        "mean colour": np.where(mask[..., None], colour, truth),
        "oracle": np.where(worn_mask[..., None], colour, truth),
        "autoencoder": np.where(mask[..., None], decoded, truth),
    }
