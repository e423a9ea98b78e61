"""Batches on this machine: what they leave behind, how they go on, what they refuse, what they survive."""

import functools
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from support.batches import (
    Failing,
    Once,
    Poisoned,
    Slow,
    Starved,
    Strong,
    errors_of,
    images_of,
    make,
    manifest_of,
    start,
    write_pairs,
)

from stableviton_sdk import batch
from stableviton_sdk.batch import runner, status, stores
from stableviton_sdk.batch.pairs import read_pairs
from stableviton_sdk.batch.plan import compose, unfinished
from stableviton_sdk.batch.worker import Kept
from stableviton_sdk.errors import InvalidInput, TryOnError
from stableviton_sdk.provenance import read_settings

KILLED = """
import sys
from support.batches import Slow, make
if __name__ == "__main__":
    make(sys.argv[1], sys.argv[2], painter=Slow)
"""


@pytest.fixture
def pairs(tmp_path):
    return write_pairs(tmp_path / "data", columns=["sku"])


def test_every_row_becomes_an_image_and_a_line_of_the_manifest(pairs, tmp_path):
    events = []
    summary = make(pairs, tmp_path / "out", on_event=events.append)
    assert (summary.done, summary.failed, summary.total, summary.painted) == (12, 0, 12, 12)
    images = images_of(tmp_path / "out")
    assert set(images) == {f"{person}-{garment}.png" for person in range(4) for garment in range(3)}
    lines = {line["id"]: line for line in manifest_of(tmp_path / "out")}
    assert len(lines) == 12
    line = lines["2-1"]
    assert (line["status"], line["columns"], line["error"]) == ("done", {"sku": "sku21"}, None)
    assert line["model"] == f"{1:064}"
    settings = read_settings(images["2-1.png"])
    assert (settings["seed"], settings["row"], settings["batch"]) == (line["seed"], line["row"], line["fingerprint"])
    assert not any(str(tmp_path) in str(value) for value in settings.values())
    assert errors_of(tmp_path / "out") == []
    assert [event["event"] for event in events] == ["start", *["image"] * 12, "end"]
    assert events[-1]["done"] == 12


def test_persons_and_garments_are_prepared_once_each(pairs, tmp_path):
    (counts,) = make(pairs, tmp_path / "out").counts
    assert (counts.persons, counts.garments, counts.images) == (4, 3, 12)


def test_the_same_call_again_makes_nothing_and_changes_nothing(pairs, tmp_path):
    make(pairs, tmp_path / "out")
    before = images_of(tmp_path / "out")
    summary = make(pairs, tmp_path / "out")
    assert (summary.done, summary.painted) == (12, 0)
    assert images_of(tmp_path / "out") == before


def test_images_that_were_lost_are_made_again_with_the_same_bytes_in_the_same_batches(pairs, tmp_path):
    make(pairs, tmp_path / "out")
    before = images_of(tmp_path / "out")
    for path in (tmp_path / "out" / "manifest").iterdir():
        path.unlink()
    for name in ("0-0.png", "3-2.png"):
        (tmp_path / "out" / "images" / name).unlink()
    summary = make(pairs, tmp_path / "out")
    assert images_of(tmp_path / "out") == before
    assert summary.done == 12
    assert summary.counts[0].images == 4  # two batches of two, of which one image each was there


def test_an_image_without_a_line_is_taken_over_if_it_is_whole_and_of_this_run(pairs, tmp_path):
    make(pairs, tmp_path / "out")
    before = images_of(tmp_path / "out")
    for path in (tmp_path / "out" / "manifest").iterdir():
        path.unlink()
    (tmp_path / "out" / "images" / "1-1.png").write_bytes(before["1-1.png"][:100])
    Image.new("RGB", (4, 4)).save(tmp_path / "out" / "images" / "2-2.png")
    make(pairs, tmp_path / "out")
    assert images_of(tmp_path / "out") == before
    painted = {line["id"] for line in manifest_of(tmp_path / "out") if line["seconds"] is not None}
    assert painted == {"1-1", "2-2"}


def test_a_line_that_was_cut_off_costs_nothing(pairs, tmp_path):
    make(pairs, tmp_path / "out")
    before = images_of(tmp_path / "out")
    (shard,) = (tmp_path / "out" / "manifest").iterdir()
    shard.write_bytes(shard.read_bytes()[:-50])
    summary = make(pairs, tmp_path / "out")
    assert (summary.done, summary.counts[0].images) == (12, 0)
    assert images_of(tmp_path / "out") == before


def test_other_settings_are_refused_by_name_unless_the_images_are_to_be_made_again(pairs, tmp_path):
    make(pairs, tmp_path / "out")
    before = images_of(tmp_path / "out")
    for settings, name in ((batch.BatchSettings(batch_size=2, threads=1, seed=5), "seed is 0, not 5"),):
        with pytest.raises(InvalidInput, match=name):
            make(pairs, tmp_path / "out", settings=settings)
    with pytest.raises(InvalidInput, match=r"model\.weights_sha256"):
        make(pairs, tmp_path / "out", painter=Strong)
    assert images_of(tmp_path / "out") == before
    summary = make(pairs, tmp_path / "out", painter=Strong, redo=True)
    assert summary.painted == 12
    after = images_of(tmp_path / "out")
    assert all(after[name] != before[name] for name in before)
    assert make(pairs, tmp_path / "out", painter=Strong).painted == 0


def test_rows_that_have_changed_are_refused_unless_they_are_to_be_made_again(pairs, tmp_path):
    make(pairs, tmp_path / "out")
    before = images_of(tmp_path / "out")
    pairs.write_text(
        pairs.read_text().replace("0-0,persons/p0.png,garments/g0.png", "0-0,persons/p0.png,garments/g1.png")
    )
    with pytest.raises(InvalidInput, match="1 rows have changed since their images were made, the first '0-0'"):
        make(pairs, tmp_path / "out")
    make(pairs, tmp_path / "out", redo=True)
    after = images_of(tmp_path / "out")
    assert {name for name in before if after[name] != before[name]} == {"0-0.png"}


def test_a_folder_of_something_else_is_refused(pairs, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("dear")
    with pytest.raises(InvalidInput, match="holds something else than a batch"):
        make(pairs, tmp_path / "out")


def test_rows_that_come_later_leave_the_others_batches_alone(pairs, tmp_path):
    text = pairs.read_text()
    lines = text.splitlines(keepends=True)
    pairs.write_text("".join(lines[:8]))
    make(pairs, tmp_path / "grown")
    first = images_of(tmp_path / "grown")
    pairs.write_text("".join([lines[0], *reversed(lines[1:])]))  # and in another order
    summary = make(pairs, tmp_path / "grown")
    assert summary.painted == 5
    assert summary.counts[0].images == 5
    assert {name: content for name, content in images_of(tmp_path / "grown").items() if name in first} == first


def test_bad_rows_have_a_sentence_each_and_the_rest_is_made(pairs, tmp_path):
    (pairs.parent / "persons" / "p1.png").write_bytes(b"no image")
    Image.new("RGB", (1, 1)).save(pairs.parent / "persons" / "p2.png")
    with pairs.open("a") as file:
        file.write("gone,persons/p0.png,garments/nowhere.png,x\ndouble,persons/p0.png,,x\n0-0,a,b,x\n")
    summary = make(pairs, tmp_path / "out")
    assert (summary.done, summary.failed, summary.total) == (6, 9, 15)
    errors = {row["id"]: row["error"] for row in errors_of(tmp_path / "out")}
    assert "p1.png is not an image" in errors["1-0"].replace("person is not", "p1.png is not")
    assert "the photo shows nobody" in errors["2-2"]
    assert "nowhere.png is missing" in errors["gone"]
    assert "is that of line 2 already" in errors["0-0"]
    assert any("there is no garment" in error for error in errors.values())


def test_a_row_that_was_mended_is_made_and_leaves_the_list_of_errors(pairs, tmp_path):
    make(pairs, tmp_path / "whole")
    photo = pairs.parent / "persons" / "p1.png"
    content = photo.read_bytes()
    photo.write_bytes(b"no image")
    assert make(pairs, tmp_path / "out").failed == 3
    photo.write_bytes(content)
    summary = make(pairs, tmp_path / "out")
    assert (summary.done, summary.failed, summary.painted) == (12, 0, 3)
    assert errors_of(tmp_path / "out") == []
    # an image's batch has its size whoever fails in it, so nothing rounds differently
    assert images_of(tmp_path / "out") == images_of(tmp_path / "whole")


def test_a_run_stops_after_too_many_errors(pairs, tmp_path):
    for photo in (pairs.parent / "persons").iterdir():
        photo.write_bytes(b"no image")
    with pytest.raises(batch.TooManyErrors, match="and 2 may: see errors"):
        make(pairs, tmp_path / "out", max_errors=2)
    assert len(errors_of(tmp_path / "out")) >= 3


def test_a_defect_of_the_painter_fails_its_rows_and_not_the_run(pairs, tmp_path):
    summary = make(pairs, tmp_path / "out", painter=Failing)
    assert summary.failed == 12
    assert "ZeroDivisionError" in errors_of(tmp_path / "out")[0]["error"]


def test_too_little_memory_stops_the_run_with_what_to_do(pairs, tmp_path):
    with pytest.raises(batch.CannotGoOn, match="smaller --batch-size"):
        make(pairs, tmp_path / "out", painter=Starved)
    assert errors_of(tmp_path / "out") == []


def test_an_output_that_cannot_be_written_stops_the_run_and_blames_no_row(pairs, tmp_path):
    make(pairs, tmp_path / "out", limit=1)
    images = tmp_path / "out" / "images"
    images.rename(tmp_path / "aside")
    images.write_bytes(b"in the way")
    with pytest.raises(batch.CannotGoOn, match="can't be written"):
        make(pairs, tmp_path / "out")
    assert errors_of(tmp_path / "out") == []
    images.unlink()
    (tmp_path / "aside").rename(images)
    assert make(pairs, tmp_path / "out").done == 12


def test_a_process_that_is_killed_is_replaced_and_nothing_is_lost(pairs, tmp_path):
    make(pairs, tmp_path / "whole")
    summary = make(pairs, tmp_path / "out", painter=functools.partial(Once, flag=str(tmp_path / "died")))
    assert (tmp_path / "died").exists()
    assert (summary.done, summary.failed) == (12, 0)
    assert images_of(tmp_path / "out") == images_of(tmp_path / "whole")


def test_a_row_that_kills_whoever_paints_it_fails_and_the_rest_is_made(pairs, tmp_path):
    summary = make(pairs, tmp_path / "out", painter=Poisoned)
    assert summary.done >= 6
    assert summary.done + summary.failed == 12
    failed = errors_of(tmp_path / "out")
    assert {row["id"] for row in failed} >= {"1-0", "1-1", "1-2"}
    assert all("by signal 9" in row["error"] for row in failed)


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(pairs, tmp_path):
    make(pairs, tmp_path / "whole")
    for wait in (0.0, 0.1, 0.25):
        process = start(KILLED, pairs, tmp_path / "out")
        deadline = time.monotonic() + 60
        while not images_of(tmp_path / "out") and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(wait)
        process.kill()
        process.communicate()
    summary = make(pairs, tmp_path / "out", painter=Slow)
    assert (summary.done, summary.total) == (12, 12)
    assert images_of(tmp_path / "out") == images_of(tmp_path / "whole")


@pytest.mark.slow
def test_no_process_outlives_the_one_that_started_it(pairs, tmp_path):
    process = start(KILLED, pairs, tmp_path / "out")
    deadline = time.monotonic() + 60
    while not images_of(tmp_path / "out") and time.monotonic() < deadline:
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children
    process.kill()
    process.communicate()
    while any(_is_running(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_is_running(child) for child in children)


def _is_running(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def interruptible():
    """SIGINT as in a terminal, wherever the tests were started from: in the background it may be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_batch_that_was_started_with_interrupts_ignored_goes_on(pairs, tmp_path, interruptible):
    def interrupt(event):
        if event["event"] == "image" and event["done"] == 1:
            os.kill(os.getpid(), signal.SIGINT)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    summary = make(pairs, tmp_path / "out", on_event=interrupt)
    assert (summary.done, summary.interrupted) == (12, False)


def test_an_interrupt_finishes_the_images_in_hand(pairs, tmp_path, interruptible):
    def interrupt(event):
        if event["event"] == "image" and event["done"] == 1:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    summary = make(pairs, tmp_path / "out", painter=Slow, on_event=interrupt)
    assert signal.getsignal(signal.SIGINT) is before
    assert summary.interrupted
    assert 1 < summary.done <= 12
    assert len(images_of(tmp_path / "out")) == summary.done
    assert {line["id"] for line in manifest_of(tmp_path / "out")} == {
        name.removesuffix(".png") for name in images_of(tmp_path / "out")
    }


def test_several_processes_make_the_same_bytes_as_one(pairs, tmp_path):
    make(pairs, tmp_path / "one")
    summary = make(pairs, tmp_path / "two", engine=batch.LocalEngine(devices=("cpu",), workers=2))
    assert len(summary.counts) == 2
    assert images_of(tmp_path / "two") == images_of(tmp_path / "one")


def test_watching_goes_on_with_new_files_and_not_with_failed_ones(tmp_path, monkeypatch, interruptible):
    monkeypatch.setattr(runner, "WATCH_INTERVAL", 0.05)
    monkeypatch.setattr(runner, "STILL_GROWING", 0.0)
    write_pairs(tmp_path, persons=1, garments=2)
    (tmp_path / "persons" / "broken.png").write_bytes(b"no image")
    folders = batch.Folders(str(tmp_path / "persons"), str(tmp_path / "garments"))
    failures = []

    def follow(event):
        if event["event"] == "end" and event["done"] == 2:
            failures.append(event["failed"])
            Image.new("RGB", (8, 8)).save(tmp_path / "late.png")
            (tmp_path / "late.png").rename(tmp_path / "persons" / "late.png")
        if event["event"] == "end" and event["done"] == 4:
            failures.append(event["failed"])
            os.kill(os.getpid(), signal.SIGINT)

    summary = make(folders, tmp_path / "out", watch=True, on_event=follow)
    assert summary.done == 4
    assert failures == [2, 2]
    assert sum(line["status"] == "failed" for line in manifest_of(tmp_path / "out")) == 2


def test_batches_follow_from_the_list_and_never_from_what_is_done(pairs):
    rows = read_pairs(str(pairs)).rows
    whole = list(compose(rows, 2))
    assert sorted(place for _, places in whole for place in places) == list(range(12))
    done = {row.id for row in rows[::3]}
    members = [{pair.id for pair in entry.pairs} for entry in unfinished([rows], 2, done)]
    assert all(entry in [{rows[place].id for place in places} for _, places in whole] for entry in members)


def test_a_process_keeps_to_its_block_and_helps_with_the_fullest_at_the_end(pairs, monkeypatch):
    from stableviton_sdk.batch import plan as plans

    monkeypatch.setattr(plans, "PERSONS_TOGETHER", 2)
    plan = unfinished([read_pairs(str(pairs)).rows], 2, set())
    first, second = plan.take(None), plan.take(None)
    assert first.block != second.block
    rest = [plan.take(first.block) for _ in range(4)]
    assert [entry.block for entry in rest] == [first.block, first.block, second.block, second.block]
    assert plan.take(first.block) is None


def test_what_two_threads_ask_for_is_made_once_and_what_is_old_makes_room():
    kept, made, ready = Kept(2, 10**6), [], threading.Barrier(2)

    def make_one():
        made.append(1)
        time.sleep(0.05)
        return "value"

    def ask():
        ready.wait()
        assert kept.get("key", make_one) == "value"

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    for key in "abc":
        kept.get(key, lambda: "other")
    kept.get("key", make_one)
    assert made == [1, 1]


def test_half_written_files_of_the_killed_are_swept_up_after_a_while(pairs, tmp_path):
    make(pairs, tmp_path / "out")
    old, young = (tmp_path / "out" / "images" / f".x.{name}.partial.png" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    past = time.time() - stores.LEFTOVER_AGE - 1
    os.utime(old, (past, past))
    make(pairs, tmp_path / "out")
    assert not old.exists()
    assert young.exists()


def test_the_status_is_read_from_the_output_and_a_sample_drawn(pairs, tmp_path):
    with pytest.raises(InvalidInput, match="holds no batch"):
        status.read_status(tmp_path / "out")
    (pairs.parent / "persons" / "p1.png").write_bytes(b"no image")
    make(pairs, tmp_path / "out", painter=Slow)
    found = status.read_status(tmp_path / "out")
    assert (found.done, found.failed, found.left, found.total, found.runs) == (9, 3, 0, 12, 1)
    assert found.per_hour > 0
    sheet = status.draw_sample(tmp_path / "out", 4)
    assert sheet.width > 3 * status.SHEET_HEIGHT / 2
    make(pairs, tmp_path / "none", max_errors=None, limit=1)
    assert status.read_status(tmp_path / "none").total == 1


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"threads": 0}, "threads is 0"),
        ({"format": "bmp"}, "format is 'bmp'"),
        ({"category": "hat"}, "category is 'hat'"),
        ({"quality": "best"}, "quality is 'best'"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        batch.BatchSettings(**options)


def test_engines_and_sources_that_cannot_be_are_refused(pairs, tmp_path):
    for wrong, sentence in (({"engine": "spark"}, "engine is 'spark'"), ({"watch": True}, "pass two folders")):
        with pytest.raises(InvalidInput, match=sentence):
            make(pairs, tmp_path / "out", **wrong)
    for wrong in ({"actors": 0}, {"gpus_per_actor": -1}, {"cpus_per_actor": 0}):
        with pytest.raises(InvalidInput, match=next(iter(wrong))):
            batch.RayEngine(**wrong)
    with pytest.raises(InvalidInput, match="workers is 0"):
        batch.LocalEngine(workers=0)
    with pytest.raises(InvalidInput, match="how is 'each'"):
        batch.Folders("a", "b", "each")


def test_errors_of_writing_say_that_there_is_no_room(pairs, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(stores, "replacing", refuse)
    with pytest.raises(stores.OutputUnwritable, match="no room left"):
        stores.Folder(str(tmp_path)).write("x.png", b"x")
    assert issubclass(stores.OutputUnwritable, TryOnError)


@pytest.mark.parametrize("format", ["webp", "jpg"])
def test_images_come_in_other_formats_too(pairs, tmp_path, format):
    settings = batch.BatchSettings(batch_size=2, threads=1, format=format, metadata=False)
    make(pairs, tmp_path / "out", settings=settings, limit=2)
    assert set(images_of(tmp_path / "out")) == {f"0-0.{format}", f"0-1.{format}"}
    assert read_settings(images_of(tmp_path / "out")[f"0-0.{format}"]) is None
