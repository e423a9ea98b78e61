"""ComfyUI's tensors to images, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from PIL import Image


def to_images(batch: torch.Tensor | None) -> list[Image.Image] | None:
    """Images of a batch, RGB or RGBA.

    Args:
        batch (`torch.Tensor`, *optional*): (N, H, W, C), in [0, 1].
    """
    from PIL import Image

    if batch is None:
        return None
    values = (batch.float() * 255).round().clamp(0, 255).byte().cpu().numpy()
    return [Image.fromarray(image) for image in values]


def to_masks(batch: torch.Tensor | None) -> list[Image.Image] | None:
    """Masks of a batch, mode L.

    Args:
        batch (`torch.Tensor`, *optional*): (N, H, W) or (H, W), in [0, 1].
    """
    if batch is None:
        return None
    return to_images(batch if batch.ndim == 3 else batch[None])


def from_images(images: list[Image.Image]) -> torch.Tensor:
    """A batch of images of one size: float32, (N, H, W, C), in [0, 1]; C is 1 for mode L."""
    import numpy as np
    import torch

    sizes = {image.size for image in images}
    if len(sizes) > 1:
        raise ValueError(f"the images have sizes {sorted(sizes)}, and a batch has one: run them one by one.")
    arrays = [np.atleast_3d(np.asarray(image)) for image in images]
    return torch.from_numpy(np.stack(arrays)).float() / 255


def for_each(values: list[Any] | None, count: int, name: str) -> list[Any] | None:
    """As many values as there are pairs: what there is one of is used for all."""
    if values is None or len(values) == count:
        return values
    if len(values) == 1:
        return values * count
    raise ValueError(f"{name} has {len(values)} entries for {count} images: pass one, or as many.")
