"""Prepared inputs as a folder: PNG files for the images, one JSON file for the rest."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..decoding import open_image
from ..errors import InvalidInput
from ..files import folder_entries, replacing_folder
from ..images import load_image, load_mask, load_photo
from .frame import Frame

FORMAT, VERSION = "stableviton_sdk.TryOnInputs", 1
INDEX = "inputs.json"
# Fields of `TryOnInputs`, and the names of their files.
IMAGES = {
    "photo": "photo",
    "frame_person": "person",
    "frame_mask": "mask",
    "frame_densepose": "densepose",
    "frame_agnostic": "agnostic",
    "parsing": "parsing",
}
REQUIRED = {"photo", "person", "mask", "densepose"}
SHEET = "contact_sheet.png"  # the command line adds it for people; loading doesn't need it
FILES = (INDEX, SHEET, *(f"{name}.png" for name in IMAGES.values()))


def write_folder(folder: str | os.PathLike[str], fields: Mapping[str, Any]) -> None:
    """Write prepared inputs to a folder that is new, empty, or of the same kind; it changes as a whole or not at all.

    Args:
        folder (`str` or `os.PathLike`): The folder.
        fields (`Mapping`): Fields of `TryOnInputs`; those that are None are left out.

    Raises:
        `InvalidInput`: if the folder holds something else, or can't be written.
    """
    target = Path(folder)
    check_folder(target)
    try:
        with replacing_folder(target) as partial:
            _write(fields, partial)
    except OSError as error:
        raise InvalidInput(f"{target} can't be written ({error}): choose another folder, or make room.") from error


def read_folder(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Fields of `TryOnInputs` from a folder.

    Raises:
        `InvalidInput`: one sentence on what is missing, damaged or of another version.
    """
    folder = Path(folder)
    index = _read_index(folder)
    fields: dict[str, Any] = {"frame": index["frame"], "keypoints": index["keypoints"]}
    for name, file in IMAGES.items():
        if file not in index["pictures"]:
            continue
        path = folder / f"{file}.png"
        if not path.is_file():
            raise InvalidInput(f"{path} is missing: restore the file, or save the inputs again.")
        load = {"photo": load_photo, "mask": load_mask, "parsing": _load_labels}.get(file, load_image)
        fields[name] = load(path, name=str(path))
    return fields


def _write(fields: Mapping[str, Any], folder: Path) -> None:
    files = []
    for name, file in IMAGES.items():
        image = fields[name]
        if image is None:
            continue
        if not isinstance(image, Image.Image):
            image = Image.fromarray(image)
        image.save(folder / f"{file}.png", compress_level=3)  # a large photo takes seconds at the default level
        files.append(file)
    frame, keypoints = fields["frame"], fields["keypoints"]
    index = {
        "format": FORMAT,
        "version": VERSION,
        "frame": {"photo_size": frame.photo_size, "box": frame.box},
        "pictures": files,
        "keypoints": None if keypoints is None else np.asarray(keypoints, dtype=float).tolist(),
    }
    (folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")


def check_folder(folder: Path) -> None:
    """Make sure that inputs can be saved to a folder without losing anything else.

    Raises:
        `InvalidInput`: if it holds something else, or is a file.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is a file: pass the path of a folder.")
    names = {entry.name for entry in folder_entries(folder)}
    foreign = sorted(names - set(FILES))
    if foreign or (names and not _is_index(folder / INDEX)):
        example = foreign[0] if foreign else sorted(names)[0]
        raise InvalidInput(f"{folder} holds something else ({example}), which is not overwritten: pass a new folder.")


def _is_index(path: Path) -> bool:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(index, dict) and index.get("format") == FORMAT


def _read_index(folder: Path) -> dict[str, Any]:
    """The checked content of a folder's `inputs.json`."""
    path = folder / INDEX
    if not path.is_file():
        raise InvalidInput(f"{folder} holds no {INDEX}: pass a folder that TryOnInputs.save wrote.")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} is damaged ({error}): save the inputs again.") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise InvalidInput(f"{path} doesn't describe prepared inputs: pass a folder that TryOnInputs.save wrote.")
    if index.get("version") != VERSION:
        raise InvalidInput(
            f"{path} has version {index.get('version')!r}, this package reads {VERSION}: save the inputs again, "
            "or install the version of stableviton-sdk that wrote them."
        )
    frame, images, keypoints = index.get("frame"), index.get("pictures"), index.get("keypoints")
    try:
        frame = Frame(tuple(frame["photo_size"]), tuple(frame["box"]))
        if not isinstance(images, list) or not set(images) <= set(IMAGES.values()):
            raise ValueError("unknown images")
        missing = REQUIRED - set(images)
        if missing:
            raise ValueError(f"no {sorted(missing)[0]}")
        if keypoints is not None:
            keypoints = np.array(keypoints, dtype=np.float32)
            if keypoints.shape != (25, 3):
                raise ValueError("keypoints that aren't (25, 3)")
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{path} is damaged ({error}): save the inputs again.") from error
    return {"frame": frame, "pictures": images, "keypoints": keypoints}


def _load_labels(path: Path, *, name: str) -> np.ndarray:
    with open_image(path, name) as image:
        labels, mode = np.array(image), image.mode
    if mode not in ("L", "P"):
        raise InvalidInput(f"{name} is no label map (mode {mode}): it must hold the labels as grey values.")
    return labels
