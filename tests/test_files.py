"""Files and folders that appear whole or not at all."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.files import (
    RunManifest,
    check_new_folder,
    folder_entries,
    format_bytes,
    remove_leftovers,
    replacing,
    replacing_folder,
    write_text_atomically,
)


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


# folders


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_the_old_folder_stands_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "new" / "saved"
    for text in ("old", "new"):
        with replacing_folder(path, flush=True) as partial:
            assert partial.parent == path.parent
            assert list(partial.iterdir()) == []
            (partial / "part").mkdir()
            (partial / "part" / text).write_text(text)
            assert not path.exists() if text == "old" else contents(path) == {"part/old": "old"}
    assert contents(path) == {"part/new": "new"}
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == path.parent.stat().st_mode & 0o777


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("before", ["old", None])
def test_a_folder_that_fails_leaves_the_old_one_and_nothing_beside_it(tmp_path, error, before):
    path = tmp_path / "saved"
    if before:
        path.mkdir()
        (path / "note").write_text(before)

    def write():
        with replacing_folder(path) as partial:
            (partial / "note").write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert contents(tmp_path) == ({"saved/note": "old"} if before else {})


@pytest.mark.parametrize("error", [OSError("busy"), KeyboardInterrupt()])
def test_an_old_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch, error):
    path = tmp_path / "saved"
    with replacing_folder(path) as partial:
        (partial / "note").write_text("old")
    rename = Path.rename

    def refusing(source, target):
        if source.suffix == ".partial":
            raise error
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(type(error)), replacing_folder(path) as partial:
        (partial / "note").write_text("new")
    assert contents(tmp_path) == {"saved/note": "old"}


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "saved").write_text("mine")
    with pytest.raises(NotADirectoryError), replacing_folder(tmp_path / "saved"):
        """Nothing to write."""
    assert contents(tmp_path) == {"saved": "mine"}


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "saved").symlink_to("elsewhere")
    with replacing_folder(tmp_path / "saved") as partial:
        (partial / "note").write_text("new")
    assert (tmp_path / "saved").is_symlink()
    assert (tmp_path / "elsewhere" / "note").read_text() == "new"


def test_threads_that_write_one_target_do_not_disturb_each_other(tmp_path):
    def write(number):
        for _ in range(20):
            write_text_atomically(tmp_path / "note.txt", str(number) * 1000)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = (tmp_path / "note.txt").read_text()
    assert text == text[0] * 1000
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def die_while_replacing(path, moment):
    """A process that is killed while it writes a folder, or between its two renames."""
    code = f"""
import os, signal, sys
from pathlib import Path
from stableviton_sdk.files import replacing_folder
rename = Path.rename
def dying(source, target):
    if source.suffix == ".partial":
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(source, target)
Path.rename = dying
with replacing_folder(Path({str(path)!r})) as partial:
    (partial / "note").write_text("new")
    if {moment!r} == "writing":
        os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False)


@pytest.mark.parametrize("moment", ["writing", "renaming"])
def test_what_a_killed_process_left_is_removed_and_what_it_moved_away_comes_back(tmp_path, moment):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "note").write_text("old")
    (tmp_path / ".other.4711.partial.txt").write_text("half a file")
    die_while_replacing(tmp_path / "saved", moment)
    assert len(list(tmp_path.iterdir())) == 3
    remove_leftovers(tmp_path, "saved")
    assert contents(tmp_path) == {"saved/note": "old", ".other.4711.partial.txt": "half a file"}
    remove_leftovers(tmp_path)
    assert contents(tmp_path) == {"saved/note": "old"}


@pytest.mark.parametrize("name", [".DS_Store", "._.DS_Store", "Thumbs.db", "desktop.ini", "Desktop.ini", "thumbs.db"])
def test_what_file_managers_leave_in_a_folder_does_not_count(tmp_path, name):
    folder = tmp_path / "folder"
    check_new_folder(folder)
    folder.mkdir()
    (folder / name).write_text("")
    check_new_folder(folder)
    assert folder_entries(folder) == []
    (folder / ".git").mkdir()
    with pytest.raises(InvalidInput, match=r"\.git"):
        check_new_folder(folder)
    with pytest.raises(InvalidInput, match="as a file"):
        check_new_folder(folder / name)


# manifests

SETTINGS = {"seed": 3, "model": {"name": "small", "size": [4, 3]}}


def test_a_run_goes_on_only_with_the_settings_it_began_with(tmp_path):
    manifest = RunManifest(tmp_path / "new" / "run", kind="rendering")
    assert manifest.read() is None
    assert manifest.open_or_refuse({**SETTINGS, "model": {"name": "small", "size": (4, 3)}}) is False
    (manifest.folder / "results").mkdir()
    assert manifest.open_or_refuse(SETTINGS) is True
    assert manifest.read() == SETTINGS
    with pytest.raises(InvalidInput, match=r"rendering whose model\.name is small, not large: pass another"):
        manifest.open_or_refuse({"seed": 3, "model": {"name": "large", "size": [4, 3]}})
    with pytest.raises(InvalidInput, match=r"seed is 3, not 4 \(and 1 more differences\)"):
        manifest.open_or_refuse({"seed": 4, "model": {"name": "large", "size": [4, 3]}})
    with pytest.raises(InvalidInput, match="another sort, which has 'model'"):
        manifest.open_or_refuse({"seed": 3})
    with pytest.raises(InvalidInput, match="another sort, which lacks 'data'"):
        manifest.open_or_refuse({**SETTINGS, "data": {"name": "x"}})
    with pytest.raises(InvalidInput) as caught:
        manifest.open_or_refuse({"seed": "x" * 100_000, "model": SETTINGS["model"]})
    assert len(str(caught.value)) < 400
    assert manifest.read() == SETTINGS


def test_a_folder_of_something_else_is_not_taken_for_a_run(tmp_path):
    (tmp_path / ".manifest.4711.partial.json").write_text("{")  # of a run that was killed as it began
    (tmp_path / "Thumbs.db").write_text("")
    assert RunManifest(tmp_path).open_or_refuse(SETTINGS) is False
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Thumbs.db", "manifest.json"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_text("dear")
    for folder in (tmp_path / "photos", tmp_path / "photos" / "holiday.jpg"):
        with pytest.raises(InvalidInput, match="something else than a run"):
            RunManifest(folder).open_or_refuse(SETTINGS)


@pytest.mark.parametrize("text", ["{half", "[1]", "\xff"])
def test_a_damaged_manifest_is_named(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(InvalidInput, match=r"manifest\.json"):
        RunManifest(tmp_path).open_or_refuse(SETTINGS)


@pytest.mark.parametrize(
    "size, text",
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1_600_000, "1.6 MB"),
        (267_000_000, "267 MB"),
        (7_400_000_000, "7.4 GB"),
        (35_000_000_000, "35 GB"),
        (3_500_000_000_000, "3500 GB"),
    ],
)
def test_sizes_are_written_for_people(size, text):
    assert format_bytes(size) == text
