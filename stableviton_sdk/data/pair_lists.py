"""Lists of pairs of a person and a garment: tables with any usual separator, with or without a header, and JSON."""

from __future__ import annotations

import codecs
import csv
import difflib
import functools
import io
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InvalidInput, clipped, shortened
from .image_files import file_name, stem_of

REQUIRED = ("person", "garment")
PARTS = (*REQUIRED, "mask", "agnostic", "densepose", "truth")
SEPARATORS = "\t,; "  # the first that fits best is used
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
MISSPELT = 0.85  # similarity by difflib from which an unknown column is taken for a misspelt one
EXCEL_HINT = re.compile(r"\s*sep=(.)\s*\n", re.IGNORECASE)  # first line of a table, for Excel


class Row(NamedTuple):
    """Line number and cells of one line of a table."""

    line: int
    cells: list[str]


@dataclass(frozen=True)
class PairRow:
    """One pair of a list.

    Args:
        line (`int`): Line in the list, or place in a JSON array, from 1.
        parts (`dict[str, str]`): Paths as they are listed: `person`, `garment`, and others of `PARTS` if not empty.
        extra (`dict[str, Any]`): Values of all other columns, by the column's name as it is written.
    """

    line: int
    parts: dict[str, str]
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def person(self) -> str:
        return self.parts["person"]

    @property
    def garment(self) -> str:
        return self.parts["garment"]


@dataclass(frozen=True)
class PairList:
    """Content of a list of pairs.

    Args:
        path (`Path`): The list.
        rows (`list[PairRow]`): Its pairs, in the list's order.
        problems (`list[str]`): One sentence for each line that isn't a pair, or on columns that can't be read.
    """

    path: Path
    rows: list[PairRow]
    problems: list[str]

    def locate(self, listed: str) -> Path:
        """Path of a listed file, which is relative to the list's folder.

        Backslashes separate folders, unless there is a file with backslashes in its name.
        """
        literal = self.path.parent / listed
        return self.path.parent / listed.replace("\\", "/") if "\\" in listed and not literal.exists() else literal


def read_pair_list(path: str | os.PathLike[str]) -> PairList:
    """Pairs of a list, and a sentence on each line that isn't one.

    Formats: JSON lines or a JSON array of objects; a table separated by commas, semicolons or tabs whose first line
    names the columns, `person`, `garment` and any others, in any order and case; a table without such a line, of
    persons and garments, separated by spaces too. Text is UTF-8, or UTF-16 or UTF-32 with a byte-order mark. Spaces
    around cells, empty cells at a line's end and empty lines are ignored.

    Args:
        path (`str` or `os.PathLike`): The list.

    Returns:
        `PairList`: without pairs only if there are problems.

    Raises:
        `InvalidInput`: if there is no such file, or it isn't text.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidInput(f"the list of pairs {path} is missing: check the path.")
    return parse_pair_list(path, path.read_bytes())


def parse_pair_list(path: str | os.PathLike[str], content: bytes) -> PairList:
    """Pairs of a list whose content is at hand; as `read_pair_list`.

    Args:
        path (`str` or `os.PathLike`): Name of the list, whose ending may say that it is JSON.
        content (`bytes`): Of the file.

    Raises:
        `InvalidInput`: if it isn't text.
    """
    path = Path(path)
    text = _decode_text(path, content)
    is_json = path.suffix.lower() in (".json", ".jsonl", ".ndjson") or text.lstrip()[:1] == "{"
    problems: list[str] = []
    rows = list(_json_pairs(path, text, problems) if is_json else _table_pairs(path, text, problems))
    if not rows and not problems:
        problems.append(f"the list of pairs {path} is empty.")
    return PairList(path, rows, problems)


def pairs_of_records(path: str | os.PathLike[str], records: Iterable[Mapping[str, Any]]) -> PairList:
    """Pairs of a table that was read already, such as a Parquet file's.

    Args:
        path (`str` or `os.PathLike`): Name of the table, for messages.
        records (`Iterable[Mapping[str, Any]]`): Cells of each row by column; all rows have the first one's columns.
    """
    path = Path(path)
    problems: list[str] = []
    rows: list[PairRow] = []
    for number, cells in enumerate(records, start=1):
        if number == 1:
            problem = _column_problem(cells) or _absent_column(cells)
            if problem is not None:
                problems.append(f"{path}: {problem}")
                break
        rows.extend(_pair(f"{path}, row {number}", number, cells, problems))
    if not rows and not problems:
        problems.append(f"the list of pairs {path} is empty.")
    return PairList(path, rows, problems)


def _decode_text(path: Path, content: bytes) -> str:
    """A file's text, whose lines end in `\\n`.

    Raises:
        `InvalidInput`: if it is none.
    """
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} can't be read as a list of pairs ({error}): save it as UTF-8 text.") from error
    if "\0" in text:
        raise InvalidInput(f"{path} can't be read as a list of pairs (it holds null characters): save it as UTF-8.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _pair(where: str, line: int, cells: Mapping[str, Any], problems: list[str]) -> Iterator[PairRow]:
    """The pair of one line's cells by column; none if something is wrong with them."""
    parts: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for column, value in cells.items():
        value = value.strip() if isinstance(value, str) else value
        if value not in (None, ""):
            part = _part(column)
            (parts if part in PARTS else extra)[part if part in PARTS else column] = value
    if not all(isinstance(value, str) for value in parts.values()):
        problems.append(f"{where}: paths must be text.")
    elif absent := [part for part in REQUIRED if part not in parts]:
        problems.append(f"{where}: there is no {absent[0]}.")
    else:
        yield PairRow(line, parts, extra)


def _part(column: str) -> str:
    return column.strip().casefold()


def _column_problem(columns: Collection[str]) -> str | None:
    """What keeps columns from being told apart."""
    return _problem_of_columns(tuple(columns))


@functools.lru_cache(maxsize=256)  # every object of a list of JSON lines has columns of its own, mostly the same
def _problem_of_columns(columns: tuple[str, ...]) -> str | None:
    parts = [_part(column) for column in columns]
    if twice := [part for part in PARTS if parts.count(part) > 1]:
        return f"there are two columns {twice[0]!r}."
    absent = [part for part in PARTS if part not in parts]
    for column in columns:
        if _part(column) not in PARTS and (like := difflib.get_close_matches(_part(column), absent, 1, MISSPELT)):
            return f"the column {clipped(column)!r} is unknown: if it is {like[0]!r}, call it so, otherwise rename it."
    return None


def _absent_column(columns: Collection[str]) -> str | None:
    """What keeps columns from being those of pairs."""
    parts = set(map(_part, columns))
    absent = [part for part in REQUIRED if part not in parts]
    return f"its columns are {shortened(columns)}, and none is called {absent[0]!r}." if absent else None


# JSON


def _json_pairs(path: Path, text: str, problems: list[str]) -> Iterator[PairRow]:
    unit = "line"
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):  # the latter for a nesting that no list of pairs has
        lines = enumerate(text.split("\n"), start=1)
        numbered = [(number, _parse_json(line)) for number, line in lines if line.strip()]
    else:
        unit = "item" if isinstance(content, list) else "line"
        numbered = list(enumerate(content if isinstance(content, list) else [content], start=1))
    for number, cells in numbered:
        where = f"{path}, {unit} {number}"
        if not isinstance(cells, dict):
            problems.append(f"{where}: it isn't a JSON object.")
        elif problem := _column_problem(cells):
            problems.append(f"{where}: {problem}")
        else:
            yield from _pair(where, number, cells, problems)


def _parse_json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


# tables


def _table_pairs(path: Path, text: str, problems: list[str]) -> Iterator[PairRow]:
    hint = EXCEL_HINT.match(text)
    if hint:
        text = "\n" + text[hint.end() :]
    separators = hint[1] if hint else SEPARATORS
    if (table := _table_with_header(text, separators)) is not None:
        yield from _pairs_by_column(path, table, problems)
        return
    tables: dict[str, list[Row]] = {}
    for separator in separators:
        try:
            tables[separator] = _split(text, separator)
        except csv.Error as error:
            unreadable = f"{path} can't be read as a table ({error}): check its quotes."
    if not tables:
        problems.append(unreadable)
        return
    if not any(tables.values()):
        return
    headers = [table for table in tables.values() if not any(map(_is_image, table[0].cells))]
    for required in (2, 1):
        for table in headers:
            if len(set(REQUIRED) & set(map(_part, table[0].cells))) == required:
                yield from _pairs_by_column(path, table, problems)
                return
    yield from _pairs_by_place(path, tables, problems)


def _table_with_header(text: str, separators: str) -> list[Row] | None:
    """The table whose first line names both required columns; looked for by first lines, as lists may be long."""
    for separator in separators:
        try:
            first = next(_rows(text, separator), None)
            if first is None or any(map(_is_image, first.cells)) or not set(REQUIRED) <= set(map(_part, first.cells)):
                continue
            return _split(text, separator)
        except csv.Error:
            continue
    return None


def _split(text: str, separator: str) -> list[Row]:
    """The lines of a table that aren't empty, without empty cells at their ends.

    Raises:
        `csv.Error`: if quotes don't match.
    """
    return list(_rows(text, separator))


def _rows(text: str, separator: str) -> Iterator[Row]:
    """As `_split`, one by one."""
    if separator == " ":
        text = text.replace("\t", " ")
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True, strict=True)
    for record in reader:
        cells = [cell.strip() for cell in record]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            yield Row(reader.line_num, cells)


def _pairs_by_column(path: Path, table: list[Row], problems: list[str]) -> Iterator[PairRow]:
    columns = [name or f"column {number}" for number, name in enumerate(table[0].cells, start=1)]
    problem = _column_problem(columns) or _absent_column(columns)
    if problem is not None:
        problems.append(f"{path}, line {table[0].line}: {problem}")
        return
    for line, cells in table[1:]:
        where = f"{path}, line {line}"
        if len(cells) > len(columns):
            problems.append(f"{where}: it has {len(cells)} cells for {len(columns)} columns: put quotes around names.")
        else:
            yield from _pair(where, line, dict(zip(columns, cells, strict=False)), problems)


def _pairs_by_place(path: Path, tables: dict[str, list[Row]], problems: list[str]) -> Iterator[PairRow]:
    """Pairs of a table without a header, in the separator that makes most lines pairs of image files."""

    def fit(table: list[Row]) -> tuple[int, int]:
        return sum(_is_pair_of_images(cells) for _, cells in table), sum(len(cells) == 2 for _, cells in table)

    best = max(map(fit, tables.values()))
    table, *others = (table for table in tables.values() if fit(table) == best)
    # spaces may be part of names; other separators seldom are
    if best[1] and (others := [other for other in others if other not in (table, tables.get(" "))]):
        problems.append(
            f"{path} has no header and can be split in two ways, such as {shortened(table[0].cells)} and "
            f"{shortened(others[0][0].cells)}: name the columns in the first line, person and garment."
        )
        return
    if best[0] and not any(map(_is_image, table[0].cells)):
        problems.append(
            f"{path}, line {table[0].line}: its columns are {shortened(table[0].cells)}, and none is called 'person' "
            "or 'garment'."
        )
        return
    for line, cells in table:
        where = f"{path}, line {line}"
        if len(cells) != 2 and not _is_pair_of_images(cells):
            problems.append(
                f"{where}: {clipped(' '.join(cells))!r} isn't a person's and a garment's file name; separate names "
                "with spaces in them by tabs, and name the columns in the first line if there are more than two."
            )
        else:
            yield from _pair(where, line, dict(zip(_names_of_columns(len(cells)), cells, strict=True)), problems)


def _names_of_columns(count: int) -> list[str]:
    return [*REQUIRED, *(f"column {number}" for number in range(3, count + 1))]


def _is_pair_of_images(cells: Sequence[str]) -> bool:
    """Whether two images come first and nothing that could be another part of the pair follows."""
    return len(cells) >= 2 and [_is_image(cell) for cell in cells] == [True, True] + [False] * (len(cells) - 2)


def _is_image(cell: str) -> bool:
    return stem_of(cell) != file_name(cell)
