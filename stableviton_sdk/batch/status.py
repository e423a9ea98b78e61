"""How a batch stands, read from its output: done, failed, left, speed; and a contact sheet of a sample."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image

from ..errors import InvalidInput, TryOnError
from ..grids import labelled_grid, side_by_side
from ..images import load_image
from .ledger import DONE, FAILED, Ledger, State, fingerprint_of, results_of
from .progress import Speed
from .stores import read_image_file

SAMPLE = 12  # images of a contact sheet
SHEET_HEIGHT = 256  # pixels of its images


@dataclass(frozen=True)
class Status:
    """How a batch stands.

    Args:
        output (`str`): Where the images are.
        total (`int`): Rows that became known.
        done (`int`): Rows whose images are there.
        failed (`int`): Rows that failed when they were last tried.
        left (`int`): All others.
        per_hour (`float`, *optional*): Images an hour, of the last minutes in which any were made.
        seconds_left (`float`, *optional*): For the others, at that speed.
        runs (`int`): Runs so far.
    """

    output: str
    total: int
    done: int
    failed: int
    left: int
    per_hour: float | None
    seconds_left: float | None
    runs: int

    def to_dict(self) -> dict[str, Any]:
        """The status, of JSON's types."""
        return asdict(self)


def read_status(output: str | os.PathLike[str]) -> Status:
    """How the batch of an output stands; while it runs, too.

    Raises:
        `InvalidInput`: if there is none.
    """
    state = _read(Ledger(os.fspath(output)))
    fingerprint = fingerprint_of(state.settings or {})
    records = [
        record
        for part in state.parts
        for id_ in part
        if (record := state.records.get(id_)) and record.fingerprint == fingerprint
    ]
    total = sum(map(len, state.parts))
    done = sorted(record.at for record in records if record.status == DONE)
    failed = sum(record.status == FAILED for record in records)
    speed = Speed()
    for at in done:
        speed.add(at)
    per_hour = speed.per_hour()
    left = total - len(done) - failed
    return Status(
        output=os.fspath(output),
        total=total,
        done=len(done),
        failed=failed,
        left=left,
        per_hour=None if per_hour is None else round(per_hour, 1),
        seconds_left=None if not per_hour else round(left / per_hour * 3600, 1),
        runs=state.run,
    )


def draw_sample(output: str | os.PathLike[str], count: int = SAMPLE) -> Image.Image:
    """Person, garment and result of some rows, spread over all that are done.

    Args:
        output (`str` or `os.PathLike`): Folder, or address of an object store.
        count (`int`, *optional*, defaults to 12): Most rows to draw.

    Returns:
        `PIL.Image.Image`: RGB. Persons and garments that can't be read any more are left out.

    Raises:
        `InvalidInput`: if there is no batch, or no image yet.
    """
    ledger = Ledger(os.fspath(output))
    state = _read(ledger)
    done = [
        id_
        for part in state.parts
        for id_ in part
        if (record := state.records.get(id_)) is not None and record.status == DONE
    ]
    if not done:
        raise InvalidInput(f"{output} has no image yet, so there is nothing to draw.")
    count = min(count, len(done))
    chosen = {done[place * len(done) // count] for place in range(count)}
    tiles = [(id_, row) for id_, result in results_of(ledger, chosen) if (row := _draw(ledger, result)) is not None]
    tiles.sort(key=lambda tile: tile[0])
    width = max(row.width for _, row in tiles)
    return labelled_grid(tiles, (width, SHEET_HEIGHT), columns=3)


def _read(ledger: Ledger) -> State:
    state = ledger.read()
    if state.settings is None:
        raise InvalidInput(f"{ledger.output} holds no batch: pass the folder that --output named.")
    return state


def _draw(ledger: Ledger, result: dict[str, Any]) -> Image.Image | None:
    """Person, garment and result in a row; None if the image is gone."""
    content = ledger.store.read(result["file"])
    if content is None:
        return None
    images = [*_inputs(result), load_image(content, srgb=True)]
    return side_by_side(images, SHEET_HEIGHT)


def _inputs(result: dict[str, Any]) -> Iterator[Image.Image]:
    for part in ("person", "garment"):
        with contextlib.suppress(TryOnError):
            yield load_image(read_image_file(result[part]), name=part, srgb=True)
