"""Rendered pairs, drawn once and kept: every variant trains on the same ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stableviton_sdk.data.synthetic import render_pair
from stableviton_sdk.files import replacing
from stableviton_sdk.preprocessing.inputs import TryOnInputs
from stableviton_sdk.preprocessing.labels import PARULA

SHARED = ("agnostic", "densepose_labels", "mask")  # by both garments of a figure
OWN = ("person", "garment", "worn_mask", "correspondence")
TRAINED_SEED, TEST_SEED = 1, 2  # of the renderer


class RenderedPairs:
    """Figures, each in two garments, as training items: item 2 i is figure i in its first garment.

    Args:
        arrays (`dict[str, np.ndarray]`): As `render_pairs` stores them.
    """

    def __init__(self, arrays: dict[str, np.ndarray]):
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays["person"])

    @property
    def figures(self) -> int:
        return len(self) // 2

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = {name: self.arrays[name][index] for name in OWN}
        item["correspondence"] = item["correspondence"].astype(np.float32)
        item |= {name: self.arrays[name][index // 2] for name in SHARED}
        item["densepose"] = PARULA[item.pop("densepose_labels")]
        return item

    def inputs(self, figure: int) -> TryOnInputs:
        """The figure, with the renderer's own maps, in its first garment."""
        item = self[2 * figure]
        return TryOnInputs.from_maps(
            item["person"], mask=item["mask"], densepose=item["densepose"], agnostic=item["agnostic"]
        )


def render_pairs(
    path: Path,
    figures: int,
    seed: int,
    style: str,
    size: tuple[int, int],
    progress: Callable[[int, int], None] | None = None,
) -> RenderedPairs:
    """Render figures, or load those that were rendered before.

    Args:
        path (`Path`): A `.npz` file; it holds pairs of these arguments alone, so name it after them.
        figures (`int`): How many, each in two garments.
        seed (`int`), style (`str`), size (`tuple[int, int]`): As for `render_pair`.
        progress (`Callable`, *optional*): Called as `progress(done, total)`.
    """
    if not path.is_file():
        parts: dict[str, list[np.ndarray]] = {name: [] for name in (*OWN, *SHARED)}
        for index in range(figures):
            sample = render_pair(seed, index, style, size)
            for name in SHARED:
                parts[name].append(getattr(sample, name))
            for item in (sample.in_worn(), sample.in_other()):
                for name in OWN:
                    # half precision is within a sixteenth of a pixel up to a height of 128
                    value = item[name].astype(np.float16) if name == "correspondence" else item[name]
                    parts[name].append(value)
            if progress is not None:
                progress(index + 1, figures)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            np.savez(partial, **{name: np.stack(values) for name, values in parts.items()})
    with np.load(path) as stored:
        return RenderedPairs({name: stored[name] for name in stored.files})


def noise_of(seed: int, index: int) -> torch.Generator:
    """The generator of one image's start noise: the same for every variant."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, index]).generate_state(1)[0]))
