"""The denoising network: Stable Diffusion's U-Net with 13 input channels and zero cross-attention in its decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.attention import AttentionMixin
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_blocks import get_down_block, get_mid_block, get_up_block
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import nn

from ..errors import InvalidInput
from . import lean as lean_layers
from .attention_maps import AttentionRecorder
from .attention_slicing import AttentionSlicingMixin
from .embeddings import timestep_features
from .packing import convolve
from .refusals import TransformerOptionsMixin
from .step_cache import StepCache
from .strict_loading import StrictLoadingMixin
from .up_block import TryOnUpBlock2D


class TryOnUNet(
    StrictLoadingMixin,
    TransformerOptionsMixin,
    ModelMixin,
    AttentionMixin,
    AttentionSlicingMixin,
    ConfigMixin,
    PeftAdapterMixin,
):
    """Predicts the noise of a person's latent, looking up the garment through zero cross-attention.

    State-dict keys equal `UNet2DConditionModel`'s plus `up_blocks.*.zero_cross_attentions.*`, so Stable Diffusion and
    Paint-by-Example weights load directly; with those new blocks at their zero initialisation the output equals theirs
    bit for bit.

    Args:
        sample_size (`tuple[int, int]`, *optional*, defaults to `(64, 48)`): Latent height and width trained at.
        in_channels (`int`, *optional*, defaults to 13):
            Noisy latent, agnostic latent, agnostic mask (1 = keep), DensePose latent.
        out_channels (`int`, *optional*, defaults to 4): Channels of the prediction.
        down_block_types (`tuple[str, ...]`, *optional*): Encoder blocks, highest resolution first.
        up_block_types (`tuple[str, ...]`, *optional*):
            Decoder blocks, lowest resolution first; `"TryOnUpBlock2D"` has zero cross-attention.
        block_out_channels (`tuple[int, ...]`, *optional*): Channels of each level, highest resolution first.
        layers_per_block (`int`, *optional*, defaults to 2): Res blocks of an encoder level; the decoder has one more.
        cross_attention_dim (`int`, *optional*, defaults to 768): Width of the garment embedding.
        num_attention_heads (`int`, *optional*, defaults to 8): Heads at every level.
        norm_num_groups (`int`, *optional*, defaults to 32): Groups of every group norm.
        zero_cross_attention_positions (`bool`, *optional*, defaults to `False`): See `ZeroCrossAttention`.
        coordinate_channels (`tuple[int, ...]`, *optional*):
            Those of the spatial encoder, whose coordinates the zero cross-attentions use then; without by default.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["BasicTransformerBlock", "ResnetBlock2D", "TryOnUpBlock2D", "UpBlock2D"]
    _skip_layerwise_casting_patterns = ["norm"]
    _repeated_blocks = ["BasicTransformerBlock"]

    @register_to_config
    def __init__(
        self,
        sample_size: tuple[int, int] = (64, 48),
        in_channels: int = 13,
        out_channels: int = 4,
        down_block_types: tuple[str, ...] = (
            "CrossAttnDownBlock2D",
            "CrossAttnDownBlock2D",
            "CrossAttnDownBlock2D",
            "DownBlock2D",
        ),
        up_block_types: tuple[str, ...] = ("UpBlock2D", "TryOnUpBlock2D", "TryOnUpBlock2D", "TryOnUpBlock2D"),
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        cross_attention_dim: int = 768,
        num_attention_heads: int = 8,
        norm_num_groups: int = 32,
        zero_cross_attention_positions: bool = False,
        coordinate_channels: tuple[int, ...] | None = None,
    ):
        super().__init__()
        levels = len(block_out_channels)
        if len(down_block_types) != levels or len(up_block_types) != levels:
            raise InvalidInput(
                f"{len(down_block_types)} down blocks and {len(up_block_types)} up blocks for {levels} levels: "
                "pass one of each for every entry of block_out_channels."
            )
        time_embed_dim = block_out_channels[0] * 4
        self.conv_in: nn.Conv2d = nn.Conv2d(in_channels, block_out_channels[0], kernel_size=3, padding=1)
        self.time_proj: Timesteps = Timesteps(block_out_channels[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding: TimestepEmbedding = TimestepEmbedding(block_out_channels[0], time_embed_dim)
        common = {
            "temb_channels": time_embed_dim,
            "resnet_eps": 1e-5,
            "resnet_act_fn": "silu",
            "resnet_groups": norm_num_groups,
            "cross_attention_dim": cross_attention_dim,
            "num_attention_heads": num_attention_heads,
        }
        unused = {"attention_head_dim": num_attention_heads}  # by these blocks, but its absence is warned about

        self.down_blocks: nn.ModuleList = nn.ModuleList()
        for level, block_type in enumerate(down_block_types):
            self.down_blocks.append(
                get_down_block(
                    block_type,
                    num_layers=layers_per_block,
                    in_channels=block_out_channels[max(level - 1, 0)],
                    out_channels=block_out_channels[level],
                    add_downsample=level < levels - 1,
                    downsample_padding=1,
                    **common,
                    **unused,
                )
            )
        self.mid_block: nn.Module = get_mid_block(
            "UNetMidBlock2DCrossAttn", in_channels=block_out_channels[-1], **common
        )

        self.up_blocks: nn.ModuleList = nn.ModuleList()
        widths = tuple(reversed(block_out_channels))
        for level, block_type in enumerate(up_block_types):
            arguments = {
                "num_layers": layers_per_block + 1,
                "in_channels": widths[min(level + 1, levels - 1)],
                "out_channels": widths[level],
                "prev_output_channel": widths[max(level - 1, 0)],
                "add_upsample": level < levels - 1,
                **common,
            }
            if block_type == "TryOnUpBlock2D":
                block = TryOnUpBlock2D(
                    zero_cross_attention_positions=zero_cross_attention_positions,
                    zero_cross_attention_coordinates=coordinate_channels is not None,
                    **arguments,
                )
            else:
                block = get_up_block(block_type, **arguments, **unused)
            self.up_blocks.append(block)

        self.conv_norm_out: nn.GroupNorm = nn.GroupNorm(norm_num_groups, block_out_channels[0], eps=1e-5)
        self.conv_act: nn.SiLU = nn.SiLU()
        self.conv_out: nn.Conv2d = nn.Conv2d(block_out_channels[0], out_channels, kernel_size=3, padding=1)

    @property
    def num_zero_cross_attentions(self) -> int:
        """How many zero cross-attention blocks there are, and garment maps are needed."""
        return sum(len(block.zero_cross_attentions) for block in self.up_blocks if isinstance(block, TryOnUpBlock2D))

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float | int,
        encoder_hidden_states: torch.Tensor,
        garment_features: tuple[torch.Tensor, ...] | None,
        attention_recorder: AttentionRecorder | None = None,
        return_dict: bool = True,
        *,
        lean: bool = False,
        step_cache: StepCache | None = None,
    ) -> UNet2DConditionOutput | tuple[torch.Tensor]:
        """
        Args:
            sample (`torch.Tensor`): (batch, in_channels, height, width); sides of any size from 1.
            timestep (`torch.Tensor`, `float` or `int`): One for all, or (batch,).
            encoder_hidden_states (`torch.Tensor`): Garment embedding, (batch, tokens, cross_attention_dim).
            garment_features (`tuple[torch.Tensor, ...]`):
                The spatial encoder's maps, highest resolution first, after its coordinates where it has any. None for
                those that `step_cache` keeps: then only the decoder's last layers are computed.
            attention_recorder (`AttentionRecorder`, *optional*):
                Receives the queries and keys of the zero cross-attentions; changes no bit of the result.
            return_dict (`bool`, *optional*, defaults to `True`): Return an output class instead of a tuple.
            lean (`bool`, *optional*, defaults to `False`):
                Leave out what changes nothing but the last digits (see `models.lean`): for one token, one timestep
                for all, and a network that `runs_lean`. The sample may have fewer entries than the embedding then,
                which share it in the order of the batch.
            step_cache (`StepCache`, *optional*): For `lean`: keeps what later steps reuse.

        Returns:
            `UNet2DConditionOutput` or `tuple`: the prediction, (batch, out_channels, height, width).
        """
        if lean:
            hidden_states = self._forward_lean(
                sample, timestep, encoder_hidden_states, garment_features, attention_recorder, step_cache
            )
            return UNet2DConditionOutput(sample=hidden_states) if return_dict else (hidden_states,)

        # 1. time
        time_embedding = self.time_embedding(timestep_features(self.time_proj, timestep, sample))

        # 2. encoder
        hidden_states = self.conv_in(sample)
        skips = (hidden_states,)
        for block in self.down_blocks:
            if getattr(block, "has_cross_attention", False):
                hidden_states, states = block(hidden_states, time_embedding, encoder_hidden_states)
            else:
                hidden_states, states = block(hidden_states, time_embedding)
            skips += states

        # 3. middle
        hidden_states = self.mid_block(hidden_states, time_embedding, encoder_hidden_states)

        # 4. decoder
        block_index = 0
        coordinates = None
        if self.config.coordinate_channels is not None:
            coordinates, *garment_features = garment_features
        for block in self.up_blocks:
            layers = len(block.resnets)
            skips, block_skips = skips[:-layers], skips[-layers:]
            upsample_size = skips[-1].shape[-2:] if skips else None
            if isinstance(block, TryOnUpBlock2D):
                garment_features, block_features = garment_features[:-layers], garment_features[-layers:]
                hidden_states = block(
                    hidden_states,
                    block_skips,
                    block_features,
                    time_embedding,
                    encoder_hidden_states,
                    upsample_size,
                    block_index,
                    attention_recorder,
                    coordinates,
                )
                block_index += layers
            elif getattr(block, "has_cross_attention", False):
                hidden_states = block(
                    hidden_states, block_skips, time_embedding, encoder_hidden_states, upsample_size=upsample_size
                )
            else:
                hidden_states = block(hidden_states, block_skips, time_embedding, upsample_size)

        # 5. prediction
        hidden_states = self.conv_out(self.conv_act(self.conv_norm_out(hidden_states)))
        if not return_dict:
            return (hidden_states,)
        return UNet2DConditionOutput(sample=hidden_states)

    def _forward_lean(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float | int,
        context: torch.Tensor,
        garment_features: tuple[torch.Tensor, ...] | None,
        attention_recorder: AttentionRecorder | None,
        step_cache: StepCache | None,
    ) -> torch.Tensor:
        time = F.silu(self.time_embedding(timestep_features(self.time_proj, timestep, sample[:1])))
        hidden_states = convolve(self.conv_in, sample)
        if garment_features is not None:
            maps = lean_layers.encode(self, hidden_states, time, context)
            hidden_states = lean_layers.middle(self.mid_block, maps[-1], time, context)
            if step_cache is not None:
                step_cache.garment_features = garment_features
        else:
            maps = lean_layers.encode(self, hidden_states, time, context, count=step_cache.depth)
            hidden_states, garment_features = step_cache.hidden_states, step_cache.garment_features
        coordinates = None
        if self.config.coordinate_channels is not None:
            coordinates, *garment_features = garment_features
        hidden_states = lean_layers.decode(
            self, hidden_states, maps, garment_features, coordinates, time, context, attention_recorder, step_cache
        )
        return convolve(self.conv_out, F.silu(self.conv_norm_out(hidden_states)))
