"""Batches on a real Ray cluster of two actors."""

import functools

import pytest
from support.batches import Once, errors_of, images_of, make, manifest_of, write_pairs

from stableviton_sdk import batch
from stableviton_sdk.batch.engines import ray_data
from stableviton_sdk.batch.pairs import read_pairs
from stableviton_sdk.batch.plan import unfinished

pytest.importorskip("ray", reason="the extra [batch] isn't installed")


@pytest.mark.slow
def test_two_actors_one_of_which_is_killed_make_the_bytes_that_one_process_makes(tmp_path):
    pairs = write_pairs(tmp_path / "data", persons=6, garments=6)
    (tmp_path / "data" / "persons" / "p1.png").write_bytes(b"no image")
    make(pairs, tmp_path / "local")
    painter = functools.partial(Once, flag=str(tmp_path / "died"))
    summary = make(pairs, tmp_path / "ray", painter=painter, engine=batch.RayEngine(actors=2))
    assert (summary.done, summary.failed, summary.total) == (30, 6, 36)
    assert images_of(tmp_path / "ray") == images_of(tmp_path / "local")
    assert {row["id"] for row in errors_of(tmp_path / "ray")} == {f"1-{garment}" for garment in range(6)}
    assert (tmp_path / "died").read_text() == "0"  # Ray's statistics are off in its processes
    done = {line["id"] for line in manifest_of(tmp_path / "ray") if line["status"] == "done"}
    assert done == {row["id"] for row in manifest_of(tmp_path / "local") if row["status"] == "done"}
    # either engine goes on with what the other one began
    (tmp_path / "ray" / "images" / "0-0.png").unlink()
    assert make(pairs, tmp_path / "ray").painted == 0  # the manifest says that it is done


def test_what_a_task_does_is_of_one_block(tmp_path, monkeypatch):
    from stableviton_sdk.batch import plan as plans

    monkeypatch.setattr(plans, "PERSONS_TOGETHER", 2)
    rows = read_pairs(str(write_pairs(tmp_path, persons=4, garments=9))).rows
    units = ray_data._units(unfinished([rows], 2, set()))
    assert [len(unit) for unit in units] == [8, 1, 8, 1]
    assert all(len({entry.block for entry in unit}) == 1 for unit in units)
