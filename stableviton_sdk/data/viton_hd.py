"""VITON-HD in its authors' folders, as StableVITON's authors extended it."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from ..errors import InvalidInput
from .folder import Check, FileFinder, PairDataset, Record, check_root, read_pairs


class VitonHD(PairDataset):
    """Reads `ROOT/{train,test}_pairs.txt` and, in `ROOT/train` or `ROOT/test`, the folders `image`,
    `image-densepose`, `agnostic-mask` (`NAME_mask.png`, white = repaint), `cloth`, and where they are there
    `agnostic-v3.2`, `gt_cloth_warped_mask` (paired only) and, if asked for, `cloth-mask`.

    Args:
        root (`str` or `os.PathLike`): The folder that holds the lists of pairs.
        split (`str`, *optional*, defaults to `"train"`): `"train"` or `"test"`.
        paired (`bool`, *optional*, defaults to `True`):
            Every person with the garment that it wears, instead of the one that the list names.
        size (`tuple[int, int]`, *optional*, defaults to `(512, 384)`): Height and width of the items' images.
        garment_mask (`bool`, *optional*, defaults to `False`): Read the garment's outline too.
        check (`str`, *optional*, defaults to `"full"`): See `PairDataset`.
        limit (`int`, *optional*): Use the first pairs only.
        parts (`Collection[str]`, *optional*): Read these only, so that the others may be missing; by default all.

    Raises:
        `BadDataSet`: naming every missing or unusable file.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        split: Literal["train", "test"] = "train",
        *,
        paired: bool = True,
        size: tuple[int, int] = (512, 384),
        garment_mask: bool = False,
        check: Check = "full",
        limit: int | None = None,
        parts: Collection[str] | None = None,
    ):
        if split not in ("train", "test"):
            raise InvalidInput(f"split is {split!r}: pass 'train' or 'test'.")
        root = check_root(root)
        problems: list[str] = []
        pairs = read_pairs(root / f"{split}_pairs.txt", problems)
        folder, find = root / split, FileFinder()
        agnostic, worn = folder / "agnostic-v3.2", folder / "gt_cloth_warped_mask"
        has_agnostic, has_worn = agnostic.is_dir(), paired and worn.is_dir()
        records = []
        for person, garment in pairs[:limit]:
            name = Path(person).stem
            garment_name = name if paired else Path(garment).stem
            places = {
                "person": (folder / "image", name),
                "densepose": (folder / "image-densepose", name),
                "mask": (folder / "agnostic-mask", f"{name}_mask", ".png"),
                "garment": (folder / "cloth", garment_name),
            }
            if has_agnostic:
                places["agnostic"] = (agnostic, name)
            if has_worn:
                places["worn_mask"] = (worn, name)
            if garment_mask:
                places["garment_mask"] = (folder / "cloth-mask", garment_name)
            files = {part: find(*place) for part, place in places.items() if parts is None or part in parts}
            records.append(Record(name, garment_name, files))
        what = f"VITON-HD in {root} ({split}, {'paired' if paired else 'unpaired'})"
        super().__init__(records, size, what=what, check=check, problems=problems + find.report())
