"""One batch of pairs to its losses: latents, noise, the networks' forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import retrieve_latents
from torch import nn

from ...models.garment_encoder import GarmentEncoder
from ...models.spatial_encoder import SpatialEncoder
from ...models.unet import TryOnUNet
from ..config import LossConfig
from ..loop.sampler import noise_generator
from .batches import IMAGES, Batch
from .coordinate_losses import NEEDS, panel_losses
from .losses import AttentionLossRecorder, denoising_loss, ssim_loss, velocity


@torch.no_grad()
def encode(vae: nn.Module, batch: Batch) -> Batch:
    """Add the latents, by the mode of the posterior, and the conditioning exactly as the pipeline makes it.

    Args:
        vae (`AutoencoderKL` or `PatchAutoencoder`): On the batch's device.
        batch (`dict[str, Any]`): Result of `collate`.

    Returns:
        `dict[str, Any]`: also `latents`, `garment_latents` (batch, 4, h, w), `conditioning` (batch, 9, h, w: agnostic
        latent, mask with 1 = keep, DensePose latent), and `garment_shape`, int64 (2,): height and width of `garment`.
    """

    def latents_of(name: str) -> torch.Tensor:
        # one kind of image at a time: the VAE's activations are the largest of all
        with torch.autocast(batch[name].device.type, enabled=False):
            latents = retrieve_latents(vae.encode(batch[name].to(vae.dtype)), sample_mode="argmax")
        return latents.float() * vae.config.scaling_factor

    person, garment, agnostic, densepose = (latents_of(name) for name in IMAGES)
    keep = F.interpolate((~batch["mask"]).float(), size=person.shape[-2:], mode="bilinear")
    return {
        **batch,
        "latents": person,
        "garment_latents": garment,
        "conditioning": torch.cat([agnostic, keep, densepose], dim=1),
        "garment_shape": torch.tensor(batch["garment"].shape[-2:]),
    }


def decode(vae: nn.Module, latents: torch.Tensor) -> torch.Tensor:
    """Scaled latents, (batch, channels, h, w), to images in [-1, 1], (batch, 3, H, W), with their gradients."""
    with torch.autocast(latents.device.type, enabled=False):
        return vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor).sample


def sample_noise(
    batch: Batch, seed: int, timesteps: int, unconditional_probability: float, timestep_power: float = 1.0
) -> Batch:
    """Add the random parts of a batch: `noise`, `timesteps`, and where the garment's embedding is `dropped`.

    Those of an item follow from seed and position, however the items are spread over batches and devices.

    Args:
        batch (`dict[str, Any]`): Result of `encode`.
        seed (`int`): The training's seed.
        timesteps (`int`): Length of the schedule.
        unconditional_probability (`float`): How often the unconditional token replaces the embedding.
        timestep_power (`float`, *optional*, defaults to 1.0): Timesteps are u ** power of the schedule, u uniform.
    """
    latents = batch["latents"]
    noise, times, dropped = [], [], []
    for position in batch["positions"].tolist():
        generator = noise_generator(seed, position)
        noise.append(torch.randn(latents.shape[1:], generator=generator))
        if timestep_power == 1:
            times.append(torch.randint(0, timesteps, (), generator=generator))
        else:
            part = torch.rand((), generator=generator, dtype=torch.float64) ** timestep_power
            times.append((part * timesteps).long().clamp(max=timesteps - 1))
        dropped.append(torch.rand((), generator=generator) < unconditional_probability)
    sampled = {"noise": noise, "timesteps": times, "dropped": dropped}
    return {**batch, **{name: torch.stack(values).to(latents.device) for name, values in sampled.items()}}


class TryOnObjective(nn.Module):
    """The networks that are trained, and all losses of a batch in one forward pass.

    Args:
        unet (`TryOnUNet`), spatial_encoder (`SpatialEncoder`), garment_encoder (`GarmentEncoder`): The networks.
        scheduler (`SchedulerMixin`): Scheduler with the noise schedule and `prediction_type`.
        loss (`LossConfig`): Losses and their weights.
        decode (`Callable`, *optional*): Scaled latents to images in [-1, 1], for SSIM.
    """

    def __init__(
        self,
        unet: TryOnUNet,
        spatial_encoder: SpatialEncoder,
        garment_encoder: GarmentEncoder,
        scheduler: Any,
        loss: LossConfig,
        *,
        decode: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ):
        super().__init__()
        self.unet = unet
        self.spatial_encoder = spatial_encoder
        self.garment_encoder = garment_encoder
        self.scheduler = scheduler
        self.loss = loss
        self.decode = decode
        self.correspondence = loss.correspondence if loss.correspondence_weight else "none"

    @property
    def needs(self) -> list[str]:
        """Maps that the losses need of the data beside the images."""
        needed = ["worn_mask"] if self.loss.total_variation else []
        if self.loss.panels_weight:
            return needed + list(NEEDS)
        return needed + (["correspondence"] if self.correspondence != "none" or self.loss.coordinate_weight else [])

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """
        Args:
            batch (`dict[str, Any]`): Result of `sample_noise`.

        Returns:
            `dict[str, torch.Tensor]`: `loss`, which is minimised, and its terms before their weights.
        """
        timesteps, noise, latents = batch["timesteps"], batch["noise"], batch["latents"]
        noised = self.scheduler.add_noise(latents, noise, timesteps)
        sample = torch.cat([noised, batch["conditioning"]], dim=1)
        context = self.embed(batch["garment"], batch["dropped"])
        recorder = AttentionLossRecorder(self.loss.blocks, self.blocks_per_level) if self.needs else None

        features = self.spatial_encoder(sample, timesteps, context, batch["garment_latents"])
        prediction = self.unet(sample, timesteps, context, features, attention_recorder=recorder).sample

        mask_weight = 1 - batch["conditioning"][:, latents.shape[1], None] * (1 - self.loss.unmasked_weight)
        weight = None if self.loss.unmasked_weight == 1 else mask_weight
        if self.loss.channel_weights is not None:
            weight = mask_weight * mask_weight.new_tensor(self.loss.channel_weights).view(1, -1, 1, 1)
        losses = {
            "denoising": denoising_loss(
                prediction,
                noise,
                latents,
                timesteps,
                self.scheduler,
                weight=weight,
                min_snr_gamma=self.loss.min_snr_gamma,
            )
        }
        total = losses["denoising"]
        if self.loss.ssim_weight:
            clean = velocity(prediction, noised, timesteps, self.scheduler)  # the formula is its own inverse
            losses["ssim"] = self.decoded_ssim_loss(clean, latents, mask_weight)
            total = total + self.loss.ssim_weight * losses["ssim"]
        if self.loss.total_variation:
            losses["total_variation"] = recorder.total_variation(batch["worn_mask"])
            total = total + self.loss.total_variation * losses["total_variation"]
        if "correspondence" in self.needs:
            truth = batch["correspondence"], tuple(batch["garment_shape"].tolist())
        if self.correspondence != "none":
            compute = {"cross-entropy": recorder.cross_entropy, "expected-coordinate": recorder.expected_coordinate}
            losses["correspondence"] = compute[self.correspondence](*truth)
            total = total + self.loss.correspondence_weight * losses["correspondence"]
        if self.loss.coordinate_weight:
            losses["coordinate"] = recorder.expected_coordinate(*truth)
            total = total + self.loss.coordinate_weight * losses["coordinate"]
        if self.loss.panels_weight:
            losses["panels"] = panel_losses(features[0], batch)["loss"]
            total = total + self.loss.panels_weight * losses["panels"]
        return {"loss": total, **losses}

    def decoded_ssim_loss(self, clean: torch.Tensor, latents: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """`ssim_loss` of the decoded estimate; the truth is decoded too, so the autoencoder adds no loss."""
        chosen = slice(self.loss.ssim_batch_limit)
        with torch.no_grad():
            truth = self.decode(latents[chosen])
        result = self.decode(clean[chosen])
        return ssim_loss(result, truth, F.interpolate(weight[chosen], size=truth.shape[-2:], mode="nearest"))

    def embed(self, garment: torch.Tensor, dropped: torch.Tensor) -> torch.Tensor:
        """The context token, (batch, 1, dim): the garment's, or the unconditional one where it's dropped."""
        encoder = self.garment_encoder
        trained = torch.is_grad_enabled() and any(
            parameter.requires_grad for parameter in encoder.vision_model.parameters()
        )
        with torch.set_grad_enabled(trained):
            pooled = encoder.encode_pooled(garment)
        embedding = encoder.proj_out(pooled)
        return torch.where(dropped[:, None, None], encoder.uncond_vector.to(embedding.dtype), embedding)

    @property
    def blocks_per_level(self) -> int:
        return self.unet.config.layers_per_block + 1
