"""DressCode in its authors' folders, with the agnostic masks that they don't contain beside them."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from ..choices import SPLITS, Split
from ..decoding import open_image
from ..errors import InvalidInput
from ..validation import check_choice
from .file_checks import Check
from .image_files import ImageFinder, file_name, stem_of
from .pair_dataset import PairDataset, Record, check_root, read_pairs

CATEGORIES = ("upper_body", "lower_body", "dresses")


class DressCode(PairDataset):
    """Reader of one category's folder: `train_pairs.txt`, `test_pairs_paired.txt`, `test_pairs_unpaired.txt`, `images`
    (`NUMBER_0` the person, `NUMBER_1` the garment) and DensePose, either images in `image-densepose` (`NUMBER_0`) or
    the data set's own label maps in `dense` (`NUMBER_5.png`, 0..24).

    DressCode has no agnostic masks: they are read from `agnostic-mask` (`NUMBER_0_mask.png`, white = repaint), the
    agnostic images from `agnostic-v3.2` where it is there, and the worn garment's outline from
    `gt_cloth_warped_mask` (paired only).

    Args:
        root (`str` or `os.PathLike`): DressCode's folder, or a category's.
        split (`str`, *optional*, defaults to `"train"`): `"train"` or `"test"`.
        paired (`bool`, *optional*, defaults to `True`): Which of the test lists; training is always paired.
        category (`str`, *optional*, defaults to `"upper_body"`): `"upper_body"`, `"lower_body"` or `"dresses"`.
        size (`tuple[int, int]`, *optional*, defaults to `(384, 512)`): Width and height of the items' images.
        check (`str`, *optional*, defaults to `"full"`): `"full"` decodes every file once, `"quick"` doesn't.
        limit (`int`, *optional*): Number of pairs to read, from the first; all by default.
        parts (`Collection[str]`, *optional*): Parts to read; by default all. The others may be missing.

    Raises:
        `BadDataSet`: if files are missing, ambiguous, unreadable, or of other proportions than `size`.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split = "train",
        *,
        paired: bool = True,
        category: Literal["upper_body", "lower_body", "dresses"] = "upper_body",
        size: tuple[int, int] = (384, 512),
        check: Check = "full",
        limit: int | None = None,
        parts: Collection[str] | None = None,
    ):
        check_choice("split", split, SPLITS)
        check_choice("category", category, CATEGORIES)
        if split == "train" and not paired:
            raise InvalidInput("DressCode's training list is paired: pass split='test' for unpaired pairs.")
        root = check_root(root)
        folder = root / category if (root / category).is_dir() or root.name != category else root
        kind = "paired" if paired else "unpaired"
        find, problems = ImageFinder(), []
        listed = folder / ("train_pairs.txt" if split == "train" else f"test_pairs_{kind}.txt")
        drawn, agnostic, worn = folder / "image-densepose", folder / "agnostic-v3.2", folder / "gt_cloth_warped_mask"
        self._labels = not drawn.is_dir()
        has_agnostic, has_worn = agnostic.is_dir(), paired and worn.is_dir()
        records = []
        for row in read_pairs(listed, problems)[:limit]:
            person, garment = file_name(row.person), file_name(row.garment)
            name = stem_of(person)
            labels = (folder / "dense", f"{name.removesuffix('_0')}_5.png")
            places = {
                "person": (folder / "images", person),
                "garment": (folder / "images", garment),
                "mask": (folder / "agnostic-mask", f"{name}_mask.png"),
                "densepose": labels if self._labels else (drawn, person),
            }
            if has_agnostic:
                places["agnostic"] = (agnostic, person)
            if has_worn:
                places["worn_mask"] = (worn, person)
            files = {part: find(*place) for part, place in places.items() if parts is None or part in parts}
            records.append(Record(name, stem_of(garment), files))
        what = f"DressCode in {folder} ({split}, {kind})"
        super().__init__(records, size, what=what, check=check, problems=problems + find.problems())

    def read_image(self, part: str, path: Path) -> Image.Image:
        """An image of a part, decoded; DensePose labels are drawn in the parula palette."""
        if part != "densepose" or not self._labels:
            return super().read_image(part, path)
        from ..preprocessing.densepose import draw_labels

        with open_image(path, str(path)) as image:
            labels = np.asarray(image if image.mode in ("L", "P") else image.convert("L"))
        if labels.max(initial=0) > 24:
            raise InvalidInput(f"{path} has labels up to {labels.max()}: DensePose's body parts are 0 to 24.")
        return draw_labels(labels)
