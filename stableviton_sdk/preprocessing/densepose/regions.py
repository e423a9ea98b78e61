"""Anchors, box regression, and pooling of feature maps at boxes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import ops

ANCHOR_RATIOS = (0.5, 1.0, 2.0)  # height to width
LARGEST_DELTA = math.log(1000.0 / 16)  # a box grows by at most this factor, so that exp() can't overflow


def anchors_at(indices: Tensor, columns: int, stride: int, size: int) -> Tensor:
    """Boxes of anchors, (N, 4).

    Args:
        indices (`torch.Tensor`): Indices of the anchors in the order rows, columns, ratios, (N,).
        columns (`int`): Width of the feature map.
        stride (`int`): Image pixels per cell of the feature map.
        size (`int`): Side of a square anchor in image pixels.
    """
    ratios = torch.tensor(ANCHOR_RATIOS, device=indices.device)
    widths = size / ratios.sqrt()
    half = torch.stack((widths, widths * ratios), dim=1)[indices % len(ANCHOR_RATIOS)] / 2
    position = indices // len(ANCHOR_RATIOS)
    centres = torch.stack((position % columns, position // columns), dim=1) * float(stride)
    return torch.cat((centres - half, centres + half), dim=1)


def apply_deltas(deltas: Tensor, boxes: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Boxes moved and scaled by a network's deltas, (N, 4), parametrised as in Faster R-CNN (arXiv 1506.01497).

    Args:
        deltas (`torch.Tensor`): Shifts of the centre and logarithms of the scales, (N, 4).
        boxes (`torch.Tensor`): (N, 4).
        weights (`tuple[float, float, float, float]`): Divisors of the deltas.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + 0.5 * sides
    deltas = deltas / torch.tensor(weights, device=deltas.device)
    centres = centres + deltas[:, :2] * sides
    half = 0.5 * sides * deltas[:, 2:].clamp(max=LARGEST_DELTA).exp()
    return torch.cat((centres - half, centres + half), dim=1)


def clip_boxes(boxes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Boxes clipped to an image, (N, 4).

    Args:
        boxes (`torch.Tensor`): (N, 4).
        shape (`tuple[int, int]`): Height and width of the image.
    """
    height, width = shape
    limit = torch.tensor((width, height, width, height), device=boxes.device, dtype=boxes.dtype)
    return boxes.clamp(min=0).minimum(limit)


def usable(boxes: Tensor) -> Tensor:
    """Mask (N,) of the boxes that are neither empty (outside the image) nor infinite (half precision overflowed)."""
    return (boxes[:, 2:] > boxes[:, :2]).all(dim=1) & torch.isfinite(boxes).all(dim=1)


def suppress(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    """Indices of the boxes that non-maximum suppression keeps, best first.

    Args:
        boxes (`torch.Tensor`): (N, 4).
        scores (`torch.Tensor`): (N,).
        overlap (`float`): Intersection over union above which the box of the lower score is dropped.
    """
    return with_cpu_fallback(ops.nms, boxes, scores, iou_threshold=overlap)


def pool(feature: Tensor, boxes: Tensor, size: int, stride: int) -> Tensor:
    """Features at boxes, float32, (N, C, size, size): ROIAlign, not aligned.

    Args:
        feature (`torch.Tensor`): (1, C, h, w).
        boxes (`torch.Tensor`): (N, 4) in image pixels.
        size (`int`): Side of the result.
        stride (`int`): Image pixels per cell of the feature map.
    """
    rois = torch.cat((boxes.new_zeros(len(boxes), 1), boxes), dim=1)
    return with_cpu_fallback(
        ops.roi_align, feature.float(), rois, output_size=size, spatial_scale=1 / stride, sampling_ratio=2
    )


def pool_from_levels(features: Sequence[Tensor], boxes: Tensor, size: int, strides: Sequence[int]) -> Tensor:
    """Features at boxes, (N, C, size, size), each from the level for its size (equation 1 of arXiv 1612.03144).

    Args:
        features (`Sequence[torch.Tensor]`): p2..p5, each (1, C, h, w); p4 is for boxes of 224 pixels.
        boxes (`torch.Tensor`): (N, 4) in image pixels.
        size (`int`): Side of the result.
        strides (`Sequence[int]`): Image pixels per cell of each feature map.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    levels = torch.floor(4 + torch.log2(sides.prod(dim=1).sqrt() / 224 + 1e-8)).clamp(2, 5) - 2
    pooled = boxes.new_empty((len(boxes), features[0].shape[1], size, size))
    for level, feature in enumerate(features):
        chosen = torch.nonzero(levels == level).flatten()
        if len(chosen):
            pooled[chosen] = pool(feature, boxes[chosen], size, strides[level])
    return pooled


def with_cpu_fallback(operator: Callable[..., Tensor], *tensors: Tensor, **options: Any) -> Tensor:
    """Result of a torchvision operator, computed on the CPU if the tensors' device doesn't implement it."""
    try:
        return operator(*tensors, **options)
    except NotImplementedError:
        return operator(*(tensor.cpu() for tensor in tensors), **options).to(tensors[0].device)
