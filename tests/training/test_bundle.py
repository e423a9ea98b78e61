"""Trained parts are put together to a folder that loads, in half precision, with images to try it on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import stableviton_sdk
from stableviton_sdk import TryOnPipeline
from stableviton_sdk.data.synthetic import render_pair
from stableviton_sdk.errors import IncompatibleCheckpoint, InvalidInput
from stableviton_sdk.models.patch_autoencoder import PatchAutoencoder
from stableviton_sdk.training.bundled import assemble as bundle
from stableviton_sdk.training.bundled.assemble import BundleConfig, make_bundle
from stableviton_sdk.training.tasks import read_task

BUNDLED = Path(stableviton_sdk.__file__).parent / "bundled"


def config(tmp_path, **changes):
    parts = {
        "try_on": str(BUNDLED),
        "autoencoder": str(BUNDLED / "vae"),
        "preprocessor": str(BUNDLED / "preprocessor"),
    }
    return BundleConfig(**{"output": str(tmp_path / "bundle"), "steps": 2, "samples": [5], **parts, **changes})


def test_what_was_trained_becomes_a_folder_that_loads(tmp_path):
    folder = make_bundle(config(tmp_path, sample_seed=9))
    pipe = TryOnPipeline.from_pretrained(folder)
    assert (pipe.config.default_num_inference_steps, pipe.config.correspondence_block) == (2, 2)
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    weights = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    sample = render_pair(9, 5)
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "samples" / "person_1.png")), sample.person)
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "samples" / "garment_1.png")), sample.garment_other)
    assert "license: apache-2.0" in (folder / "README.md").read_text()


def test_networks_of_another_autoencoder_are_refused(tmp_path):
    other = PatchAutoencoder.from_pretrained(BUNDLED / "vae")
    with torch.no_grad():
        other.encoder.weight.mul_(1.5)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(IncompatibleCheckpoint, match="trained with another autoencoder"):
        make_bundle(config(tmp_path, autoencoder=str(tmp_path / "other")))
    assert not (tmp_path / "bundle").exists()


def test_what_is_too_large_for_a_package_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "MAX_BYTES", 1e6)
    with pytest.raises(InvalidInput, match="too much for a package"):
        make_bundle(config(tmp_path))


def test_the_packages_own_configuration_names_what_the_others_write():
    parts = ("autoencoder", "body", "try-on", "decoder")
    own = {name: read_task(name).config for name in ("bundled", *(f"bundled-{part}" for part in parts))}
    assert own["bundled"].autoencoder == f"{own['bundled-decoder'].output}/autoencoder"
    assert own["bundled-decoder"].autoencoder == f"{own['bundled-autoencoder'].output}/autoencoder"
    assert own["bundled"].preprocessor == f"{own['bundled-body'].output}/preprocessor"
    assert own["bundled"].try_on == f"{own['bundled-try-on'].output}/pipeline"
    assert own["bundled-try-on"].start.vae == own["bundled-decoder"].autoencoder
    assert own["bundled-decoder"].try_on == own["bundled"].try_on
