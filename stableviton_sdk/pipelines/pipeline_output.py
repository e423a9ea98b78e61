"""Output of a try-on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image

from ..attention.result import TryOnAttention
from ..errors import TryOnError
from ..preprocessing.inputs import TryOnInputs


@dataclass
class TryOnPipelineOutput(BaseOutput):
    """
    Args:
        images (`list[PIL.Image.Image]`, `np.ndarray`, `torch.Tensor` or a list of these):
            One image for each pair, times `num_images_per_prompt`, each of its photo's size. Arrays are
            (N, H, W, 3), tensors (N, 3, H, W), in [0, 1]; a list of single ones where the photos' sizes differ.
            For `output_type="latent"` the scaled latents, (N, channels, h, w): 4 channels for the authors' weights.
            With `on_error="skip"` a list, None in the places of pairs that couldn't be used.
        attention (`TryOnAttention`, *optional*): Attention to the garment, if requested.
        inputs (`list[TryOnInputs]`, *optional*): The prepared person of each image.
        errors (`dict[int, TryOnError]`, *optional*): With `on_error="skip"`, what was wrong, by the image's place.
    """

    images: list[Image.Image] | list[np.ndarray] | list[torch.Tensor] | np.ndarray | torch.Tensor
    attention: TryOnAttention | None = None
    inputs: list[TryOnInputs] | None = None
    errors: dict[int, TryOnError] | None = None
