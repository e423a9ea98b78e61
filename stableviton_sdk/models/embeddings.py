"""Time features that the U-Net and the spatial encoder share."""

from __future__ import annotations

import torch
from diffusers.models.embeddings import Timesteps


def timestep_features(
    projection: Timesteps, timestep: torch.Tensor | float | int, sample: torch.Tensor
) -> torch.Tensor:
    """Sinusoidal features of the timestep, in the sample's dtype and on its device.

    Args:
        projection (`Timesteps`): The network's projection.
        timestep (`torch.Tensor`, `float` or `int`): One for all, or (batch,).
        sample (`torch.Tensor`): (batch, ...).

    Returns:
        `torch.Tensor`: (batch, channels).
    """
    if not torch.is_tensor(timestep):
        whole = torch.int32 if sample.device.type in ("mps", "npu") else torch.int64
        real = torch.float32 if sample.device.type in ("mps", "npu") else torch.float64
        timestep = torch.tensor([timestep], dtype=real if isinstance(timestep, float) else whole, device=sample.device)
    timesteps = timestep.to(sample.device).reshape(-1).expand(sample.shape[0])
    return projection(timesteps).to(sample.dtype)
