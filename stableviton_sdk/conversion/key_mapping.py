"""Names in the released checkpoints (CompVis LDM layout) and what they are called here.

The rules work on names alone, so that nothing has to be loaded to find out whether a checkpoint fits, and nothing is
dropped unseen: every key is mapped, known to be unused, or an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import IncompatibleCheckpoint

if TYPE_CHECKING:
    import torch

COMPONENTS = ("unet", "spatial_encoder", "garment_encoder", "vae")

# The authors' checkpoints hold these too; nothing that they do reaches the result.
UNUSED = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "logvar",
    "lastzc.weight",
    "lastzc.bias",
    "cond_stage_model.transformer.vision_model.embeddings.position_ids",
)
OURS = ("model.diffusion_model.", "control_model.", "first_stage_model.", "cond_stage_model.", "proj_out.", "lastzc.")
FOREIGN_WITHIN_OURS = ("first_stage_model.loss.",)

RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
VAE_RESNET = {"nin_shortcut": "conv_shortcut"}
MAPPER = {
    "attn.c_proj": "attn1.to_out.0",
    "ln_1": "norm1",
    "ln_2": "norm3",
    "mlp.c_fc": "ff.net.0.proj",
    "mlp.c_proj": "ff.net.2",
}
VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


@dataclass(frozen=True)
class Rename:
    """Where one tensor goes.

    Args:
        source (`str`): Its name in the checkpoint.
        component (`str`): One of `COMPONENTS`.
        target (`str`): Its name in the component's state dict.
        part (`int`, *optional*): Which third of a fused query-key-value matrix it is.
        squeeze (`bool`, *optional*, defaults to `False`): A 1x1 convolution that is a linear layer here.
    """

    source: str
    component: str
    target: str
    part: int | None = None
    squeeze: bool = False

    def apply(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.part is not None:
            tensor = tensor.chunk(3, dim=0)[self.part]
        if self.squeeze and tensor.ndim == 4:
            tensor = tensor[:, :, 0, 0]
        return tensor


@dataclass(frozen=True)
class Layout:
    """How many levels and layers the LDM indices count through."""

    levels: int
    layers_per_block: int
    vae_levels: int


@dataclass
class KeyPlan:
    """What becomes of every key of a checkpoint.

    Args:
        renames (`list[Rename]`): Tensors that are used.
        unused (`list[str]`): Keys known to be of no influence.
        foreign (`dict[str, list[str]]`): Keys of prefixes that the method doesn't know, by prefix.
        layout (`Layout`): How its indices count.
    """

    layout: Layout
    renames: list[Rename] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    foreign: dict[str, list[str]] = field(default_factory=dict)

    def source_of(self, component: str, target: str) -> str | None:
        """The checkpoint's own name of a tensor, there or missing; None if a checkpoint can't hold it.

        Args:
            component (`str`): One of `COMPONENTS`.
            target (`str`): The tensor's name in the component's state dict.
        """
        for rename in self.renames:
            if (rename.component, rename.target) == (component, target):
                return rename.source
        for source in _possible_sources(target, self.layout):
            renames = _rename(source, self.layout) or ()
            if any((rename.component, rename.target) == (component, target) for rename in renames):
                block, upsampler, _ = source.partition(".conv.")  # it stands behind the level's attention, if any
                if not (upsampler and any(rename.source.startswith(f"{block}.norm.") for rename in self.renames)):
                    return source
        return None


def plan_keys(keys: Iterable[str]) -> KeyPlan:
    """Decide for every key of a checkpoint where it goes.

    Args:
        keys (`Iterable[str]`): Names as in the released `.ckpt`.

    Returns:
        `KeyPlan`

    Raises:
        `IncompatibleCheckpoint`: if a key under one of the method's own prefixes is unknown, or a component is absent.
    """
    keys = list(keys)
    layout = _find_layout(keys)
    plan, unknown = KeyPlan(layout), []
    for key in keys:
        if key in UNUSED:
            plan.unused.append(key)
        elif key.startswith(FOREIGN_WITHIN_OURS) or not (key.startswith(OURS) or key == "learnable_vector"):
            prefix = next((prefix for prefix in FOREIGN_WITHIN_OURS if key.startswith(prefix)), None)
            plan.foreign.setdefault(prefix or key.split(".")[0], []).append(key)
        else:
            renames = _rename(key, layout)
            if renames is None:
                unknown.append(key)
            elif renames:
                plan.renames.extend(renames)
            else:
                plan.unused.append(key)
    if unknown:
        raise IncompatibleCheckpoint(
            f"the checkpoint holds {len(unknown)} unknown tensor(s) among the try-on network's own, the first is "
            f"{unknown[0]!r}: it is of another architecture, or newer than this version of stableviton_sdk."
        )
    taken: dict[tuple[str, str], str] = {}
    for rename in plan.renames:
        other = taken.setdefault((rename.component, rename.target), rename.source)
        if other != rename.source:
            raise IncompatibleCheckpoint(
                f"the checkpoint's {other!r} and {rename.source!r} are one tensor of the {rename.component}: "
                "it is of another architecture."
            )
    for component in COMPONENTS:
        if not any(rename.component == component for rename in plan.renames):
            raise IncompatibleCheckpoint(
                f"the checkpoint holds no tensor of the {component}: it is not a whole StableVITON checkpoint "
                "(expected keys such as 'model.diffusion_model.…', 'control_model.…', 'first_stage_model.…', "
                "'cond_stage_model.…')."
            )
    return plan


def _find_layout(keys: list[str]) -> Layout:
    def count(pattern: str) -> int:
        found = [int(match[1]) for key in keys if (match := re.match(pattern, key))]
        return max(found) + 1 if found else 0

    inputs = count(r"model\.diffusion_model\.input_blocks\.(\d+)\.")
    downsampler = r"model\.diffusion_model\.input_blocks\.(\d+)\.0\.op\."
    levels = len({match[1] for key in keys if (match := re.match(downsampler, key))}) + 1
    vae_levels = count(r"first_stage_model\.encoder\.down\.(\d+)\.")
    if not inputs or not vae_levels:
        raise IncompatibleCheckpoint(
            "this is no StableVITON checkpoint: it holds no 'model.diffusion_model.input_blocks.…' or no "
            "'first_stage_model.encoder.…' tensors; pass the authors' .ckpt (or a safetensors file of the same keys)."
        )
    if inputs % levels:
        raise IncompatibleCheckpoint(f"{inputs} input blocks can't be spread over {levels} levels of the U-Net.")
    return Layout(levels, inputs // levels - 1, vae_levels)


def _possible_sources(target: str, layout: Layout) -> Iterator[str]:
    """Names that the rules may turn into `target`; `_rename` tells which of them it is."""
    parts = target.split(".")
    tails = [".".join(parts[start:]) for start in range(len(parts))]
    old_names = [*RESNET.items(), *VAE_RESNET.items(), *VAE_ATTENTION.items(), *MAPPER.items()]
    old_names += [("attn.c_qkv", f"attn1.to_{projection}") for projection in "qkv"]
    old_names += [("0", "linear_1"), ("2", "linear_2"), ("op", "conv"), ("norm_out", "conv_norm_out")]
    old_names += [("out.0", "conv_norm_out"), ("out.2", "conv_out")]
    tails = [
        f"{old}.{tail.rpartition('.')[2]}"
        for tail in tails
        for old, new in old_names
        if new == tail.rpartition(".")[0]
    ] + tails
    number = range(max(layout.levels * (layout.layers_per_block + 1), layout.vae_levels))
    for network in ("model.diffusion_model.", "control_model."):
        blocks = ["", "time_embed.", "cond_first_block.0."]
        blocks += [f"middle_block.{index}." for index in range(3)]
        blocks += [f"{half}put_blocks.{i}.{part}." for half in ("in", "out") for i in number for part in range(3)]
        blocks += [f"{kind}.{i}." for kind in ("warp_flow_blks", "warp_zero_convs") for i in number]
        yield from (network + block + tail for block in blocks for tail in tails)
    for half in ("encoder.", "decoder."):
        blocks = ["", "mid.block_1.", "mid.block_2.", "mid.attn_1."]
        for direction in ("down", "up"):
            blocks += [f"{direction}.{i}.{direction}sample." for i in number]
            blocks += [f"{direction}.{i}.block.{layer}." for i in number for layer in number]
        yield from (f"first_stage_model.{half}{block}{tail}" for block in blocks for tail in tails)
    yield f"first_stage_model.{target}"
    yield from ("learnable_vector", target, f"cond_stage_model.transformer.{target}")
    yield f"cond_stage_model.{target.replace('final_layer_norm', 'final_ln')}"
    if target.startswith("mapper.blocks."):
        yield from (f"cond_stage_model.mapper.resblocks.{parts[2]}.{tail}" for tail in tails)


def _rename(key: str, layout: Layout) -> list[Rename] | None:
    """Renames of one key; an empty list if it is known to be unused, None if it is unknown."""
    if key == "learnable_vector":
        return [Rename(key, "garment_encoder", "uncond_vector")]
    if key.startswith("proj_out."):
        return [Rename(key, "garment_encoder", key)]
    for prefix, rule in (
        ("model.diffusion_model.", _rename_unet),
        ("control_model.", _rename_spatial_encoder),
        ("cond_stage_model.", _rename_garment_encoder),
        ("first_stage_model.", _rename_vae),
    ):
        if key.startswith(prefix):
            return rule(key, key.removeprefix(prefix), layout)
    return None


def _rename_unet(key: str, name: str, layout: Layout) -> list[Rename] | None:
    decoder = re.fullmatch(r"output_blocks\.(\d+)\.(\d)\.(.+)", name)
    warp = re.fullmatch(r"(warp_flow_blks|warp_zero_convs)\.(\d+)\.(.+)", name)
    per_level = layout.layers_per_block + 1
    if decoder:
        level, layer = divmod(int(decoder[1]), per_level)
        part, rest = int(decoder[2]), decoder[3]
        if part == 0:
            target = _resnet(f"up_blocks.{level}.resnets.{layer}", rest)
        elif rest.startswith("conv."):
            if layer != layout.layers_per_block:
                return None
            target = f"up_blocks.{level}.upsamplers.0.{rest}"
        else:
            target = f"up_blocks.{level}.attentions.{layer}.{rest}"
    elif warp:
        level, layer = divmod(int(warp[2]), per_level)
        inner = "transformer" if warp[1] == "warp_flow_blks" else "zero_conv"
        target = f"up_blocks.{level + 1}.zero_cross_attentions.{layer}.{inner}.{warp[3]}"
    elif name.startswith("out."):
        target = {"out.0": "conv_norm_out", "out.2": "conv_out"}.get(name.rpartition(".")[0])
        target = target and f"{target}.{name.rpartition('.')[2]}"
    else:
        target = _encoder(name, layout)
    return [Rename(key, "unet", target)] if target else None


def _rename_spatial_encoder(key: str, name: str, layout: Layout) -> list[Rename] | None:
    if name.startswith("cond_first_block.0."):
        return [Rename(key, "spatial_encoder", name.replace("cond_first_block.0", "garment_conv_in"))]
    target = _encoder(name, layout)
    if target is None:
        return None
    last = layout.levels - 1  # what no feature map that is looked up depends on
    if target.startswith(("mid_block.", f"down_blocks.{last}.", f"down_blocks.{last - 1}.downsamplers.")):
        return []
    return [Rename(key, "spatial_encoder", target)]


def _encoder(name: str, layout: Layout) -> str | None:
    """The names that the U-Net's encoder and the spatial encoder share."""
    if name.startswith("time_embed."):
        layer, _, rest = name.removeprefix("time_embed.").partition(".")
        return {"0": f"time_embedding.linear_1.{rest}", "2": f"time_embedding.linear_2.{rest}"}.get(layer)
    if name.startswith("middle_block."):
        layer, _, rest = name.removeprefix("middle_block.").partition(".")
        if layer == "1":
            return f"mid_block.attentions.0.{rest}"
        return _resnet({"0": "mid_block.resnets.0", "2": "mid_block.resnets.1"}.get(layer), rest)
    block = re.fullmatch(r"input_blocks\.(\d+)\.(\d)\.(.+)", name)
    if not block:
        return None
    index, part, rest = int(block[1]), int(block[2]), block[3]
    if index == 0:
        return f"conv_in.{rest}" if part == 0 else None
    level, layer = divmod(index - 1, layout.layers_per_block + 1)
    if rest.startswith("op."):
        if layer != layout.layers_per_block:
            return None
        return f"down_blocks.{level}.downsamplers.0.{rest.replace('op.', 'conv.', 1)}"
    if part == 0:
        return _resnet(f"down_blocks.{level}.resnets.{layer}", rest)
    return f"down_blocks.{level}.attentions.{layer}.{rest}" if part == 1 else None


def _resnet(place: str | None, rest: str) -> str | None:
    layer, _, parameter = rest.rpartition(".")
    return f"{place}.{RESNET[layer]}.{parameter}" if place and layer in RESNET else None


def _rename_garment_encoder(key: str, name: str, layout: Layout) -> list[Rename] | None:
    if name.startswith("transformer.vision_model."):
        return [Rename(key, "garment_encoder", name.removeprefix("transformer."))]
    if name.startswith("final_ln."):
        return [Rename(key, "garment_encoder", name.replace("final_ln", "final_layer_norm"))]
    block = re.fullmatch(r"mapper\.resblocks\.(\d+)\.(.+)\.(weight|bias)", name)
    if not block:
        return None
    place, layer, parameter = f"mapper.blocks.{block[1]}", block[2], block[3]
    if layer == "attn.c_qkv":
        return [
            Rename(key, "garment_encoder", f"{place}.attn1.{projection}.{parameter}", part=part)
            for part, projection in enumerate(("to_q", "to_k", "to_v"))
        ]
    return [Rename(key, "garment_encoder", f"{place}.{MAPPER[layer]}.{parameter}")] if layer in MAPPER else None


def _rename_vae(key: str, name: str, layout: Layout) -> list[Rename] | None:
    if name.startswith(("quant_conv.", "post_quant_conv.")):
        return [Rename(key, "vae", name)]
    half, _, rest = name.partition(".")
    if half not in ("encoder", "decoder"):
        return None
    if rest.startswith(("conv_in.", "conv_out.")):
        return [Rename(key, "vae", name)]
    if rest.startswith("norm_out."):
        return [Rename(key, "vae", f"{half}.conv_{rest}")]
    middle = re.fullmatch(r"mid\.(block_1|block_2|attn_1)\.(\w+)\.(weight|bias)", rest)
    if middle:
        if middle[1] == "attn_1":
            layer = VAE_ATTENTION.get(middle[2])
            target = f"{half}.mid_block.attentions.0.{layer}.{middle[3]}"
            return [Rename(key, "vae", target, squeeze=True)] if layer else None
        place = f"{half}.mid_block.resnets.{int(middle[1][-1]) - 1}"
        return [Rename(key, "vae", f"{place}.{VAE_RESNET.get(middle[2], middle[2])}.{middle[3]}")]
    level = re.fullmatch(r"(down|up)\.(\d+)\.(.+)", rest)
    if not level:
        return None
    index = int(level[2]) if level[1] == "down" else layout.vae_levels - 1 - int(level[2])
    place = f"{half}.{level[1]}_blocks.{index}"
    resnet = re.fullmatch(r"block\.(\d+)\.(\w+)\.(weight|bias)", level[3])
    if resnet:
        layer = VAE_RESNET.get(resnet[2], resnet[2])
        return [Rename(key, "vae", f"{place}.resnets.{resnet[1]}.{layer}.{resnet[3]}")]
    sampler = re.fullmatch(r"(downsample|upsample)\.(conv\.\w+)", level[3])
    if sampler:
        return [Rename(key, "vae", f"{place}.{sampler[1]}rs.0.{sampler[2]}")]
    return None
