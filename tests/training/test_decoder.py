"""The autoencoder's way back learns from what the try-on network paints, and leaves latents what they are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import stableviton_sdk
from stableviton_sdk import TryOnInputs, TryOnPipeline
from stableviton_sdk.data.synthetic import render_pair
from stableviton_sdk.errors import IncompatibleCheckpoint, InvalidInput
from stableviton_sdk.models.patch_autoencoder import PatchAutoencoder
from stableviton_sdk.training.bundled import decoder
from stableviton_sdk.training.bundled.decoder import (
    DecoderConfig,
    GeneratedConfig,
    MaskedCrops,
    collate_generated,
    decoding_loss,
    generate_latents,
    train_decoder,
)
from stableviton_sdk.training.config import parse_config

BUNDLED = Path(stableviton_sdk.__file__).parent / "bundled"


@pytest.fixture(scope="module")
def pipe():
    return TryOnPipeline.from_bundled()


@pytest.fixture(scope="module")
def painted(pipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("painted") / "painted.npz"
    return path, generate_latents(pipe, GeneratedConfig(seed=8, length=3, batch_size=2), path, progress=False)


def options(tmp_path, **changes):
    given = {"output": str(tmp_path / "run"), "autoencoder": str(BUNDLED / "vae"), "try_on": str(BUNDLED)}
    data = {"seed": 8, "length": 3, "batch_size": 2, "crop": 64, **changes.pop("data", {})}
    fit = {"steps": 12, "batch_size": 4, "learning_rate": 3e-4, "warmup_steps": 1, "checkpoint_every": 5, "cpu": True}
    return parse_config({**given, "data": data, "fit": fit, **changes}, DecoderConfig)


def test_what_is_painted_is_what_the_pipeline_paints(pipe, painted):
    item, sample = painted[1][2], render_pair(8, 2)
    np.testing.assert_array_equal(item["image"], sample.person_in_other)
    np.testing.assert_array_equal(item["mask"], sample.mask)
    alone = pipe(
        TryOnInputs.from_maps(sample.person, mask=sample.mask, densepose=sample.densepose, agnostic=sample.agnostic),
        Image.fromarray(sample.garment_other),
        num_inference_steps=1,
        generator=torch.Generator().manual_seed(2),
        output_type="latent",
    ).images
    np.testing.assert_allclose(item["latents"], alone[0].numpy(), atol=5e-3)


def test_it_is_painted_once_and_anew_for_other_figures(pipe, painted, monkeypatch):
    path, first = painted
    with monkeypatch.context() as patched:
        patched.setattr(decoder, "render_pair", None)
        again = generate_latents(pipe, GeneratedConfig(seed=8, length=3, batch_size=2), path, progress=False)
    for name in ("latents", "image", "mask"):
        np.testing.assert_array_equal(again.arrays[name], first.arrays[name])
    fewer = generate_latents(pipe, GeneratedConfig(seed=8, length=1), path.with_name("other.npz"), progress=False)
    assert len(fewer) == 1
    anew = generate_latents(pipe, GeneratedConfig(seed=9, length=1), path.with_name("other.npz"), progress=False)
    assert not np.array_equal(anew[0]["image"], fewer[0]["image"])


def test_crops_lie_on_painted_pixels_and_on_the_grid(painted):
    item, crops = painted[1][0], MaskedCrops(64, 8, clean_probability=0.5)
    clean = []
    for seed in range(20):
        crop = crops(item, np.random.default_rng(seed))
        clean.append(crop["clean"])
        assert crop["latents"].shape[1:] == (8, 8)
        assert crop["image"].shape == (64, 64, 3)
        assert crop["mask"].any()
        places = [
            (top, left)
            for top in range(25)
            for left in range(17)
            if np.array_equal(item["latents"][:, top : top + 8, left : left + 8], crop["latents"])
        ]
        ((top, left),) = places
        np.testing.assert_array_equal(item["image"][8 * top : 8 * top + 64, 8 * left : 8 * left + 64], crop["image"])
    assert 4 < sum(clean) < 16


@torch.no_grad()
def test_clean_crops_count_everywhere_and_painted_ones_in_the_mask(pipe, painted):
    vae = pipe.vae
    item = MaskedCrops(64, 8, clean_probability=0.0)(painted[1][0], np.random.default_rng(1))
    whole = dict(item, mask=np.ones_like(item["mask"]))
    clean = dict(item, clean=True, latents=np.full_like(item["latents"], 9))
    assert (
        float(decoding_loss(vae, collate_generated([clean]))["squared"]) < 0.02
    )  # the wrong latents aren't looked at
    assert float(decoding_loss(vae, collate_generated([dict(clean, clean=False)]))["squared"]) > 0.2
    batch = collate_generated([item])
    error = (vae.decode(batch["latents"]).sample - batch["image"]).square()
    inside = batch["mask"].expand_as(error)
    expected = (error[inside].sum() + 0.05 * error[~inside].sum()) / (inside.sum() + 0.05 * (~inside).sum())
    assert float(decoding_loss(vae, batch)["squared"]) == pytest.approx(float(expected), rel=1e-5)
    assert float(decoding_loss(vae, collate_generated([whole]))["squared"]) == pytest.approx(
        float(error.mean()), rel=1e-5
    )


@pytest.mark.slow
def test_training_decodes_what_is_painted_better_and_encodes_as_before(tmp_path):
    config = options(tmp_path)
    trained = PatchAutoencoder.from_pretrained(train_decoder(config, progress=False))
    before = PatchAutoencoder.from_pretrained(BUNDLED / "vae").float()
    for name, tensor in before.state_dict().items():
        if not name.startswith("correction."):
            assert torch.equal(tensor, trained.state_dict()[name]), name
    data = generate_latents(
        TryOnPipeline.from_bundled(), config.data, tmp_path / "run" / "painted.npz", progress=False
    )
    crops = MaskedCrops(64, 8, clean_probability=0.0)
    batch = collate_generated([crops(data[index % 3], np.random.default_rng(index)) for index in range(12)])
    with torch.no_grad():
        losses = [float(decoding_loss(vae, batch)["loss"]) for vae in (before, trained)]
    assert losses[1] < 0.98 * losses[0]
    again = PatchAutoencoder.from_pretrained(train_decoder(config, progress=False))  # nothing is left to do
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in trained.state_dict().items())


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"data\.crop is 100: pass a multiple of 8 up to 192"):
        train_decoder(options(tmp_path, data={"crop": 100}), progress=False)
    with pytest.raises(InvalidInput, match=r"data\.clean_probability is 1"):
        options(tmp_path, data={"clean_probability": 1})
    other = PatchAutoencoder.from_pretrained(BUNDLED / "vae")
    with torch.no_grad():
        other.encoder.weight.mul_(1.5)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(IncompatibleCheckpoint, match="trained with another autoencoder"):
        train_decoder(options(tmp_path, autoencoder=str(tmp_path / "other")), progress=False)
    assert not (tmp_path / "run").exists()
