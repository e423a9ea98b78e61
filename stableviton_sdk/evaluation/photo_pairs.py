"""Pairs of any photos with any garments: lists in CSV or JSONL, and folders of persons with another set's garments."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.folder import (
    IMAGE_ENDINGS,
    BadDataSet,
    FileFinder,
    Record,
    check_size,
    find_problems,
    read_pairs,
    upright_size,
)
from ..errors import InvalidInput
from ..images import load_image, load_mask
from ..preprocessing.frame import choose_frame, same_aspect
from ..preprocessing.inputs import grey_out

PARTS = ("person", "garment", "mask", "agnostic", "densepose", "truth")
MAP_FOLDERS = {
    "mask": (("agnostic-mask", "{}_mask", ".png"), ("mask", "{}", ".png")),
    "densepose": (("image-densepose", "{}", ".jpg"), ("densepose", "{}", ".jpg")),
    "agnostic": (("agnostic-v3.2", "{}", ".jpg"), ("agnostic", "{}", ".jpg")),
}


class PhotoPairs:
    """A map-style data set of photos of any proportions: they are framed as the pipeline frames them.

    Items have the parts that their records have, as `PairDataset`'s do; garments keep their own size, everything else
    is brought into the frame. Where only the mask is there, the agnostic image is derived.

    Args:
        records (`Sequence[Record]`): The pairs; parts are some of `PARTS`.
        size (`tuple[int, int]`): Height and width of the items' images.
        what (`str`, *optional*, defaults to `"the list of pairs"`): What the report calls it.
        limit (`int`, *optional*): The first pairs only.
        problems (`Sequence[str]`, *optional*): What has been found wrong before, for the same report.

    Raises:
        `BadDataSet`: naming every missing or unreadable file, and maps that don't have their photo's proportions.
    """

    def __init__(
        self,
        records: Sequence[Record],
        size: tuple[int, int],
        *,
        what: str = "the list of pairs",
        limit: int | None = None,
        problems: Sequence[str] = (),
    ):
        self.records, self.size = list(records)[:limit], check_size(size)
        files = {path: None for record in self.records for path in record.files.values()}
        problems = [*problems, *(f"{path} is missing." for path in files if not path.is_file())]
        problems += find_problems(self.records, self.size, "full", proportions=False)
        if not self.records and not problems:
            problems.append("it is empty: no pair is left to read.")
        if not problems:
            problems = _disproportionate(self.records)
        if problems:
            raise BadDataSet(what, list(dict.fromkeys(problems)))

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.records[index]
        size = self.size[::-1]
        load = {part: load_mask if part == "mask" else load_image for part in PARTS}
        images = {part: load[part](path, name=str(path)) for part, path in record.files.items()}
        photo = images["person"]
        around = None
        if "mask" in images and (box := images["mask"].getbbox()) is not None:
            scale = photo.width / images["mask"].width
            around = tuple(round(edge * scale) for edge in box)
        frame = choose_frame(photo.size, size, around)
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
            item["agnostic"] = np.array(grey_out(Image.fromarray(item["person"]), mask))
        return item


def read_list(path: str | os.PathLike, *, for_inference: bool = True) -> list[Record]:
    """Read a list of pairs: CSV with a header, or a JSON object on each line.

    The columns are `person` and `garment`, and where there are any `mask`, `agnostic`, `densepose` and `truth` (what
    the result should look like): paths, from the list's own folder. Empty cells are parts that a pair lacks. Images
    are called by their file's name without ending; those of one name in several folders, by their paths.

    Args:
        path (`str` or `os.PathLike`): `.csv` or `.jsonl`.
        for_inference (`bool`, *optional*, defaults to `True`): Whether the garments' images are needed.

    Raises:
        `InvalidInput`: if it can't be read as a list.
        `BadDataSet`: naming every line that isn't a pair.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidInput(f"there is no list of pairs {path}: check the path.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} can't be read as a list of pairs ({error}): pass UTF-8 text.") from error
    rows = _json_rows(text) if path.suffix.lower() == ".jsonl" else _csv_rows(text, path)
    pairs, problems = [], []
    for number, row in rows:
        where = f"{path}, line {number}"
        if not isinstance(row, dict):
            problems.append(f"{where}: it isn't a JSON object.")
            continue
        unknown = sorted(str(name) for name in row if name not in PARTS)
        given = {part: value for part, value in row.items() if part in PARTS and value not in (None, "")}
        if unknown:
            problems.append(f"{where}: unknown column {unknown[0]!r}; known are {', '.join(PARTS)}.")
        elif not all(isinstance(value, str) for value in given.values()):
            problems.append(f"{where}: paths must be text.")
        elif absent := [part for part in ("person", "garment") if part not in given]:
            problems.append(f"{where}: there is no {absent[0]}.")
        else:
            pairs.append(given)
    if problems:
        raise BadDataSet(str(path), problems)
    persons, garments = (_names([given[part] for given in pairs]) for part in ("person", "garment"))
    records = []
    for given in pairs:
        files = {part: path.parent / given[part] for part in PARTS if part in given}
        if not for_inference and not files["garment"].is_file():
            del files["garment"]  # its name is all that scoring needs
        records.append(Record(persons[given["person"]], garments[given["garment"]], files))
    return records


def pair_with_garments(
    persons: Path, garments: Path, pairs: str | os.PathLike | None, seed: int
) -> tuple[list[Record], list[str]]:
    """Persons of one folder with garments of another.

    Args:
        persons (`Path`):
            Photos, in the folder itself or in its `image`. Beside them, where there are any: `agnostic-mask`
            (`NAME_mask.png`) or `mask`, `image-densepose` or `densepose`, `agnostic-v3.2` or `agnostic`.
        garments (`Path`): Images of garments.
        pairs (`str` or `os.PathLike`, *optional*): Lines of a person's and a garment's file name.
        seed (`int`): Without `pairs`: garment number sha256("seed/person") modulo their count, sorted by name.

    Returns:
        `tuple[list[Record], list[str]]`: the pairs, and a line for everything that is missing.
    """
    photos = persons / "image" if (persons / "image").is_dir() else persons
    problems: list[str] = []
    find = FileFinder()
    if pairs is not None:
        chosen = [(Path(person).stem, Path(garment).stem) for person, garment in read_pairs(Path(pairs), problems)]
    else:
        names, flat = _stems(photos), _stems(garments)
        for folder, found in ((photos, names), (garments, flat)):
            if not found:
                problems.append(f"{folder} holds no images.")
        chosen = [(name, flat[_draw(f"{seed}/{name}", len(flat))]) for name in names] if flat else []
    maps = {}
    for part, places in MAP_FOLDERS.items():
        place = next((place for place in places if (persons / place[0]).is_dir()), None)
        if place is not None:
            maps[part] = place
    records = []
    for person, garment in chosen:
        files = {"person": find(photos, person), "garment": find(garments, garment)}
        for part, (folder, name, ending) in maps.items():
            files[part] = find(persons / folder, name.format(person), ending)
        records.append(Record(person, garment, files))
    return records, problems


def _disproportionate(records: Sequence[Record]) -> list[str]:
    """A line for every map or truth that can't show the whole photo."""
    sizes: dict[Path, tuple[int, int]] = {}
    problems = []
    for record in records:
        for part, path in record.files.items():
            if part != "garment" and path not in sizes:
                with Image.open(path) as image:
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


def _names(paths: Sequence[str]) -> dict[str, str]:
    """A name for every path, unlike any other's."""
    by_stem: dict[str, set[str]] = {}
    for path in paths:
        by_stem.setdefault(Path(path).stem, set()).add(path)
    return {
        path: Path(path).stem
        if len(by_stem[Path(path).stem]) == 1
        else Path(path).with_suffix("").as_posix().strip("./").replace("/", "-")
        for path in paths
    }


def _draw(text: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % count


def _stems(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.iterdir() if path.suffix.lower() in IMAGE_ENDINGS and path.is_file())


def _csv_rows(text: str, path: Path) -> list[tuple[int, Any]]:
    reader = csv.DictReader(text.splitlines())
    try:
        rows = [(reader.line_num, {key: value for key, value in row.items() if key or value}) for row in reader]
    except csv.Error as error:
        raise InvalidInput(f"{path} can't be read as CSV ({error}): check its quotes.") from error
    return rows


def _json_rows(text: str) -> list[tuple[int, Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                rows.append((number, json.loads(line)))
            except ValueError:
                rows.append((number, None))
    return rows
