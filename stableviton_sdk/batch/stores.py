"""Files on this machine or in an object store: read, listed, and written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..decoding import MAX_FILE_BYTES
from ..errors import InvalidInput, MissingDependency, TryOnError
from ..files import check_writable, format_bytes, replacing

LEFTOVER_AGE = 600.0  # seconds after which what is half-written can't be somebody's who still writes
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
DECODED_ELSEWHERE = ("http:", "https:", "data:", "file:")  # what `load_image` takes by itself


class OutputUnwritable(TryOnError, OSError):
    """Results can't be written: no room, no permission, or the object store doesn't answer."""


class Entry(NamedTuple):
    """A file in a listing: its name, its size in bytes, and when it was last changed, in seconds (0 if unknown)."""

    name: str
    size: int
    changed: float


def is_remote(address: str) -> bool:
    """Whether an address is for fsspec (`s3://`, `gs://`, `memory://` …) and not a path of this machine."""
    return "://" in address and not address.startswith("file://")


def open_remote(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the path in it.

    Raises:
        `MissingDependency`: if fsspec, or its part for this kind of address, isn't installed.
        `InvalidInput`: if there is no such kind of address.
    """
    scheme = address.partition("://")[0]
    try:
        import fsspec

        return fsspec.url_to_fs(address, use_listings_cache=False)
    except ImportError as error:
        raise MissingDependency(
            f"{address} can't be opened ({error}): pip install 'stableviton-sdk[batch]', which has s3 along; other "
            f"stores need fsspec's package for {scheme}."
        ) from error
    except ValueError as error:
        raise InvalidInput(f"{address} can't be opened ({error}): check how it begins.") from error


def join(base: str, listed: str) -> str:
    """Address of a listed file.

    Args:
        base (`str`): Folder, or address, that relative names start from.
        listed (`str`): Name as it is listed: an address or absolute path stays what it is.
    """
    if "://" in listed or listed.startswith("data:"):
        return listed
    if is_remote(base):
        return f"{base.rstrip('/')}/{listed.replace(chr(92), '/').lstrip('/')}"
    literal = os.path.join(base, listed)
    if "\\" in listed and os.sep == "/" and not os.path.exists(literal):
        return os.path.join(base, listed.replace("\\", "/"))
    return literal


def read_image_file(address: str) -> bytes | str:
    """Bytes of an image's file; an http(s) or data address itself, which `load_image` reads.

    Raises:
        `InvalidInput`: if there is no such file, it can't be read, or it is too large.
    """
    if address.startswith(DECODED_ELSEWHERE):
        return address
    return read_file(address, MAX_FILE_BYTES)


def read_file(address: str, limit: int) -> bytes:
    """Bytes of a file of this machine or of an object store.

    Args:
        address (`str`): Path or address.
        limit (`int`): Most bytes.

    Raises:
        `InvalidInput`: if there is no such file, it can't be read, or it is larger.
    """
    try:
        if is_remote(address):
            system, path = open_remote(address)
            content = system.cat_file(path, start=0, end=limit + 1)
        else:
            with open(address, "rb") as stream:
                content = stream.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidInput(f"{address} is missing: check the path.") from error
    except IsADirectoryError as error:
        raise InvalidInput(f"{address} is a folder: pass a file.") from error
    except (TryOnError, MemoryError):
        raise
    except Exception as error:  # each store has errors of its own
        raise InvalidInput(f"{address} can't be read ({_reason(error)}): check it and its permissions.") from error
    if len(content) > limit:
        raise InvalidInput(f"{address} is larger than {format_bytes(limit)}: shrink it first.")
    return content


def open_file(address: str) -> Any:
    """A file of this machine or of an object store, opened for reading bytes at any place.

    Raises:
        `InvalidInput`: if there is no such file, or it can't be read.
    """
    try:
        if is_remote(address):
            system, path = open_remote(address)
            return system.open(path, "rb")
        return Path(address).open("rb")
    except FileNotFoundError as error:
        raise InvalidInput(f"{address} is missing: check the path.") from error
    except TryOnError:
        raise
    except Exception as error:
        raise InvalidInput(f"{address} can't be read ({_reason(error)}): check it and its permissions.") from error


def list_folder(address: str) -> list[Entry]:
    """Files that lie in a folder itself, sorted by name; hidden ones are left out.

    Raises:
        `InvalidInput`: if there is no such folder.
    """
    store = open_store(address)
    try:
        entries = store.list("")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidInput(f"the folder {address} is missing: check the path.") from error
    except TryOnError:
        raise
    except Exception as error:
        raise InvalidInput(f"the folder {address} can't be read ({_reason(error)}): check the address.") from error
    return [entry for entry in entries if not entry.name.startswith(".")]


class LineFile:
    """A text file that only ever grows, line by line; a line that was cut off before is ended first.

    Args:
        path (`Path`): The file, in a folder that exists.
    """

    def __init__(self, path: Path):
        self._path = path
        self._stream = path.open("ab", buffering=0)
        if path.stat().st_size:
            self._stream.write(b"\n")

    def add(self, line: str) -> None:
        """Append a line.

        Raises:
            `OutputUnwritable`: if it can't be written.
        """
        content = f"{line}\n".encode()
        with _writing(str(self._path)):
            if self._stream.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


class Folder:
    """A folder of this machine. Files are written under a hidden name and then renamed.

    Args:
        address (`str`): Its path.
    """

    appends = True

    def __init__(self, address: str):
        self.address = address
        self.path = Path(address.removeprefix("file://")).expanduser()

    def check(self) -> None:
        """Make sure that it can be written.

        Raises:
            `InvalidInput`: if it can't, or is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InvalidInput(f"{self.path} is a file: pass the path of a folder.")
        check_writable(self.path, self.path)

    def locate(self, name: str) -> str:
        """Path of a file in it."""
        return str(self.path / name)

    def exists(self, name: str) -> bool:
        """Whether it holds a file."""
        return (self.path / name).is_file()

    def read(self, name: str) -> bytes | None:
        """Content of a file; None if there is none."""
        try:
            return (self.path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read_all(self, names: list[str]) -> Iterator[bytes]:
        """Content of several files, one after the other."""
        for name in names:
            yield (self.path / name).read_bytes()

    def list(self, folder: str) -> list[Entry]:
        """Files of a folder in it, sorted by name."""
        found = []
        with os.scandir(self.path / folder) as entries:
            for entry in entries:
                if entry.is_file():
                    status = entry.stat()
                    found.append(Entry(entry.name, status.st_size, status.st_mtime))
        return sorted(found)

    def write(self, name: str, content: bytes) -> None:
        """Make or replace a file.

        Raises:
            `OutputUnwritable`: if it can't be written.
        """
        path = self.path / name
        with _writing(self.address):
            try:
                with replacing(path) as partial:
                    partial.write_bytes(content)
            except FileNotFoundError:  # its folder isn't there yet
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path) as partial:
                    partial.write_bytes(content)

    def append(self, name: str) -> LineFile:
        """A file to append lines to, which is made if need be."""
        path = self.path / name
        with _writing(self.address):
            path.parent.mkdir(parents=True, exist_ok=True)
            return LineFile(path)

    def remove_leftovers(self, folder: str) -> None:
        """Delete what killed processes left half-written a while ago."""
        now = time.time()
        for partial in (self.path / folder).glob(".*.partial*"):
            with contextlib.suppress(OSError):
                if now - partial.stat().st_mtime > LEFTOVER_AGE:
                    partial.unlink()


class ObjectStore:
    """A prefix of an object store, through fsspec. Files are written by one put each.

    Args:
        address (`str`): Its address.
    """

    appends = False

    def __init__(self, address: str):
        self.address = address
        self._system, self._root = open_remote(address)
        self._root = self._root.rstrip("/")

    def check(self) -> None:
        """Nothing can be said before the first put."""

    def locate(self, name: str) -> str:
        """Address of a file in it."""
        return f"{self.address.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Whether it holds a file."""
        return self._system.exists(f"{self._root}/{name}")

    def read(self, name: str) -> bytes | None:
        """Content of a file; None if there is none."""
        try:
            return self._system.cat_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return None

    def read_all(self, names: list[str]) -> Iterator[bytes]:
        """Content of several files, some dozens at a time."""
        for first in range(0, len(names), 64):
            paths = [f"{self._root}/{name}" for name in names[first : first + 64]]
            found = self._system.cat(paths)
            # a single path's content comes by itself
            yield from found.values() if isinstance(found, dict) else [found]

    def list(self, folder: str) -> list[Entry]:
        """Files of a folder in it, sorted by name; none if there is none of its name."""
        try:
            found = self._system.ls(f"{self._root}/{folder}".rstrip("/"), detail=True)
        except FileNotFoundError:
            return []
        entries = []
        for item in found:
            if item["type"] == "file":
                changed = item.get("LastModified") or item.get("mtime") or item.get("updated") or 0.0
                seconds = changed.timestamp() if hasattr(changed, "timestamp") else 0.0
                entries.append(Entry(item["name"].rpartition("/")[2], item["size"] or 0, seconds))
        return sorted(entries)

    def write(self, name: str, content: bytes) -> None:
        """Make or replace a file, by one put.

        Raises:
            `OutputUnwritable`: if the store refuses.
        """
        with _writing(self.address):
            self._system.pipe_file(f"{self._root}/{name}", content)

    def remove_leftovers(self, folder: str) -> None:
        """There are none: what wasn't put whole isn't there."""


def open_store(address: str) -> Folder | ObjectStore:
    """The folder or object store of an address."""
    return ObjectStore(address) if is_remote(address) else Folder(address)


@contextlib.contextmanager
def _writing(address: str) -> Iterator[None]:
    """Errors of writing, as one sentence."""
    try:
        yield
    except TryOnError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # each store has errors of its own
        if getattr(error, "errno", None) in NO_ROOM:
            raise OutputUnwritable(
                f"there is no room left in {address}: make room, and run the same command again to go on."
            ) from error
        raise OutputUnwritable(
            f"{address} can't be written ({_reason(error)}): mend that, and run the same command again to go on."
        ) from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:300] or type(error).__name__
