"""Losses of the try-on training: denoising, structural similarity, and the attention's correspondence."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers.training_utils import compute_snr
from torch.utils.checkpoint import checkpoint

from ...errors import InvalidInput
from ...models.attention_maps import coordinate_total_variation, expected_coordinates
from .correspondence import SEAM, correspondence_at_cells

# The authors' choice of blocks for the attention total variation loss: neither too coarse nor too fine.
FEWEST_KEYS, MOST_KEYS = 700, 3000
CHUNK_ELEMENTS = 2**25  # scores of all heads that are in memory at once: 128 MiB


def velocity(clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor, scheduler: Any) -> torch.Tensor:
    """sqrt(signal) * noise - sqrt(1 - signal) * clean (Salimans and Ho 2022, appendix D), float32.

    The same formula turns a noisy sample and its velocity into the clean one, with the velocity in the place of
    `clean` and the sample in the place of `noise`.

    Args:
        clean (`torch.Tensor`): Clean latents, (batch, channels, height, width).
        noise (`torch.Tensor`): The noise that is added to them, of the same shape.
        timesteps (`torch.Tensor`): int, (batch,).
        scheduler (`SchedulerMixin`): Scheduler with `alphas_cumprod`. (PNDM's has no `get_velocity`.)
    """
    signal = scheduler.alphas_cumprod.to(noise.device, torch.float32)[timesteps].view(-1, 1, 1, 1)
    return signal.sqrt() * noise.float() - (1 - signal).sqrt() * clean.float()


def denoising_loss(
    prediction: torch.Tensor,
    noise: torch.Tensor,
    latents: torch.Tensor,
    timesteps: torch.Tensor,
    scheduler: Any,
    *,
    weight: torch.Tensor | None = None,
    min_snr_gamma: float | None = None,
) -> torch.Tensor:
    """Squared error of what the scheduler's `prediction_type` asks the network for: the noise, or the velocity.

    Args:
        prediction (`torch.Tensor`): The network's output, (batch, channels, height, width).
        noise (`torch.Tensor`): The noise that was added, of the same shape.
        latents (`torch.Tensor`): The clean latents, of the same shape.
        timesteps (`torch.Tensor`): int, (batch,).
        scheduler (`SchedulerMixin`): Scheduler with `alphas_cumprod` and `prediction_type`.
        weight (`torch.Tensor`, *optional*):
            Weights, (batch, 1 or channels, height, width); the loss is the weighted mean. 1 by default.
        min_snr_gamma (`float`, *optional*):
            Weigh timesteps by min(SNR, gamma), as Min-SNR does (arXiv 2303.09556); 5 is usual. Off by default.

    Returns:
        `torch.Tensor`: a float32 scalar.

    Raises:
        `InvalidInput`: if the scheduler predicts something else.
    """
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        target = noise.float()
    elif kind == "v_prediction":
        target = velocity(latents, noise, timesteps, scheduler)
    else:
        raise InvalidInput(f"the scheduler's prediction_type is {kind!r}: pass 'epsilon' or 'v_prediction'.")
    error = (prediction.float() - target).square()
    if min_snr_gamma is not None:
        ratio = compute_snr(scheduler, timesteps).view(-1, 1, 1, 1)
        # the error in the clean latent is the noise's over the SNR, and the velocity's over SNR + 1
        error = error * ratio.clamp(max=min_snr_gamma) / (ratio if kind == "epsilon" else ratio + 1)
    if weight is None:
        return error.mean()
    return weighted_mean(error, weight)


def weighted_mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The mean of values by their weights, which are broadcast to them; 0 where every weight is 0."""
    weight = weight.to(values).expand_as(values)
    return (values * weight).sum() / weight.sum().clamp_min(torch.finfo(torch.float32).tiny)


def ssim_loss(result: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """1 - SSIM (Wang et al. 2004; Gaussian window of 11 x 11, sigma 1.5).

    Squared errors alone leave an edge soft whose place is uncertain, and hardly notice ripples on what should be flat;
    structural similarity asks for the truth's contrast in both.

    Args:
        result (`torch.Tensor`), truth (`torch.Tensor`): Images in [-1, 1], (batch, channels, height, width).
        weight (`torch.Tensor`): Weight of every pixel, (batch, 1, height, width).

    Returns:
        `torch.Tensor`: a float32 scalar from 0 to 2, the weighted mean.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    with torch.autocast(result.device.type, enabled=False):
        # in [0, 1]: around 0 the index would ask too much of mid greys, for it compares means by their ratio
        result, truth = ((image.float() + 1) / 2 for image in (result, truth))
        _, similarity = structural_similarity_index_measure(result, truth, data_range=1.0, return_full_image=True)
    return 1 - weighted_mean(similarity, weight)


def attention_total_variation(
    query: torch.Tensor,
    key: torch.Tensor,
    query_size: tuple[int, int],
    key_size: tuple[int, int],
    worn_mask: torch.Tensor,
) -> torch.Tensor:
    """Attention total variation loss (StableVITON, section 3.3), before its weight.

    The expected key of every query, in key cells; the absolute difference (y and x added) between vertical neighbours
    that both lie on the worn garment, averaged over such pairs of the whole batch; the same horizontally; added. The
    attention map is never materialised.

    Args:
        query (`torch.Tensor`): (batch, heads, query height * query width, head width).
        key (`torch.Tensor`): (batch, heads, key height * key width, head width).
        query_size (`tuple[int, int]`): Height and width of the decoder's map.
        key_size (`tuple[int, int]`): Height and width of the garment's map.
        worn_mask (`torch.Tensor`):
            Above 0 where the person wears the garment, (batch, 1, H, W) or (batch, H, W); resized by nearest.

    Returns:
        `torch.Tensor`: a scalar; 0 where no two neighbours lie on a garment.
    """
    coordinates, _ = expected_coordinates(query, key, key_size)
    cells = (coordinates * coordinates.new_tensor(key_size)).unflatten(1, query_size)  # (batch, h, w, 2)
    worn = F.interpolate(_with_channel(worn_mask).float(), size=query_size, mode="nearest")[:, 0] > 0
    return coordinate_total_variation(cells, worn)


def correspondence_targets(
    correspondence: torch.Tensor,
    garment_shape: tuple[int, int],
    query_size: tuple[int, int],
    worn_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Target of each query: the correspondence at its cell's centre.

    Args:
        correspondence (`torch.Tensor`):
            (batch, H, W, 2), x and y in pixels of the garment image for every pixel of the person, whole numbers
            being pixel centres; NaN, or outside of the image, where there is none.
        garment_shape (`tuple[int, int]`): Height and width of the garment image, in pixels.
        query_size (`tuple[int, int]`): Height and width of the decoder's map.
        worn_mask (`torch.Tensor`, *optional*):
            Above 0 where the correspondence counts, (batch, 1, H, W) or (batch, H, W); everywhere by default.

    Returns:
        `torch.Tensor`: (batch, queries, 2), y and x in [0, 1] of the garment's height and width; NaN where unknown.
    """
    height, width = garment_shape
    places = correspondence_at_cells(correspondence.permute(0, 3, 1, 2), query_size, SEAM * height)
    places = (places.flip(1) + 0.5) / places.new_tensor([height, width]).view(1, 2, 1, 1)
    known = ((places >= 0) & (places <= 1)).all(1, keepdim=True)  # False for NaN
    if worn_mask is not None:
        known &= F.interpolate(_with_channel(worn_mask).float(), size=query_size, mode="nearest-exact") > 0
    return places.masked_fill(~known, float("nan")).flatten(2).transpose(1, 2)


def correspondence_cross_entropy(
    query: torch.Tensor,
    key: torch.Tensor,
    key_size: tuple[int, int],
    targets: torch.Tensor,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> torch.Tensor:
    """Cross-entropy of the head-averaged attention against the true key position.

    The truth is spread over the four keys around it with bilinear weights. Only queries with a target are looked at,
    in chunks whose scores are computed again for the gradient instead of kept.

    Args:
        query (`torch.Tensor`): (batch, heads, queries, head width).
        key (`torch.Tensor`): (batch, heads, keys, head width).
        key_size (`tuple[int, int]`): Height and width of the garment's map.
        targets (`torch.Tensor`): Result of `correspondence_targets`.
        chunk_elements (`int`, *optional*): Scores that may be in memory at once.

    Returns:
        `torch.Tensor`: a scalar, in nats, averaged over the queries with a target of the whole batch; 0 without any.
    """
    known = targets.isfinite().all(-1)  # (batch, queries)
    counts = known.sum(1)
    most = int(counts.max())
    if most == 0:
        return _silent_zero(query, key)
    chosen = known.int().argsort(dim=1, descending=True, stable=True)[:, :most]  # those with a target come first
    keys, weights = _neighbours(_pick(targets, chosen).nan_to_num(0.5), key_size)
    weights = weights * known.gather(1, chosen)[..., None]
    batch, heads = query.shape[:2]
    rows = max(1, chunk_elements // (batch * heads * key.shape[2]))
    total = 0.0
    for start in range(0, most, rows):
        part = slice(start, start + rows)
        indices = chosen[:, None, part, None].expand(-1, heads, -1, query.shape[-1])
        arguments = (query.gather(2, indices), key, keys[:, part], weights[:, part])
        if torch.is_grad_enabled():
            total = total + checkpoint(_cross_entropy_sum, *arguments, use_reentrant=False, preserve_rng_state=False)
        else:
            total = total + _cross_entropy_sum(*arguments)
    return total / counts.sum()


def expected_coordinate_loss(
    query: torch.Tensor, key: torch.Tensor, key_size: tuple[int, int], targets: torch.Tensor
) -> torch.Tensor:
    """Distance |dy| + |dx| of each query's expected key from its true place, without materialising the map.

    Args:
        query, key, key_size, targets: See `correspondence_cross_entropy`.

    Returns:
        `torch.Tensor`: a scalar in [0, 2], in garment heights and widths, averaged over the queries with a target.
    """
    known = targets.isfinite().all(-1, keepdim=True)
    coordinates, _ = expected_coordinates(query, key, key_size)
    distance = (coordinates - targets.to(coordinates.dtype).masked_fill(~known, 0)).abs()
    return (distance * known).sum() / known.sum().clamp_min(1)


class RecordedAttention(NamedTuple):
    """One block's forward pass; the arguments of `AttentionRecorder.record`."""

    block: int
    query: torch.Tensor
    key: torch.Tensor
    query_size: tuple[int, int]
    key_size: tuple[int, int]


class AttentionLossRecorder:
    """An `AttentionRecorder` that keeps queries and keys of one forward pass, with their gradients, for the losses.

    Args:
        blocks (`Collection[int]`, *optional*):
            Decoder blocks to keep. By default the authors' choice: the middle block of its level, where the
            garment's map has 700 to 3000 cells; at 512 x 384 that is block 4 alone, at 32 x 24.
        blocks_per_level (`int`, *optional*, defaults to 3): Zero cross-attentions of a level, for that choice.
    """

    def __init__(self, blocks: Collection[int] | None = None, blocks_per_level: int = 3):
        self.blocks = blocks
        self.blocks_per_level = blocks_per_level
        self.records: list[RecordedAttention] = []

    def should_record(self, block: int) -> bool:
        if self.blocks is not None:
            return block in self.blocks
        return block % self.blocks_per_level == self.blocks_per_level // 2

    def record(
        self,
        block: int,
        query: torch.Tensor,
        key: torch.Tensor,
        query_size: tuple[int, int],
        key_size: tuple[int, int],
    ) -> None:
        if self.blocks is not None or FEWEST_KEYS <= key.shape[2] <= MOST_KEYS:
            self.records.append(RecordedAttention(block, query, key, query_size, key_size))

    def total_variation(self, worn_mask: torch.Tensor) -> torch.Tensor:
        """`attention_total_variation`, averaged over the recorded blocks."""
        return self._mean([attention_total_variation(*record[1:], worn_mask) for record in self.records])

    def cross_entropy(
        self, correspondence: torch.Tensor, garment_shape: tuple[int, int], worn_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`correspondence_cross_entropy`, averaged over the recorded blocks; see `correspondence_targets`."""
        return self._supervised(correspondence_cross_entropy, correspondence, garment_shape, worn_mask)

    def expected_coordinate(
        self, correspondence: torch.Tensor, garment_shape: tuple[int, int], worn_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`expected_coordinate_loss`, averaged over the recorded blocks; see `correspondence_targets`."""
        return self._supervised(expected_coordinate_loss, correspondence, garment_shape, worn_mask)

    def _supervised(
        self,
        loss: Callable[..., torch.Tensor],
        correspondence: torch.Tensor,
        garment_shape: tuple[int, int],
        worn_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        losses = []
        for _, query, key, query_size, key_size in self.records:
            targets = correspondence_targets(correspondence, garment_shape, query_size, worn_mask)
            losses.append(loss(query, key, key_size, targets))
        return self._mean(losses)

    def _mean(self, losses: list[torch.Tensor]) -> torch.Tensor:
        if not losses:
            missing = "of blocks= was recorded"
            if self.blocks is None:
                missing = f"in the middle of its level has {FEWEST_KEYS} to {MOST_KEYS} garment cells at this size"
            raise InvalidInput(f"no zero cross-attention block {missing}: name the blocks to supervise with blocks=.")
        return torch.stack(losses).mean()


def authors_blocks(up_block_types: Collection[str], layers_per_block: int, latent_shape: tuple[int, int]) -> list[int]:
    """The authors' choice of blocks, known before the network runs.

    Args:
        up_block_types (`Collection[str]`), layers_per_block (`int`): See `TryOnUNet`'s configuration.
        latent_shape (`tuple[int, int]`): Height and width of the latents.

    Returns:
        `list[int]`: indices of blocks; empty if none has 700 to 3000 garment cells.
    """
    sizes = [latent_shape]
    for _ in range(len(up_block_types) - 1):
        sizes.append(tuple((side + 1) // 2 for side in sizes[-1]))  # as a 3x3 convolution of stride 2 rounds
    blocks, first, per_level = [], 0, layers_per_block + 1
    for block_type, (height, width) in zip(up_block_types, reversed(sizes), strict=True):
        if block_type == "TryOnUpBlock2D":
            if FEWEST_KEYS <= height * width <= MOST_KEYS:
                blocks.append(first + per_level // 2)
            first += per_level
    return blocks


def _neighbours(targets: torch.Tensor, key_size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices and bilinear weights of the four keys around each target; both (batch, queries, 4)."""
    height, width = key_size
    row = (targets[..., 0] * height - 0.5).clamp(0, height - 1)
    column = (targets[..., 1] * width - 0.5).clamp(0, width - 1)
    top, left = row.floor(), column.floor()
    below, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    down, across = row - top, column - left
    indices = torch.stack([top * width + left, top * width + right, below * width + left, below * width + right], -1)
    weights = torch.stack([(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across], -1)
    return indices.long(), weights


def _cross_entropy_sum(
    query: torch.Tensor, key: torch.Tensor, keys: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    if query.dtype != torch.float64:
        query, key = query.float(), key.float()
    heads = query.shape[1]
    with torch.autocast(query.device.type, enabled=False):
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        # of the whole softmax only four entries are needed, and its sum
        logits = scores.gather(3, keys[:, None].expand(-1, heads, -1, -1)) - scores.logsumexp(-1, keepdim=True)
        probability = logits.logsumexp(dim=1) - math.log(heads)  # log of the mean over heads
        return -(probability * weights).sum()


def _pick(values: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return values.gather(1, chosen[..., None].expand(-1, -1, values.shape[-1]))


def _with_channel(mask: torch.Tensor) -> torch.Tensor:
    return mask[:, None] if mask.ndim == 3 else mask


def _silent_zero(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Zero that depends on its arguments: a batch without targets still has a gradient, of zero."""
    return (query.flatten()[0] * 0 + key.flatten()[0] * 0).to(query.dtype)
