"""Zero cross-attention, from body features to garment features (StableVITON, section 3.2)."""

from __future__ import annotations

import math

import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn

from .attention_maps import AttentionRecorder, project_query_and_key
from .garment_coordinates import CoordinateMaps, attend, coordinate_features, with_coordinates


class ZeroCrossAttention(nn.Module):
    """Cross-attention from decoder features to garment features, added through a zero-initialised 1x1 convolution.

    At initialisation it adds exactly nothing, so training starts from the pretrained network's own output.

    Args:
        channels (`int`): Channels of the decoder features (queries).
        garment_channels (`int`): Channels of the garment features (keys and values).
        num_attention_heads (`int`, *optional*, defaults to 8): Heads; the head width is `channels // heads`.
        norm_num_groups (`int`, *optional*, defaults to 32): Groups of the input's group norm.
        positions (`bool`, *optional*, defaults to `False`):
            Add sinusoidal 2D positions to queries and keys. The released weights were trained without.
        coordinates (`bool`, *optional*, defaults to `False`):
            Let queries and keys agree where their places on the garment's pattern do; see `GarmentCoordinates`.
    """

    def __init__(
        self,
        channels: int,
        garment_channels: int,
        num_attention_heads: int = 8,
        norm_num_groups: int = 32,
        positions: bool = False,
        coordinates: bool = False,
    ):
        super().__init__()
        self.positions = positions
        if coordinates:
            self.coordinate_weight: nn.Parameter = nn.Parameter(torch.ones(num_attention_heads))
        self.transformer: Transformer2DModel = Transformer2DModel(
            num_attention_heads,
            channels // num_attention_heads,
            in_channels=channels,
            num_layers=1,
            cross_attention_dim=garment_channels,
            norm_num_groups=norm_num_groups,
        )
        self.zero_conv: nn.Conv2d = nn.Conv2d(channels, channels, kernel_size=1)
        nn.init.zeros_(self.zero_conv.weight)
        nn.init.zeros_(self.zero_conv.bias)

    def forward(
        self,
        hidden_states: torch.Tensor,
        garment_features: torch.Tensor,
        block: int = 0,
        attention_recorder: AttentionRecorder | None = None,
        coordinates: CoordinateMaps | None = None,
    ) -> torch.Tensor:
        """
        Args:
            hidden_states (`torch.Tensor`): Decoder features, (batch, channels, height, width).
            garment_features (`torch.Tensor`): Garment features, (batch, garment_channels, height', width').
            block (`int`, *optional*, defaults to 0): This block's index in the decoder, for the recorder.
            attention_recorder (`AttentionRecorder`, *optional*): Receives this block's queries and keys.
            coordinates (`CoordinateMaps`, *optional*): Needed by a block with coordinates, and by no other.

        Returns:
            `torch.Tensor`: of the shape of `hidden_states`.
        """
        garment_size = garment_features.shape[-2:]
        garment_tokens = garment_features.flatten(2).transpose(1, 2)  # (batch, height' * width', garment_channels)
        if attention_recorder is not None and not attention_recorder.should_record(block):
            attention_recorder = None
        if attention_recorder is None and not self.positions and coordinates is None:
            attended = self.transformer(hidden_states, encoder_hidden_states=garment_tokens, return_dict=False)[0]
        else:
            attended = self._forward_unfused(
                hidden_states, garment_tokens, garment_size, block, attention_recorder, coordinates
            )
        return hidden_states + self.zero_conv(attended)

    def _forward_unfused(
        self,
        hidden_states: torch.Tensor,
        garment_tokens: torch.Tensor,
        garment_size: torch.Size,
        block: int,
        attention_recorder: AttentionRecorder | None,
        coordinates: CoordinateMaps | None,
    ) -> torch.Tensor:
        """`Transformer2DModel.forward` written out, to expose queries and keys; bit-identical without coordinates."""
        transformer, layer = self.transformer, self.transformer.transformer_blocks[0]
        batch, channels, height, width = hidden_states.shape
        tokens = transformer.proj_in(transformer.norm(hidden_states)).permute(0, 2, 3, 1).reshape(batch, -1, channels)
        if self.positions:
            tokens = tokens + sinusoidal_positions(height, width, channels, tokens)
            garment_tokens = garment_tokens + sinusoidal_positions(*garment_size, garment_tokens.shape[-1], tokens)
        tokens = layer.attn1(layer.norm1(tokens)) + tokens
        query_tokens = layer.norm2(tokens)
        if attention_recorder is not None or coordinates is not None:
            query, key = project_query_and_key(layer.attn2, query_tokens, garment_tokens)
            if coordinates is not None:
                features = coordinate_features(coordinates, (height, width), tuple(garment_size))
                query, key = with_coordinates(query, key, *features, self.coordinate_weight)
            if attention_recorder is not None:
                attention_recorder.record(block, query, key, (height, width), tuple(garment_size))
        if coordinates is None:
            tokens = layer.attn2(query_tokens, encoder_hidden_states=garment_tokens) + tokens
        else:
            tokens = attend(layer.attn2, query, key, garment_tokens) + tokens
        tokens = layer.ff(layer.norm3(tokens)) + tokens
        attended = tokens.reshape(batch, height, width, channels).permute(0, 3, 1, 2).contiguous()
        return transformer.proj_out(attended) + hidden_states


def sinusoidal_positions(height: int, width: int, channels: int, like: torch.Tensor) -> torch.Tensor:
    """Sine and cosine of both coordinates at geometric frequencies; half of the channels each for y and x.

    Positions are in [0, 1] of the map, so that two maps of different resolution agree on the same place.

    Returns:
        `torch.Tensor`: (1, height * width, channels), dtype and device of `like`.
    """
    quarter = (channels + 3) // 4
    octaves = torch.arange(quarter, device=like.device, dtype=torch.float32) / max(quarter - 1, 1)
    frequencies = 2 * math.pi * torch.pow(max(height, width) / 2.0, octaves)  # one period a map .. one in two cells
    rows = (torch.arange(height, device=like.device) + 0.5) / height
    columns = (torch.arange(width, device=like.device) + 0.5) / width
    angles_y = (rows[:, None] * frequencies)[:, None].expand(height, width, quarter)
    angles_x = (columns[:, None] * frequencies)[None].expand(height, width, quarter)
    table = torch.cat([angles_y.sin(), angles_y.cos(), angles_x.sin(), angles_x.cos()], dim=-1)
    return table[..., :channels].reshape(1, height * width, channels).to(like.dtype)
