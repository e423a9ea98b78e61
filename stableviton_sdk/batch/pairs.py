"""What a batch is to make: pairs of a person and a garment, out of lists and folders, each with an id of its own."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..choices import CATEGORIES, GARMENT_PHOTOS, Category, GarmentPhoto
from ..data.image_files import stem_of
from ..data.pair_lists import PairList, PairRow, pairs_of_records, parse_pair_list
from ..errors import InvalidInput, MissingDependency, clipped, shortened
from .stores import is_remote, join, list_folder, open_file, read_file

MAX_LIST_BYTES = 2**30  # of a list that is text
MAX_ROWS = 20_000_000
MAX_TEXT = 4096  # characters of a path, an id or a cell that is carried through
MAX_COLUMNS = 200
MAPS = ("mask", "agnostic", "densepose")
OPTIONS = ("id", "category", "seed", "garment_photo")
PARQUET_ROWS = 4096  # read at a time
CANONICAL = json.JSONEncoder(sort_keys=True)

MAX_NAME_BYTES = 120
UNSAFE = re.compile(r'[\x00-\x1f\x7f\x85\u2028\u2029<>:"/\\|?*]')
RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pair:
    """One image to make.

    Args:
        line (`int`): Line in the list, from 1; place in the order of folders.
        id (`str`): Its id, different from every other's.
        name (`str`): Name of its image, without ending: the id where a file can be called so.
        person (`str`), garment (`str`): Path or address of either image.
        maps (`tuple[tuple[str, str], ...]`): Name and path of each map of the person that is given.
        category (`str`): `"upper"`, `"lower"` or `"dress"`.
        garment_photo (`str`): `"flat-lay"` or `"model"`.
        seed (`int`, *optional*): Its own seed; by default it follows from the run's and the id.
        digest (`str`): Of all of this as it is listed, 16 hexadecimal digits: another digest is another image.
        columns (`Mapping[str, Any]`): Cells of other columns, carried through.
    """

    line: int
    id: str
    name: str
    person: str
    garment: str
    maps: tuple[tuple[str, str], ...]
    category: Category
    garment_photo: GarmentPhoto
    seed: int | None
    digest: str
    columns: Mapping[str, Any]

    @property
    def person_key(self) -> tuple[Any, ...]:
        """What the prepared person follows from."""
        return (self.person, self.category, *self.maps)

    @property
    def garment_key(self) -> tuple[str, ...]:
        """What the prepared garment follows from."""
        cut = self.category if self.garment_photo == "model" else ""
        return (self.garment, self.garment_photo, cut)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that no image can be made of.

    Args:
        line (`int`, *optional*): Line in the list, from 1.
        id (`str`), person (`str`), garment (`str`): As they are listed, where they are.
        error (`str`): One sentence.
    """

    line: int | None
    id: str
    person: str
    garment: str
    error: str


@dataclass(frozen=True)
class Pairs:
    """Content of a list, or of two folders.

    Args:
        rows (`list[Pair]`): The pairs, in the list's order.
        bad (`list[BadRow]`): The rows that aren't pairs.
    """

    rows: list[Pair]
    bad: list[BadRow] = field(default_factory=list)


def read_pairs(
    address: str, *, category: Category = "upper", garment_photo: GarmentPhoto = "flat-lay", limit: int | None = None
) -> Pairs:
    """Pairs of a list in CSV, JSON lines or Parquet, on this machine or at an address of fsspec.

    Columns are `person` and `garment`, and where there are any `id`, `category`, `seed`, `garment_photo`, `mask`,
    `agnostic` and `densepose`; all others are carried through. Paths start from the list's own folder.

    Args:
        address (`str`): Path or address of the list.
        category (`str`, *optional*, defaults to `"upper"`), garment_photo (`str`, *optional*):
            Of rows that don't say.
        limit (`int`, *optional*): Number of rows to read, from the first.

    Raises:
        `InvalidInput`: if it can't be read, or none of its rows is a pair.
    """
    base = address.rpartition("/")[0] if is_remote(address) else os.path.dirname(os.path.abspath(address))
    if address.lower().endswith((".parquet", ".pq")):
        listed = _read_parquet(address)
    else:
        name = address.rpartition("/")[2] if is_remote(address) else address
        listed = parse_pair_list(name, read_file(address, MAX_LIST_BYTES))
    if not listed.rows:
        raise InvalidInput(listed.problems[0])
    if len(listed.rows) > MAX_ROWS:
        raise InvalidInput(f"{address} has more than {MAX_ROWS:,} rows: split it into several lists.")
    defaults = {"category": category, "garment_photo": garment_photo}
    bad = [BadRow(None, "", "", "", problem) for problem in listed.problems]
    return _unique((_pair_of(row, base, defaults) for row in listed.rows[:limit]), bad)


def pair_folders(
    persons: str,
    garments: str,
    how: Literal["cross", "zip"],
    *,
    category: Category = "upper",
    garment_photo: GarmentPhoto = "flat-lay",
    limit: int | None = None,
    changed_before: float | None = None,
) -> Pairs:
    """Pairs of the images of two folders.

    Args:
        persons (`str`), garments (`str`): Path or address of either folder.
        how (`str`): `"cross"`: each person with each garment; `"zip"`: with the garment of the same name.
        category (`str`, *optional*), garment_photo (`str`, *optional*), limit (`int`, *optional*): As for
            `read_pairs`.
        changed_before (`float`, *optional*):
            Only files that were last changed before this time, in seconds: younger ones may still be growing.

    Raises:
        `InvalidInput`: if a folder can't be read, or there is no pair.
    """
    people, clothes = (_image_names(folder, changed_before) for folder in (persons, garments))
    if how == "cross":
        couples = [(person, garment) for garment in clothes for person in people]
    else:
        by_stem = {stem_of(name): name for name in clothes}
        couples = [(name, by_stem[stem_of(name)]) for name in people if stem_of(name) in by_stem]
    if not couples and changed_before is None:
        for folder, names in ((persons, people), (garments, clothes)):
            if not names:
                raise InvalidInput(f"the folder {folder} holds no images: check the path.")
        raise InvalidInput(f"no image of {persons} has the name of one of {garments}: --cross pairs each with each.")
    defaults = {"category": category, "garment_photo": garment_photo}
    rows = (
        PairRow(line, {"person": person, "garment": garment})
        for line, (person, garment) in enumerate(couples, start=1)
    )
    pairs = (_pair_of(row, (persons, garments), defaults) for row, _ in zip(rows, range(limit or MAX_ROWS)))  # noqa: B905
    return _unique(pairs, [])


def file_name_for(id_: str) -> str:
    """Name of an id's image, without ending.

    The id itself where it is safe as a file's name on Linux, macOS and Windows; otherwise what is safe of it, with a
    hash of the id, so that two ids never share a name.
    """
    name = unicodedata.normalize("NFC", id_)
    safe = UNSAFE.sub("_", name).strip(". ")
    if safe == id_ and len(name.encode()) <= MAX_NAME_BYTES and not RESERVED.match(name):
        return name
    short = safe.encode()[:64].decode(errors="ignore").strip(". ")
    if RESERVED.match(short):
        short = f"_{short}"
    return f"{short or 'row'}-{hashlib.sha256(id_.encode()).hexdigest()[:16]}"


def _pair_of(row: PairRow, base: str | tuple[str, str], defaults: Mapping[str, str]) -> Pair | BadRow:
    """The pair of a row of a list."""
    options, columns = dict(defaults), {}
    id_: Any = None
    seed: Any = None
    for column, value in row.extra.items():
        name = _option_name(column)
        if name == "id":
            id_ = value
        elif name == "seed":
            seed = value
        elif name in OPTIONS:
            options[name] = value
        else:
            columns[column] = value
    columns |= {part: value for part, value in row.parts.items() if part == "truth"}
    if isinstance(id_, (int, float)) and not isinstance(id_, bool):
        id_ = str(int(id_)) if float(id_).is_integer() else str(id_)
    try:
        _check_cells(row, id_, options, columns)
        seed = _seed_of(seed)
    except InvalidInput as error:
        shown = (str(id_ or ""), row.person, row.garment)
        return BadRow(row.line, *(clipped(_as_text(text), most=200) for text in shown), _as_text(str(error)))
    maps = tuple((name, row.parts[name]) for name in MAPS if name in row.parts)
    # as listed, so that list and images can move to another folder together
    content = {
        "person": row.person,
        "garment": row.garment,
        "maps": dict(maps),
        "category": options["category"],
        "garment_photo": options["garment_photo"],
        "seed": seed,
    }
    digest = hashlib.sha256(CANONICAL.encode(content).encode()).hexdigest()[:16]
    if id_ is None:
        id_ = UNSAFE.sub("_", f"{stem_of(row.person)[-48:]}_{stem_of(row.garment)[-48:]}-{digest[:10]}")
    folders = base if isinstance(base, tuple) else (base, base)
    return Pair(
        line=row.line,
        id=id_,
        name=file_name_for(id_),
        person=join(folders[0], row.person),
        garment=join(folders[1], row.garment),
        maps=tuple((name, join(folders[0], listed)) for name, listed in maps),
        category=options["category"],
        garment_photo=options["garment_photo"],
        seed=seed,
        digest=digest,
        columns=columns,
    )


@functools.lru_cache(maxsize=1024)
def _option_name(column: str) -> str:
    """A column's name as the options are written."""
    return re.sub(r"[\s-]+", "_", column.strip().casefold())


def _check_cells(row: PairRow, id_: Any, options: Mapping[str, Any], columns: Mapping[str, Any]) -> None:
    """Refuse cells that can't be used.

    Raises:
        `InvalidInput`: one sentence.
    """
    if id_ is not None and (not isinstance(id_, str) or not id_.strip()):
        raise InvalidInput(f"its id is {clipped(str(id_), most=80)!r}: pass a text or a number.")
    if id_ is not None and len(id_.splitlines()) > 1:
        raise InvalidInput(f"its id {clipped(id_, most=80)!r} holds a line end: remove it.")
    for name, known in (("category", CATEGORIES), ("garment_photo", GARMENT_PHOTOS)):
        if options[name] not in known:
            value = clipped(str(options[name]), most=80)
            raise InvalidInput(f"its {name} is {value!r}: pass one of {', '.join(map(repr, known))}.")
    if len(columns) > MAX_COLUMNS:
        raise InvalidInput(f"it has {len(columns)} columns more than are known: {MAX_COLUMNS} can be carried through.")
    for column, value in {**row.parts, "id": id_, **columns}.items():
        text = str(value)
        if len(text) > MAX_TEXT:
            raise InvalidInput(f"its {clipped(column, most=80)} has {len(text)} characters: {MAX_TEXT} are allowed.")
        if "\0" in text or not _is_text(text):
            raise InvalidInput(f"its {clipped(column, most=80)} holds a null or half a character: rename it.")


def _as_text(text: str) -> str:
    """A text that can be written."""
    return text.encode(errors="backslashreplace").decode()


def _is_text(text: str) -> bool:
    """Whether a text can be written: names of files whose bytes are no UTF-8 can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _seed_of(value: Any) -> int | None:
    """A row's own seed.

    Raises:
        `InvalidInput`: if it is no seed.
    """
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():  # a Parquet column with empty cells is one of floats
        value = int(value)
    text = str(value).strip()
    if isinstance(value, bool) or not text.isascii() or not text.isdigit() or int(text[:20]) >= 2**63:
        raise InvalidInput(f"its seed is {clipped(text, most=80)!r}: pass a whole number from 0 to 2**63 - 1.")
    return int(text)


def _unique(found: Iterable[Pair | BadRow], bad: list[BadRow]) -> Pairs:
    """Pairs whose ids and names differ; of those that don't, the first."""
    rows: list[Pair] = []
    lines: dict[str, int] = {}
    names: dict[str, Pair] = {}
    for entry in found:
        if isinstance(entry, BadRow):
            bad.append(entry)
            continue
        error = None
        if (line := lines.get(entry.id)) is not None:
            error = f"its id {clipped(entry.id, most=80)!r} is that of line {line} already: give each row its own."
        elif (other := names.get(entry.name.casefold())) is not None:
            error = (
                f"its id {clipped(entry.id, most=80)!r} differs from {clipped(other.id, most=80)!r} of line "
                f"{other.line} in capitals only, which would be one file on Windows and macOS: rename one."
            )
        if error is not None:
            bad.append(BadRow(entry.line, entry.id, entry.person, entry.garment, error))
            continue
        lines[entry.id] = entry.line
        names[entry.name.casefold()] = entry
        rows.append(entry)
    return Pairs(rows, bad)


def _image_names(folder: str, changed_before: float | None) -> list[str]:
    """Names of a folder's images, sorted; of those that differ in their ending only, the first."""
    names: dict[str, str] = {}
    for entry in list_folder(folder):
        if changed_before is not None and entry.changed >= changed_before:
            continue
        if (stem := stem_of(entry.name)) != entry.name and entry.size:
            names.setdefault(stem, entry.name)
    return sorted(names.values())


def _read_parquet(address: str) -> PairList:
    """Pairs of a Parquet file.

    Raises:
        `MissingDependency`: without pyarrow.
        `InvalidInput`: if it is none, or has columns that aren't texts, numbers, booleans or times.
    """
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDependency("Parquet files need pyarrow: pip install 'stableviton-sdk[batch]'.") from error
    with open_file(address) as source:
        try:
            table = parquet.ParquetFile(source)
            if table.metadata.num_rows > MAX_ROWS:
                raise InvalidInput(f"{address} has more than {MAX_ROWS:,} rows: split it into several lists.")
            unfit = [column.name for column in table.schema_arrow if not _is_plain(column.type)]
            if unfit:
                raise InvalidInput(
                    f"{address} has columns that aren't texts, numbers or times ({shortened(unfit)}): leave them out."
                )
            return pairs_of_records(address, _records(table))
        except arrow.ArrowException as error:
            raise InvalidInput(f"{address} can't be read as a Parquet file ({error}): write it again.") from error


def _is_plain(kind: Any) -> bool:
    from pyarrow import types

    tests = (
        types.is_string,
        types.is_large_string,
        types.is_integer,
        types.is_floating,
        types.is_boolean,
        types.is_date,
        types.is_timestamp,
        types.is_decimal,
        types.is_null,
    )
    if types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    return any(test(kind) for test in tests)


def _records(table: Any) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file, of JSON's types."""
    for batch in table.iter_batches(batch_size=PARQUET_ROWS):
        for record in batch.to_pylist():
            yield {column: _as_json(value) for column, value in record.items()}


def _as_json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
