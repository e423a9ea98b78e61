"""What is compared: the variants, and the networks that they train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from stableviton_sdk.models.attention_maps import AttentionRecorder
from stableviton_sdk.models.garment_coordinates import CoordinateMaps
from stableviton_sdk.models.unet import TryOnUNet
from stableviton_sdk.models.up_block import TryOnUpBlock2D
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.training.tryon.initialise import from_scratch

WIDTH_STEP = 8  # of the group norms
FINEST_BLOCKS = [2, 3]  # decoder places at the latents' resolution: what both attention losses look at
SCHEDULER = {"prediction_type": "v_prediction"}


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Args:
        name (`str`): Short, for files and for the command line.
        label (`str`): Short, for tables.
        title (`str`): What it is.
        attention (`bool`, *optional*, defaults to `True`): Zero cross-attention; else the garment's maps are added.
        augmented (`bool`, *optional*), total_variation (`bool`, *optional*), supervised (`bool`, *optional*):
            Trained with the authors' augmentation; with the attention total variation loss in the second stage; with
            the true correspondence, which the paper doesn't do.
    """

    name: str
    label: str
    title: str
    attention: bool = True
    augmented: bool = False
    total_variation: bool = False
    supervised: bool = False

    @property
    def first_stage(self) -> str:
        """Variants of one first stage share it: they differ in the second alone."""
        kind = "attention" if self.attention else "addition"
        return "-".join([kind, *["augmented"] * self.augmented, *["supervised"] * self.supervised])


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("a", "a", "encoder features added, no attention", attention=False),
        Variant("b", "b", "zero cross-attention"),
        Variant("c", "c", "b + augmentation", augmented=True),
        Variant("d", "d", "c + ATV loss", augmented=True, total_variation=True),
        Variant("b-supervised", "b'", "b + true correspondence (not in the paper)", supervised=True),
        Variant("c-supervised", "c'", "c + true correspondence (not in the paper)", augmented=True, supervised=True),
        Variant(
            "d-supervised",
            "d'",
            "d + true correspondence (not in the paper)",
            augmented=True,
            total_variation=True,
            supervised=True,
        ),
    )
}
# What the paper claims step by step, as (before, after).
STEPS = (("a", "b"), ("b", "c"), ("c", "d"))
SUPERVISED_STEPS = (
    ("a", "b-supervised"),
    ("b", "b-supervised"),
    ("b-supervised", "c-supervised"),
    ("c-supervised", "d-supervised"),
)


class ZeroAddition(nn.Module):
    """Stands where a zero cross-attention stands, and adds the garment's map place by place, as ControlNet does.

    Args:
        channels (`int`): Channels of the decoder feature map.
        garment_channels (`int`): Channels of the garment feature map.
    """

    def __init__(self, channels: int, garment_channels: int):
        super().__init__()
        self.zero_conv = nn.Conv2d(garment_channels, channels, kernel_size=1)
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
            garment_features (`torch.Tensor`): Garment features, (batch, garment_channels, height, width).
            block (`int`, *optional*), attention_recorder (`AttentionRecorder`, *optional*):
                Unused: nothing is attended to.
            coordinates (`CoordinateMaps`, *optional*): Unused.
        """
        return hidden_states + self.zero_conv(garment_features)


class AddedFeaturesUNet(TryOnUNet):
    """`TryOnUNet` whose decoder gets the garment's maps added, through zero-initialised 1x1 convolutions.

    Arguments and everything but the blocks that look up the garment are `TryOnUNet`'s.
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        for block in self.up_blocks:
            if isinstance(block, TryOnUpBlock2D):
                block.zero_cross_attentions = nn.ModuleList(
                    ZeroAddition(attention.zero_conv.out_channels, _garment_channels(attention))
                    for attention in block.zero_cross_attentions
                )


def architecture(size: tuple[int, int], widths: Sequence[int], latent_channels: int = 16) -> dict[str, Any]:
    """The bundled model's architecture, as narrow as asked for, on patches of 8 pixels.

    Args:
        size (`tuple[int, int]`): Width and height of the images in pixels.
        widths (`Sequence[int]`): Channels of the three levels, highest resolution first; multiples of 8.
        latent_channels (`int`, *optional*, defaults to 16): Of the autoencoder.
    """
    return {
        "unet": {
            "sample_size": [side // 8 for side in reversed(size)],
            "in_channels": 3 * latent_channels + 1,
            "out_channels": latent_channels,
            "block_out_channels": list(widths),
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "TryOnUpBlock2D", "TryOnUpBlock2D"],
            "layers_per_block": 1,
            "num_attention_heads": 2,
            "cross_attention_dim": 32,
            "norm_num_groups": WIDTH_STEP,
            "zero_cross_attention_positions": True,
        },
        "garment_encoder": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "mapper_layers": 1,
        },
    }


def build(variant: Variant, options: Mapping[str, Any], vae: nn.Module, seed: int) -> TryOnPipeline:
    """The networks of a variant before its first step.

    Without attention the U-Net has fewer parameters; its lowest level is widened until it has about as many.

    Args:
        variant (`Variant`): Which.
        options (`Mapping`): Of `architecture`, with attention.
        vae (`nn.Module`): The autoencoder.
        seed (`int`): Of the weights.
    """
    if variant.attention:
        return from_scratch(options, vae=vae, scheduler=SCHEDULER, seed=seed)
    unet_options = dict(options["unet"], block_out_channels=widened(options["unet"]))
    pipeline = from_scratch({**options, "unet": unet_options}, vae=vae, scheduler=SCHEDULER, seed=seed)
    pipeline.register_modules(unet=_seeded(AddedFeaturesUNet, unet_options, seed))
    return pipeline


def widened(options: Mapping[str, Any]) -> list[int]:
    """Widths with which `AddedFeaturesUNet` is as near to the parameters of `TryOnUNet` with `options` as may be."""
    *upper, lowest = options["block_out_channels"]
    with torch.device("meta"):  # nothing is drawn, nothing is allocated
        wanted = parameters(TryOnUNet(**options))
        found = {
            width: abs(parameters(AddedFeaturesUNet(**{**options, "block_out_channels": [*upper, width]})) - wanted)
            for width in range(lowest, 2 * lowest + 1, WIDTH_STEP)
        }
    return [*upper, min(found, key=found.get)]


def parameters(network: nn.Module) -> int:
    """How many a network has."""
    return sum(parameter.numel() for parameter in network.parameters())


def _seeded(kind: type, options: Mapping[str, Any], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(**options)


def _garment_channels(attention: nn.Module) -> int:
    return attention.transformer.transformer_blocks[0].attn2.to_k.in_features
