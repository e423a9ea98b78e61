"""An estimate of the memory that a training needs, before it starts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ...pipelines.pipeline_tryon import TryOnPipeline
from ..config import TrainingConfig
from .objective import TryOnObjective, decode
from .trainable import choose_trainable


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a step of a training holds.

    Args:
        weights (`int`), gradients (`int`), optimizer (`int`), average (`int`): Bytes, exact.
        activations (`int`): Bytes that the forward pass keeps for the backward pass; what is needed for a moment,
            inside of a layer or by the VAE, comes on top.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.average + self.activations

    def summary(self) -> str:
        """The estimate as one line of text."""
        parts = ("weights", "gradients", "optimizer", "average", "activations")
        listed = ", ".join(f"{name} {getattr(self, name) / 1e9:.2f}" for name in parts)
        return (
            f"Memory: about {self.total / 1e9:.2f} GB ({listed}). Too much? Try gradient_checkpointing: true, more "
            "gradient_accumulation, ema_decay: null, or trainable: lora."
        )


def estimate_memory(
    pipeline: TryOnPipeline, trained: Sequence[nn.Parameter], config: TrainingConfig
) -> MemoryEstimate:
    """The memory that a step holds, from a forward pass without memory for any tensor.

    Args:
        pipeline (`TryOnPipeline`): The networks.
        trained (`Sequence[nn.Parameter]`): Parameters of them that are trained.
        config (`TrainingConfig`): Configuration; read are batch, size, precision and losses.
    """
    networks = (pipeline.unet, pipeline.spatial_encoder, pipeline.garment_encoder, pipeline.vae)
    weights = sum(_bytes(tensor) for network in networks for tensor in network.state_dict().values())
    share = sum(_bytes(parameter) for parameter in trained)
    return MemoryEstimate(
        weights=weights,
        gradients=share,
        optimizer=2 * share,
        average=share if config.ema_decay is not None else 0,
        activations=_activations(pipeline, config),
    )


def _activations(pipeline: TryOnPipeline, config: TrainingConfig) -> int:
    """Bytes of the distinct tensors that a forward pass saves, beside the weights; halved in half precision."""
    factor, count = pipeline.vae_scale_factor, config.batch_size // config.gradient_accumulation
    height, width = (side // factor for side in config.data.shape)
    # fake tensors of the CPU take the kernels of real ones, fused attention among them; meta tensors don't
    with FakeTensorMode(allow_non_fake_inputs=True):
        copies = [
            type(network).from_config(network.config)
            for network in (pipeline.unet, pipeline.spatial_encoder, pipeline.garment_encoder)
        ]
        # adapters are small; what they make the network keep is what full training keeps of the attention
        choose_trainable(*copies, "full" if config.trainable == "lora" else config.trainable)
        if config.gradient_checkpointing:
            copies[0].enable_gradient_checkpointing()
            copies[1].enable_gradient_checkpointing()
        own = {_storage_id(parameter) for copy in copies for parameter in copy.parameters()}
        decoding = None
        if config.loss.ssim_weight:  # the only loss whose gradients go through the autoencoder
            vae = type(pipeline.vae).from_config(pipeline.vae.config).requires_grad_(False)
            own |= {_storage_id(parameter) for parameter in vae.parameters()}
            decoding = functools.partial(decode, vae)
        unsupervised = dict.fromkeys(
            ("total_variation", "correspondence_weight", "coordinate_weight", "panels_weight"), 0.0
        )
        loss = config.loss.replace(**unsupervised)
        objective = TryOnObjective(*copies, pipeline.scheduler, loss, decode=decoding)
        channels = pipeline.unet.config.out_channels
        batch = {
            "latents": torch.empty(count, channels, height, width),
            "noise": torch.empty(count, channels, height, width),
            "garment_latents": torch.empty(count, channels, height, width),
            "conditioning": torch.empty(count, pipeline.unet.config.in_channels - channels, height, width),
            "garment": torch.empty(count, 3, *config.data.shape),
            "timesteps": torch.empty(count, dtype=torch.long),
            "dropped": torch.empty(count, dtype=torch.bool),
        }
        saved: dict[int, torch.Tensor] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            if _storage_id(tensor) not in own:
                saved[_storage_id(tensor)] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            objective(batch)
    total = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
    return total // (2 if config.mixed_precision != "no" else 1)


def _storage_id(tensor: torch.Tensor) -> int:
    """A number that tensors have in common which share their memory."""
    return tensor.untyped_storage()._cdata


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
