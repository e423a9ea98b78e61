"""A pipeline of the real classes: a call takes a tenth of a second; weights follow from a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler
from PIL import Image, ImageDraw

from stableviton_sdk.conversion.architecture import SCHEDULER
from stableviton_sdk.models.garment_encoder import GarmentEncoder
from stableviton_sdk.models.spatial_encoder import SpatialEncoder
from stableviton_sdk.models.unet import TryOnUNet
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.preprocessing.labels import PARULA

WIDTH, HEIGHT = 48, 64
LATENT_WIDTH, LATENT_HEIGHT = WIDTH // 4, HEIGHT // 4
CONTEXT = 32


def awaken(module: torch.nn.Module, scale: float = 0.1) -> None:
    """Give the zero-initialised convolutions weights, so that the garment matters."""
    for name, parameter in module.named_parameters():
        if "zero_conv" in name:
            torch.nn.init.normal_(parameter, std=scale)


def tiny_unet(**changes: Any) -> TryOnUNet:
    config = {
        "sample_size": (LATENT_HEIGHT, LATENT_WIDTH),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "TryOnUpBlock2D"),
        "block_out_channels": (32, 64),
        "cross_attention_dim": CONTEXT,
        "num_attention_heads": 4,
        "norm_num_groups": 16,
    }
    return TryOnUNet(**{**config, **changes})


def tiny_autoencoder(width: int = 16, levels: int = 3, **changes: Any) -> AutoencoderKL:
    config = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": (width,) * levels,
        "norm_num_groups": width // 2,
    }
    return AutoencoderKL(**{**config, **changes})


def tiny_garment_encoder(width: int = 32, **changes: Any) -> GarmentEncoder:
    config = {
        "hidden_size": width,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
        "mapper_layers": 1,
        "projection_dim": CONTEXT,
    }
    return GarmentEncoder(**{**config, **changes})


def tiny_spatial_encoder(width: int = 32, **changes: Any) -> SpatialEncoder:
    config = {
        "down_block_types": ("CrossAttnDownBlock2D",),
        "block_out_channels": (width,),
        "cross_attention_dim": CONTEXT,
        "num_attention_heads": 4,
        "norm_num_groups": 16,
    }
    return SpatialEncoder(**{**config, **changes})


def tiny_components(
    unet: Callable[[], TryOnUNet] = tiny_unet,
    vae: Callable[[], AutoencoderKL] = lambda: tiny_autoencoder(sample_size=64),
    garment_encoder: Callable[[], GarmentEncoder] = tiny_garment_encoder,
    spatial_encoder: Callable[[], SpatialEncoder] = tiny_spatial_encoder,
) -> dict[str, Any]:
    """A pipeline's components, for inference; their weights follow from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = unet()
        awaken(denoiser)
        # the autoencoder first, as in a pipeline: diffusers' checks give the first component a number type of its own
        networks = {"vae": vae(), "garment_encoder": garment_encoder(), "spatial_encoder": spatial_encoder()}
        networks["unet"] = denoiser
    for network in networks.values():
        network.eval()
    return {**networks, "scheduler": PNDMScheduler(**SCHEDULER), "preprocessor": None}


def tiny_pipeline() -> TryOnPipeline:
    pipeline = TryOnPipeline(**tiny_components())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def random_image(width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> Image.Image:
    """A smooth colour image without two equal pixels beside each other."""
    generator = np.random.default_rng(seed)
    small = Image.fromarray(generator.integers(0, 256, (6, 5, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def noise(size: tuple[int, int], seed: int = 0, channels: int = 3) -> Image.Image:
    """A colour or grey image of independent pixels."""
    shape = (size[1], size[0], channels) if channels > 1 else size[::-1]
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def mask_image(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """White in the middle."""
    mask = Image.new("L", (width, height), 0)
    ImageDraw.Draw(mask).ellipse((width // 4, height // 4, width * 3 // 4, height * 3 // 4), fill=255)
    return mask


def densepose_image(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """A body in DensePose's colours: torso, head and arms, on black."""
    labels = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(labels)
    for label, box in ((2, (0.3, 0.3, 0.7, 0.9)), (23, (0.4, 0.05, 0.6, 0.25)), (15, (0.1, 0.35, 0.25, 0.8))):
        draw.rectangle([round(edge * side) for edge, side in zip(box, (width, height) * 2, strict=True)], fill=label)
    return Image.fromarray(PARULA[np.asarray(labels)])


def call_arguments(**changes: Any) -> dict[str, Any]:
    """A whole call's arguments: person, garment and maps, two steps, seeded."""
    arguments = {
        "person": random_image(),
        "garment": random_image(seed=1),
        "mask": mask_image(),
        "densepose": random_image(seed=2),
        "num_inference_steps": 2,
        "generator": torch.Generator().manual_seed(0),
        "output_type": "pt",
    }
    return {**arguments, **changes}


def close(first, second, tolerance=1e-5) -> bool:
    return bool(torch.allclose(torch.as_tensor(first), torch.as_tensor(second), atol=tolerance))
