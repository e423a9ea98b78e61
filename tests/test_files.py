"""Files that appear whole or not at all."""

import pytest

from stableviton_sdk.files import replacing, write_text_atomically


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "note.v1.txt"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        # hidden, found by every sweep of leftovers, and of the same kind for writers that go by the suffix
        assert partial.parent == tmp_path
        assert partial.match(".*.partial*")
        assert partial.suffix == ".txt"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_what_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, error):
    path = tmp_path / "note.txt"
    write_text_atomically(path, "old")

    def write():
        with replacing(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_take_its_place_is_removed_again(tmp_path):
    (tmp_path / "note.txt").mkdir()
    with pytest.raises(IsADirectoryError):
        write_text_atomically(tmp_path / "note.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_the_first_error_is_the_one_that_is_raised(tmp_path):
    (tmp_path / "taken").write_text("a file where a folder is needed")
    with pytest.raises(ValueError, match="first"), replacing(tmp_path / "taken" / "note.txt"):
        raise ValueError("first")


def test_text_is_written_in_utf_8(tmp_path):
    write_text_atomically(tmp_path / "note.txt", "Größe: 5 µm\n")
    assert (tmp_path / "note.txt").read_bytes() == "Größe: 5 µm\n".encode()
