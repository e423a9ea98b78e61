"""What a batch's output says of itself: its settings, what became of each row, and the rows that failed.

    run.json               what the images follow from; the same command goes on, another one is refused
    parts/00001.txt        ids that became known together, in their order: what batches are composed from
    manifest/…jsonl        a line for each row and attempt; a file for each run and writer
    images/NAME.png        the images
    errors.csv             the rows that have no image, each with one sentence

The images are what counts: one without a line in the manifest is looked at and taken over, or made again.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import secrets
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidInput, clipped
from ..files import differences, folder_entries
from .pairs import BadRow, Pair
from .stores import Folder, ObjectStore, open_store

FORMAT, VERSION = "stableviton_sdk.batch", 1
INDEX, ERRORS, SHEET = "run.json", "errors.csv", "contact.png"
IMAGES, MANIFEST, PARTS = "images", "manifest", "parts"
DONE, FAILED = "done", "failed"
SHARD = re.compile(r"(\d{6})-[\w-]+\.jsonl$")
LINES_PER_OBJECT = 1000  # of a shard in a store that can't append, and that is put again as it grows
SECONDS_PER_PUT = 15.0
ERROR_LENGTH = 1000  # characters


@dataclass(slots=True)
class Record:
    """The last that is known of a row.

    Args:
        run (`int`): Number of the run.
        status (`str`): `"done"` or `"failed"`.
        fingerprint (`str`): Of the settings.
        digest (`str`): Of the row.
        error (`str`, *optional*): Why it failed.
        at (`float`): When, in seconds since 1970.
    """

    run: int
    status: str
    fingerprint: str
    digest: str
    error: str | None
    at: float


@dataclass
class State:
    """What an output says.

    Args:
        settings (`dict`, *optional*): What the images follow from; None before the first run.
        parts (`list[list[str]]`): Ids that became known together.
        records (`dict[str, Record]`): The last that is known of each row, by id.
        run (`int`): Number of the last run.
    """

    settings: dict[str, Any] | None = None
    parts: list[list[str]] = field(default_factory=list)
    records: dict[str, Record] = field(default_factory=dict)
    run: int = 0


class Ledger:
    """The books of one output.

    Args:
        output (`str`): Folder, or address of an object store.
    """

    def __init__(self, output: str):
        self.output = output
        self.store: Folder | ObjectStore = open_store(output)

    def read(self) -> State:
        """What the output says.

        Raises:
            `InvalidInput`: if it holds something else, or of another version.
        """
        index = self._read_index()
        state = State(settings=None if index is None else index["settings"])
        for name in self._names(PARTS):
            state.parts.append((self.store.read(f"{PARTS}/{name}") or b"").decode().splitlines())
        shards = self.shards()
        for content in self.store.read_all([f"{MANIFEST}/{name}" for name in shards]):
            for result in _results(content):
                note(state.records, result, result["run"], result["at"])
        state.run = max((int(SHARD.match(name)[1]) for name in shards), default=0)
        return state

    def open(self, state: State, settings: Mapping[str, Any], *, redo: bool) -> str:
        """Begin a run, or go on with the one that the output holds.

        Args:
            state (`State`): What it says.
            settings (`Mapping[str, Any]`): All that the images follow from, of JSON's types.
            redo (`bool`): Whether other settings may replace those of before.

        Returns:
            `str`: the settings' fingerprint.

        Raises:
            `InvalidInput`: if it holds images of other settings.
        """
        settings = json.loads(json.dumps(settings))
        if state.settings is not None and not redo:
            self._refuse_differences(state.settings, settings)
        if state.settings != settings:
            content = {"format": FORMAT, "version": VERSION, "settings": settings}
            self.store.write(INDEX, (json.dumps(content, indent=2) + "\n").encode())
        state.settings = settings
        self.store.remove_leftovers(IMAGES)
        return fingerprint_of(settings)

    def add_part(self, state: State, rows: Sequence[Pair]) -> None:
        """Keep the ids of rows that weren't known, in their order."""
        known = {id_ for part in state.parts for id_ in part}
        new = [row.id for row in rows if row.id not in known]
        if new:
            self.store.write(f"{PARTS}/{len(state.parts) + 1:05}.txt", "".join(f"{id_}\n" for id_ in new).encode())
            state.parts.append(new)

    def write_errors(self, state: State, rows: Iterable[Pair], bad: Iterable[BadRow]) -> int:
        """Write `errors.csv`: the rows that have no image. Returns their number."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["line", "id", "person", "garment", "error"])
        count = 0
        for row in bad:
            writer.writerow(["" if row.line is None else row.line, row.id, row.person, row.garment, row.error])
            count += 1
        for row in rows:
            record = state.records.get(row.id)
            if record is not None and record.status == FAILED:
                writer.writerow([row.line, row.id, row.person, row.garment, record.error])
                count += 1
        self.store.write(ERRORS, text.getvalue().encode())
        return count

    def _read_index(self) -> dict[str, Any] | None:
        content = self.store.read(INDEX)
        if content is None:
            if self._names(MANIFEST) or (isinstance(self.store, Folder) and self._holds_something(self.store)):
                raise InvalidInput(f"{self.output} holds something else than a batch: pass a new or empty folder.")
            return None
        try:
            index = json.loads(content)
            if index["format"] != FORMAT or not isinstance(index["settings"], dict):
                raise ValueError("another format")
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"{self.store.locate(INDEX)} is no batch's ({error}): pass another folder.") from error
        if index.get("version") != VERSION:
            raise InvalidInput(
                f"{self.store.locate(INDEX)} has version {index.get('version')!r}, this package reads {VERSION}: pass "
                "another folder, or install the version that wrote it."
            )
        return index

    def shards(self) -> list[str]:
        """Names of the manifest's files."""
        return [name for name in self._names(MANIFEST) if SHARD.match(name)]

    @staticmethod
    def _holds_something(folder: Folder) -> bool:
        """Whether it holds more than what is hidden, such as what a kill left half-written."""
        return any(not entry.name.startswith(".") for entry in folder_entries(folder.path))

    def _names(self, folder: str) -> list[str]:
        try:
            return [entry.name for entry in self.store.list(folder) if not entry.name.startswith(".")]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _refuse_differences(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        for name, old, new in differences(before, now):
            old, new = (clipped(json.dumps(value), most=80) for value in (old, new))
            raise InvalidInput(
                f"{self.output} holds a batch whose {name} is {old}, not {new}: pass the settings of before to go on, "
                "--redo to make its images again with these, or another folder."
            )


class Shard:
    """Lines of the manifest by one writer of one run.

    Args:
        store (`Folder` or `ObjectStore`): The output.
        run (`int`): Number of the run.
        writer (`str`): Name of the writer among those of the run, in letters, digits and hyphens.
    """

    def __init__(self, store: Folder | ObjectStore, run: int, writer: str):
        self._store = store
        self._run = run
        # two runs at a time don't know of each other
        self._stem = f"{MANIFEST}/{run:06}-{writer}-{secrets.token_hex(4)}"
        self._file = None
        self._lines: list[str] = []
        self._objects = 0
        self._put_at = time.monotonic()
        self._unsaved = False
        self._lock = threading.Lock()

    def add(self, result: Mapping[str, Any]) -> None:
        """Write a row's result down; from any thread."""
        with self._lock:
            self._add(result)

    def flush(self) -> None:
        """Put what isn't in the store yet."""
        with self._lock:
            self._flush()

    def close(self) -> None:
        """Put the rest."""
        self.flush()
        if self._file is not None:
            self._file.close()

    def _add(self, result: Mapping[str, Any]) -> None:
        line = json.dumps({**result, "run": self._run})
        if self._store.appends:
            if self._file is None:
                self._file = self._store.append(f"{self._stem}.jsonl")
            self._file.add(line)
            return
        self._lines.append(line)
        self._unsaved = True
        if len(self._lines) >= LINES_PER_OBJECT or time.monotonic() - self._put_at >= SECONDS_PER_PUT:
            self._flush()

    def _flush(self) -> None:
        if self._unsaved:
            name = f"{self._stem}-{self._objects:04}.jsonl"
            self._store.write(name, "".join(f"{line}\n" for line in self._lines).encode())
            self._put_at, self._unsaved = time.monotonic(), False
            if len(self._lines) >= LINES_PER_OBJECT:
                self._lines, self._objects = [], self._objects + 1


def fingerprint_of(settings: Mapping[str, Any]) -> str:
    """Of settings, 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def note(records: dict[str, Record], result: Mapping[str, Any], run: int, at: float) -> None:
    """Keep a row's result, unless more is known already: what a later run says counts, and in one run an image."""
    before = records.get(result["id"])
    if before is not None and (before.run > run or (before.run == run and before.status == DONE)):
        return
    error = result.get("error")
    records[result["id"]] = Record(
        run, result["status"], sys.intern(result["fingerprint"]), result["row"], error and error[:ERROR_LENGTH], at
    )


def results_of(ledger: Ledger, ids: Set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The last result of each of some rows whose images are there, as the manifest has it."""
    found: dict[str, dict[str, Any]] = {}
    for content in ledger.store.read_all([f"{MANIFEST}/{name}" for name in ledger.shards()]):
        for result in _results(content):
            if result["id"] in ids and result["status"] == DONE:
                before = found.get(result["id"])
                if before is None or before["run"] <= result["run"]:
                    found[result["id"]] = result
    yield from found.items()


def _results(content: bytes) -> Iterator[dict[str, Any]]:
    """Results of a shard; lines that a kill or a full disk cut off are passed over, and their rows looked at again."""
    for line in content.split(b"\n"):
        try:
            result = json.loads(line) if line else None
            if result is not None:
                result["run"], result["at"] = int(result["run"]), float(result["at"])
                if all(isinstance(result[name], str) for name in ("id", "status", "fingerprint", "row")):
                    yield result
        except (ValueError, KeyError, TypeError):
            continue
