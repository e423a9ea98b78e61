"""The compact network that sees a rendered figure's parse, joints and DensePose labels at once, and its losses."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ...preprocessing.labels import CIHP
from .body_data import INPUT_SHAPE

PARSING_LABELS, DENSEPOSE_LABELS, JOINTS = len(CIHP), 25, 25
JOINTS_WEIGHT = 0.1  # their cross-entropy is over thousands of cells, the labels' over tens of labels


class BodyNetwork(nn.Module):
    """Convolutions down to 1/32 of the size and up again, with a head for each of the three answers.

    Args:
        widths (`Sequence[int]`, *optional*, defaults to `(16, 32, 48, 80, 104)`): Channels at 1/2, 1/4 ... 1/32.
        blocks (`Sequence[int]`, *optional*, defaults to `(1, 1, 1, 1)`):
            Residual blocks on the way down, at 1/4 ... 1/32.
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 48, 80, 104), blocks: Sequence[int] = (1, 1, 1, 1)):
        super().__init__()
        first, second = widths[:2]
        self.stem: nn.Sequential = _block(3, first, size=4, stride=2, padding=1)
        self.down: nn.ModuleList = nn.ModuleList(
            nn.Sequential(_block(narrow, wide, stride=2), *(_Residual(wide) for _ in range(count)))
            for (narrow, wide), count in zip(itertools.pairwise(widths), blocks, strict=True)
        )
        self.up: nn.ModuleList = nn.ModuleList(
            nn.Conv2d(wide, narrow, 1) for narrow, wide in itertools.pairwise(widths[1:])
        )
        self.merge: nn.ModuleList = nn.ModuleList(_Residual(width) for width in widths[1:-1])
        self.to_fine: nn.Conv2d = nn.Conv2d(second, first, 1)
        self.labels: nn.Sequential = nn.Sequential(
            _block(first, 24), nn.Conv2d(24, PARSING_LABELS + DENSEPOSE_LABELS, 1)
        )
        self.places: nn.Conv2d = nn.Conv2d(second, JOINTS, 1)
        self.missing: nn.Linear = nn.Linear(widths[-1], JOINTS)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        Args:
            image (`torch.Tensor`): RGB in [0, 255], float, (N, 3, 256, 192).

        Returns:
            `tuple[torch.Tensor, torch.Tensor, torch.Tensor]`: logits of the CIHP labels, (N, 20, 128, 96), of the
            DensePose labels, (N, 25, 128, 96), and of every joint's place, (N, 25, 64 * 48 + 1), row by row; the
            last one means that the joint isn't to be seen.
        """
        fine = self.stem(image / 127.5 - 1)  # (N, 16, 128, 96)
        levels, x = [], fine
        for down in self.down:
            x = down(x)
            levels.append(x)
        missing = self.missing(x.mean(dim=(2, 3)))
        for up, merge, skip in zip(reversed(self.up), reversed(self.merge), reversed(levels[:-1]), strict=True):
            x = merge(_twice(up(x)) + skip)
        labels = self.labels(_twice(self.to_fine(x)) + fine)
        joints = torch.cat([self.places(x).flatten(2), missing[:, :, None]], dim=2)
        return labels[:, :PARSING_LABELS], labels[:, PARSING_LABELS:], joints


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.first = _block(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.second(self.first(x)))


def _block(narrow: int, wide: int, size: int = 3, stride: int = 1, padding: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(narrow, wide, size, stride, padding, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(wide), nn.ReLU(inplace=True))


def _twice(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def collate(items: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Make a batch of items of `RenderedFigures`: `image` float, (N, 3, H, W); the rest as it is, stacked."""
    batch = {
        name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0] if name != "position"
    }
    batch["image"] = batch["image"].permute(0, 3, 1, 2).float()
    return batch


def body_loss(network: BodyNetwork, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Cross-entropies of labels and joints.

    Args:
        network (`BodyNetwork`): The network, in training.
        batch (`dict[str, torch.Tensor]`): Result of `collate`.

    Returns:
        `dict[str, torch.Tensor]`: `loss`, and its parts.
    """
    parsing, densepose, joints = (logits.float() for logits in network(batch["image"]))
    parts = {
        "parsing": label_loss(parsing, batch["parsing"]),
        "densepose": label_loss(densepose, batch["densepose"]),
        "joints": joint_loss(joints, batch["keypoints"]),
    }
    return {"loss": parts["parsing"] + parts["densepose"] + JOINTS_WEIGHT * parts["joints"], **parts}


def label_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of every cell against all the pixels under it, so that a cell knows how much of it is what.

    Args:
        logits (`torch.Tensor`): (N, L, H / 2, W / 2).
        labels (`torch.Tensor`): uint8, (N, H, W).
    """
    below = F.pixel_unshuffle(labels[:, None], 2).long()  # (N, 4, H / 2, W / 2)
    return (logits.logsumexp(dim=1) - logits.gather(1, below).mean(dim=1)).mean()


def joint_loss(logits: torch.Tensor, keypoints: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy against the cells around each joint, in bilinear shares, or against "not to be seen".

    Args:
        logits (`torch.Tensor`): (N, 25, cells + 1).
        keypoints (`torch.Tensor`): float, (N, 25, 3) as x, y in pixels of the image, and confidence.
    """
    height, width = INPUT_SHAPE[0] // 4, INPUT_SHAPE[1] // 4
    place = ((keypoints[..., :2] + 0.5) / 4 - 0.5).clamp(min=0)  # pixel centres -> cell centres
    limit = place.new_tensor([width - 1, height - 1])
    place = place.minimum(limit)
    corner = place.floor().minimum(limit - 1)
    share = place - corner
    corner = corner.long()
    logs = logits.log_softmax(dim=2)
    first = corner[..., 1] * width + corner[..., 0]
    likely = 0.0
    for down in (0, 1):
        for right in (0, 1):
            weight = (share[..., 0] if right else 1 - share[..., 0]) * (share[..., 1] if down else 1 - share[..., 1])
            likely = likely + weight * logs.gather(2, (first + down * width + right)[..., None])[..., 0]
    return -torch.where(keypoints[..., 2] > 0, likely, logs[..., -1]).mean()
