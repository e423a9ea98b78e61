"""Seeds of the pairs of a run: of each pair's own, whatever its batch, place and process."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def pair_seed(seed: int, name: str) -> int:
    """Seed of one pair's noise.

    Args:
        seed (`int`): Seed of the run.
        name (`str`): Name of the pair.

    Returns:
        `int`: from 0 to 2**63 - 1.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def pair_generator(seed: int, name: str) -> torch.Generator:
    """Generator of one pair's noise, on the CPU: the same in every batch, order and run, on every device.

    Args:
        seed (`int`): Seed of the run.
        name (`str`): Name of the pair.
    """
    import torch

    return torch.Generator().manual_seed(pair_seed(seed, name))
