"""Reader of the plainest layout: one folder for each part of a pair."""

from __future__ import annotations

import os
from collections.abc import Collection

from .file_checks import Check
from .image_files import ImageFinder, file_name, stem_of
from .pair_dataset import PairDataset, Record, check_root, read_pairs


class FolderDataset(PairDataset):
    """Data set in the folders `person`, `garment`, `mask`, `densepose`, and where there are any `agnostic`,
    `worn_mask`, `garment_mask` and `correspondence`, with files of the same name.

    `pairs.txt` lists a person and a garment on each line; without it, every person wears the garment of its own name.
    Correspondence is a float `.npy` of (h, w, 2) for each person: x, y of every pixel's place in the garment image,
    in [0, 1] of its width and height; NaN where there is none.

    Args:
        root (`str` or `os.PathLike`): The folder.
        size (`tuple[int, int]`): Width and height of the items' images in pixels.
        check (`str`, *optional*, defaults to `"full"`): `"full"` decodes every file once, `"quick"` doesn't.
        limit (`int`, *optional*): Number of pairs to read, from the first; all by default.
        parts (`Collection[str]`, *optional*): Parts to read; by default all. The others may be missing.

    Raises:
        `BadDataSet`: if files are missing, ambiguous, unreadable, or of other proportions than `size`.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        size: tuple[int, int],
        *,
        check: Check = "full",
        limit: int | None = None,
        parts: Collection[str] | None = None,
    ):
        root = check_root(root)
        find, problems = ImageFinder(), []
        if (root / "pairs.txt").is_file():
            pairs = [
                (file_name(row.person), file_name(row.garment)) for row in read_pairs(root / "pairs.txt", problems)
            ]
        else:
            pairs = [(name, name) for name in find.names(root / "person")]
            if not pairs:
                problems.append("person/ holds no images, and there is no pairs.txt.")
        of_person = ["person", "mask", "densepose", "agnostic"]
        if all(stem_of(person) == stem_of(garment) for person, garment in pairs):
            of_person += ["worn_mask", "correspondence"]  # both are about the garment that the person wears
        optional = ("agnostic", "worn_mask", "correspondence", "garment_mask")
        read = [
            part
            for part in (*of_person, "garment", "garment_mask")
            if (parts is None or part in parts) and (part not in optional or (root / part).is_dir())
        ]
        records = []
        for person, garment in pairs[:limit]:
            names = {"garment": garment, "garment_mask": garment, "correspondence": f"{stem_of(person)}.npy"}
            files = {part: find(root / part, names.get(part, person)) for part in read}
            records.append(Record(stem_of(person), stem_of(garment), files))
        super().__init__(records, size, what=str(root), check=check, problems=problems + find.problems())
