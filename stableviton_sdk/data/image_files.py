"""Image files in folders, found by the name that a list gives them or by their name without ending."""

from __future__ import annotations

import logging
import os
import unicodedata
from pathlib import Path

from ..errors import shortened

IMAGE_ENDINGS = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif",
)  # fmt: skip
LOGGER = logging.getLogger(__name__)


def file_name(listed: str) -> str:
    """A listed file's name without its folders, whichever way their slashes lean."""
    return listed.replace("\\", "/").rpartition("/")[2]


def stem_of(name: str) -> str:
    """A file's name without folder and image ending; other dots belong to the name.

    Args:
        name (`str`): Name or path, with or without an ending, such as `"image/00001_00.jpg"`.

    Returns:
        `str`: the name, such as `"00001_00"`.
    """
    name = file_name(name)
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in IMAGE_ENDINGS else name


def images_by_stem(folder: Path) -> dict[str, list[str]]:
    """Names of a folder's image files by their name without ending, both sorted.

    Hidden files, such as the `._name.jpg` that macOS leaves on foreign disks, and files with other endings are left
    out. A name that differs in the Unicode composition of its letters alone counts as the same (macOS decomposes).

    Args:
        folder (`Path`): The folder; one that doesn't exist has no images.

    Returns:
        `dict[str, list[str]]`: more than one name where files differ in their ending only.
    """
    found: dict[str, list[str]] = {}
    for name in _visible_files(folder):
        if (stem := stem_of(name)) != name:
            found.setdefault(composed(stem), []).append(name)
    return found


class ImageFinder:
    """Finds the images of a data set's folders, and keeps a record of those that are missing or ambiguous.

    A file of exactly the listed name is read; otherwise the image of the same name with another ending, if there is
    just one.
    """

    def __init__(self):
        self._files: dict[Path, frozenset[str]] = {}
        self._images: dict[Path, dict[str, list[str]]] = {}
        self._missing: dict[Path, dict[str, None]] = {}
        self._ambiguous: dict[tuple[Path, str], list[str]] = {}
        self._passed_over: dict[Path, dict[str, str]] = {}

    def __call__(self, folder: Path, name: str) -> Path:
        """Path of an image, or of another file under exactly its name.

        Args:
            folder (`Path`): Where it is.
            name (`str`): File name as listed, with or without an ending.

        Returns:
            `Path`: where the file is, or where it was expected; `problems` reports the latter.
        """
        files, images = self._read(folder)
        stem = stem_of(name)
        candidates = images.get(composed(stem), [])
        if name in files:
            if others := [other for other in candidates if other != name]:
                self._passed_over.setdefault(folder, {})[name] = others[0]
            return folder / name
        if len(candidates) == 1:
            return folder / candidates[0]
        expected = name if os.path.splitext(name)[1] else f"{name}.jpg"
        if len(candidates) > 1:
            self._ambiguous[folder, stem] = candidates
        else:
            self._missing.setdefault(folder, {})[expected] = None
        return folder / expected

    def names(self, folder: Path) -> list[str]:
        """File names of all images of a folder, sorted; of those that differ in their ending only, the first."""
        images = self._read(folder)[1]
        for stem, names in images.items():
            if len(names) > 1:
                self._ambiguous[folder, stem] = names
        return sorted(names[0] for names in images.values())

    def problems(self) -> list[str]:
        """One line for each file that is missing or ambiguous, one for a folder that is missing as a whole.

        Logs a warning for each folder where a listed file was read and another one of its name was not.
        """
        lines = []
        for folder, names in self._missing.items():
            if self._files[folder]:
                lines += [f"{folder / name} is missing{self._similar(folder, name)}." for name in names]
            else:
                state = "is empty" if folder.is_dir() else "is missing"
                lines.append(f"the folder {folder} {state}: {len(names)} images were to be read from it.")
        lines += [
            f"{folder} holds {' and '.join(names)}: keep one of them, or list the one to read with its ending."
            for (folder, _), names in self._ambiguous.items()
        ]
        for folder, names in self._passed_over.items():
            pairs = [f"{read}, not {other}" for read, other in names.items()]
            LOGGER.warning(
                "%s holds two images of one name; the listed one is read: %s.", folder, shortened(pairs, "; ")
            )
        return lines

    def _read(self, folder: Path) -> tuple[frozenset[str], dict[str, list[str]]]:
        if folder not in self._files:
            self._files[folder] = frozenset(_visible_files(folder))
            self._images[folder] = images_by_stem(folder)
        return self._files[folder], self._images[folder]

    def _similar(self, folder: Path, name: str) -> str:
        stem = composed(stem_of(name)).casefold()
        similar = [names[0] for other, names in self._images[folder].items() if other.casefold() == stem]
        return f" (there is {similar[0]}: mind capitals)" if similar else ""


def _visible_files(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_file() and not entry.name.startswith("."))


def composed(name: str) -> str:
    """A file's name with composed letters; macOS decomposes them."""
    return unicodedata.normalize("NFC", name)
