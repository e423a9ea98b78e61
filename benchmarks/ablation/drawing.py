"""Plots, with Pillow alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .pairs import TEST_SEED, RenderedPairs
from .variants import VARIANTS

PANEL = (430, 250)
MARGIN = (62, 34, 16, 30)  # left, top, right, bottom
INK, FAINT, GREY = (30, 30, 34), (224, 226, 230), (120, 124, 130)
COLOURS = ((214, 84, 62), (52, 98, 168), (40, 140, 90), (150, 90, 170))  # of a, b, c, d; primed ones alike


def draw_chart(panels: Sequence[Mapping[str, Any]], path: Path, columns: int = 2) -> None:
    """Draw dots of every run and their means.

    Args:
        panels (`Sequence[Mapping]`):
            `title`, `dots` (by variant's label, one number for each seed; none where there's nothing to measure),
            `line` (None, or name and height of a level to compare with) and `digits` of the axis.
        path (`Path`): Of the PNG.
        columns (`int`, *optional*, defaults to 2): Panels side by side.
    """
    rows = -(-len(panels) // columns)
    sheet = Image.new("RGB", (PANEL[0] * columns, PANEL[1] * rows), "white")
    for index, panel in enumerate(panels):
        sheet.paste(_panel(panel), (PANEL[0] * (index % columns), PANEL[1] * (index // columns)))
    sheet.save(path)


def value_range(panel: Mapping[str, Any]) -> tuple[float, float]:
    """Lowest and highest value of a panel's axis, with some air."""
    values = [value for dots in panel["dots"].values() for value in dots]
    if panel["line"] is not None:
        values.append(panel["line"][1])
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    air = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
    return low - air, high + air


def _panel(panel: Mapping[str, Any]) -> Image.Image:
    image = Image.new("RGB", PANEL, "white")
    draw = ImageDraw.Draw(image)
    small, normal = ImageFont.load_default(11), ImageFont.load_default(13)
    left, top, right, bottom = MARGIN
    right, bottom = PANEL[0] - right, PANEL[1] - bottom
    low, high = value_range(panel)

    def height(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    draw.text((left, 8), panel["title"], fill=INK, font=normal)
    for value in np.linspace(low, high, 5):
        draw.line([(left, height(value)), (right, height(value))], fill=FAINT)
        text = f"{value:.{panel['digits']}f}"
        draw.text((left - 6, height(value)), text, fill=GREY, font=small, anchor="rm")
    if panel["line"] is not None:
        name, level = panel["line"]
        for x in range(left, right, 8):
            draw.line([(x, height(level)), (x + 4, height(level))], fill=GREY)
        draw.text((right, height(level) - 2), name, fill=GREY, font=small, anchor="rd")
    step = (right - left) / max(len(panel["dots"]), 1)
    for index, (label, values) in enumerate(panel["dots"].items()):
        x = left + (index + 0.5) * step
        colour = COLOURS["abcd".index(label[0])]
        draw.text((x, bottom + 8), label, fill=INK, font=normal, anchor="mt")
        if not values:
            draw.text((x, (top + bottom) / 2), "none", fill=GREY, font=small, anchor="mm")
            continue
        mean = height(float(np.mean(values)))
        draw.line([(x - step * 0.3, mean), (x + step * 0.3, mean)], fill=colour, width=3)
        for place, value in enumerate(values):
            dot = x + (place - (len(values) - 1) / 2) * min(12, step * 0.6 / len(values))
            y = height(value)
            draw.ellipse([dot - 4, y - 4, dot + 4, y + 4], fill=colour, outline="white")
    return image


def draw_sheet(path: Path, work: Path, runs: Sequence[Mapping[str, Any]], style: str) -> None:
    """Draw unpaired results of one seed: a row for each figure; person, garment, all variants, truth.

    Args:
        path (`Path`): Of the PNG.
        work (`Path`): The experiment's folder; where images are missing there, nothing is drawn.
        runs (`Sequence[Mapping]`): Of one seed.
        style (`str`): Of the figures.
    """
    stored = [(run, work / f"{run['variant']}-seed-{run['seed']}.npz") for run in runs]
    figures = sorted(work.glob(f"{style}-{TEST_SEED}-*.npz"))
    if not figures or not all(file.is_file() for _, file in stored):
        return
    with np.load(figures[0]) as arrays:
        pairs = RenderedPairs({name: arrays[name] for name in arrays.files})
    columns: list[tuple[str, list[np.ndarray]]] = []
    for run, file in stored:
        with np.load(file) as images:
            columns.append((VARIANTS[run["variant"]].label, list(images[style])))
    count = min(len(images) for _, images in columns)
    columns = [
        ("person", [pairs[2 * figure]["person"] for figure in range(count)]),
        ("garment", [pairs[2 * figure + 1]["garment"] for figure in range(count)]),
        *columns,
        ("truth", [pairs[2 * figure + 1]["person"] for figure in range(count)]),
    ]
    height, width = columns[0][1][0].shape[:2]
    gap, head = 4, 22
    sheet = Image.new("RGB", (len(columns) * (width + gap) - gap, head + count * (height + gap) - gap), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (label, images) in enumerate(columns):
        x = place * (width + gap)
        draw.text((x + width / 2, 4), label, fill=INK, font=ImageFont.load_default(13), anchor="mt")
        for row, image in enumerate(images[:count]):
            sheet.paste(Image.fromarray(image), (x, head + row * (height + gap)))
    sheet.save(path)
