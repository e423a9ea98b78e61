"""The small autoencoder: a projection that is exact where it can be, and its training."""

import numpy as np
import pytest
import torch
from diffusers.utils import logging

from stableviton_sdk.data.synthetic import SyntheticDataset
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.models.patch_autoencoder import PatchAutoencoder
from stableviton_sdk.training.bundled.autoencoder import (
    SHARES,
    AutoencoderConfig,
    ImagesConfig,
    initialise_components,
    sample_images,
    train_autoencoder,
)
from stableviton_sdk.training.bundled.fit import FitConfig
from stableviton_sdk.training.tasks import read_task


def small(**changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PatchAutoencoder(**{"latent_channels": 6, "block_out_channels": (4, 6, 8), **changes})


def low_rank_images(count=3, side=4, components=5, size=16):
    """Images whose patches are blends of a few; what a projection onto their components keeps exactly."""
    random = np.random.default_rng(0)
    basis = random.normal(size=(components, 3 * side * side)) * 12
    cells = size // side
    weights = random.normal(size=(count, cells, cells, components))
    patches = (weights @ basis).reshape(count, cells, cells, 3, side, side)
    images = patches.transpose(0, 1, 4, 2, 5, 3).reshape(count, size, size, 3)
    return (images + 128).clip(0, 255).round().astype(np.uint8)


def tensor(images):
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous()


def test_images_of_as_many_components_as_there_are_channels_come_back():
    images = low_rank_images()
    vae = small()
    initialise_components(vae, dict.fromkeys(SHARES, images))
    back = vae(tensor(images)).sample
    # the mean patch isn't flat, and only its mean over the patch has a place in the bias; clipping does the rest
    assert (back - tensor(images)).abs().mean() < 0.04
    fewer = small(latent_channels=2)
    initialise_components(fewer, dict.fromkeys(SHARES, images))
    assert (fewer(tensor(images)).sample - tensor(images)).abs().mean() > 0.05


def test_latents_have_unit_mean_square_and_the_linear_map_blends_as_images_do():
    images = low_rank_images(count=40)
    vae = small(latent_channels=5)
    initialise_components(vae, dict.fromkeys(SHARES, images))
    latents = vae.encode(tensor(images)).latents
    centred = latents - latents.mean(dim=(0, 2, 3), keepdim=True)
    assert float(centred.detach().square().mean()) == pytest.approx(1.0, abs=0.02)
    first, second = tensor(images[:1]), tensor(images[1:2])
    blend = vae.encode(0.3 * first + 0.7 * second).latents
    torch.testing.assert_close(blend, 0.3 * latents[:1] + 0.7 * latents[1:2], rtol=0, atol=1e-5)


def test_it_is_saved_and_loaded_as_diffusers_models_are(tmp_path):
    vae = small()
    torch.nn.init.normal_(vae.correction.conv_out.weight)
    vae.save_pretrained(tmp_path)
    image = torch.rand(1, 3, 16, 12) * 2 - 1
    loaded = PatchAutoencoder.from_pretrained(tmp_path)
    assert torch.equal(loaded(image).sample, vae(image).sample)
    assert loaded.decode(loaded.encode(image).latents, return_dict=False)[0].shape == image.shape
    assert loaded.encode(image, return_dict=False)[0].shape == (1, 6, 4, 3)


def test_what_it_does_not_offer_it_refuses_instead_of_ignoring():
    logging.set_verbosity_error()
    with pytest.raises(NotImplementedError, match="Tiling"):
        small().enable_tiling()


def test_the_correction_learns_and_the_linear_map_stays(tmp_path):
    config = AutoencoderConfig(
        output=str(tmp_path),
        data=ImagesConfig(seed=5, length=4, components=2, crop=32),
        fit=FitConfig(steps=60, batch_size=4, learning_rate=2e-3, warmup_steps=5, checkpoint_every=30, ema_decay=0.8),
        latent_channels=4,
        block_out_channels=[4, 8, 8, 8],
        layers_per_block=1,
    )
    trained = PatchAutoencoder.from_pretrained(train_autoencoder(config, progress=False))
    data = SyntheticDataset(4, 5, garments="both")
    start = small(latent_channels=4, block_out_channels=(4, 8, 8, 8), layers_per_block=1)
    initialise_components(start, sample_images(data, range(4)))
    for name in ("encoder", "decoder"):
        assert torch.equal(getattr(trained, name).weight, getattr(start, name).weight)
    images = tensor(np.stack([data[0]["person"], data[1]["garment"]]))
    with torch.no_grad():
        before, after = ((vae(images).sample - images).square().mean() for vae in (start, trained))
    assert after < before
    again = PatchAutoencoder.from_pretrained(train_autoencoder(config, progress=False))  # nothing is left to do
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in trained.state_dict().items())


def test_configurations_that_cannot_be_used_are_refused():
    with pytest.raises(InvalidInput, match=r"data\.crop is 100: pass a multiple of 8"):
        AutoencoderConfig(output="x", data=ImagesConfig(crop=100))
    own = read_task("bundled-autoencoder")
    assert own.name == "autoencoder"
    assert own.config.latent_channels == 16
