"""A small autoencoder whose encoder is one linear map of patches: for models that are trained from nothing."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .strict_loading import StrictLoadingMixin


class PatchAutoencoder(StrictLoadingMixin, ModelMixin, AutoencoderMixin, ConfigMixin):
    """Patches to latents by a linear map, latents to pixels by its transpose and a convolutional correction.

    With the principal components of a data set's patches as the map (`load_principal_components`) the correction
    starts from the best linear map there is, so it is trained in minutes. Encoding costs next to nothing, and as it
    is linear, a blend of two latents is the latent of the blended patches: what attention does to garment latents
    stays meaningful. Same interface as diffusers' autoencoders.

    Args:
        in_channels, out_channels (`int`, *optional*, defaults to 3): Channels of images.
        latent_channels (`int`, *optional*, defaults to 16): Channels of latents: components kept of every patch.
        block_out_channels (`tuple[int, ...]`, *optional*, defaults to `(12, 24, 48, 96)`):
            Widths of the correction, highest resolution first. A patch's side is 2 ** (their number - 1) pixels.
        layers_per_block (`int`, *optional*, defaults to 2): Residual layers at every resolution below the highest.
        scaling_factor (`float`, *optional*, defaults to 1.0): Latents are multiplied by it before diffusion.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        latent_channels: int = 16,
        block_out_channels: tuple[int, ...] = (12, 24, 48, 96),
        layers_per_block: int = 2,
        scaling_factor: float = 1.0,
    ):
        super().__init__()
        side = 2 ** (len(block_out_channels) - 1)
        self.encoder: nn.Conv2d = nn.Conv2d(in_channels, latent_channels, side, stride=side)
        self.decoder: nn.ConvTranspose2d = nn.ConvTranspose2d(latent_channels, out_channels, side, stride=side)
        self.correction: ResidualDecoder = ResidualDecoder(
            latent_channels, out_channels, block_out_channels, layers_per_block
        )

    def encode(self, x: torch.Tensor, return_dict: bool = True) -> AutoencoderTinyOutput | tuple[torch.Tensor]:
        """
        Args:
            x (`torch.Tensor`): Images in [-1, 1], (batch, channels, height, width), sides multiples of the patch's.
            return_dict (`bool`, *optional*, defaults to `True`): Return an output class instead of a tuple.
        """
        latents = self.encoder(x)
        return AutoencoderTinyOutput(latents=latents) if return_dict else (latents,)

    def decode(self, z: torch.Tensor, return_dict: bool = True) -> DecoderOutput | tuple[torch.Tensor]:
        """
        Args:
            z (`torch.Tensor`): Latents, (batch, latent_channels, height, width), not scaled.
            return_dict (`bool`, *optional*, defaults to `True`): Return an output class instead of a tuple.
        """
        sample = self.decoder(z) + self.correction(z)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(self, sample: torch.Tensor, return_dict: bool = True) -> DecoderOutput | tuple[torch.Tensor]:
        """Reconstruction of images; arguments as for `encode`."""
        return self.decode(self.encode(sample).latents, return_dict=return_dict)

    @torch.no_grad()
    def load_principal_components(self, mean: torch.Tensor, components: torch.Tensor, gains: torch.Tensor) -> None:
        """Make the linear map the projection onto orthonormal components, and its transpose the way back.

        Args:
            mean (`torch.Tensor`): Mean of patches, (in_channels, side, side).
            components (`torch.Tensor`): Orthonormal, (latent_channels, in_channels, side, side).
            gains (`torch.Tensor`): Factor of every projection, (latent_channels,).
        """
        gains = gains.view(-1, 1, 1, 1)
        self.encoder.weight.copy_(components * gains)
        self.encoder.bias.copy_(-(components * mean).sum(dim=(1, 2, 3)) * gains.flatten())
        self.decoder.weight.copy_(components / gains)
        # a patch's mean is an image of its own; the bias of a transposed convolution has one value a channel
        self.decoder.bias.copy_(mean.mean(dim=(1, 2)))


class ResidualDecoder(nn.Module):
    """Residual layers from latents up to pixels; adds nothing until it's trained."""

    def __init__(self, latent_channels: int, out_channels: int, widths: tuple[int, ...], layers: int):
        super().__init__()
        widths = tuple(reversed(widths))
        self.conv_in: nn.Conv2d = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
        self.levels: nn.ModuleList = nn.ModuleList()
        for width, following in itertools.pairwise(widths):
            level = nn.Module()
            level.residuals = nn.ModuleList(ResidualLayer(width) for _ in range(layers))
            level.widen = nn.Conv2d(width, following * 4, 3, padding=1)
            self.levels.append(level)
        self.conv_out: nn.Conv2d = nn.Conv2d(widths[-1], out_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = self.conv_in(hidden_states)
        for level in self.levels:
            for residual in level.residuals:
                hidden_states = residual(hidden_states)
            hidden_states = F.pixel_shuffle(level.widen(F.silu(hidden_states)), 2)
        return self.conv_out(F.silu(hidden_states))


class ResidualLayer(nn.Module):
    """Two convolutions beside the identity, without normalisation: flat regions stay exact."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1: nn.Conv2d = nn.Conv2d(width, width, 3, padding=1)
        self.conv2: nn.Conv2d = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states + self.conv2(F.silu(self.conv1(F.silu(hidden_states))))
