"""Damaged image files end in an image or in one sentence, and no file has another program run."""

import os
import stat
import warnings

import pytest
from PIL import Image

from benchmarks.hostile_images import mutations, read_outcome, whole_files
from stableviton_sdk import InvalidInput
from stableviton_sdk.data.file_checks import find_problems
from stableviton_sdk.images import load_photo
from stableviton_sdk.serving.problems import Problem
from stableviton_sdk.serving.uploads import UploadLimits, decode_upload

# Of seed 1: they made decoders raise kinds of error that PIL doesn't name, and messages of two lines.
NOTABLE = (16032, 22500, 39271, 76139)
SOME = 330  # ten of each kind of file


def test_whole_files_are_all_read():
    outcomes = {name: read_outcome(data) for name, data in whole_files().items()}
    assert {name for name, outcome in outcomes.items() if outcome != "image"} == set()


def test_changed_files_are_read_or_refused_with_one_sentence():
    cases = [*mutations(range(SOME), 0), *mutations(NOTABLE, 1)]
    outcomes = {name: read_outcome(data) for name, data in cases}
    assert {name: outcome for name, outcome in outcomes.items() if outcome.startswith("unhandled")} == {}
    assert {"image", "refused"} <= set(outcomes.values())


@pytest.mark.parametrize("check", ["full", "quick"])
def test_a_data_sets_changed_files_are_sentences(tmp_path, check):
    paths = [tmp_path / f"{number}.jpg" for number in range(SOME)]
    for path, (_, data) in zip(paths, mutations(range(SOME), 3), strict=True):
        path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problems = find_problems([("person", path) for path in paths], check=check)
    assert len(problems) > SOME / 4
    assert all(problem.endswith(".") and "\n" not in problem for problem in problems)


@pytest.mark.parametrize("name", ["person", "mask"])
def test_changed_uploads_are_read_or_answered(name):
    outcomes = set()
    for _, data in [*mutations([*range(SOME), 792], 0), *mutations(NOTABLE, 1)]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                outcomes.add(type(decode_upload(data, name, UploadLimits())))
            except Problem as problem:
                outcomes.add(type(problem))
    assert outcomes == {Image.Image, Problem}


def test_images_of_a_few_pixels_are_whole_images(tmp_path):
    Image.new("RGB", (5, 3)).save(tmp_path / "tiny.jpg")
    assert find_problems([("person", tmp_path / "tiny.jpg")]) == []


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for Ghostscript is a shell script")
def test_postscript_is_refused_without_running_ghostscript(tmp_path, monkeypatch):
    trace = tmp_path / "was run"
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch '{trace}'\n")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "photo.jpg").write_bytes(script)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        with pytest.raises(InvalidInput, match="is in the format EPS: convert it to PNG or JPEG first"):
            load_photo(tmp_path / "photo.jpg")
        assert find_problems([("person", tmp_path / "photo.jpg")])
    assert not trace.exists()
