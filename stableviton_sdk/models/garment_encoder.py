"""The garment as one token: CLIP's vision tower, Paint-by-Example's mapper, and the unconditional embedding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from .strict_loading import StrictLoadingMixin

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass
class GarmentEmbedding(BaseOutput):
    """
    Args:
        embedding (`torch.Tensor`): (batch, 1, cross_attention_dim), the U-Net's context.
        unconditional (`torch.Tensor`): (1, 1, cross_attention_dim), the context of the unconditional branch.
    """

    embedding: torch.Tensor
    unconditional: torch.Tensor


class GarmentMapper(nn.Module):
    """Pre-norm residual attention blocks of one head, on the pooled CLIP embedding."""

    def __init__(self, hidden_size: int, num_layers: int):
        super().__init__()
        self.blocks: nn.ModuleList = nn.ModuleList(
            BasicTransformerBlock(hidden_size, 1, hidden_size, activation_fn="gelu", attention_bias=True)
            for _ in range(num_layers)
        )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            hidden_states = block(hidden_states)
        return hidden_states


class GarmentEncoder(StrictLoadingMixin, ModelMixin, ConfigMixin):
    """Embeds a garment image as the U-Net's one context token (Paint-by-Example's image encoder).

    Args:
        hidden_size (`int`, *optional*, defaults to 1024): Width of the vision tower and the mapper.
        intermediate_size (`int`, *optional*, defaults to 4096): Width of the vision tower's MLP.
        num_hidden_layers (`int`, *optional*, defaults to 24): Layers of the vision tower.
        num_attention_heads (`int`, *optional*, defaults to 16): Heads of the vision tower.
        image_size (`int`, *optional*, defaults to 224): Side of the square that the tower sees, in pixels.
        patch_size (`int`, *optional*, defaults to 14): Side of a patch, in pixels.
        hidden_act (`str`, *optional*, defaults to `"quick_gelu"`): The vision tower's activation.
        mapper_layers (`int`, *optional*, defaults to 5): Blocks of the mapper.
        projection_dim (`int`, *optional*, defaults to 768): Width of the context token.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules = ["CLIPEncoderLayer", "BasicTransformerBlock"]
    _skip_layerwise_casting_patterns = ["embeddings", "norm"]
    _repeated_blocks = ["CLIPEncoderLayer", "BasicTransformerBlock"]

    @register_to_config
    def __init__(
        self,
        hidden_size: int = 1024,
        intermediate_size: int = 4096,
        num_hidden_layers: int = 24,
        num_attention_heads: int = 16,
        image_size: int = 224,
        patch_size: int = 14,
        hidden_act: str = "quick_gelu",
        mapper_layers: int = 5,
        projection_dim: int = 768,
    ):
        super().__init__()
        tower = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=hidden_size,
                intermediate_size=intermediate_size,
                num_hidden_layers=num_hidden_layers,
                num_attention_heads=num_attention_heads,
                image_size=image_size,
                patch_size=patch_size,
                hidden_act=hidden_act,
            )
        )
        # transformers 5 flattened the tower's modules. Ours are named the same with every version.
        self.vision_model: nn.Module = getattr(tower, "vision_model", tower)
        self.mapper: GarmentMapper = GarmentMapper(hidden_size, mapper_layers)
        self.final_layer_norm: nn.LayerNorm = nn.LayerNorm(hidden_size)
        self.proj_out: nn.Linear = nn.Linear(hidden_size, projection_dim)
        self.uncond_vector: nn.Parameter = nn.Parameter(torch.randn(1, 1, projection_dim) * 0.02)

    def pixel_values(self, garment: torch.Tensor) -> torch.Tensor:
        """What the vision tower sees: squashed to a square without cropping or anti-aliasing, normalised as for CLIP.

        Args:
            garment (`torch.Tensor`): RGB in [-1, 1], (batch, 3, height, width).

        Returns:
            `torch.Tensor`: (batch, 3, image_size, image_size).
        """
        side = self.config.image_size
        squashed = F.interpolate(garment, size=(side, side), mode="bilinear", align_corners=False) * 0.5 + 0.5
        mean = squashed.new_tensor(CLIP_MEAN).view(1, 3, 1, 1)
        std = squashed.new_tensor(CLIP_STD).view(1, 3, 1, 1)
        return (squashed - mean) / std

    def forward(self, garment: torch.Tensor, return_dict: bool = True) -> GarmentEmbedding | tuple[torch.Tensor, ...]:
        """
        Args:
            garment (`torch.Tensor`): RGB in [-1, 1], (batch, 3, height, width), of any size.
            return_dict (`bool`, *optional*, defaults to `True`): Return an output class instead of a tuple.

        Returns:
            `GarmentEmbedding` or `tuple`: the context token and its unconditional counterpart.
        """
        pooled = self.encode_pooled(garment)
        embedding = self.proj_out(pooled)
        if not return_dict:
            return embedding, self.uncond_vector
        return GarmentEmbedding(embedding=embedding, unconditional=self.uncond_vector)

    def encode_pooled(self, garment: torch.Tensor) -> torch.Tensor:
        """The embedding before its projection: what is frozen in the authors' training.

        Args:
            garment (`torch.Tensor`): See `forward`.

        Returns:
            `torch.Tensor`: (batch, 1, hidden_size).
        """
        pooled = self.vision_model(pixel_values=self.pixel_values(garment)).pooler_output
        return self.final_layer_norm(self.mapper(pooled[:, None]))
