"""A contact sheet of the best, the middling and the worst results."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..images import load_image
from .data import EvaluationData
from .metrics import HIGHER_IS_BETTER
from .report import LABELS, format_value
from .scoring import ResultsFolder

TILE = 256  # pixels, the height of an image
ROWS = 3  # of each group
GAP, LABEL, SIDE = 8, 20, 150
PAPER, INK, LINE = (250, 250, 250), (40, 40, 40), (190, 190, 190)
# what the eye agrees with first
PREFERENCE = ("lpips", "ssim_region", "psnr_region", "ssim", "psnr")


def draw_sheet(report: dict[str, Any], data: EvaluationData, results: ResultsFolder) -> Image.Image:
    """Draw rows of garment, photo, result, and the truth where it's another image than the photo.

    Ranked by the first of LPIPS, regional SSIM and PSNR, SSIM and PSNR that was measured; without any, the rows are
    spread evenly over the pairs.

    Args:
        report (`dict`): Of these pairs.
        data (`EvaluationData`), results (`ResultsFolder`): Where the images are.

    Returns:
        `PIL.Image.Image`: RGB.
    """
    metric = next((name for name in PREFERENCE if name in report["metrics"]), None)
    chosen = choose_cases(report["images"], metric)
    index_of = {name: index for index, name in enumerate(data.names)}
    rows = []
    for title, image in chosen:
        index = index_of[image["name"]]
        case, result = data[index], load_image(results.find(index))
        columns = [("garment", case.garment), ("photo", case.person), ("result", np.asarray(result))]
        if case.truth is not None and case.truth is not case.person:
            columns.append(("truth", case.truth))
        value = "" if metric is None else format_value(metric, image[metric])
        rows.append((title, value, image["name"], columns))
    width = max(1, round(TILE * data.size[1] / data.size[0]))
    count = max(len(columns) for *_, columns in rows)
    row_height = TILE + GAP
    sheet = Image.new("RGB", (SIDE + count * (width + GAP) + GAP, LABEL + 2 * GAP + len(rows) * row_height), PAPER)
    draw, font, small = ImageDraw.Draw(sheet), ImageFont.load_default(size=15), ImageFont.load_default(size=11)
    for column, (label, _) in enumerate(rows[0][3]):
        draw.text((SIDE + column * (width + GAP), GAP), label, fill=INK, font=font)
    previous = None
    for number, (title, value, name, columns) in enumerate(rows):
        top = LABEL + GAP + number * row_height
        if previous not in (None, title):
            draw.line((GAP, top - GAP // 2, sheet.width - GAP, top - GAP // 2), fill=LINE)
        previous = title
        draw.text((GAP, top), title, fill=INK, font=font)
        if metric is not None:
            draw.text((GAP, top + 21), LABELS[metric], fill=INK, font=small)
            draw.text((GAP, top + 35), value, fill=INK, font=font)
        for line in range(0, min(len(name), 88), 22):
            draw.text((GAP, top + 60 + line // 22 * 14), name[line : line + 22], fill=INK, font=small)
        for column, (_, shown) in enumerate(columns):
            if shown is not None:
                tile = _fit(shown, (width, TILE))
                left = SIDE + column * (width + GAP)
                sheet.paste(tile, (left + (width - tile.width) // 2, top + (TILE - tile.height) // 2))
    return sheet


def choose_cases(images: list[dict[str, Any]], metric: str | None, rows: int = ROWS) -> list[tuple[str, dict]]:
    """The best, the middle and the worst cases by a metric, each case once; without a metric, an even spread.

    Args:
        images (`list[dict]`): The report's.
        metric (`str`, *optional*): Which one.
        rows (`int`, *optional*, defaults to 3): Of each group.

    Returns:
        `list[tuple[str, dict]]`: title of the group, and the case.
    """
    if metric is None:
        places = np.unique(np.linspace(0, len(images) - 1, min(3 * rows, len(images))).round().astype(int))
        return [("some of them", images[place]) for place in places]
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


def _fit(values: np.ndarray, size: tuple[int, int]) -> Image.Image:
    image = Image.fromarray(values)
    scale = min(size[0] / image.width, size[1] / image.height)
    target = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # small images stay sharp: their pixels are what is looked at
    return image.resize(target, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)
