"""Small previews of an image in the making: of latents, without the autoencoder's own decoder where that is slow."""

from __future__ import annotations

import base64
import io
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ..models.patch_autoencoder import PatchAutoencoder

if TYPE_CHECKING:
    from ..pipelines.pipeline_tryon import TryOnPipeline
    from .job import Running

SECONDS_BETWEEN = 0.2
LONGER_SIDE = 320  # pixels
QUALITY = 70
# Red, green and blue in [-1, 1] of Stable Diffusion 1's four latent channels, as fitted by keturn
# (https://discuss.huggingface.co/t/decoding-latents-to-rgb-without-upscaling/23204).
LATENT_COLOURS = (
    (0.298, 0.207, 0.208),
    (0.187, 0.286, 0.173),
    (-0.158, 0.189, 0.264),
    (-0.184, -0.271, -0.473),
)


class ProgressReporter:
    """A pipeline's `callback_on_step_end` that reports each step, now and then with a preview.

    Args:
        running (`Running`): The job.
        seconds_between (`float`, *optional*, defaults to 0.2): Time between two previews at least.
    """

    def __init__(self, running: Running, seconds_between: float = SECONDS_BETWEEN):
        self.running = running
        self.seconds_between = seconds_between
        self.last = -float("inf")

    def __call__(self, pipeline: TryOnPipeline, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        preview, steps = None, pipeline.num_timesteps
        is_due = time.monotonic() - self.last >= self.seconds_between
        if self.running.is_watched and is_due and step + 1 < steps:  # after the last step comes the image itself
            preview = as_data_url(preview_of(pipeline.vae, tensors["latents"]))
            self.last = time.monotonic()
        self.running.report(step + 1, steps, preview)
        return {}


def preview_of(vae: Any, latents: torch.Tensor) -> Image.Image:
    """A rough, small image of the first of some latents.

    Args:
        vae (`AutoencoderKL` or `PatchAutoencoder`): Whose latents they are.
        latents (`torch.Tensor`): Scaled, (N, channels, h, w).

    Returns:
        `PIL.Image.Image`: RGB; of a `PatchAutoencoder` what it decodes, else one pixel for each latent.
    """
    with torch.no_grad():
        one = latents[:1]
        if isinstance(vae, PatchAutoencoder):
            pixels = vae.decode((one / vae.config.scaling_factor).to(vae.dtype), return_dict=False)[0][0]
        elif one.shape[1] == len(LATENT_COLOURS):
            colours = torch.tensor(LATENT_COLOURS, device=one.device)
            pixels = torch.einsum("chw,cr->rhw", one[0].float(), colours)
        else:  # of an unknown autoencoder light and dark at least
            pixels = one[0].float().mean(dim=0).expand(3, -1, -1)
        values = ((pixels.float() + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
    image = Image.fromarray(np.ascontiguousarray(values))
    image.thumbnail((LONGER_SIDE, LONGER_SIDE))
    return image


def as_data_url(image: Image.Image) -> str:
    """A small image as a `data:` URL of a JPEG."""
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode()
