"""Pairs of any photos with any garments: lists in CSV or JSONL, and folders of persons with another set's garments."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.file_checks import find_problems, upright_size
from ..data.image_files import ImageFinder, file_name, stem_of
from ..data.pair_dataset import BadDataSet, Record, check_size, read_pairs
from ..data.pair_lists import PARTS, read_pair_list
from ..decoding import open_image
from ..errors import shortened
from ..images import load_image, load_mask
from ..preprocessing.frame import choose_frame, same_aspect
from ..preprocessing.inputs import derive_agnostic, frame_around

LOGGER = logging.getLogger(__name__)
MAP_FOLDERS = {
    "mask": ("agnostic-mask", "mask"),
    "densepose": ("image-densepose", "densepose"),
    "agnostic": ("agnostic-v3.2", "agnostic"),
}


class PhotoPairs:
    """A map-style data set of photos of any proportions, framed as the pipeline frames them.

    Items have the parts that their records have, as `PairDataset`'s do; garments keep their own size, everything else
    is brought into the frame. Where only the mask is there, the agnostic image is derived.

    Args:
        records (`Sequence[Record]`): The pairs; parts are some of `PARTS`.
        size (`tuple[int, int]`): Width and height of the items' images in pixels.
        what (`str`, *optional*, defaults to `"the list of pairs"`): Name of the data, for messages.
        problems (`Sequence[str]`, *optional*): Problems found before, such as missing files, for the same report.

    Raises:
        `BadDataSet`: if files are missing or unreadable, or maps don't have their photo's proportions.
    """

    def __init__(
        self,
        records: Sequence[Record],
        size: tuple[int, int],
        *,
        what: str = "the list of pairs",
        problems: Sequence[str] = (),
    ):
        self.records: list[Record] = list(records)
        self.size: tuple[int, int] = check_size(size)
        files = [entry for record in self.records for entry in record.files.items()]
        problems = [*problems, *find_problems(files)]
        if not self.records and not problems:
            problems.append("it is empty: there are no pairs to read.")
        if not problems:
            problems = _disproportionate(self.records)
        if problems:
            raise BadDataSet(what, list(dict.fromkeys(problems)))

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record, size = self.records[index], self.size
        images = {
            part: load_mask(path, name=str(path))
            if part == "mask"
            else load_image(path, name=str(path), srgb=part != "densepose")
            for part, path in record.files.items()
        }
        photo = images["person"]
        frame = frame_around(images["mask"], photo.size, size) if "mask" in images else choose_frame(photo.size, size)
        item: dict[str, Any] = {"name": record.name, "garment_name": record.garment_name}
        for part, image in images.items():
            if part == "garment":
                item[part] = np.array(image)
            elif part == "mask":
                framed = frame.crop(image, size, resample=Image.Resampling.BILINEAR, fill=0)
                item[part] = np.asarray(framed) >= 128
            elif part == "densepose":
                framed = frame.crop(image, size, resample=Image.Resampling.BILINEAR, fill=(0, 0, 0))
                item[part] = np.array(framed)
            else:
                item[part] = np.array(frame.crop(image, size))
        if "mask" in item and "agnostic" not in item:
            mask = Image.fromarray(item["mask"].astype(np.uint8) * np.uint8(255))
            item["agnostic"] = np.array(derive_agnostic(Image.fromarray(item["person"]), mask, size))
        return item


def read_photo_pairs(
    path: str | os.PathLike[str], limit: int | None = None, *, for_inference: bool = True
) -> tuple[list[Record], list[str]]:
    """Records of a list of pairs; see `read_pair_list` for its formats.

    Columns are `person` and `garment`, and where there are any `mask`, `agnostic`, `densepose` and `truth` (what the
    result should look like): paths, from the list's own folder. Other columns are ignored with a warning. Images are
    called by their file's name without ending; those of one name in several folders, by their paths.

    Args:
        path (`str` or `os.PathLike`): The list.
        limit (`int`, *optional*): Number of pairs to read, from the first; all by default.
        for_inference (`bool`, *optional*, defaults to `True`): Whether the garments' images are needed.

    Returns:
        `tuple[list[Record], list[str]]`: the pairs, and a sentence on each line that isn't one and each missing file.

    Raises:
        `InvalidInput`: if there is no such list, or it isn't text.
    """
    listed = read_pair_list(path)
    if unused := list(dict.fromkeys(name for row in listed.rows for name in row.extra)):
        LOGGER.warning("%s has columns that aren't used: %s.", path, shortened(unused))
    persons = _unique_names([row.person for row in listed.rows])
    garments = _unique_names([row.garment for row in listed.rows])
    records = []
    for row in listed.rows[:limit]:
        files = {part: listed.locate(row.parts[part]) for part in PARTS if part in row.parts}
        if not for_inference and not files["garment"].is_file():
            del files["garment"]  # its name is all that scoring needs
        records.append(Record(persons[row.person], garments[row.garment], files))
    paths = dict.fromkeys(file for record in records for file in record.files.values())
    return records, listed.problems + [f"{file} is missing." for file in paths if not file.is_file()]


def pair_with_garments(
    persons: Path, garments: Path, pairs: str | os.PathLike[str] | None, seed: int, limit: int | None = None
) -> tuple[list[Record], list[str]]:
    """Records of persons of one folder with garments of another.

    Args:
        persons (`Path`):
            Photos, in the folder itself or in its `image`. Beside them, where there are any: `agnostic-mask`
            (`NAME_mask.png`) or `mask`, `image-densepose` or `densepose`, `agnostic-v3.2` or `agnostic`.
        garments (`Path`): Images of garments.
        pairs (`str` or `os.PathLike`, *optional*): List of a person's and a garment's file name for each pair.
        seed (`int`): Without `pairs`: garment number sha256("seed/person") modulo their count, sorted by name.
        limit (`int`, *optional*): Number of pairs, from the first; all by default.

    Returns:
        `tuple[list[Record], list[str]]`: the pairs, and a sentence on every file that is missing or ambiguous.
    """
    photos = persons / "image" if (persons / "image").is_dir() else persons
    find, problems = ImageFinder(), []
    if pairs is not None:
        chosen = [(file_name(row.person), file_name(row.garment)) for row in read_pairs(Path(pairs), problems)]
    else:
        names, flat = find.names(photos), find.names(garments)
        problems += [
            f"{folder} holds no images." for folder, found in ((photos, names), (garments, flat)) if not found
        ]
        chosen = [(name, flat[_draw(f"{seed}/{stem_of(name)}", len(flat))]) for name in names] if flat else []
    maps = {}
    for part, folders in MAP_FOLDERS.items():
        if found := [name for name in folders if (persons / name).is_dir()]:
            maps[part] = persons / found[0]
    records = []
    for person, garment in chosen[:limit]:
        files = {"person": find(photos, person), "garment": find(garments, garment)}
        for part, folder in maps.items():
            name = f"{stem_of(person)}_mask.png" if folder.name == "agnostic-mask" else person
            files[part] = find(folder, name)
        records.append(Record(stem_of(person), stem_of(garment), files))
    return records, problems + find.problems()


def _disproportionate(records: Sequence[Record]) -> list[str]:
    """A sentence on every map or truth whose proportions aren't its photo's."""
    sizes: dict[Path, tuple[int, int]] = {}
    problems = []
    for record in records:
        for part, path in record.files.items():
            if part != "garment" and path not in sizes:
                with open_image(path, str(path)) as image:
                    sizes[path] = upright_size(image)
        photo = sizes[record.files["person"]]
        for part, path in record.files.items():
            if part != "garment" and not same_aspect(sizes[path], photo):
                problems.append(
                    "{} is {} x {} for a photo of {} x {}: it must show the whole photo, in its proportions.".format(
                        path, *sizes[path], *photo
                    )
                )
    return problems


def _unique_names(paths: Sequence[str]) -> dict[str, str]:
    """A name for every path, different from any other's."""
    by_stem: dict[str, set[str]] = {}
    for path in paths:
        by_stem.setdefault(stem_of(path), set()).add(path)
    names = {}
    for stem, same in by_stem.items():
        folders = {path: path.replace("\\", "/").rpartition("/")[0].strip("./") for path in same}
        in_one_folder = len(set(folders.values())) < len(same)
        for path, folder in folders.items():
            name = file_name(path) if in_one_folder else stem
            names[path] = f"{folder.replace('/', '-')}-{name}" if folder and len(same) > 1 else name
    return names


def _draw(text: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % count
