"""VITON-HD in its authors' folders, as StableVITON's authors extended it."""

from __future__ import annotations

import os
from collections.abc import Collection

from ..choices import SPLITS, Split
from ..validation import check_choice
from .file_checks import Check
from .image_files import ImageFinder, file_name, stem_of
from .pair_dataset import PairDataset, Record, check_root, read_pairs


class VitonHD(PairDataset):
    """Reader of `ROOT/{train,test}_pairs.txt` and, in `ROOT/train` or `ROOT/test`, the folders `image`,
    `image-densepose`, `agnostic-mask` (`NAME_mask.png`, white = repaint), `cloth`, and where they are there
    `agnostic-v3.2`, `gt_cloth_warped_mask` (paired only) and, if wanted, `cloth-mask`.

    Instead of `test_pairs.txt`, whose garments are those of unpaired pairs, there may be `test_pairs_paired.txt` and
    `test_pairs_unpaired.txt`.

    Args:
        root (`str` or `os.PathLike`): The folder of the lists of pairs.
        split (`str`, *optional*, defaults to `"train"`): `"train"` or `"test"`.
        paired (`bool`, *optional*, defaults to `True`):
            Whether every person gets the garment that it wears, instead of the one that the list names.
        size (`tuple[int, int]`, *optional*, defaults to `(384, 512)`): Width and height of the items' images.
        garment_mask (`bool`, *optional*, defaults to `False`): Whether to read the garment's outline too.
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
        size: tuple[int, int] = (384, 512),
        garment_mask: bool = False,
        check: Check = "full",
        limit: int | None = None,
        parts: Collection[str] | None = None,
    ):
        check_choice("split", split, SPLITS)
        root = check_root(root)
        find, problems = ImageFinder(), []
        kind = "paired" if paired else "unpaired"
        listed = root / f"{split}_pairs.txt"
        own_garments = paired
        if not listed.is_file() and (root / f"{split}_pairs_{kind}.txt").is_file():
            listed, own_garments = root / f"{split}_pairs_{kind}.txt", False
        folder = root / split
        agnostic, worn = folder / "agnostic-v3.2", folder / "gt_cloth_warped_mask"
        has_agnostic, has_worn = agnostic.is_dir(), paired and worn.is_dir()
        records = []
        for row in read_pairs(listed, problems)[:limit]:
            person = file_name(row.person)
            garment = person if own_garments else file_name(row.garment)
            places = {
                "person": (folder / "image", person),
                "densepose": (folder / "image-densepose", person),
                "mask": (folder / "agnostic-mask", f"{stem_of(person)}_mask.png"),
                "garment": (folder / "cloth", garment),
            }
            if has_agnostic:
                places["agnostic"] = (agnostic, person)
            if has_worn:
                places["worn_mask"] = (worn, person)
            if garment_mask:
                places["garment_mask"] = (folder / "cloth-mask", garment)
            files = {part: find(*place) for part, place in places.items() if parts is None or part in parts}
            records.append(Record(stem_of(person), stem_of(garment), files))
        what = f"VITON-HD in {root} ({split}, {kind})"
        super().__init__(records, size, what=what, check=check, problems=problems + find.problems())
