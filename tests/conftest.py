import os
import re
from pathlib import Path

import pytest
import torch
from support.command_line import PHOTO
from support.flat_figures import FigureAnalyzer
from support.stand_ins import ARCHITECTURE, stand_in_state, write_checkpoint
from support.tiny import densepose_image, mask_image, random_image, tiny_pipeline

from stableviton_sdk.conversion import convert_checkpoint
from stableviton_sdk.hub import pending as hub_downloads
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.preprocessing import preprocessor as preprocessor_module

pytest_plugins = ["support.loading_places"]


def pytest_configure(config):
    """Know the marks of diffusers' own checks, where a checkout of them is at hand."""
    if checkout := os.environ.get("DIFFUSERS_CHECKOUT"):
        text = Path(checkout, "tests", "testing_utils.py").read_text(encoding="utf-8")
        for mark in sorted(set(re.findall(r"pytest\.mark\.(\w+)", text))):
            config.addinivalue_line("markers", f"{mark}: diffusers' own")


@pytest.fixture(scope="session")
def stand_in_weights() -> dict[str, torch.Tensor]:
    return stand_in_state()


@pytest.fixture(scope="session")
def stand_in_checkpoint(stand_in_weights, tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "VITONHD.ckpt", stand_in_weights)


@pytest.fixture(scope="session")
def stand_in_folder(stand_in_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted") / "stand-in"
    convert_checkpoint(stand_in_checkpoint, folder, architecture=ARCHITECTURE, progress=False)
    return folder


@pytest.fixture(scope="session")
def stand_in_pipeline(stand_in_folder) -> TryOnPipeline:
    pipeline = TryOnPipeline.from_pretrained(stand_in_folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(autouse=True)
def nothing_global_changes(tmp_path, monkeypatch):
    """No test may rely on, and no call may touch, the working directory, the environment, or global seeds."""
    monkeypatch.chdir(tmp_path)
    environment = dict(os.environ)
    random_state = torch.random.get_rng_state()
    yield
    assert {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")} == {
        key: value for key, value in environment.items() if not key.startswith("PYTEST_")
    }
    torch.random.set_rng_state(random_state)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def files(tmp_path):
    """A person, a garment and maps, as files; names are relative to the working directory."""
    random_image(*PHOTO).save("person.png")
    random_image(seed=1).save("garment.png")
    mask_image(*PHOTO).save("mask.png")
    densepose_image(*PHOTO).save("densepose.png")
    return tmp_path


@pytest.fixture
def figure_networks(monkeypatch):
    """In place of the photo networks and their weights: an analyzer that finds figures by their colours."""
    monkeypatch.setattr(preprocessor_module, "PhotoAnalyzer", lambda *_: FigureAnalyzer())
    monkeypatch.setattr(hub_downloads, "describe_file", lambda *_, **__: None)
