"""Decoder block of `TryOnUNet`: diffusers' up block with zero cross-attention before every skip connection."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.unets.unet_2d_blocks import CrossAttnUpBlock2D
from torch import nn

from .attention_maps import AttentionRecorder
from .garment_coordinates import CoordinateMaps
from .zero_cross_attention import ZeroCrossAttention


class TryOnUpBlock2D(CrossAttnUpBlock2D):
    """`CrossAttnUpBlock2D` with zero cross-attention to the garment before each skip is concatenated.

    State-dict keys equal the stock block's plus `zero_cross_attentions`. Arguments are the stock block's, and
    `zero_cross_attention_positions` and `zero_cross_attention_coordinates` (see `ZeroCrossAttention`).
    """

    def __init__(
        self,
        *,
        zero_cross_attention_positions: bool = False,
        zero_cross_attention_coordinates: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        num_layers, out_channels = kwargs["num_layers"], kwargs["out_channels"]
        self.zero_cross_attentions: nn.ModuleList = nn.ModuleList(
            ZeroCrossAttention(
                channels=kwargs["prev_output_channel"] if index == 0 else out_channels,
                # the spatial encoder mirrors the U-Net's encoder, so its maps are as wide as the skips
                garment_channels=kwargs["in_channels"] if index == num_layers - 1 else out_channels,
                num_attention_heads=kwargs["num_attention_heads"],
                norm_num_groups=kwargs["resnet_groups"],
                positions=zero_cross_attention_positions,
                coordinates=zero_cross_attention_coordinates,
            )
            for index in range(num_layers)
        )

    def forward(
        self,
        hidden_states: torch.Tensor,
        res_hidden_states_tuple: tuple[torch.Tensor, ...],
        garment_features: tuple[torch.Tensor, ...],
        temb: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        upsample_size: tuple[int, int] | None = None,
        first_block: int = 0,
        attention_recorder: AttentionRecorder | None = None,
        coordinates: CoordinateMaps | None = None,
    ) -> torch.Tensor:
        """
        Args:
            hidden_states (`torch.Tensor`): (batch, channels, height, width).
            res_hidden_states_tuple (`tuple[torch.Tensor, ...]`): One skip for each layer, in encoder order.
            garment_features (`tuple[torch.Tensor, ...]`): One garment map for each layer, in encoder order.
            temb (`torch.Tensor`): Time embedding, (batch, time channels).
            encoder_hidden_states (`torch.Tensor`): (batch, tokens, cross attention dim).
            upsample_size (`tuple[int, int]`, *optional*): Height and width to upsample to.
            first_block (`int`, *optional*, defaults to 0): Index in the decoder of the first block here.
            attention_recorder (`AttentionRecorder`, *optional*): Receives queries and keys.
            coordinates (`CoordinateMaps`, *optional*): Needed by a block with coordinates.
        """
        layers = zip(self.resnets, self.attentions, self.zero_cross_attentions, strict=True)
        for index, (resnet, attention, zero_cross_attention) in enumerate(layers):
            hidden_states = zero_cross_attention(
                hidden_states, garment_features[-1 - index], first_block + index, attention_recorder, coordinates
            )
            hidden_states = torch.cat([hidden_states, res_hidden_states_tuple[-1 - index]], dim=1)
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden_states = self._gradient_checkpointing_func(resnet, hidden_states, temb)
            else:
                hidden_states = resnet(hidden_states, temb)
            hidden_states = attention(hidden_states, encoder_hidden_states=encoder_hidden_states, return_dict=False)[0]
        for upsampler in self.upsamplers or ():
            hidden_states = upsampler(hidden_states, upsample_size)
        return hidden_states
