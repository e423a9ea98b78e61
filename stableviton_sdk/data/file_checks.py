"""Checks of a data set's image files and correspondence maps, before anything is read from it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from ..decoding import open_image
from ..errors import InvalidInput, MissingDependency, reason_of
from ..images import load_mask
from ..preprocessing.frame import same_aspect

ORIENTATION = 0x0112  # EXIF
IMAGES = ("person", "garment", "agnostic", "densepose")
MASKS = ("mask", "worn_mask", "garment_mask")

Check = Literal["full", "quick"]


def find_problems(
    files: Iterable[tuple[str, Path]], *, size: tuple[int, int] | None = None, check: Check = "full"
) -> list[str]:
    """Problems of a data set's files, each read once.

    Args:
        files (`Iterable[tuple[str, Path]]`): Part and path of each file; paths without a file are skipped.
        size (`tuple[int, int]`, *optional*):
            Width and height whose proportions the images must have; by default they may have any.
        check (`str`, *optional*, defaults to `"full"`): `"full"` decodes files, `"quick"` reads beginnings and ends.

    Returns:
        `list[str]`: a sentence on every file that can't be read, and on every image of other proportions.
    """
    parts: dict[Path, str] = {}
    for part, path in files:
        if path.is_file():
            parts.setdefault(path, part)
    # decoding runs outside of the interpreter's lock, so threads are enough
    with ThreadPoolExecutor(max_workers=min(32, os.cpu_count() or 1)) as pool:
        found = dict(zip(parts, pool.map(lambda entry: _check_file(*entry, check), parts.items()), strict=True))
    problems = [outcome for outcome in found.values() if isinstance(outcome, str)]
    for path, outcome in found.items():
        if size is not None and isinstance(outcome, tuple) and not same_aspect(outcome, size):
            problems.append(
                f"{path} is {outcome[0]} x {outcome[1]}, which isn't in the proportions of the {size[0]} x {size[1]} "
                "wanted."
            )
    return problems


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened image, after its EXIF orientation; its pixels aren't decoded."""
    turned = "exif" in image.info and image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
    return image.size[::-1] if turned else image.size


def _check_file(path: Path, part: str, check: Check) -> tuple[int, int] | str | None:
    """An image's width and height, or a sentence on what is wrong; None for a correspondence map that is sound."""
    try:
        if part == "correspondence":
            return _check_map(path)
        if path.stat().st_size == 0:
            return f"{path} is empty."
        if part in MASKS and check == "full":
            return load_mask(path, name=str(path)).size
        with open_image(path, str(path)) as image:
            size = upright_size(image)
            if check == "quick":
                return size if _is_whole(path, image.format) else f"{path} is cut off."
            # an eighth of the size, which reads the whole file all the same
            image.draft("RGB", (max(1, image.width // 8), max(1, image.height // 8)))
            image.load()
        return size
    except (InvalidInput, MissingDependency) as error:
        return str(error)
    except (OSError, ValueError, EOFError) as error:
        return f"{path} can't be read ({reason_of(error)})."


def _check_map(path: Path) -> str | None:
    places = np.load(path, mmap_mode="r", allow_pickle=False)
    if places.ndim != 3 or places.shape[2] != 2 or not np.issubdtype(places.dtype, np.floating):
        return f"{path} holds {places.dtype} of shape {places.shape}, not float (h, w, 2)."
    with np.errstate(invalid="ignore"):
        if bool((np.abs(places) > 1.5).any()):
            return f"{path} holds places far outside of [0, 1]: it must be in garment widths and heights, not pixels."
    return None


def _is_whole(path: Path, kind: str | None) -> bool:
    """Whether a JPEG or PNG ends as it should; other kinds pass."""
    ending = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}.get(kind or "")
    if ending is None:
        return True
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 64))
        return ending in stream.read()
