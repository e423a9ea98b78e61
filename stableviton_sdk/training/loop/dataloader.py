"""Loading of given batches, and stacking of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch


def open_loader(
    data: Any,
    batches: Iterable[list[int]],
    collate: Callable[[list[dict[str, Any]]], Any],
    *,
    workers: int = 0,
    pin_memory: bool = False,
) -> torch.utils.data.DataLoader[Any]:
    """A loader of the given batches that takes nothing from a global random generator.

    Args:
        data: A map-style data set.
        batches (`Iterable[list[int]]`): Indices of each batch's items.
        collate (`Callable`): Makes a batch out of items.
        workers (`int`, *optional*, defaults to 0): Number of processes that read data.
        pin_memory (`bool`, *optional*, defaults to `False`): Put batches into memory that a GPU copies from faster.
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
    """Keep a process that reads data to one thread: there are several such processes."""
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
