"""The name a model goes by in its results: public, the same on every machine, and never a local path."""

import hashlib
import shutil

import pytest
import torch
from support.tiny import tiny_pipeline

from stableviton_sdk import TryOnPipeline, __version__
from stableviton_sdk.pipelines.identity import model_identity, result_settings, weights_sha256

COMMIT = "0123456789abcdef" * 2 + "01234567"


def test_the_bundled_model_is_named_with_the_packages_version():
    identity = model_identity(TryOnPipeline.from_bundled())
    assert identity == {"model": "bundled", "revision": f"stableviton-sdk {__version__}"}


@pytest.mark.parametrize(
    "place, identity",
    [
        (f"hub/models--owner--name/snapshots/{COMMIT}", {"model": "owner/name", "revision": COMMIT}),
        (
            "converted/model--rlawjdghek--StableVITON/VITONHD-fp32/0123456789abcdef",
            {"model": "rlawjdghek/StableVITON", "revision": "VITONHD-fp32, content 0123456789abcdef"},
        ),
        (
            "converted/space--rlawjdghek--StableVITON/VITONHD_1024-fp16/0123456789abcdef",
            {"model": "spaces/rlawjdghek/StableVITON", "revision": "VITONHD_1024-fp16, content 0123456789abcdef"},
        ),
    ],
)
def test_what_came_from_the_hub_is_named_by_its_repository(place, identity, tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / place)
    assert model_identity(TryOnPipeline.from_pretrained(tmp_path / place)) == identity


def test_a_folder_of_ones_own_is_named_by_its_weights_wherever_it_lies(tiny_folder, tmp_path):
    first = model_identity(TryOnPipeline.from_pretrained(tiny_folder))
    moved = shutil.copytree(tiny_folder, tmp_path / "anna")
    assert model_identity(TryOnPipeline.from_pretrained(moved)) == first
    assert first["model"] == "checkpoint"
    pipeline = TryOnPipeline.from_pretrained(tiny_folder)
    with torch.no_grad():
        next(pipeline.unet.parameters()).add_(1e-3)
    pipeline.save_pretrained(tmp_path / "other")
    other = model_identity(TryOnPipeline.from_pretrained(tmp_path / "other"))
    assert other["revision"] != first["revision"]
    assert "anna" not in str(other) + str(first)


def test_a_checkpoint_file_is_named_by_its_sha256(stand_in_checkpoint):
    pipeline = TryOnPipeline.from_single_file(stand_in_checkpoint)
    digest = hashlib.sha256(stand_in_checkpoint.read_bytes()).hexdigest()
    assert model_identity(pipeline, stand_in_checkpoint) == {"model": "checkpoint", "revision": f"sha256:{digest}"}


def test_a_pipeline_made_by_hand_is_named_by_its_tensors():
    pipeline = tiny_pipeline()
    revision = f"tensors-sha256:{weights_sha256(pipeline)}"
    assert model_identity(pipeline) == {"model": "checkpoint", "revision": revision}


def test_defaults_stand_in_the_settings_as_what_they_were():
    pipeline = TryOnPipeline.from_bundled()
    settings = result_settings(
        pipeline, {"model": "bundled"}, seed=3, num_inference_steps=None, detail=None, category="upper"
    )
    assert settings == {
        "model": "bundled",
        "seed": 3,
        "width": 192,
        "height": 256,
        "num_inference_steps": 1,
        "detail": 0.85,
        "category": "upper",
    }
