"""Encoder of the garment: a copy of the U-Net's, whose feature maps zero cross-attention reads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.attention import AttentionMixin
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_blocks import get_down_block
from torch import nn

from .attention_slicing import AttentionSlicingMixin
from .embeddings import timestep_features
from .garment_coordinates import CoordinateMaps, GarmentCoordinates
from .lean import encode
from .packing import convolve
from .refusals import TransformerOptionsMixin
from .strict_loading import StrictLoadingMixin


class SpatialEncoder(
    StrictLoadingMixin,
    TransformerOptionsMixin,
    ModelMixin,
    AttentionMixin,
    AttentionSlicingMixin,
    ConfigMixin,
    PeftAdapterMixin,
):
    """Turns the garment's latent, beside all that the U-Net sees, into one feature map for each zero cross-attention.

    The original also holds a middle block, a last level and the downsampler before it. They never influence the
    output, so they are left out here (174 of 349 million parameters).

    State-dict keys equal those of `UNet2DConditionModel`'s encoder, plus `garment_conv_in`.

    Args:
        in_channels (`int`, *optional*, defaults to 13): Channels of the U-Net's input.
        garment_channels (`int`, *optional*, defaults to 4): Channels of the garment's latent.
        down_block_types (`tuple[str, ...]`, *optional*): Blocks, highest resolution first.
        block_out_channels (`tuple[int, ...]`, *optional*): Channels of each level, highest resolution first.
        layers_per_block (`int`, *optional*, defaults to 2): Res blocks of each level.
        cross_attention_dim (`int`, *optional*, defaults to 768): Width of the garment embedding.
        num_attention_heads (`int`, *optional*, defaults to 8): Heads at every level.
        norm_num_groups (`int`, *optional*, defaults to 32): Groups of every group norm.
        coordinate_channels (`tuple[int, ...]`, *optional*):
            Channels of `GarmentCoordinates` at every level, highest resolution first; without it by default.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["BasicTransformerBlock", "ResnetBlock2D", "CrossAttnDownBlock2D"]
    _skip_layerwise_casting_patterns = ["norm"]
    _repeated_blocks = ["BasicTransformerBlock"]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 13,
        garment_channels: int = 4,
        down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        block_out_channels: tuple[int, ...] = (320, 640, 1280),
        layers_per_block: int = 2,
        cross_attention_dim: int = 768,
        num_attention_heads: int = 8,
        norm_num_groups: int = 32,
        coordinate_channels: tuple[int, ...] | None = None,
    ):
        super().__init__()
        levels = len(block_out_channels)
        time_embed_dim = block_out_channels[0] * 4
        self.conv_in: nn.Conv2d = nn.Conv2d(in_channels, block_out_channels[0], kernel_size=3, padding=1)
        self.garment_conv_in: nn.Conv2d = nn.Conv2d(garment_channels, block_out_channels[0], kernel_size=3, padding=1)
        self.time_proj: Timesteps = Timesteps(block_out_channels[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding: TimestepEmbedding = TimestepEmbedding(block_out_channels[0], time_embed_dim)
        self.down_blocks: nn.ModuleList = nn.ModuleList(
            get_down_block(
                block_type,
                num_layers=layers_per_block,
                in_channels=block_out_channels[max(level - 1, 0)],
                out_channels=block_out_channels[level],
                temb_channels=time_embed_dim,
                add_downsample=level < levels - 1,
                downsample_padding=1,
                resnet_eps=1e-5,
                resnet_act_fn="silu",
                resnet_groups=norm_num_groups,
                cross_attention_dim=cross_attention_dim,
                num_attention_heads=num_attention_heads,
                attention_head_dim=num_attention_heads,  # unused by these blocks, but its absence is warned about
            )
            for level, block_type in enumerate(down_block_types)
        )
        if coordinate_channels is not None:
            self.coordinates = GarmentCoordinates(
                in_channels - garment_channels, garment_channels, tuple(coordinate_channels)
            )

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float | int,
        encoder_hidden_states: torch.Tensor,
        garment_latents: torch.Tensor,
        *,
        lean: bool = False,
    ) -> tuple[torch.Tensor | CoordinateMaps, ...]:
        """
        Args:
            sample (`torch.Tensor`): The U-Net's input, (batch, in_channels, height, width).
            timestep (`torch.Tensor`, `float` or `int`): One for all, or (batch,).
            encoder_hidden_states (`torch.Tensor`): Garment embedding, (batch, tokens, cross_attention_dim).
            garment_latents (`torch.Tensor`): Scaled latent of the garment image, (batch, 4, height, width).
            lean (`bool`, *optional*, defaults to `False`): As for `TryOnUNet.forward`.

        Returns:
            `tuple[torch.Tensor, ...]`: the feature maps, highest resolution first; before them the `CoordinateMaps`,
            where the network makes any.
        """
        if lean:
            time = F.silu(self.time_embedding(timestep_features(self.time_proj, timestep, sample[:1])))
            hidden_states = convolve(self.conv_in, sample) + convolve(self.garment_conv_in, garment_latents)
            features = tuple(encode(self, hidden_states, time, encoder_hidden_states))
        else:
            time_embedding = self.time_embedding(timestep_features(self.time_proj, timestep, sample))
            hidden_states = self.conv_in(sample) + self.garment_conv_in(garment_latents)
            features = (hidden_states,)
            for block in self.down_blocks:
                if getattr(block, "has_cross_attention", False):
                    hidden_states, states = block(hidden_states, time_embedding, encoder_hidden_states)
                else:
                    hidden_states, states = block(hidden_states, time_embedding)
                features += states
        if self.config.coordinate_channels is not None:
            conditioning = sample[:, self.config.garment_channels :]
            return (self.coordinates(conditioning, garment_latents), *features)
        return features
