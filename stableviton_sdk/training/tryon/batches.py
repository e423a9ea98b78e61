"""Items stacked to batches, in processes that read data: no network is imported here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ...errors import InvalidInput
from ..loop.dataloader import stack_images

IMAGES = ("person", "garment", "agnostic", "densepose")
LATENTS = ("latents", "garment_latents", "conditioning")

Batch = dict[str, Any]


def check_item(item: Any, shape: tuple[int, int], needed: Sequence[str] = ()) -> None:
    """Refuse a data set whose items can't be trained on.

    Args:
        item: The data set's first item.
        shape (`tuple[int, int]`): Height and width that its images must have.
        needed (`Sequence[str]`, *optional*): What the losses need beside the images; see `collate`.

    Raises:
        `InvalidInput`: naming everything that doesn't fit.
    """
    if not isinstance(item, Mapping):
        raise InvalidInput(f"the data set's items are {type(item).__name__}s: they must be dictionaries of arrays.")
    problems = []
    for name in (*IMAGES, "mask", *needed):
        value = item.get(name)
        kind, tail = (np.uint8, (3,)) if name in IMAGES else (np.bool_, ())
        kind, expected = {
            "correspondence": (np.float32, (*shape, 2)),
            "panel": (np.uint8, shape),
            "panel_maps": (np.float32, (3, 2, 3)),
        }.get(name, (kind, (*shape, *tail)))
        if value is None:
            problems.append(f"{name} is missing")
        elif not isinstance(value, np.ndarray) or value.dtype != kind or value.shape != expected:
            found = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
            problems.append(f"{name} is {found} instead of {np.dtype(kind)} {expected}")
    if problems:
        raise InvalidInput(f"the data set's items can't be trained on: {'; '.join(problems)}.")


def collate(items: Sequence[Mapping[str, Any]], wanted: Sequence[str] = ()) -> Batch:
    """Stack items to tensors.

    Args:
        items (`Sequence[Mapping[str, Any]]`): Result of `EpochShuffle`.
        wanted (`Sequence[str]`, *optional*):
            Which of `worn_mask`, `correspondence`, `panel` and `panel_maps` to take along.

    Returns:
        `dict[str, Any]`: images, float32 (batch, 3, H, W) in [-1, 1], contiguous; `mask` and `worn_mask`, bool
        (batch, 1, H, W); `correspondence`, float32 (batch, H, W, 2); `positions`, int64 (batch,); `panel`, uint8
        (batch, H, W), and `panel_maps`, float32 (batch, 3, 2, 3), as `data.synthetic.layout` makes them.
    """
    batch: Batch = {"positions": torch.tensor([item["position"] for item in items])}
    for name in IMAGES:
        batch[name] = stack_images(item[name] for item in items)
    for name in ("mask", *wanted):
        batch[name] = torch.from_numpy(np.stack([item[name] for item in items]))
        if name in ("mask", "worn_mask"):
            batch[name] = batch[name][:, None]
    return batch


def collate_encoded(items: Sequence[Mapping[str, Any]], garment_shape: tuple[int, int]) -> Batch:
    """Stack items of a `LatentCache` to a batch as `encode` returns it.

    Args:
        items (`Sequence[Mapping[str, Any]]`): Result of `EpochShuffle`.
        garment_shape (`tuple[int, int]`): Height and width of the garment's image, whose pixels coordinates are.
    """
    batch: Batch = {"positions": torch.tensor([item["position"] for item in items])}
    for name in items[0]:
        if name not in ("position", "garment"):
            batch[name] = torch.from_numpy(np.stack([item[name] for item in items]))
    batch |= {name: batch[name].float() for name in LATENTS}
    batch["garment"] = stack_images(item["garment"] for item in items)
    batch["garment_shape"] = torch.tensor(garment_shape)
    return batch
