"""What diffusers offers for transformers, and does nothing for these networks: refused with a sentence."""

from __future__ import annotations

from typing import Any, NoReturn

from ..errors import InvalidInput


class TransformerOptionsMixin:
    """Refuses the options of diffusers' transformers."""

    def enable_cache(self, config: Any = None) -> NoReturn:
        """
        Raises:
            `InvalidInput`: always; the pipeline has a cache of its own.
        """
        raise InvalidInput(
            f"diffusers' caches ({type(config).__name__}) look for a transformer's blocks, which a "
            f"{type(self).__name__} has none of: use the pipeline's enable_step_cache."
        )

    def set_attention_backend(self, backend: Any = None) -> NoReturn:
        """
        Raises:
            `InvalidInput`: always; torch itself chooses the kernel.
        """
        raise InvalidInput(
            f"set_attention_backend({backend!r}) would change nothing of a {type(self).__name__}, whose attention "
            "torch's scaled_dot_product_attention computes: choose its kernel by torch.nn.attention.sdpa_kernel."
        )
