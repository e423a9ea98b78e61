"""From the network's images back into the photos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from .. import colour
from ..images import resize_mask
from ..preprocessing import frame as framing
from ..preprocessing.inputs import TryOnInputs


def paste_into_photos(
    arrays: np.ndarray,
    inputs: list[TryOnInputs],
    *,
    paste_back: bool,
    feather: float,
    output_type: str,
    finishes: Sequence[Callable[[np.ndarray], np.ndarray]] = (),
) -> list[Image.Image] | list[np.ndarray] | list[torch.Tensor] | np.ndarray | torch.Tensor:
    """Paste decoded images back into their photos.

    Args:
        arrays (`np.ndarray`): float, (N, H, W, 3) in [0, 1].
        inputs (`list[TryOnInputs]`): One for each image.
        paste_back (`bool`), feather (`float`), output_type (`str`): The call's options.
        finishes (`Sequence[Callable]`, *optional*):
            One for each image: takes it, uint8 or float32 in [0, 1], (H, W, 3), at the photo's resolution, or at its
            own where that is higher, and returns what is pasted.
    """
    images: list[Any] = []
    for index, (array, entry) in enumerate(zip(arrays, inputs, strict=True)):
        size = (array.shape[1], array.shape[0])
        is_srgb = colour.to_srgb(entry.photo) is entry.photo
        if output_type != "pil" and is_srgb and entry.photo.size == entry.frame.size == size:
            array = finishes[index](array) if finishes else array
            images.append(_blend_exactly(array, entry, feather if paste_back else None))  # nothing to resample
            continue
        result = Image.fromarray((array * 255).round().astype(np.uint8))
        if finishes:
            if entry.frame.size[0] > result.width:
                result = result.resize(entry.frame.size, Image.Resampling.LANCZOS)
            result = Image.fromarray(finishes[index](np.asarray(result)))
        result = framing.paste_back(
            entry.photo,
            entry.frame,
            result,
            entry.frame_mask if paste_back else None,
            feather=feather * result.width / size[0],
        )
        images.append(result if output_type == "pil" else np.asarray(result, dtype=np.float32) / 255)
    if output_type == "pt":
        images = [torch.from_numpy(image).permute(2, 0, 1) for image in images]
    if output_type == "pil" or len({image.shape for image in images}) > 1:
        return images
    return torch.stack(images) if output_type == "pt" else np.stack(images)


def _blend_exactly(array: np.ndarray, entry: TryOnInputs, feather: float | None) -> np.ndarray:
    """The paste-back without rounding to 8 bits, for callers who want numbers."""
    photo = np.asarray(entry.photo, dtype=np.float32) / 255
    blended = array
    if feather is not None:
        mask = np.asarray(resize_mask(entry.frame_mask, entry.photo.size)) >= 128
        opacity = framing.feather_mask(mask, feather)[..., None]
        kept = photo[..., :3]
        blended = np.where(opacity > 0, kept + opacity * (array - kept), kept)
    return np.concatenate([blended, photo[..., 3:]], axis=-1)
