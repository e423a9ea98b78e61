"""What the tests of the command line have in common."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stableviton_sdk.cli.entry import main
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline

PHOTO = (96, 128)
FIGURE = (240, 320)


def try_on(model, *options, person="person.png", maps=True, output="out.png"):
    given = ["--mask", "mask.png", "--densepose", "densepose.png"] if maps else []
    arguments = ["try-on", person, "garment.png", "--output", output, "--device", "cpu", "--steps", "2", *given]
    return main([*map(str, arguments), "--model", str(model), *map(str, options)])


def refusal(capsys, status, expected=1):
    """The one line on stderr that says what was wrong."""
    error = capsys.readouterr().err
    assert status == expected
    assert error.startswith("stableviton: ")
    assert error.endswith("\n")
    assert error.count("\n") == 1
    return error


def usage_error(capsys, arguments):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    return capsys.readouterr().err


def refuse_to_load(monkeypatch):
    def load(*_, **__):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(TryOnPipeline, "from_pretrained", load)
    monkeypatch.setattr(TryOnPipeline, "from_single_file", load)


def environment():
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def run_python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
