"""Contact sheet of the best, the median and the worst results."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ..errors import clipped
from ..grids import labelled_grid
from ..images import load_image
from .data import EvaluationData
from .metrics import HIGHER_IS_BETTER
from .report import LABELS, format_value
from .scoring import ResultsFolder

TILE = 256  # pixels, the height of an image
ROWS = 3  # of each group
LABEL_LENGTH = 26  # characters that fit above a tile
PREFERENCE = ("lpips", "ssim_region", "psnr_region", "ssim", "psnr")  # the eye agrees with the first most


def draw_sheet(report: dict[str, Any], data: EvaluationData, results: ResultsFolder) -> Image.Image:
    """Rows of garment, photo, result, and the truth where it's another image than the photo.

    Ranked by the first of LPIPS, regional SSIM and PSNR, SSIM and PSNR that was measured; without any, the rows are
    spread evenly over the pairs.

    Args:
        report (`dict`): Report of these pairs.
        data (`EvaluationData`): The pairs.
        results (`ResultsFolder`): Their results.

    Returns:
        `PIL.Image.Image`: RGB.
    """
    metric = next((name for name in PREFERENCE if name in report["metrics"]), None)
    index_of = {name: index for index, name in enumerate(data.names)}
    rows = []
    for group, entry in choose_pairs(report["images"], metric):
        index = index_of[entry["name"]]
        pair = data[index]
        value = "" if metric is None else f": {LABELS[metric].split(',')[0]} {format_value(metric, entry[metric])}"
        row = [
            (f"{group}{value}", _image(pair.garment)),
            (clipped(entry["name"], most=LABEL_LENGTH), _image(pair.person)),
            ("result", load_image(results.find(index), srgb=True)),
        ]
        if pair.truth is not None and pair.truth is not pair.person:
            row.append(("truth", _image(pair.truth)))
        rows.append(row)
    columns = max(map(len, rows))
    tiles = [tile for row in rows for tile in row + [("", None)] * (columns - len(row))]
    width = max(1, round(TILE * data.size[0] / data.size[1]))
    return labelled_grid(tiles, (width, TILE), columns=columns)


def _image(pixels: np.ndarray | None) -> Image.Image | None:
    return None if pixels is None else Image.fromarray(pixels)


def choose_pairs(
    images: list[dict[str, Any]], metric: str | None, rows: int = ROWS
) -> list[tuple[str, dict[str, Any]]]:
    """The best, the median and the worst pairs by a metric, each once; without a metric, an even spread.

    Args:
        images (`list[dict]`): Entries of a report.
        metric (`str`, *optional*): Name of a metric that they have.
        rows (`int`, *optional*, defaults to 3): Pairs of each group.

    Returns:
        `list[tuple[str, dict[str, Any]]]`: name of the group, and entry of the pair.
    """
    if metric is None:
        places = np.unique(np.linspace(0, len(images) - 1, min(3 * rows, len(images))).round().astype(int))
        return [("sample", images[place]) for place in places]
    sign = -1 if HIGHER_IS_BETTER[metric] else 1
    ranked = sorted(images, key=lambda image: (sign * image[metric], image["name"]))
    rows = max(1, min(rows, len(ranked) // 3))
    start = max(0, (len(ranked) - rows) // 2)
    groups = {
        "best": range(rows),
        "median": range(start, start + rows),
        "worst": range(max(0, len(ranked) - rows), len(ranked)),
    }
    chosen: dict[int, str] = {}
    for title, places in groups.items():
        for place in places:
            chosen.setdefault(place, title)
    return [(title, ranked[place]) for place, title in sorted(chosen.items())]
