"""Images that no network painted: each differs from the truth where it should, and nowhere else."""

import numpy as np
import pytest
import torch

from benchmarks.baselines import mean_colour, reference_images
from stableviton_sdk import TryOnPipeline
from stableviton_sdk.data.synthetic import render_pair


@pytest.fixture(scope="module")
def sample():
    return render_pair(5, 0)


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16])
def images(sample, request):
    vae = TryOnPipeline.from_bundled(dtype=request.param).vae
    return reference_images(sample.person, sample.garment, sample.mask, sample.worn_mask, vae)


def test_the_canvas_has_no_part_in_the_mean_colour():
    garment = np.full((8, 6, 3), 246, np.uint8)
    garment[2:4] = (10, 20, 30)
    garment[4:6] = (30, 40, 50)
    garment[7] = (250, 243, 246)  # what a JPEG makes of a canvas
    assert mean_colour(garment).tolist() == [20, 30, 40]
    assert mean_colour(np.full((4, 4, 3), 246, np.uint8)).tolist() == [246, 246, 246]  # a white garment


def test_they_are_the_truth_outside_of_what_they_fill(sample, images):
    assert images.keys() == {"mean colour", "oracle", "autoencoder"}
    colour = mean_colour(sample.garment).round()
    for name, place in (("mean colour", sample.mask), ("oracle", sample.worn_mask), ("autoencoder", sample.mask)):
        image = images[name]
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image[~place], sample.person[~place])
        if name != "autoencoder":
            assert (image[place] == colour).all()


def test_the_autoencoder_comes_near_to_the_truth_but_not_to_it(sample, images):
    error = np.abs(images["autoencoder"].astype(int) - sample.person)[sample.mask]
    assert 0.2 < error.mean() < 12
