"""The architecture that a checkpoint's shapes imply, and the check that they fit it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from ..errors import IncompatibleCheckpoint, InvalidInput
from ..models.strict_loading import refuse_differences
from .key_mapping import COMPONENTS, KeyPlan

Shapes = Mapping[str, Mapping[str, tuple[int, ...]]]
Architecture = dict[str, dict[str, Any]]

# The method's schedule; the same for every released checkpoint, and written nowhere in them that can be trusted.
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "prediction_type": "epsilon",
}


def infer_architecture(
    shapes: Shapes, plan: KeyPlan, override: Mapping[str, Mapping[str, Any]] | None = None
) -> Architecture:
    """Read the models' configurations off their tensors' shapes.

    Heads and group norms leave no trace in shapes; they have the released values (8 heads in the U-Net, 16 in the
    vision tower, 32 groups) unless overridden.

    Args:
        shapes (`Mapping[str, Mapping[str, tuple[int, ...]]]`): Shapes by component and by this package's tensor names.
        plan (`KeyPlan`): The checkpoint's own names, for the messages.
        override (`Mapping[str, Mapping[str, Any]]`, *optional*):
            Values that win over the inferred ones, by component: `{"garment_encoder": {"num_attention_heads": 4}}`.

    Returns:
        `dict[str, dict[str, Any]]`: keyword arguments of each component's class.

    Raises:
        `IncompatibleCheckpoint`: if a tensor that a size is read from is missing.
        `InvalidInput`: if `override` names an unknown component or option.
    """
    architecture = {
        component: infer(_Reader(component, shapes[component], plan))
        for component, infer in zip(COMPONENTS, (_unet, _spatial_encoder, _garment_encoder, _vae), strict=True)
    }
    for component, options in (override or {}).items():
        if component not in architecture or not isinstance(options, Mapping):
            raise InvalidInput(
                f"architecture has an entry {component!r}: pass options by component, one of {', '.join(COMPONENTS)}."
            )
        known = inspect.signature(component_class(component)).parameters
        for option in options:
            if option not in known:
                raise InvalidInput(f"{component} has no option {option!r} that architecture could set.")
            _check_type(component, option, options[option], known[option].default)
        architecture[component] |= options
    return architecture


def _check_type(component: str, option: str, value: Any, default: Any) -> None:
    """Refuse what is of another type than the class's own default: shapes don't show it, and a call fails late."""
    if default is None or default is inspect.Parameter.empty:
        return
    kinds = {bool: bool, int: int, float: (int, float), str: str, tuple: (tuple, list), list: (tuple, list)}
    fits = isinstance(value, kinds.get(type(default), object))
    if not fits or (isinstance(value, bool) and not isinstance(default, bool)):
        raise InvalidInput(
            f"architecture sets {component}'s {option} to {value!r}: pass something like {default!r} instead."
        )


def component_class(component: str) -> type:
    """The class that a component is made of."""
    if component == "unet":
        from ..models.unet import TryOnUNet

        return TryOnUNet
    if component == "spatial_encoder":
        from ..models.spatial_encoder import SpatialEncoder

        return SpatialEncoder
    if component == "garment_encoder":
        from ..models.garment_encoder import GarmentEncoder

        return GarmentEncoder
    from diffusers import AutoencoderKL

    return AutoencoderKL


def build_on_meta(component: str, config: Mapping[str, Any]) -> torch.nn.Module:
    """Make a component without memory for its weights."""
    try:
        with torch.device("meta"):
            return component_class(component)(**config)
    except Exception as error:  # torch's, diffusers' and transformers' own kinds, for a size that can't be
        raise IncompatibleCheckpoint(
            f"no {component} can be built for this checkpoint ({error}): set the rest by `architecture`."
        ) from error


def check_shapes(shapes: Shapes, architecture: Architecture, plan: KeyPlan) -> None:
    """Compare a checkpoint's tensors with those that the architecture has, name by name.

    Args:
        shapes (`Mapping`): Shapes by component and tensor name.
        architecture (`dict`): From `infer_architecture`.
        plan (`KeyPlan`): The checkpoint's own names, for the messages.

    Raises:
        `IncompatibleCheckpoint`: naming the first tensor that is missing, unknown, or of another shape.
    """
    for component in COMPONENTS:
        model = build_on_meta(component, architecture[component])
        expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        source_of = partial(plan.source_of, component)
        refuse_differences(f"the checkpoint's {component}", expected, shapes[component], source_of)


class _Reader:
    """Looks sizes up in shapes and names what is missing."""

    def __init__(self, component: str, shapes: Mapping[str, tuple[int, ...]], plan: KeyPlan):
        self.component, self.shapes, self.plan = component, shapes, plan

    def size(self, key: str, dimension: int = 0) -> int:
        if key not in self.shapes or len(self.shapes[key]) <= dimension:
            refuse_differences(
                f"the checkpoint's {self.component}", {key: ()}, {}, partial(self.plan.source_of, self.component)
            )
        return self.shapes[key][dimension]

    def count(self, pattern: str) -> int:
        return len({match[1] for key in self.shapes if (match := re.match(pattern, key))})

    def has(self, prefix: str) -> bool:
        return any(key.startswith(prefix) for key in self.shapes)


def _encoder(read: _Reader) -> dict[str, Any]:
    levels = read.count(r"down_blocks\.(\d+)\.")
    return {
        "in_channels": read.size("conv_in.weight", 1),
        "down_block_types": tuple(
            "CrossAttnDownBlock2D" if read.has(f"down_blocks.{level}.attentions.") else "DownBlock2D"
            for level in range(levels)
        ),
        "block_out_channels": tuple(
            read.size(f"down_blocks.{level}.resnets.0.conv1.weight") for level in range(levels)
        ),
        "layers_per_block": read.count(r"down_blocks\.0\.resnets\.(\d+)\."),
        "cross_attention_dim": read.size("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", 1),
    }


def _unet(read: _Reader) -> dict[str, Any]:

    def up_block_type(level: int) -> str:
        if read.has(f"up_blocks.{level}.zero_cross_attentions."):
            return "TryOnUpBlock2D"
        return "CrossAttnUpBlock2D" if read.has(f"up_blocks.{level}.attentions.") else "UpBlock2D"

    return {
        **_encoder(read),
        "out_channels": read.size("conv_out.weight"),
        "up_block_types": tuple(up_block_type(level) for level in range(read.count(r"up_blocks\.(\d+)\."))),
    }


def _spatial_encoder(read: _Reader) -> dict[str, Any]:
    return {**_encoder(read), "garment_channels": read.size("garment_conv_in.weight", 1)}


def _garment_encoder(read: _Reader) -> dict[str, Any]:
    patch_size = read.size("vision_model.embeddings.patch_embedding.weight", 2)
    patches = read.size("vision_model.embeddings.position_embedding.weight") - 1
    return {
        "hidden_size": read.size("vision_model.embeddings.class_embedding"),
        "intermediate_size": read.size("vision_model.encoder.layers.0.mlp.fc1.weight"),
        "num_hidden_layers": read.count(r"vision_model\.encoder\.layers\.(\d+)\."),
        "image_size": round(patches**0.5) * patch_size,
        "patch_size": patch_size,
        "mapper_layers": read.count(r"mapper\.blocks\.(\d+)\."),
        "projection_dim": read.size("proj_out.weight"),
    }


def _vae(read: _Reader) -> dict[str, Any]:
    levels = read.count(r"encoder\.down_blocks\.(\d+)\.")
    return {
        "in_channels": read.size("encoder.conv_in.weight", 1),
        "out_channels": read.size("decoder.conv_out.weight"),
        "latent_channels": read.size("post_quant_conv.weight"),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": tuple(
            read.size(f"encoder.down_blocks.{level}.resnets.0.conv1.weight") for level in range(levels)
        ),
        "layers_per_block": read.count(r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        "norm_num_groups": 32,
        "sample_size": 512,
        "scaling_factor": 0.18215,
    }
