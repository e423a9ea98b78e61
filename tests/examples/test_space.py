"""The Space's functions, without Gradio's server; its page where Gradio is installed."""

import importlib.util

import numpy as np
import pytest
import torch
from PIL import Image
from support.command_line import run_python
from support.paths import ROOT

from stableviton_sdk import TryOnPipeline
from stableviton_sdk.pipelines.loading import BUNDLED
from stableviton_sdk.provenance import read_settings

APP = ROOT / "examples" / "space" / "app.py"
PERSON, GARMENT = BUNDLED / "samples" / "person_1.png", BUNDLED / "samples" / "garment_2.png"


@pytest.fixture(scope="module")
def space():
    spec = importlib.util.spec_from_file_location("space_app", APP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_spaces_result_is_the_pipelines_with_its_settings(space):
    path, attention, file = space.try_on(str(PERSON), str(GARMENT), "upper", "balanced", 0.5, 3.0)
    generator = torch.Generator().manual_seed(3)
    expected = TryOnPipeline.from_bundled()(PERSON, GARMENT, quality="balanced", detail=0.5, generator=generator)
    with Image.open(path) as image:
        assert (np.asarray(image) == np.asarray(expected.images[0])).all()
    settings = read_settings(path)
    assert (settings["model"], settings["seed"], settings["detail"]) == ("bundled", 3, 0.5)
    assert str(file) == path

    marked = np.asarray(space.source(attention, 110, 140))
    garment = np.asarray(Image.open(GARMENT).convert("RGB"))
    rows, columns = np.nonzero((marked != garment).any(axis=2))
    found = attention.source_of(110, 140)
    assert abs(rows.mean() - found.y) < 2
    assert abs(columns.mean() - found.x) < 2


@pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="Gradio needs Pillow below 13, and the tests don't install it"
)
def test_the_spaces_page_is_built():
    code = f"import runpy; print(runpy.run_path({str(APP)!r})['build']().get_config_file())"
    done = run_python("-c", code)  # Gradio changes the environment of its process
    assert "Try on" in done.stdout, done.stderr


def test_the_spaces_card_and_requirements_agree():
    folder = APP.parent
    card, requirements = (folder / "README.md").read_text(), (folder / "requirements.txt").read_text()
    assert "sdk: gradio" in card
    assert "app_file: app.py" in card
    assert "gradio>=6.31" in requirements
    assert "pillow>=12,<13" in requirements
