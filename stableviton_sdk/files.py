"""Files and folders that are there whole or not at all, whatever interrupts their writing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import InvalidInput

FILE_MANAGER_FILES = {".ds_store", ".localized", ".directory", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
MAX_SHOWN = 80  # characters of a value in a message


def check_writable(folder: Path, what: Path) -> None:
    """Make sure that a folder, there already or not, can be written to; call it before long work.

    Args:
        folder (`Path`): The folder.
        what (`Path`): File or folder to write there, for the message.

    Raises:
        `InvalidInput`: if it can't.
    """
    nearest = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InvalidInput(f"{what} can't be written: {nearest} is no folder that can be written to.")


def folder_entries(folder: Path) -> list[Path]:
    """Sorted content of a folder, without the files that file managers leave in every folder they show.

    Args:
        folder (`Path`): A folder; one that doesn't exist has no content.
    """
    if not folder.is_dir():
        return []
    # macOS writes a "._" companion of each of its files on disks of other systems
    return sorted(path for path in folder.iterdir() if path.name.lower().removeprefix("._") not in FILE_MANAGER_FILES)


def format_bytes(size: float) -> str:
    """A size for people: `"1.6 MB"`, `"267 MB"`, `"7.4 GB"`.

    Args:
        size (`float`): Number of bytes.
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.1f} {unit}" if size < 10 and unit not in ("B", "kB") else f"{size:.0f} {unit}"


def file_sha256(path: str | os.PathLike[str]) -> str:
    """sha256 of a file, in hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_new_folder(folder: Path) -> None:
    """Make sure that a folder doesn't exist, or is empty but for what file managers leave in it.

    Raises:
        `InvalidInput`: if it is a file, or holds anything.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{folder} exists already, as a file: pass the path of a new folder.")
    entries = folder_entries(folder)
    if entries:
        raise InvalidInput(
            f"{folder} exists already and is not empty ({entries[0].name}): pass a new folder, or delete it first."
        )


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden path beside `path` to write to; renamed onto it when the block ends well, removed when it doesn't.

    It has the target's suffix, for writers that look at it, and a name of its own for each writer. A process that is
    killed leaves it behind; `remove_leftovers` finds it.

    Args:
        path (`Path`): The file to make or replace, in a folder that exists.
    """
    partial = path.with_name(f".{path.stem}.{_token()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):  # where it couldn't even be made
            partial.unlink()
        raise


@contextlib.contextmanager
def replacing_folder(path: Path, *, flush: bool = False) -> Iterator[Path]:
    """A hidden, empty folder beside `path` to write to; renamed to it when the block ends well.

    Where `path` exists, its old content is there until that moment, and again if anything fails, an interrupt too.
    Check first that it may be replaced. A process that is killed leaves the hidden folder behind; `remove_leftovers`
    finds it.

    Args:
        path (`Path`): The folder to make or replace; its parents are made. Where it is a link, the link stays.
        flush (`bool`, *optional*, defaults to `False`): Wait until everything would survive a power cut.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    # beside the target, so that renaming it stays within one disk
    partial, old = (path.with_name(f".{path.name}.{_token()}.{ending}") for ending in ("partial", "old"))
    partial.mkdir()
    try:
        yield partial
        if flush:
            for part in sorted(partial.rglob("*"), reverse=True):
                _flush(part)
            _flush(partial)
        if path.is_dir():
            path.rename(old)
        partial.rename(path)
        if flush:
            _flush(path.parent)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        for folder in (partial, old):
            shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Delete what killed processes left half-written in a folder; call it only while nothing is written there.

    A folder that was about to be replaced comes back.

    Args:
        folder (`Path`): Folder that `replacing` or `replacing_folder` wrote in.
        name (`str`, *optional*, defaults to `"*"`): Only what belongs to this file's stem or folder, as a pattern.
    """
    for old in folder.glob(f".{name}.*.old"):
        path = folder / old.name[1:].rsplit(".", 2)[0]
        if not path.exists():
            old.rename(path)
        else:
            shutil.rmtree(old, ignore_errors=True)
    for partial in folder.glob(f".{name}.*.partial*"):
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str) -> None:
    """Make or replace a text file, in UTF-8.

    Args:
        path (`Path`): The file, in a folder that exists.
        text (`str`): All of its content.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


class RunManifest:
    """Settings of the run whose results a folder holds, kept in it, so that only the same run goes on with them.

    Args:
        folder (`Path`): Folder of the run.
        kind (`str`, *optional*, defaults to `"run"`): Kind of content, for messages: "holds a {kind} whose …".
        name (`str`, *optional*, defaults to `"manifest.json"`): Name of the file.
    """

    def __init__(self, folder: Path, *, kind: str = "run", name: str = "manifest.json"):
        self.folder = folder
        self.kind = kind
        self.path: Path = folder / name

    def read(self) -> dict[str, Any] | None:
        """The content; None if there is none yet.

        Raises:
            `InvalidInput`: if it can't be read.
        """
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{self.path} can't be read ({error}): pass another folder.") from error
        if not isinstance(content, dict):
            raise InvalidInput(f"{self.path} is damaged: pass another folder.")
        return content

    def open_or_refuse(self, content: Mapping[str, Any]) -> bool:
        """Begin a run, or go on with the one that the folder holds.

        Args:
            content (`Mapping[str, Any]`): All that the results follow from, as JSON holds it.

        Returns:
            `bool`: whether the folder held this run already.

        Raises:
            `InvalidInput`: if the folder holds a run that differs, or something else.
        """
        content = json.loads(json.dumps(content))
        before = self.read()
        if before is not None:
            self._refuse_differences(before, content)
            return True
        if self.folder.is_dir():
            remove_leftovers(self.folder, self.path.stem)
        if (self.folder.exists() and not self.folder.is_dir()) or folder_entries(self.folder):
            raise InvalidInput(f"{self.folder} holds something else than a {self.kind}: pass a new or empty folder.")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(self.path, json.dumps(content, indent=2) + "\n")
        return False

    def _refuse_differences(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        differing = list(differences(before, now))
        if not differing:
            return
        name, old, new = differing[0]
        if isinstance(old, dict) or isinstance(new, dict):
            raise InvalidInput(
                f"{self.folder} holds a {self.kind} of another sort, which {'has' if old else 'lacks'} {name!r}: "
                "pass another folder."
            )
        more = f" (and {len(differing) - 1} more differences)" if differing[1:] else ""
        raise InvalidInput(
            f"{self.folder} holds a {self.kind} whose {name} is {_shown(old)}, not {_shown(new)}{more}: pass another "
            "folder, or the same settings to go on with it."
        )


def differences(first: Any, second: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two nested dictionaries differ: dotted name, and either value; None for one that is missing."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys([*first, *second]):
            yield from differences(first.get(key), second.get(key), f"{name}.{key}" if name else str(key))
    elif first != second:
        yield name, first, second


def _token() -> str:
    """Part of a temporary name: whose it is, and different for each of one process's threads."""
    return f"{os.getpid()}-{secrets.token_hex(4)}"


def _flush(path: Path) -> None:
    """Make sure that a file, or a folder's list of files, survives a power cut."""
    if path.is_dir() and os.name == "nt":
        return  # Windows can't open folders
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
