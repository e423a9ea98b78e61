"""Places on a garment's own pattern, for cells of a body and cells of a flat garment, as positions of attention.

A key's place on the canvas says little about its place on the garment, which may lie anywhere on it. Here two small
networks say, cell by cell, which panel of a garment a body would wear there and where on that panel, and where on each
panel a flat garment's cell lies; queries and keys agree where these places agree.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

PANELS = 3  # torso, right sleeve, left sleeve
# A panel's u, v (or s, t) in widths of half a chest, about 60 pixels of a garment 192 pixels wide; places are relative
# to the panel's middle, so that half precision keeps their digits.
UNITS = ((1.0, 2.69), (2.78, 1.85), (2.78, 1.85))
MIDDLES = ((0.0, 0.5), (0.5, 0.0), (0.5, 0.0))
REACH = 0.08  # in that unit: standard deviation of the garment's places that a query looks at
FEATURES = 16  # 9 are used; a multiple of 8 suits fused attention
ABSENT = 12.0  # a panel that isn't there is worn by e ** -12 of what its logit says


class CoordinateMaps(NamedTuple):
    """What `GarmentCoordinates` says.

    Args:
        panels (`torch.Tensor`): Logits of the panels a body would wear, (batch, panels, height, width).
        worn (`torch.Tensor`): The body's places on each panel, (batch, panels, 2, height, width).
        flat (`torch.Tensor`): The flat garment's places on each panel, likewise.
        there (`torch.Tensor`): Logits of the garment's having each panel, (batch, panels).
    """

    panels: torch.Tensor
    worn: torch.Tensor
    flat: torch.Tensor
    there: torch.Tensor


class GarmentCoordinates(nn.Module):
    """Two small convolutional networks: from the body's maps, and from the garment's latent, to places on panels.

    Args:
        body_channels (`int`): Channels of the conditioning: agnostic latent, mask, DensePose latent.
        garment_channels (`int`): Channels of the garment's latent.
        widths (`tuple[int, ...]`): Channels of each level, highest resolution first.
    """

    def __init__(self, body_channels: int, garment_channels: int, widths: tuple[int, ...]):
        super().__init__()
        self.body = _HourGlass(body_channels, 3 * PANELS, widths)
        self.garment = _HourGlass(garment_channels, 2 * PANELS, widths)
        self.there = nn.Linear(widths[-1], PANELS)

    def forward(self, conditioning: torch.Tensor, garment_latents: torch.Tensor) -> CoordinateMaps:
        """
        Args:
            conditioning (`torch.Tensor`): (batch, body_channels, height, width).
            garment_latents (`torch.Tensor`): (batch, garment_channels, height', width').
        """
        body, _ = self.body(conditioning)
        garment, pooled = self.garment(garment_latents)
        return CoordinateMaps(
            body[:, :PANELS],
            body[:, PANELS:].unflatten(1, (PANELS, 2)),
            garment.unflatten(1, (PANELS, 2)),
            self.there(pooled),
        )


def coordinate_features(
    maps: CoordinateMaps, query_size: tuple[int, int], key_size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of cells whose dot product is the logarithm of a Gaussian of their places' distance.

    `-|q - k|² / 2` is `q·k - |k|² / 2` but for what is the same for all keys, so attention needs no map of its own.

    Args:
        maps (`CoordinateMaps`): Outputs of the networks, at their own resolution.
        query_size (`tuple[int, int]`), key_size (`tuple[int, int]`): Height and width of the attention's maps.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: (batch, queries, `FEATURES`) and (batch, keys, `FEATURES`).
    """
    there = F.logsigmoid(maps.there).clamp_min(-ABSENT)[:, :, None, None]
    panels, worn = _resized(maps.panels + there, query_size), _resized(maps.worn.flatten(1, 2), query_size)
    flat = _resized(maps.flat.flatten(1, 2), key_size).unflatten(1, (PANELS, 2))
    share = panels.softmax(1)[:, :, None] / REACH**2  # (batch, panels, 1, height, width)
    query = torch.cat([share * worn.unflatten(1, (PANELS, 2)), share], dim=2)
    key = torch.cat([flat, -flat.square().sum(2, keepdim=True) / 2], dim=2)
    padding = (0, FEATURES - 3 * PANELS)
    return tuple(F.pad(part.flatten(1, 2).flatten(2).transpose(1, 2), padding) for part in (query, key))


def with_coordinates(
    query: torch.Tensor,
    key: torch.Tensor,
    query_features: torch.Tensor,
    key_features: torch.Tensor,
    weight: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys whose scaled dot product is their own, plus the coordinates' by each head's weight.

    Args:
        query (`torch.Tensor`), key (`torch.Tensor`): (batch, heads, tokens, head width).
        query_features (`torch.Tensor`), key_features (`torch.Tensor`): Result of `coordinate_features`.
        weight (`torch.Tensor`): (heads,).

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: both wider by `FEATURES`; attention scales by the root of the new width.
    """
    heads, width = query.shape[1], query.shape[-1]
    scale = (width + FEATURES) ** 0.5
    features = query_features[:, None] * (weight * scale).view(1, heads, 1, 1)
    query = torch.cat([query * (scale / width**0.5), features.to(query.dtype)], dim=-1)
    key = torch.cat([key, key_features[:, None].expand(-1, heads, -1, -1).to(key.dtype)], dim=-1)
    return query, key


def attend(
    attention: nn.Module, query: torch.Tensor, key: torch.Tensor, encoder_hidden_states: torch.Tensor
) -> torch.Tensor:
    """What diffusers' `Attention` does with its queries and keys, done with others.

    Args:
        attention (`Attention`): Attention with the values and the output projection.
        query (`torch.Tensor`), key (`torch.Tensor`): (batch, heads, tokens, any width).
        encoder_hidden_states (`torch.Tensor`): Input of the values, (batch, tokens, channels).
    """
    value = attention.to_v(encoder_hidden_states).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
    hidden_states = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    return attention.to_out[1](attention.to_out[0](hidden_states))


def canonical_places(panel_maps: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Places on every panel of pixels of a flat garment, in the unit of `CoordinateMaps`.

    Args:
        panel_maps (`torch.Tensor`):
            (batch, panels, 2, 3): pixel = map @ (u, v, 1), or (s, t, 1) for a sleeve; zeros where there is none.
        pixels (`torch.Tensor`): x, y, (batch or 1, 2, height, width).

    Returns:
        `torch.Tensor`: float32, (batch, panels, 2, height, width); zeros on panels that aren't there.
    """
    maps = panel_maps.float()
    there = maps.flatten(2).any(-1)[..., None, None]
    matrix = torch.where(there, maps[..., :2], torch.eye(2, device=maps.device))
    offset = pixels[:, None].float() - maps[..., 2, None, None]
    places = torch.einsum("npij,npjhw->npihw", torch.linalg.inv(matrix), offset)
    middle, unit = (places.new_tensor(values)[:, :, None, None] for values in (MIDDLES, UNITS))
    return torch.where(there[..., None], (places - middle) * unit, 0.0)


class _HourGlass(nn.Module):
    """Convolutions at falling resolution and back, the lowest one's mean added to all of it; any height and width."""

    def __init__(self, in_channels: int, out_channels: int, widths: tuple[int, ...]):
        super().__init__()
        inputs = (in_channels + 2, *widths)  # two for where the cell lies
        self.down = nn.ModuleList(_block(inputs[level], width) for level, width in enumerate(widths))
        self.up = nn.ModuleList(
            _block(widths[level + 1] + widths[level], widths[level]) for level in reversed(range(len(widths) - 1))
        )
        self.head = nn.Conv2d(widths[0], out_channels, kernel_size=1)

    def forward(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, out_channels, height, width), and the lowest level's mean, (batch, widths[-1])."""
        batch, _, height, width = maps.shape
        rows = torch.linspace(-1, 1, height, device=maps.device, dtype=maps.dtype)
        columns = torch.linspace(-1, 1, width, device=maps.device, dtype=maps.dtype)
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(batch, -1, -1, -1)
        hidden, levels = torch.cat([maps, grid], dim=1), []
        for level, block in enumerate(self.down):
            hidden = block(hidden if level == 0 else F.avg_pool2d(hidden, 2, ceil_mode=True))
            levels.append(hidden)
        pooled = hidden.mean(dim=(2, 3))
        hidden = hidden + pooled[:, :, None, None]
        for block, skip in zip(self.up, reversed(levels[:-1]), strict=True):
            hidden = block(torch.cat([F.interpolate(hidden, size=skip.shape[-2:], mode="bilinear"), skip], dim=1))
        return self.head(hidden), pooled


def _block(narrow: int, wide: int) -> nn.Sequential:
    groups = next(count for count in (8, 4, 2, 1) if wide % count == 0)
    layers: list[nn.Module] = []
    for channels in (narrow, wide):
        layers += [nn.Conv2d(channels, wide, kernel_size=3, padding=1), nn.GroupNorm(groups, wide), nn.SiLU()]
    return nn.Sequential(*layers)


def _resized(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return maps if maps.shape[-2:] == tuple(size) else F.interpolate(maps, size=size, mode="area")
