"""Lists and folders of pairs: what a row says, and what is wrong with one."""

import json

import pytest
from PIL import Image
from support.batches import write_pairs

from stableviton_sdk.batch.pairs import MAX_TEXT, file_name_for, pair_folders, read_pairs
from stableviton_sdk.errors import InvalidInput


def listed(tmp_path, *lines, name="pairs.csv"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_pairs(str(path))


def only_error(pairs):
    assert len(pairs.bad) == 1
    return pairs.bad[0].error


def test_a_row_says_what_it_wants_and_carries_other_columns_through(tmp_path):
    header = "id,person,garment,Category,seed,mask,Garment Photo,sku"
    row = listed(tmp_path, header, "7,p.png,g.png,lower,12,m.png,model,A-1").rows[0]
    assert (row.id, row.name, row.category, row.garment_photo, row.seed) == ("7", "7", "lower", "model", 12)
    assert row.person == str(tmp_path / "p.png")
    assert row.maps == (("mask", str(tmp_path / "m.png")),)
    assert row.columns == {"sku": "A-1"}


def test_the_three_formats_hold_the_same_pairs(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"id": "a", "person": "p.png", "garment": "g.png", "seed": 3, "price": 1.5}]
    rows.append({"id": "b", "person": "p.png", "garment": "h.png", "seed": None, "price": 2.5})
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    from_parquet = read_pairs(str(tmp_path / "pairs.parquet")).rows
    assert from_parquet == read_pairs(str(tmp_path / "pairs.jsonl")).rows
    csv = listed(tmp_path, "id,person,garment,seed,price", "a,p.png,g.png,3,1.5", "b,p.png,h.png,,2.5").rows
    assert [row.digest for row in csv] == [row.digest for row in from_parquet]


def test_a_row_without_an_id_is_called_by_its_files_and_a_hash_of_itself(tmp_path):
    first, again, other = (
        listed(tmp_path, "person,garment,seed", f"in/p.png,g.png,{seed}").rows[0] for seed in ("", "", "1")
    )
    assert first.id == again.id
    assert first.id.startswith("p_g-")
    assert first.id != other.id


@pytest.mark.parametrize(
    "header, row, sentence",
    [
        ("person,garment,category", "p.png,g.png,hat", "category is 'hat'"),
        ("person,garment,seed", "p.png,g.png,-1", "seed is '-1'"),
        ("person,garment,seed", "p.png,g.png,²", "seed is '²'"),
        ("person,garment,garment_photo", "p.png,g.png,worn", "garment_photo is 'worn'"),
        ("person,garment,id", f"p.png,g.png,{'x' * (MAX_TEXT + 1)}", f"{MAX_TEXT} are allowed"),
        ("person,garment", "p.png,", "there is no garment"),
        ("person,garment,id", 'p.png,g.png,"a\nb"', "holds a line end"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_of_it_and_the_others_stay(tmp_path, header, row, sentence):
    pairs = listed(tmp_path, header, "a.png,b.png", row)
    assert len(pairs.rows) == 1
    assert sentence in only_error(pairs)


def test_a_name_that_is_no_text_is_refused_where_it_could_not_be_written_down(tmp_path):
    (tmp_path / "pairs.jsonl").write_text(
        '{"person": "p.png", "garment": "g.png"}\n{"person": "\\ud800", "garment": "g"}\n'
    )
    pairs = read_pairs(str(tmp_path / "pairs.jsonl"))
    assert "half a character" in only_error(pairs)
    pairs.bad[0].person.encode()


def test_the_second_row_of_an_id_is_named(tmp_path):
    pairs = listed(tmp_path, "id,person,garment", "a,p.png,g.png", "a,q.png,g.png")
    assert [row.person for row in pairs.rows] == [str(tmp_path / "p.png")]
    assert "'a' is that of line 2 already" in only_error(pairs)
    assert pairs.bad[0].line == 3


def test_ids_that_differ_in_capitals_only_are_refused_by_name(tmp_path):
    pairs = listed(tmp_path, "id,person,garment", "Shirt,p.png,g.png", "shirt,q.png,g.png")
    assert "differs from 'Shirt' of line 2 in capitals only" in only_error(pairs)


def test_a_list_without_any_pair_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="none is called 'garment'"):
        listed(tmp_path, "person,clothes", "p.png,g.png")
    with pytest.raises(InvalidInput, match="is missing"):
        read_pairs(str(tmp_path / "nowhere.csv"))


def test_a_parquet_file_with_a_column_of_lists_or_bytes_is_refused_by_its_name(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"person": ["p"], "garment": ["g"], "blob": [b"x"], "tags": [["a"]]})
    parquet.write_table(table, tmp_path / "pairs.parquet")
    with pytest.raises(InvalidInput, match="blob, tags"):
        read_pairs(str(tmp_path / "pairs.parquet"))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1" + bytes(20))
    with pytest.raises(InvalidInput, match="can't be read as a Parquet file"):
        read_pairs(str(tmp_path / "broken.parquet"))


@pytest.mark.parametrize("id_", ["00001_00", "Kleid grün", "a.b-c", "x" * 120])
def test_a_harmless_id_is_the_images_name(id_):
    assert file_name_for(id_) == id_


@pytest.mark.parametrize(
    "id_",
    [
        "../../etc/passwd",
        "a/b",
        "a\\b",
        "..",
        ".hidden",
        "CON",
        "nul.txt",
        "com1",
        "a:b",
        "end.",
        " x",
        "x" * 121,
        "a\x00b",
    ],
)
def test_an_id_that_no_file_can_be_called_gets_a_name_with_its_hash(id_):
    name = file_name_for(id_)
    assert name != id_
    assert not set('/\\:\x00<>"|?*') & set(name)
    assert not name.startswith((".", " "))
    assert len(name.encode()) <= 120
    assert name.partition(".")[0].lower() not in ("con", "nul", "com1")
    assert file_name_for(id_ + "2") != name


def test_folders_are_crossed_or_paired_by_name(tmp_path):
    write_pairs(tmp_path, persons=2, garments=2)
    (tmp_path / "garments" / "g0.png").rename(tmp_path / "garments" / "p0.jpg")
    (tmp_path / "garments" / "notes.txt").write_text("no image")
    folders = str(tmp_path / "persons"), str(tmp_path / "garments")
    crossed = pair_folders(*folders, "cross").rows
    assert {(row.person[-6:], row.garment[-6:]) for row in crossed} == {
        (person, garment) for person in ("p0.png", "p1.png") for garment in ("g1.png", "p0.jpg")
    }
    assert [(row.person[-6:], row.garment[-6:]) for row in pair_folders(*folders, "zip").rows] == [
        ("p0.png", "p0.jpg")
    ]


def test_folders_without_a_pair_are_refused(tmp_path):
    write_pairs(tmp_path, persons=1, garments=1)
    with pytest.raises(InvalidInput, match="--cross pairs each with each"):
        pair_folders(str(tmp_path / "persons"), str(tmp_path / "garments"), "zip")
    with pytest.raises(InvalidInput, match="holds no images"):
        pair_folders(str(tmp_path / "persons"), str(tmp_path), "cross")
    with pytest.raises(InvalidInput, match="is missing"):
        pair_folders(str(tmp_path / "nowhere"), str(tmp_path), "cross")


def test_a_file_that_may_still_be_growing_is_left_for_later(tmp_path):
    write_pairs(tmp_path, persons=1, garments=1)
    young = (tmp_path / "persons" / "p0.png").stat().st_mtime
    folders = str(tmp_path / "persons"), str(tmp_path / "garments")
    assert pair_folders(*folders, "cross", changed_before=young).rows == []
    Image.new("RGB", (4, 4)).save(tmp_path / "persons" / "p1.png")
    assert len(pair_folders(*folders, "cross", changed_before=young + 60).rows) == 2


def test_lists_and_images_may_lie_in_an_object_store(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    try:
        system.pipe_file("/shop/pairs.csv", b"person,garment\np.png,s3://other/g.png\n")
        row = read_pairs("memory://shop/pairs.csv").rows[0]
        assert (row.person, row.garment) == ("memory://shop/p.png", "s3://other/g.png")
    finally:
        system.rm("/shop", recursive=True)
