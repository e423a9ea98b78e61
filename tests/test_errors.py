"""Messages stay readable however much is wrong."""

import pickle
import tempfile

import pytest

from stableviton_sdk.cli.entry import main
from stableviton_sdk.data.pair_dataset import BadDataSet
from stableviton_sdk.errors import (
    IncompatibleCheckpoint,
    InvalidInput,
    MissingDependency,
    NoPersonFound,
    SeveralProblems,
    TryOnError,
    WeightsUnavailable,
    clipped,
    shortened,
)


def test_few_problems_are_all_shown():
    error = SeveralProblems("the folder has 2 problems", ["a is missing.", "b is empty."])
    assert str(error) == "the folder has 2 problems:\n  - a is missing.\n  - b is empty."
    assert isinstance(error, InvalidInput)


@pytest.mark.parametrize("length", [20, 100_000])
def test_of_many_problems_the_first_few_are_shown_with_the_count_and_where_all_of_them_are(length):
    problems = [f"{number}{'x' * length} is missing." for number in range(3000)]
    error = BadDataSet("the data", problems)
    assert len(str(error)) < 6000
    assert "3000 problems" in str(error)
    assert str(error).endswith("and 2990 more: see `problems` of this error for the whole list.")
    assert error.describe("list.txt").endswith("see list.txt for the whole list.")
    assert error.problems == error.lines == problems
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.problems) == (str(error), problems)


def test_problems_by_name_are_shown_under_their_names():
    error = SeveralProblems("2 of 3 pairs failed", {"a_b": "there is no result.", "c_d": "it is damaged."})
    assert error.lines == ["a_b: there is no result.", "c_d: it is damaged."]
    assert error.problems["c_d"] == "it is damaged."


@pytest.mark.parametrize(
    "kind",
    [TryOnError, InvalidInput, NoPersonFound, IncompatibleCheckpoint, WeightsUnavailable, MissingDependency],
)
def test_no_message_fills_screens(kind):
    error = kind(f"begin {'x' * 1_000_000} end")
    assert len(str(error)) < 7000
    assert str(error).startswith("begin x")
    assert str(error).endswith("x end")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(kind("a sentence.")) == "a sentence."


def test_the_command_line_writes_the_whole_list_to_a_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = [f"p{number:04d}.png" for number in range(500)]
    (tmp_path / "pairs.csv").write_text("\n".join(["person,garment", *(f"{name},{name}" for name in names)]))
    arguments = ["evaluate", "pairs.csv", "--results", str(tmp_path), "--output", "run", "--metrics", "psnr"]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert len(said) < 5000
    assert "500 problems" in said
    assert "and 490 more" in said
    (whole,) = tmp_path.glob("stableviton-problems-*.txt")
    assert str(whole) in said
    lines = whole.read_text().splitlines()
    assert len(lines) == 500
    assert all(f"{name} is missing" in line for name, line in zip(names, lines, strict=True))


def test_a_long_list_is_shortened_to_its_first_items_and_its_length():
    assert shortened(["a", "b"]) == "a, b"
    assert shortened(range(100), most=3) == "0, 1, 2, … (100 in all)"
    assert shortened({"only": 1}, "; ") == "only"
    assert len(shortened(["x" * 10_000] * 10_000)) < 4000


def test_a_long_text_loses_its_middle():
    assert clipped("two  words\n in a line") == "two words in a line"
    assert clipped("abcdefghij", most=7) == "abc…hij"
