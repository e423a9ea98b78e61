"""The networks' layers for inference: what diffusers' compute, without the work that changes nothing.

A context of one token gets all of a cross-attention's weight, so that its result is `to_out(to_v(token))`, the same
for every pixel: queries, keys, scores and the norm before them are left out. So are divisions by 1, copies between
memory layouts, and 1x1 convolutions where a matrix product does the same. Batches whose entries differ in their token
only, as guidance's branches do, share all that comes before the first cross-attention.

Only leaves are called as modules (convolutions, linear layers, norms), so hooks and adapters on them work.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.models.activations import GEGLU
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_blocks import (
    CrossAttnDownBlock2D,
    CrossAttnUpBlock2D,
    DownBlock2D,
    UNetMidBlock2DCrossAttn,
    UpBlock2D,
)
from torch import nn

from .attention_maps import AttentionRecorder, project_query_and_key
from .garment_coordinates import CoordinateMaps
from .packing import convolve, is_hooked, multiply, project
from .step_cache import StepCache
from .up_block import TryOnUpBlock2D
from .zero_cross_attention import ZeroCrossAttention

BLOCKS = (DownBlock2D, CrossAttnDownBlock2D, UNetMidBlock2DCrossAttn, UpBlock2D, CrossAttnUpBlock2D, TryOnUpBlock2D)

MANY_TOKENS = 512


def runs_lean(network: nn.Module) -> bool:
    """Whether a network consists of layers that can be run here, and nothing hangs on those that are passed by.

    Hooks on whole blocks (group offloading by blocks, a device map) and compiled blocks are passed by.
    """
    if network.training:
        return False
    blocks = [
        *network.down_blocks,
        *getattr(network, "up_blocks", ()),
        *filter(None, [getattr(network, "mid_block", None)]),
    ]
    if any(type(block) not in BLOCKS for block in blocks):
        return False
    return not any(is_hooked(part) for part in network.modules() if part is not network and any(part.children()))


def repeat_to(tensor: torch.Tensor, rows: int) -> torch.Tensor:
    """A batch, repeated as a whole until it has as many entries."""
    return tensor if len(tensor) == rows else tensor.repeat(rows // len(tensor), *[1] * (tensor.ndim - 1))


def resnet(block: ResnetBlock2D, hidden_states: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """`ResnetBlock2D`, of the time embedding after its activation, (1, channels)."""
    residual = hidden_states
    hidden_states = convolve(block.conv1, F.silu(block.norm1(hidden_states), inplace=True))
    hidden_states += block.time_emb_proj(time)[:, :, None, None]
    if block.conv_shortcut is not None:
        residual = pointwise(block.conv_shortcut, residual)
    return convolve(block.conv2, F.silu(block.norm2(hidden_states), inplace=True), residual)


def transformer(module: Transformer2DModel, hidden_states: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """`Transformer2DModel` with a context of one token, (rows, 1, channels), where the map may have fewer rows."""
    layer, (height, width) = module.transformer_blocks[0], hidden_states.shape[-2:]
    tokens = _tokens(pointwise(module.proj_in, module.norm(hidden_states)))
    tokens = attention(layer.attn1, layer.norm1(tokens), residual=tokens)
    attended = project(layer.attn2.to_out[0], project(layer.attn2.to_v, context))
    tokens = repeat_to(tokens, len(context)) + attended
    tokens = feed_forward(layer.ff, layer.norm3(tokens), tokens)
    return pointwise(module.proj_out, _map(tokens, height, width), repeat_to(hidden_states, len(context)))


def zero_cross_attention(
    module: ZeroCrossAttention,
    hidden_states: torch.Tensor,
    garment_features: torch.Tensor,
    block: int,
    attention_recorder: AttentionRecorder | None,
    coordinates: CoordinateMaps | None,
) -> torch.Tensor:
    """`ZeroCrossAttention`; its own way where it has positions or coordinates, as only small networks do."""
    if module.positions or coordinates is not None:
        return module(hidden_states, garment_features, block, attention_recorder, coordinates)
    layer, (height, width) = module.transformer.transformer_blocks[0], hidden_states.shape[-2:]
    garment_size, garment = garment_features.shape[-2:], _tokens(garment_features)
    tokens = _tokens(pointwise(module.transformer.proj_in, module.transformer.norm(hidden_states)))
    tokens = attention(layer.attn1, layer.norm1(tokens), residual=tokens)
    query_tokens = layer.norm2(tokens)
    if attention_recorder is not None and attention_recorder.should_record(block):
        query, key = project_query_and_key(layer.attn2, query_tokens, garment)
        attention_recorder.record(block, query, key, (height, width), tuple(garment_size))
    tokens = attention(layer.attn2, query_tokens, garment, residual=tokens)
    tokens = feed_forward(layer.ff, layer.norm3(tokens), tokens)
    attended = pointwise(module.transformer.proj_out, _map(tokens, height, width), hidden_states)
    return pointwise(module.zero_conv, attended, hidden_states)


def attention(
    layer: Attention, tokens: torch.Tensor, context: torch.Tensor | None = None, *, residual: torch.Tensor
) -> torch.Tensor:
    """`Attention` of tokens to each other, or to a context, and a residual added to it.

    By the layer's own processor if it isn't the usual one.
    """
    if type(layer.processor) is not AttnProcessor2_0:
        return layer(tokens, encoder_hidden_states=context).add_(residual)
    context = tokens if context is None else context

    def split(projected: torch.Tensor) -> torch.Tensor:
        return projected.unflatten(-1, (layer.heads, -1)).transpose(1, 2)

    query, key, value = (
        split(project(*pair)) for pair in ((layer.to_q, tokens), (layer.to_k, context), (layer.to_v, context))
    )
    return project(layer.to_out[0], attend(query, key, value).transpose(1, 2).flatten(2), residual)


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Scaled dot-product attention, (batch, heads, tokens, head width).

    A CPU multiplies matrices of bfloat16 faster than its fused attention does: there, of many tokens, head by head.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or query.shape[2] < MANY_TOKENS:
        return F.scaled_dot_product_attention(query, key, value)
    result = query.new_empty(len(query), query.shape[2], query.shape[1], value.shape[-1]).transpose(1, 2)
    for entry, head in itertools.product(range(len(query)), range(query.shape[1])):
        keys = (key[entry, head] * query.shape[-1] ** -0.5).transpose(0, 1)
        torch.mm((query[entry, head] @ keys).softmax(dim=-1), value[entry, head], out=result[entry, head])
    return result


def feed_forward(layer: FeedForward, tokens: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """`FeedForward`, and a residual added to it."""
    if type(layer.net[0]) is not GEGLU:
        return layer(tokens).add_(residual)
    values, gates = project(layer.net[0].proj, tokens).chunk(2, dim=-1)
    return project(layer.net[2], F.gelu(gates).mul_(values), residual)


def pointwise(
    convolution: nn.Module, hidden_states: torch.Tensor, residual: torch.Tensor | None = None
) -> torch.Tensor:
    """A 1x1 convolution, and a residual added to it; a matrix product where the map's channels lie together."""
    plain = type(convolution) is nn.Conv2d and not is_hooked(convolution) and not torch.is_grad_enabled()
    if not plain or not hidden_states.is_contiguous(memory_format=torch.channels_last):
        result = convolution(hidden_states)
        return result if residual is None else result.add_(residual)
    pixels = hidden_states.permute(0, 2, 3, 1)
    residual = None if residual is None else residual.permute(0, 2, 3, 1)
    weight = convolution.weight.flatten(1)
    return multiply(pixels, weight, convolution.bias, residual).permute(0, 3, 1, 2)


def _tokens(hidden_states: torch.Tensor) -> torch.Tensor:
    """A map's pixels as tokens: (batch, height * width, channels)."""
    return hidden_states.permute(0, 2, 3, 1).flatten(1, 2)


def _map(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Tokens as a map again, whose channels lie together in memory."""
    return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)


def encode(
    network: nn.Module,
    hidden_states: torch.Tensor,
    time: torch.Tensor,
    context: torch.Tensor,
    count: int | None = None,
) -> list[torch.Tensor]:
    """Maps of a network's encoder, from its first convolution's on, highest resolution first.

    Args:
        network (`TryOnUNet` or `SpatialEncoder`): Whose `down_blocks` they are.
        hidden_states (`torch.Tensor`): Result of the first convolution.
        time (`torch.Tensor`): Time embedding after its activation, (1, channels).
        context (`torch.Tensor`): One token, (rows, 1, channels).
        count (`int`, *optional*): How many maps; all by default.
    """
    maps = [hidden_states]
    for block in network.down_blocks:
        transformers = block.attentions if hasattr(block, "attentions") else [None] * len(block.resnets)
        for layer, module in zip(block.resnets, transformers, strict=True):
            if len(maps) == count:
                return maps
            hidden_states = resnet(layer, hidden_states, time)
            if module is not None:
                hidden_states = transformer(module, hidden_states, context)
            maps.append(hidden_states)
        for sampler in block.downsamplers or ():
            if len(maps) == count:
                return maps
            hidden_states = convolve(sampler.conv, hidden_states)
            maps.append(hidden_states)
    return maps


def middle(
    block: UNetMidBlock2DCrossAttn, hidden_states: torch.Tensor, time: torch.Tensor, context: torch.Tensor
) -> torch.Tensor:
    """The block between encoder and decoder."""
    hidden_states = resnet(block.resnets[0], hidden_states, time)
    for module, layer in zip(block.attentions, block.resnets[1:], strict=True):
        hidden_states = resnet(layer, transformer(module, hidden_states, context), time)
    return hidden_states


def decode(
    network: nn.Module,
    hidden_states: torch.Tensor,
    maps: list[torch.Tensor],
    garment_features: Sequence[torch.Tensor],
    coordinates: CoordinateMaps | None,
    time: torch.Tensor,
    context: torch.Tensor,
    attention_recorder: AttentionRecorder | None = None,
    step_cache: StepCache | None = None,
) -> torch.Tensor:
    """The decoder of a `TryOnUNet`, all of it, or with fewer maps than it has layers its last ones.

    Args:
        network (`TryOnUNet`): Whose `up_blocks` it is.
        hidden_states (`torch.Tensor`): Where the first of the layers begins.
        maps (`list[torch.Tensor]`): The encoder's, one for each layer, highest resolution first.
        garment_features (`Sequence[torch.Tensor]`): The spatial encoder's maps, highest resolution first.
        coordinates (`CoordinateMaps`, *optional*): The spatial encoder's, where it makes any.
        time (`torch.Tensor`), context (`torch.Tensor`): As for `encode`.
        attention_recorder (`AttentionRecorder`, *optional*): Receives the queries and keys of zero cross-attentions.
        step_cache (`StepCache`, *optional*): Keeps what enters the layers that later steps begin at.
    """
    layers = [(block, index) for block in network.up_blocks for index in range(len(block.resnets))]
    if coordinates is not None:
        coordinates = CoordinateMaps(*(repeat_to(part, len(context)) for part in coordinates))
    blocks = -1  # of zero cross-attention, counted
    for number, (block, index) in enumerate(layers):
        remaining = len(layers) - number
        blocks += isinstance(block, TryOnUpBlock2D)
        if remaining > len(maps):
            continue
        if step_cache is not None and remaining == step_cache.depth:
            step_cache.hidden_states = hidden_states
        if isinstance(block, TryOnUpBlock2D):
            features = repeat_to(garment_features[-1 - blocks], len(context))
            module = block.zero_cross_attentions[index]
            hidden_states = zero_cross_attention(
                module, hidden_states, features, blocks, attention_recorder, coordinates
            )
        skip = repeat_to(maps[remaining - 1], len(hidden_states))
        hidden_states = resnet(block.resnets[index], torch.cat([hidden_states, skip], dim=1), time)
        if hasattr(block, "attentions"):
            hidden_states = transformer(block.attentions[index], hidden_states, context)
        if index == len(block.resnets) - 1 and block.upsamplers is not None:
            size = maps[remaining - 2].shape[-2:]
            hidden_states = convolve(block.upsamplers[0].conv, F.interpolate(hidden_states, size=size, mode="nearest"))
    return hidden_states
