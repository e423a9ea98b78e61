"""Between pictures and tensors, and back into the photo."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from ..preprocessing.framing import feather_mask, paste_back
from ..preprocessing.inputs import TryOnInputs


def finish(
    arrays: np.ndarray, inputs: list[TryOnInputs], *, repaint: bool, feather: float, output_type: str
) -> list[Image.Image] | list[np.ndarray] | list[torch.Tensor] | np.ndarray | torch.Tensor:
    """Put decoded pictures back into their photos.

    Args:
        arrays (`np.ndarray`): float, (N, H, W, 3) in [0, 1].
        inputs (`list[TryOnInputs]`): One for each picture.
        repaint (`bool`), feather (`float`), output_type (`str`): As for the call.
    """
    images: list[Any] = []
    for array, entry in zip(arrays, inputs, strict=True):
        size = (array.shape[1], array.shape[0])
        if output_type != "pil" and entry.photo.size == entry.frame.size == size:
            images.append(_blend_exactly(array, entry, feather if repaint else None))  # nothing to resample
            continue
        result = Image.fromarray((array * 255).round().astype(np.uint8))
        result = paste_back(entry.photo, entry.frame, result, entry.mask if repaint else None, feather=feather)
        images.append(result if output_type == "pil" else np.asarray(result, dtype=np.float32) / 255)
    if output_type == "pt":
        images = [torch.from_numpy(image).permute(2, 0, 1) for image in images]
    if output_type == "pil" or len({image.shape for image in images}) > 1:
        return images
    return torch.stack(images) if output_type == "pt" else np.stack(images)


def to_tensor(picture: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """RGB picture to (3, H, W) in [-1, 1].

    Contiguous: in channels-last order group norm on the CPU loses three digits on flat regions such as the grey one.
    """
    array = np.asarray(resize(picture, size), dtype=np.float32)
    return torch.from_numpy(array / 127.5 - 1.0).permute(2, 0, 1).contiguous()


def resize(
    picture: Image.Image, size: tuple[int, int], resample: Image.Resampling = Image.Resampling.LANCZOS
) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, resample)


def resize_mask(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    if mask.size == size:
        return mask
    return mask.resize(size, Image.Resampling.BILINEAR).point(lambda value: 255 if value >= 128 else 0)


def _blend_exactly(array: np.ndarray, entry: TryOnInputs, feather: float | None) -> np.ndarray:
    """The paste-back without rounding to 8 bits, for callers who want numbers."""
    if feather is None:
        return array
    photo = np.asarray(entry.photo, dtype=np.float32) / 255
    mask = np.asarray(resize_mask(entry.mask, entry.photo.size)) >= 128
    opacity = feather_mask(mask, feather)[..., None]
    return np.where(opacity > 0, photo + opacity * (array - photo), photo)
