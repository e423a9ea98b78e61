"""What every training loop here has in common from step to step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import TryOnError
from . import checkpoints


class TrainingDiverged(TryOnError):
    """The loss or its gradient is no number any more."""


def learning_rate(config: Any, step: int) -> float:
    """Of the step that follows `step` others: linear warm-up, then constant, or a half cosine to zero.

    Args:
        config: With `learning_rate`, `schedule`, `warmup_steps` and `steps`, such as a `TrainingConfig`.
        step (`int`): Steps taken.
    """
    rate = config.learning_rate
    if step < config.warmup_steps:
        return rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return rate
    part = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return rate * 0.5 * (1 + math.cos(math.pi * part))


def explain_divergence(
    config: Any, step: int, rate: float, names: list[str], sums: Mapping[str, torch.Tensor], output: Path
) -> str:
    """What to say when the loss is no number."""
    values = ", ".join(f"{name} {float(value.detach()):.4g}" for name, value in sums.items())
    found = checkpoints.list_checkpoints(output / "checkpoints")
    advice = ["a lower learning_rate" if rate > 1e-6 else "a longer warmup"]
    if config.mixed_precision == "fp16":
        advice.append("mixed_precision: bf16")
    if config.max_grad_norm > 1:
        advice.append("max_grad_norm: 1")
    advice.append("a look at these pairs")
    again = f"it goes on from {found[-1].name}" if found else "it starts anew, there is no checkpoint yet"
    return (
        f"training diverged at step {step + 1}, learning rate {rate:.3g}: {values}; the batch was "
        f"{', '.join(names)}. No weight was changed by this step. Try {', '.join(advice)}; when run again, {again}."
    )


def open_loader(
    data: Any,
    batches: Iterable[list[int]],
    collate: Callable[[list[dict[str, Any]]], Any],
    *,
    workers: int = 0,
    pin_memory: bool = False,
) -> torch.utils.data.DataLoader:
    """Reads batches that are named in advance, and draws from no global generator.

    Args:
        data: A map-style data set.
        batches (`Iterable[list[int]]`): Indices of each batch's items.
        collate (`Callable`): Makes a batch out of items.
        workers (`int`, *optional*, defaults to 0): Processes that read data.
        pin_memory (`bool`, *optional*, defaults to `False`): Hand batches out in memory that a GPU copies from faster.
    """
    return torch.utils.data.DataLoader(
        data,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=one_thread,
        # forked workers would wait for thread pools, such as OpenCV's, that a fork doesn't carry along
        multiprocessing_context="spawn" if workers else None,
        generator=torch.Generator(),  # the loader's own draws stay out of the global one
        pin_memory=pin_memory,
    )


def stack_images(images: Iterable[np.ndarray]) -> torch.Tensor:
    """Images of one size, uint8 (H, W, 3), as float32 in [-1, 1], (N, 3, H, W).

    Contiguous: in channels-last order group norm on the CPU loses three digits on flat regions.
    """
    stacked = torch.from_numpy(np.stack(list(images))).permute(0, 3, 1, 2)
    return (stacked.float() / 127.5 - 1).contiguous()


def one_thread(worker: int) -> None:
    """In a process that reads data: as many threads as there are processes are enough."""
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
