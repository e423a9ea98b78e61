"""Where in the garment each pixel's zero cross-attention lies: expectations, maps and entropies from queries and keys.

Nothing here changes the network's result.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F

CHUNK_ELEMENTS = 2**22  # entries of maps in memory at once, where only a sum over them is wanted: 16 MiB


class AttentionRecorder(Protocol):
    """Interface of what receives a zero cross-attention block's queries and keys."""

    def should_record(self, block: int) -> bool:
        """Whether to record the block of this index in the decoder (0 is the lowest resolution)."""
        ...

    def record(
        self,
        block: int,
        query: torch.Tensor,
        key: torch.Tensor,
        query_size: tuple[int, int],
        key_size: tuple[int, int],
    ) -> None:
        """Receive the queries and keys of one forward pass.

        Args:
            block (`int`): The block's index in the decoder.
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
    query: torch.Tensor, key: torch.Tensor, key_size: tuple[int, int], chunk_elements: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and spread of each query's attention over the garment, without materialising the map.

    A fused attention whose values are the keys' coordinates: its output is the coordinates' expectation.
    The average over heads of each head's expectation is the expectation under the head-averaged map.

    Args:
        query (`torch.Tensor`): (batch, heads, queries, head width).
        key (`torch.Tensor`): (batch, heads, keys, head width).
        key_size (`tuple[int, int]`): Height and width of the key grid.
        chunk_elements (`int`, *optional*):
            Scores of all heads that may be in memory at once on a device whose attention writes them out; the queries
            are taken in parts. All at once by default.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: (batch, queries, 2), y and x in [0, 1] of the garment's height and width;
        and (batch, queries), the standard deviation in the same unit (root of the two variances' sum). float32, or
        float64 where the queries are.
    """
    batch, heads, queries = query.shape[:3]
    values = coordinate_moments(key_size, query.device, _precise(query).dtype)
    key = _precise(key)
    rows = queries if chunk_elements is None else max(1, chunk_elements // (batch * heads * key.shape[2]))
    parts = [_attend_to(part, key, values).mean(dim=1) for part in query.split(rows, dim=2)]
    moments = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)  # (batch, queries, 3)
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


def attention_entropy(
    query: torch.Tensor,
    key: torch.Tensor,
    queries: torch.Tensor | None = None,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> torch.Tensor:
    """Entropy of the head-averaged map of every query: 0 for a map on one key, log(keys) for an even one.

    Args:
        query, key, queries: See `attention_map`.
        chunk_elements (`int`, *optional*): Entries of the map that may be in memory at once.

    Returns:
        `torch.Tensor`: (batch, queries), in nats; float32, or float64 where the queries are.
    """
    if queries is None:
        queries = torch.arange(query.shape[2], device=query.device)
    rows = max(1, chunk_elements // (query.shape[0] * key.shape[2]))
    parts = [torch.special.entr(attention_map(query, key, part)).sum(-1) for part in queries.split(rows)]
    return torch.cat(parts, dim=1) if parts else query.new_zeros(query.shape[0], 0, dtype=_precise(query).dtype)


def coordinate_total_variation(cells: torch.Tensor, worn: torch.Tensor) -> torch.Tensor:
    """Total variation of the attended coordinates over the worn garment (StableVITON, section 3.3).

    The absolute difference (y and x added) between vertical neighbours that both lie on the worn garment, averaged
    over such pairs of the whole batch; the same horizontally; added.

    Args:
        cells (`torch.Tensor`): Expected coordinates in key cells, (batch, height, width, 2).
        worn (`torch.Tensor`): bool, (batch, height, width).

    Returns:
        `torch.Tensor`: a scalar; 0 where no two neighbours lie on a garment.
    """
    total = cells.new_zeros(())
    for axis in (1, 2):
        length = worn.shape[axis] - 1
        pairs = worn.narrow(axis, 1, length) & worn.narrow(axis, 0, length)
        total = total + (cells.diff(dim=axis).abs().sum(-1) * pairs).sum() / pairs.sum().clamp_min(1)
    return total


def _precise(tokens: torch.Tensor) -> torch.Tensor:
    # float32 even where the network runs in half precision: a coordinate is worth more than three digits
    return tokens if tokens.dtype == torch.float64 else tokens.float()
