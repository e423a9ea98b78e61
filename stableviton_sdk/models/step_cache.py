"""What a denoising step leaves for the next ones, whose deep features hardly differ (DeepCache, arXiv 2312.00858)."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(eq=False)
class StepCache:
    """State of one call's step cache; between full steps only the decoder's last layers are computed anew.

    Args:
        interval (`int`): A step in so many is computed in full; 1 computes all of them.
        depth (`int`): Layers of the decoder that every step computes; also as many maps of the encoder.
        hidden_states (`torch.Tensor`, *optional*): What entered these layers at the last full step.
        garment_features (`tuple[torch.Tensor, ...]`, *optional*): The spatial encoder's maps of that step.
    """

    interval: int
    depth: int
    hidden_states: torch.Tensor | None = None
    garment_features: tuple[torch.Tensor, ...] | None = None

    def is_full(self, step: int, rows: int, must: bool = False) -> bool:
        """Whether a step has to be computed in full.

        Args:
            step (`int`): Its number in the call.
            rows (`int`): Entries of the network's batch, which a callback may change.
            must (`bool`, *optional*, defaults to `False`): That it has to be whatever the interval, to be recorded.
        """
        kept = self.hidden_states is not None and len(self.hidden_states) == rows
        return must or step % self.interval == 0 or not kept
