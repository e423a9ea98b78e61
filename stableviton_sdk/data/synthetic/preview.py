"""A contact sheet of rendered samples: `python -m stableviton_sdk.data.synthetic.preview --output sheet.png`."""

from __future__ import annotations

import argparse
import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...choices import STYLES
from ...images import save_atomically
from .sample import SyntheticSample, render_pair

COLUMNS = (
    "person", "garment", "other garment", "person in other", "agnostic", "DensePose", "parse", "correspondence",
)  # fmt: skip


def contact_sheet(samples: Sequence[SyntheticSample], gap: int = 2) -> Image.Image:
    """Draw samples as rows of a sheet, in the columns `COLUMNS`.

    Args:
        samples (`Sequence[SyntheticSample]`): All of one size.
        gap (`int`, *optional*, defaults to 2): White pixels between images.

    Returns:
        `PIL.Image.Image`: RGB.
    """
    height, width = samples[0].mask.shape
    sheet = np.full((len(samples) * (height + gap) - gap, len(COLUMNS) * (width + gap) - gap, 3), 255, np.uint8)
    for row, sample in enumerate(samples):
        for column, image in enumerate(_images(sample)):
            top, left = row * (height + gap), column * (width + gap)
            sheet[top : top + height, left : left + width] = image
    return Image.fromarray(sheet)


def correspondence_colours(correspondence: np.ndarray) -> np.ndarray:
    """Colours of a correspondence map: red grows with x, green with y, black where there is no garment.

    Args:
        correspondence (`np.ndarray`): float32, (H, W, 2), NaN where there is no garment.

    Returns:
        `np.ndarray`: uint8 RGB, (H, W, 3).
    """
    height, width = correspondence.shape[:2]
    share = np.nan_to_num(correspondence / (width - 1, height - 1)).clip(0, 1)
    worn = np.isfinite(correspondence[..., 0])
    blue = np.where(worn, 110, 0)
    return np.stack([share[..., 0] * 255, share[..., 1] * 255, blue], axis=-1).astype(np.uint8)


def parse_colours() -> np.ndarray:
    """Twenty clearly different colours, black first: uint8 RGB, (20, 3)."""
    colours = [(0.0, 0.0, 0.0)]
    colours += [
        colorsys.hsv_to_rgb(i * 0.381 % 1, 0.75 if i % 2 else 0.5, 0.95 - 0.25 * (i % 3 == 0)) for i in range(19)
    ]
    return np.rint(np.array(colours) * 255).astype(np.uint8)


def _images(sample: SyntheticSample) -> tuple[np.ndarray, ...]:
    return (
        sample.person, sample.garment, sample.garment_other, sample.person_in_other, sample.agnostic,
        sample.densepose, parse_colours()[sample.parsing], correspondence_colours(sample.correspondence),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the preview."""
    parser = argparse.ArgumentParser(prog="python -m stableviton_sdk.data.synthetic.preview", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="image file to write")
    parser.add_argument("--count", type=int, default=8, help="samples, one a row (default 8)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the series (default 0)")
    parser.add_argument("--start", type=int, default=0, help="index of the first sample (default 0)")
    parser.add_argument("--style", choices=STYLES, default="studio", help="domain (default studio)")
    parser.add_argument("--height", type=int, default=256, help="height of an image; 4:3 (default 256)")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error("--count must be at least 1")
    size = (options.height * 3 // 4, options.height)
    indices = range(options.start, options.start + options.count)
    sheet = contact_sheet([render_pair(options.seed, index, options.style, size) for index in indices])
    save_atomically(sheet, options.output)
    print(f"{options.output}: {options.count} samples; columns: {', '.join(COLUMNS)}")


if __name__ == "__main__":
    main()
