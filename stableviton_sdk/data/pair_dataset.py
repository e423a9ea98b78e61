"""Base class of data sets of pairs, and the record of each pair's files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InvalidInput, SeveralProblems
from ..images import load_image, load_mask, resize, resize_mask
from ..preprocessing.inputs import derive_agnostic
from .file_checks import IMAGES, MASKS, Check, find_problems
from .pair_lists import PairRow, read_pair_list


class BadDataSet(SeveralProblems):
    """A data set's files can't be used.

    Args:
        what (`str`): Name of the data set, for the message.
        problems (`Sequence[str]`): One sentence each.
    """

    def __init__(self, what: str, problems: Sequence[str]):
        self.what = what
        count = f"{len(problems)} problems" if len(problems) > 1 else "a problem"
        super().__init__(f"{what} has {count}", problems)

    def __reduce__(self) -> tuple[Any, ...]:
        return BadDataSet, (self.what, self.problems)


@dataclass(frozen=True)
class Record:
    """Names and files of one pair.

    Args:
        name (`str`), garment_name (`str`): Name of the person's and of the garment's image, without ending.
        files (`dict[str, Path]`):
            Path of each part: `person`, `garment`, `densepose`, `mask`, and where there are any `agnostic`,
            `worn_mask`, `garment_mask`, `correspondence`.
    """

    name: str
    garment_name: str
    files: dict[str, Path] = field(default_factory=dict)


class PairDataset:
    """A map-style data set of pairs whose files have all been checked.

    Items are dictionaries: `person`, `garment`, `agnostic`, `densepose` (uint8, (H, W, 3)), `mask` (bool, (H, W), True
    = repaint), `name` and `garment_name`; where the data has them also `worn_mask` and `garment_mask` (bool, (H, W))
    and `correspondence` (float32, (H, W, 2)). An agnostic image that isn't there is derived from person and mask, as
    the pipeline derives it. Records may lack parts; their items lack them too.

    Args:
        records (`Sequence[Record]`): The pairs.
        size (`tuple[int, int]`): Width and height of the items' images in pixels, each 8 to 4096.
        what (`str`, *optional*, defaults to `"the data set"`): Name of the data set, for messages.
        check (`str`, *optional*, defaults to `"full"`):
            `"full"` decodes every file once, `"quick"` reads only their beginnings and ends.
        problems (`Sequence[str]`, *optional*): Problems found before, for the same report.

    Raises:
        `BadDataSet`: if files are missing, ambiguous, unreadable, or of other proportions than `size`.
    """

    def __init__(
        self,
        records: Sequence[Record],
        size: tuple[int, int],
        *,
        what: str = "the data set",
        check: Check = "full",
        problems: Sequence[str] = (),
    ):
        if check not in ("full", "quick"):
            raise InvalidInput(f"check is {check!r}: pass 'full' or 'quick'.")
        self.records: list[Record] = list(records)
        self.size: tuple[int, int] = check_size(size)
        problems = list(problems)
        if not self.records and not problems:
            problems.append("it is empty: there are no pairs to read.")
        files = (entry for record in self.records for entry in record.files.items())
        problems += find_problems(files, size=self.size, check=check)
        if problems:
            raise BadDataSet(what, problems)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record, size = self.records[index], self.size
        item: dict[str, Any] = {"name": record.name, "garment_name": record.garment_name}
        images: dict[str, Image.Image] = {}
        whole: dict[str, Image.Image] = {}  # as they came, for an agnostic image without what the mask hides
        for part, path in record.files.items():
            if part in MASKS:
                whole[part] = load_mask(path, name=str(path))
                images[part] = resize_mask(whole[part], size)
            elif part in IMAGES:
                # as the pipeline resizes, so that training sees what inference will
                filter_ = Image.Resampling.BILINEAR if part == "densepose" else Image.Resampling.LANCZOS
                image = self.read_image(part, path)
                images[part] = resize(image, size, filter_)
                if part == "person":
                    whole[part] = image
            else:
                item[part] = read_correspondence(path, size)
        if "agnostic" not in images and "mask" in images:
            images["agnostic"] = derive_agnostic(whole["person"], whole["mask"], size)
        for part, image in images.items():
            item[part] = np.asarray(image) >= 128 if part in MASKS else np.array(image)
        return item

    def read_image(self, part: str, path: Path) -> Image.Image:
        """An image of a part, decoded; subclasses whose files hold something else override this."""
        return load_image(path, name=str(path), srgb=part != "densepose")


def read_pairs(path: Path, problems: list[str]) -> list[PairRow]:
    """Pairs of a list; sentences on what is wrong with it are appended to `problems`."""
    try:
        listed = read_pair_list(path)
    except InvalidInput as error:
        problems.append(str(error))
        return []
    problems += listed.problems
    return listed.rows


def read_correspondence(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Correspondence of a `.npy` file at another resolution.

    Args:
        path (`Path`): Array of float, (h, w, 2): x and y in [0, 1] of the garment image's width and height.
        size (`tuple[int, int]`): Width and height of the result, and of the garment image, in pixels.

    Returns:
        `np.ndarray`: float32, (H, W, 2), sampled by nearest: x and y in pixels of the garment image.
    """
    width, height = size
    places = np.load(path, mmap_mode="r", allow_pickle=False)
    rows = (np.arange(height) + 0.5) * places.shape[0] / height
    columns = (np.arange(width) + 0.5) * places.shape[1] / width
    places = places[rows.astype(int)[:, None], columns.astype(int)].astype(np.float32)
    return places * np.float32([width, height]) - np.float32(0.5)


def check_root(root: str | os.PathLike[str]) -> Path:
    """The folder of a data set as a `Path`.

    Raises:
        `InvalidInput`: if it doesn't exist.
    """
    if not isinstance(root, (str, os.PathLike)):
        raise InvalidInput(f"the data set's folder is a {type(root).__name__}: pass a path.")
    if not Path(root).is_dir():
        raise InvalidInput(f"there is no data set folder {os.fspath(root)}: check the path.")
    return Path(root)


def check_size(size: Any) -> tuple[int, int]:
    """A width and a height in pixels as a tuple.

    Raises:
        `InvalidInput`: if it isn't two whole numbers from 8 to 4096.
    """
    numbers = tuple(size) if isinstance(size, (tuple, list)) else ()
    if len(numbers) != 2 or not all(isinstance(side, int) and 8 <= side <= 4096 for side in numbers):
        raise InvalidInput(f"the data set's size is {size!r}: pass width and height in pixels, each 8 to 4096.")
    return numbers
