"""Saved folders and repositories as `DiffusionPipeline` itself loads them."""

import json

import pytest
import torch
from diffusers import DiffusionPipeline
from huggingface_hub import ModelCard
from support.loading_places import assert_same

from stableviton_sdk import TryOnPipeline
from stableviton_sdk.hub.known_repos import AUTHORS_LICENCE

REPO = "someone/dressed"


@pytest.fixture(autouse=True)
def modules_cache(tmp_path, monkeypatch):
    """Where diffusers copies code that it imports."""
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.mark.parametrize("how", [{}, {"custom_pipeline": "folder"}])
def test_diffusion_pipeline_loads_a_saved_folder_where_its_code_is_trusted(converted, tmp_path, how):
    own = TryOnPipeline.from_pretrained(converted)
    own.save_pretrained(tmp_path / "saved")
    how = {key: str(tmp_path / "saved") for key in how}
    loaded = DiffusionPipeline.from_pretrained(tmp_path / "saved", trust_remote_code=True, **how)
    assert type(loaded) is TryOnPipeline
    assert_same(loaded, own)
    assert loaded.config.weights_licence == own.config.weights_licence


def test_diffusion_pipeline_loads_a_converted_folder_and_a_repository(converted, hub):
    hub.commit_folder(REPO, converted)
    for place in (converted, REPO):
        assert_same(
            DiffusionPipeline.from_pretrained(place, trust_remote_code=True), TryOnPipeline.from_pretrained(converted)
        )


def test_without_trust_diffusion_pipeline_names_the_way(converted, hub):
    hub.commit_folder(REPO, converted)
    for place in (converted, REPO):
        with pytest.raises(ValueError, match="trust_remote_code=True"):
            DiffusionPipeline.from_pretrained(place)


def test_this_package_never_runs_what_a_folder_or_repository_brings(converted, hub, tmp_path):
    pipe = TryOnPipeline.from_pretrained(converted)
    pipe.save_pretrained(tmp_path / "saved")
    mark = tmp_path / "ran"
    (tmp_path / "saved" / "pipeline.py").write_text(f"open({str(mark)!r}, 'w')\n")
    hub.commit_folder(REPO, tmp_path / "saved")
    for place in (tmp_path / "saved", REPO):
        assert_same(TryOnPipeline.from_pretrained(place), pipe)
    assert not mark.exists()
    assert not any("pipeline.py" in path for _, path in hub.take_requests())


def test_a_pipeline_module_that_is_there_stays_and_the_class_is_a_plain_name(converted, tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "pipeline.py").write_text("mine = 1\n")
    TryOnPipeline.from_pretrained(converted).save_pretrained(folder)
    assert (folder / "pipeline.py").read_text() == "mine = 1\n"
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == "TryOnPipeline"


def test_a_saved_card_says_how_the_hub_has_to_show_it(converted, tmp_path):
    pipe = TryOnPipeline.from_pretrained(converted, weights_licence=AUTHORS_LICENCE, dtype=torch.float16)
    pipe.save_pretrained(tmp_path / "saved")
    data = ModelCard.load(tmp_path / "saved" / "README.md").data
    assert (data.library_name, data.pipeline_tag, data.license) == (
        "stableviton_sdk",
        "image-to-image",
        "cc-by-nc-sa-4.0",
    )
    assert data.base_model == "rlawjdghek/StableVITON"
    assert {"diffusers", "virtual-try-on"} <= set(data.tags)
