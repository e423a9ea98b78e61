"""Lists of pairs as people write and export them: what can be told is read, the rest is named."""

import codecs
import json

import pytest
from support.data_sets import NAMES, SIZE

from stableviton_sdk.data.pair_dataset import BadDataSet
from stableviton_sdk.data.pair_lists import read_pair_list
from stableviton_sdk.data.viton_hd import VitonHD
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.evaluation.data import load_data, recognise

TABLE = "person,garment,mask\np 0.png,g0.png,m.png\np1.png,g1.png,\n"
PAIRS = [("p 0.png", "g0.png"), ("p1.png", "g1.png")]


def read(folder, content, name="pairs.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_pair_list(path)


def pairs(listed):
    assert listed.problems == []
    return [(row.person, row.garment) for row in listed.rows]


@pytest.mark.parametrize(
    "content",
    [
        TABLE,
        codecs.BOM_UTF8 + TABLE.encode(),
        TABLE.encode("utf-16"),
        codecs.BOM_UTF16_BE + TABLE.encode("utf-16-be"),
        TABLE.encode("utf-32"),
        TABLE.replace("\n", "\r\n"),
        TABLE.replace("\n", "\r"),
        TABLE.replace("\n", "\n\n"),
        TABLE.replace(",", ";"),
        TABLE.replace(",", "\t"),
        TABLE.replace(",", " , "),
        TABLE.replace("\n", ",\n"),
        TABLE.replace("\n", ",,,\n"),
        "sep=;\n" + TABLE.replace(",", ";"),
        TABLE.replace("person,garment,mask", "Person,GARMENT,Mask"),
        TABLE.replace("p 0.png", '"p 0.png"'),
        TABLE.rstrip("\n"),
        "garment;person\ng0.png;p 0.png\ng1.png;p1.png\n",
    ],
)
def test_a_table_with_a_header_is_read_however_it_was_exported(tmp_path, content):
    listed = read(tmp_path, content)
    assert pairs(listed) == PAIRS
    assert listed.rows[0].parts.get("mask", "m.png") == "m.png"
    assert "mask" not in listed.rows[1].parts


@pytest.mark.parametrize(
    "content",
    [
        "p0.png g0.png\np1.png g1.png\n",
        "p0.png  g0.png \n\n  p1.png g1.png\n",
        "p0.png\tg0.png\np1.png\tg1.png\n",
        "p0.png, g0.png\np1.png,g1.png,\n",
        "p0.png;g0.png\r\np1.png;g1.png\r\n",
        "\ufeffp0.png g0.png\np1.png g1.png",
        "p0.png\tg0.png\t0\np1.png\tg1.png\t2\n",  # DressCode's, with the category
        "p0.png g0.png 0\np1.png g1.png 2\n",
    ],
)
def test_a_table_without_a_header_is_a_person_and_a_garment_on_each_line(tmp_path, content):
    assert pairs(read(tmp_path, content, "test_pairs.txt")) == [("p0.png", "g0.png"), ("p1.png", "g1.png")]


def test_names_without_endings_and_names_with_spaces_are_told_apart(tmp_path):
    assert pairs(read(tmp_path, "p0 g0\np1 g1\n")) == [("p0", "g0"), ("p1", "g1")]
    assert pairs(read(tmp_path, "my p.png\tmy g.png\n")) == [("my p.png", "my g.png")]
    assert pairs(read(tmp_path, "my p.png, my g.png\n")) == [("my p.png", "my g.png")]
    assert pairs(read(tmp_path, '"my p.png" "my g.png"\n')) == [("my p.png", "my g.png")]
    assert pairs(read(tmp_path, "p,1.png;g.png\n")) == [("p,1.png", "g.png")]


def test_other_columns_are_carried_along(tmp_path):
    listed = read(tmp_path, "Id,person,garment,Output Name\n7,p.png,g.png,out.png\n8,q.png,h.png,\n")
    assert [(row.line, row.extra) for row in listed.rows] == [
        (2, {"Id": "7", "Output Name": "out.png"}),
        (3, {"Id": "8"}),
    ]
    row = {"Person": "p.png", " garment ": "g.png", "seed": 3, "tags": ["a"], "note": None}
    listed = read(tmp_path, json.dumps(row), "pairs.jsonl")
    assert listed.rows[0].parts == {"person": "p.png", "garment": "g.png"}
    assert listed.rows[0].extra == {"seed": 3, "tags": ["a"]}
    listed = read(tmp_path, "p.png\tg.png\t0\n")
    assert listed.rows[0].extra == {"column 3": "0"}


def test_json_lines_and_arrays_say_the_same(tmp_path):
    rows = [{"person": person, "garment": garment} for person, garment in PAIRS]
    for name, content in (
        ("a.jsonl", "\n".join(map(json.dumps, rows))),
        ("b.jsonl", codecs.BOM_UTF8 + "\n\n".join(map(json.dumps, rows)).encode()),
        ("c.json", json.dumps(rows, indent=1)),
        ("d.txt", "\n".join(map(json.dumps, rows))),
    ):
        assert pairs(read(tmp_path, content, name)) == PAIRS, name


def test_backslashes_separate_folders_unless_a_file_is_called_so(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "p.png").touch()
    (tmp_path / "odd\\p.png").touch()
    listed = read(tmp_path, "photos\\p.png,odd\\p.png\n")
    assert listed.locate(listed.rows[0].person) == tmp_path / "photos" / "p.png"
    assert listed.locate(listed.rows[0].garment).is_file()


@pytest.mark.parametrize(
    "content, words",
    [
        ("person,cloth\np.png,g.png\n", "columns are person, cloth, and none is called 'garment'"),
        ("model,cloth\np.png,g.png\n", "columns are model, cloth, and none is called 'person'"),
        ("person,garment,densepos\np.png,g.png,d.png\n", "'densepos' is unknown: if it is 'densepose'"),
        ("person,garment,Person\np.png,g.png,q.png\n", "two columns 'person'"),
        ("person,garment\np.png,g.png,h.png\n", "line 2: it has 3 cells for 2 columns"),
        ("person,garment\np.png,\n", "line 2: there is no garment"),
        ("p.png,g.png,m.png\n", "line 1: 'p.png,g.png,m.png' isn't a person's and a garment's file name"),
        ("p.png g.png\nq.png\n", "line 2: 'q.png' isn't a person's and a garment's file name"),
        ("a b.png c.png\n", "separate names with spaces in them by tabs"),
        ("a,b;c\n", "can be split in two ways"),
        ('person,garment\n"p.png,g.png\n', "check its quotes"),
        ("person,garment\n", "is empty"),
        ("", "is empty"),
        ("\n\n", "is empty"),
    ],
)
def test_what_cant_be_told_is_named_in_a_sentence(tmp_path, content, words):
    listed = read(tmp_path, content)
    assert len(listed.problems) == 1
    assert words in listed.problems[0]
    assert str(tmp_path / "pairs.csv") in listed.problems[0]


@pytest.mark.parametrize(
    "content, words",
    [
        (TABLE.encode("utf-16-le"), "null characters"),
        ("Jürgen.png,g.png".encode("latin-1"), "save it as UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", "save it as UTF-8"),
    ],
)
def test_what_isnt_text_is_refused(tmp_path, content, words):
    with pytest.raises(InvalidInput, match=words):
        read(tmp_path, content)


def test_a_column_like_a_known_one_is_no_typing_error_beside_it(tmp_path):
    listed = read(tmp_path, "person,garment,garments\np.png,g.png,x\n")
    assert pairs(listed) == [("p.png", "g.png")]
    assert listed.rows[0].extra == {"garments": "x"}


# in the readers


@pytest.mark.parametrize(
    "write",
    [
        lambda lines: codecs.BOM_UTF8 + lines.encode(),
        lambda lines: lines.encode("utf-16"),
        lambda lines: lines.replace(" ", ";").encode(),
        lambda lines: lines.replace(" ", ", ").encode(),
        lambda lines: ("Person,Garment\n" + lines.replace(" ", ",")).encode(),
        lambda lines: lines.replace("0000", "image\\0000", 1).encode(),
    ],
)
def test_viton_hd_reads_its_lists_however_they_were_saved(viton_hd, write):
    path = viton_hd / "test_pairs.txt"
    expected = [record.files for record in VitonHD(viton_hd, "test", paired=False, size=SIZE).records]
    path.write_bytes(write(path.read_text()))
    assert [record.files for record in VitonHD(viton_hd, "test", paired=False, size=SIZE).records] == expected


def test_viton_hd_knows_lists_of_paired_and_of_unpaired_pairs(viton_hd):
    unpaired = viton_hd / "test_pairs.txt"
    unpaired.rename(viton_hd / "test_pairs_unpaired.txt")
    (viton_hd / "test_pairs_paired.txt").write_text(f"{NAMES[1]}.jpg {NAMES[1]}.jpg\n")
    assert recognise(viton_hd) == "viton-hd"
    assert load_data(viton_hd, size=SIZE).pairs == [(NAMES[1], NAMES[1])]
    assert load_data(viton_hd, size=SIZE, setting="unpaired").pairs[0] == (NAMES[0], NAMES[1])
    (viton_hd / "test_pairs_unpaired.txt").unlink()
    with pytest.raises(BadDataSet, match=r"test_pairs\.txt is missing"):
        load_data(viton_hd, size=SIZE, setting="unpaired")


def test_unused_columns_of_an_evaluation_are_named_once(plain, caplog):
    path = plain / "list.csv"
    rows = [f"person/{name}.png,garment/{name}.png,{number}" for number, name in enumerate(NAMES)]
    path.write_text("\n".join(["person,garment,id", *rows]))
    data = load_data(path, size=SIZE)
    assert len(data) == 3
    assert [record.getMessage() for record in caplog.records] == [f"{path} has columns that aren't used: id."]


def test_json_that_is_nested_beyond_measure_is_a_problem_like_any_other(tmp_path):
    (tmp_path / "pairs.json").write_text("[" * 100_000)
    assert read_pair_list(tmp_path / "pairs.json").problems[0].endswith("line 1: it isn't a JSON object.")
