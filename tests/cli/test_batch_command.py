"""`stableviton batch`, in process, with the bundled model; and how it is refused."""

import json

import pytest
from PIL import Image
from support.batches import errors_of, images_of, make, write_pairs
from support.bundled import UNSEEN
from support.command_line import usage_error

from stableviton_sdk.cli.entry import main
from stableviton_sdk.data.synthetic import render_pair
from stableviton_sdk.provenance import read_settings


@pytest.mark.slow
def test_a_list_becomes_images_by_the_bundled_model_and_goes_on(tmp_path, capsys):
    for index in range(2):
        sample = render_pair(UNSEEN, index)
        Image.fromarray(sample.person).save(tmp_path / f"p{index}.png")
        Image.fromarray(sample.garment_other).save(tmp_path / f"g{index}.png")
    (tmp_path / "pairs.csv").write_text("id,person,garment\na,p0.png,g0.png\nb,p1.png,g1.png\nc,p1.png,none.png\n")
    command = ["batch", str(tmp_path / "pairs.csv"), "--output", str(tmp_path / "out"), "--model", "bundled"]
    command += ["--device", "cpu", "--threads", "1", "--json"]
    assert main(command) == 1
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["event"] for line in (lines[0], lines[-1])] == ["start", "summary"]
    assert (lines[-1]["done"], lines[-1]["failed"]) == (2, 1)
    assert "1 of 3 rows failed: see errors.csv" in err
    assert read_settings(images_of(tmp_path / "out")["a.png"])["model"] == "bundled"
    before = images_of(tmp_path / "out")
    (tmp_path / "g1.png").rename(tmp_path / "none.png")
    assert main([*command, "--limit", "1"]) == 0
    assert images_of(tmp_path / "out") == before
    assert main([*command, "--seed", "3"]) == 1
    assert "whose seed is 0, not 3" in capsys.readouterr().err


def test_the_status_is_a_line_or_json_and_a_sheet(tmp_path, capsys):
    pairs = write_pairs(tmp_path / "data")
    (tmp_path / "data" / "persons" / "p3.png").write_bytes(b"no image")
    make(pairs, tmp_path / "out")
    assert len(errors_of(tmp_path / "out")) == 3
    assert main(["batch", "--status", str(tmp_path / "out")]) == 0
    assert "9 of 12 done, 3 failed, 0 left" in capsys.readouterr().out
    assert Image.open(tmp_path / "out" / "contact.png").height > 256
    assert main(["batch", "--status", str(tmp_path / "out"), "--json", "--sheet", str(tmp_path / "own.png")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["done"], found["sheet"]) == (9, str(tmp_path / "own.png"))
    assert make(pairs, tmp_path / "out").done == 9  # what was drawn is in nobody's way


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["pairs.csv"], "--output"),
        ([], "pass a list of pairs, or both"),
        (["--persons", "a", "--garments", "b", "--output", "o"], "pass --cross"),
        (["pairs.csv", "--persons", "a", "--output", "o"], "a list of its own"),
        (["pairs.csv", "--output", "o", "--actors", "2"], "--actors is for --engine ray"),
        (["pairs.csv", "--output", "o", "--engine", "ray", "--workers", "2"], "--workers is for --engine local"),
        (["pairs.csv", "--output", "o", "--engine", "ray", "--dtype", "auto"], "name a type"),
        (["--status", "o", "--output", "o"], "reads an output and nothing else"),
        (["pairs.csv", "--output", "o", "--max-errors", "-1"], "not a whole number from 0"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(arguments, sentence, capsys):
    assert sentence in usage_error(capsys, ["batch", *arguments])
