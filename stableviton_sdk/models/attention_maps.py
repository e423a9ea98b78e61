"""Watching zero cross-attention: where in the garment does every pixel look?

Nothing here touches the network's result. A recorder is handed queries and keys; what it makes of them is its own.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F


class AttentionRecorder(Protocol):
    """What a zero cross-attention block shows its queries and keys to."""

    def wants(self, block: int) -> bool:
        """Whether to record the block at this place of the decoder (0 is the lowest resolution)."""
        ...

    def record(
        self,
        block: int,
        query: torch.Tensor,
        key: torch.Tensor,
        query_size: tuple[int, int],
        key_size: tuple[int, int],
    ) -> None:
        """Take note of one forward pass.

        Args:
            block (`int`): The block's place in the decoder.
            query (`torch.Tensor`): (batch, heads, query height * query width, head width).
            key (`torch.Tensor`): (batch, heads, key height * key width, head width).
            query_size (`tuple[int, int]`): Height and width of the decoder's map.
            key_size (`tuple[int, int]`): Height and width of the garment's map.
        """
        ...


def project_query_and_key(
    attention: torch.nn.Module, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Project tokens as diffusers' `Attention` does; both results are (batch, heads, tokens, head width)."""
    heads = attention.heads

    def split(tokens: torch.Tensor) -> torch.Tensor:
        return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)

    return split(attention.to_q(hidden_states)), split(attention.to_k(encoder_hidden_states))


def expected_coordinates(
    query: torch.Tensor, key: torch.Tensor, key_size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each query looks on average, and how far its attention spreads, without materialising the map.

    A fused attention whose values are the keys' coordinates: its output is the coordinates' expectation.
    The average over heads of each head's expectation is the expectation under the head-averaged map.

    Args:
        query (`torch.Tensor`): (batch, heads, queries, head width).
        key (`torch.Tensor`): (batch, heads, keys, head width).
        key_size (`tuple[int, int]`): Height and width of the key grid.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: (batch, queries, 2), y and x in [0, 1] of the garment's height and width;
        and (batch, queries), the standard deviation in the same unit (root of the two variances' sum). float32, or
        float64 where the queries are.
    """
    values = coordinate_moments(key_size, query.device, _precise(query).dtype)
    moments = _attend_to(query, key, values).mean(dim=1)  # (batch, queries, 3)
    mean = moments[..., :2]
    variance = moments[..., 2] - mean.square().sum(-1)
    return mean, variance.clamp_min(0).sqrt()


def coordinate_moments(
    key_size: tuple[int, int], device: torch.device, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """(keys, 3): y, x and y² + x² of every key's centre, in [0, 1] of the grid's height and width."""
    height, width = key_size
    rows = (torch.arange(height, device=device, dtype=dtype) + 0.5) / height
    columns = (torch.arange(width, device=device, dtype=dtype) + 0.5) / width
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([y, x, y.square() + x.square()], dim=-1).reshape(-1, 3)


def _attend_to(query: torch.Tensor, key: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    # Fused kernels want values as wide as the head: pad the few values, or the head where it's narrower.
    head_width, width = query.shape[-1], values.shape[-1]
    scale = head_width**-0.5
    query, key = _precise(query), _precise(key)
    if head_width < width:
        query, key = (F.pad(tokens, (0, width - head_width)) for tokens in (query, key))
    padded = F.pad(values, (0, query.shape[-1] - width)).expand(*key.shape[:2], -1, -1)
    with torch.autocast(query.device.type, enabled=False):
        return F.scaled_dot_product_attention(query, key, padded, scale=scale)[..., :width]


def attention_map(query: torch.Tensor, key: torch.Tensor, queries: torch.Tensor | None = None) -> torch.Tensor:
    """The head-averaged map itself, one head at a time: memory is one (queries, keys) matrix.

    Args:
        query (`torch.Tensor`): (batch, heads, queries, head width).
        key (`torch.Tensor`): (batch, heads, keys, head width).
        queries (`torch.Tensor`, *optional*): Indices of the queries wanted; all by default.

    Returns:
        `torch.Tensor`: (batch, queries, keys), float32, or float64 where the queries are; each row sums to 1.
    """
    if queries is not None:
        query = query[:, :, queries]
    scale, heads = query.shape[-1] ** -0.5, query.shape[1]
    total = None
    with torch.autocast(query.device.type, enabled=False):
        for head in range(heads):
            scores = _precise(query[:, head]) @ _precise(key[:, head]).transpose(-1, -2)
            share = (scores * scale).softmax(dim=-1) / heads
            total = share if total is None else total + share
    return total


def _precise(tokens: torch.Tensor) -> torch.Tensor:
    # float32 even where the network runs in half precision: a coordinate is worth more than three digits
    return tokens if tokens.dtype == torch.float64 else tokens.float()
