"""`enable_attention_slicing` for our networks: diffusers only reaches models that have `set_attention_slice`."""

from __future__ import annotations

from torch import nn

from ..errors import InvalidInput


class AttentionSlicingMixin:
    """Computes attention in several steps over the heads, to save memory."""

    def set_attention_slice(self: nn.Module, slice_size: str | int | list[int] | None = "auto") -> None:
        """
        Args:
            slice_size (`str`, `int`, `list[int]` or `None`, *optional*, defaults to `"auto"`):
                Heads computed at a time: `"auto"` for half of them, `"max"` for one (the least memory), a number,
                or one number for each attention layer. None turns slicing off.

        Raises:
            `InvalidInput`: for a size that isn't between 1 and the number of heads.
        """
        layers = [module for module in self.modules() if module is not self and hasattr(module, "sliceable_head_dim")]
        if slice_size == "auto":
            sizes = [max(1, layer.sliceable_head_dim // 2) for layer in layers]
        elif slice_size == "max":
            sizes = [1] * len(layers)
        elif isinstance(slice_size, list):
            sizes = slice_size
        else:
            sizes = [slice_size] * len(layers)
        if len(sizes) != len(layers):
            raise InvalidInput(f"slice_size has {len(sizes)} entries for {len(layers)} attention layers.")
        for layer, size in zip(layers, sizes, strict=True):
            heads = layer.sliceable_head_dim
            if size is not None and not (isinstance(size, int) and 1 <= size <= heads):
                raise InvalidInput(f'slice_size is {size!r}: pass "auto", "max", None, or a number from 1 to {heads}.')
        for layer, size in zip(layers, sizes, strict=True):
            layer.set_attention_slice(size)
