"""`pipe(..., detail=...)` with the bundled model: what it draws, what it records, and what it leaves alone."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from support.bundled import UNSEEN, dress, given
from support.tiny import tiny_pipeline

from stableviton_sdk import TryOnPipeline
from stableviton_sdk.data.synthetic import render_pair
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.evaluation.metrics import similarity_map
from stableviton_sdk.models.attention_maps import expected_coordinates


@pytest.fixture(scope="module")
def sample():
    return render_pair(UNSEEN, 3)


def dress_as_rendered(pipe, sample, **options):
    """Dress with the sample's own maps, not derived ones."""
    return dress(pipe, sample, **given(sample), **options)


def test_the_bundled_weights_bring_detail_by_themselves_and_other_weights_do_not(pipe, sample):
    assert pipe.config.default_detail > 0
    own = np.asarray(dress_as_rendered(pipe, sample).images[0])
    named = np.asarray(dress_as_rendered(pipe, sample, detail=pipe.config.default_detail).images[0])
    without = np.asarray(dress_as_rendered(pipe, sample, detail=0).images[0])
    assert np.array_equal(own, named)
    assert np.abs(own.astype(int) - without)[sample.mask].mean() > 0.5
    assert tiny_pipeline().config.default_detail == 0
    assert TryOnPipeline(**pipe.components).config.default_detail == pipe.config.default_detail
    plain = TryOnPipeline(**copy.deepcopy(pipe.components), default_detail=0.0)
    plain.set_progress_bar_config(disable=True)
    assert plain.config.default_detail == 0
    assert np.array_equal(np.asarray(dress_as_rendered(plain, sample, num_inference_steps=1).images[0]), without)


@pytest.mark.slow
def test_detail_makes_worn_garments_more_like_the_truth(pipe):
    gains = []
    for number in range(6):
        sample = render_pair(UNSEEN, number)
        ssim = []
        for detail in (0, None):
            image = np.asarray(dress_as_rendered(pipe, sample, detail=detail).images[0])
            ssim.append(similarity_map(image, sample.person_in_other).over(sample.worn_mask_other))
        gains.append(ssim[1] - ssim[0])
    assert np.mean(gains) > 0.02


@pytest.mark.parametrize("detail", [-0.1, 1.5, float("nan"), "much"])
def test_a_detail_out_of_range_is_refused(pipe, sample, detail):
    with pytest.raises(InvalidInput, match="detail is"):
        dress_as_rendered(pipe, sample, detail=detail)


def test_a_large_photo_gets_detail_at_its_own_resolution_and_keeps_its_pixels(pipe, sample):
    large = render_pair(UNSEEN, 3, size=(768, 1024))
    with_detail, without = (
        np.asarray(dress_as_rendered(pipe, large, detail=detail).images[0]) for detail in (1.0, 0.0)
    )
    assert np.array_equal(with_detail[~large.mask], large.person[~large.mask])

    def fine(image):
        steps = np.hypot(*np.gradient(image.mean(axis=-1)))
        return np.quantile(steps[large.worn_mask_other], 0.98)  # the edges of its stripes

    assert fine(with_detail) > 1.5 * fine(without)


@pytest.mark.parametrize("output_type", ["np", "pt"])
def test_numbers_are_what_images_show(pipe, sample, output_type):
    shown = np.asarray(dress_as_rendered(pipe, sample, detail=1.0).images[0])
    numbers = dress_as_rendered(pipe, sample, detail=1.0, output_type=output_type).images[0]
    if output_type == "pt":
        numbers = numbers.permute(1, 2, 0).numpy()
    assert numbers.dtype == np.float32
    assert np.abs(numbers * 255 - shown).max() <= 1.5


def test_latents_are_the_same_and_nothing_is_recorded_for_them(pipe, sample):
    first, second = (
        dress_as_rendered(pipe, sample, detail=detail, output_type="latent").images for detail in (0.0, 1.0)
    )
    assert torch.equal(first, second)


def test_attention_is_recorded_only_where_detail_is_wanted(pipe, sample, monkeypatch):
    calls = []

    def counted(*arguments):
        calls.append(1)
        return expected_coordinates(*arguments)

    monkeypatch.setattr("stableviton_sdk.attention.recorder.expected_coordinates", counted)
    dress_as_rendered(pipe, sample, detail=0.0, num_inference_steps=3)
    assert calls == []
    dress_as_rendered(pipe, sample, detail=0.5, num_inference_steps=3)
    assert len(calls) == 1  # the last step's, of the block that answers


def test_recorded_attention_is_the_same_with_and_without_detail(pipe, sample):
    attention = [
        dress_as_rendered(pipe, sample, detail=detail, num_inference_steps=2, output_attention=True).attention
        for detail in (0.0, 1.0)
    ]
    assert attention[0].blocks == attention[1].blocks
    assert attention[0].steps == attention[1].steps == [0, 1]
    assert np.array_equal(attention[0].coordinates(), attention[1].coordinates())


def test_every_image_of_a_batch_gets_its_own_garments_detail(pipe, sample):
    other = render_pair(UNSEEN, 1)
    garments = [Image.fromarray(sample.garment_other), Image.fromarray(other.garment_other)]
    maps = {
        "mask": Image.fromarray(sample.mask.astype(np.uint8) * 255),
        "agnostic": Image.fromarray(sample.agnostic),
        "densepose": Image.fromarray(sample.densepose),
    }
    person = Image.fromarray(sample.person)

    def run(garment, seeds):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return pipe(person, garment, **maps, detail=1.0, generator=generators).images

    together = run(garments, [0, 1])
    for index, garment in enumerate(garments):
        alone = run([garment], [index])[0]
        difference = np.abs(np.asarray(together[index]).astype(int) - np.asarray(alone))
        assert difference.max() <= 3  # batched matrix products round otherwise


def test_threads_draw_what_one_call_draws(pipe, sample):
    alone = np.asarray(dress_as_rendered(pipe, sample, detail=1.0).images[0])
    with ThreadPoolExecutor(3) as pool:
        images = list(pool.map(lambda _: np.asarray(dress_as_rendered(pipe, sample, detail=1.0).images[0]), range(3)))
    assert all(np.abs(image.astype(int) - alone).max() <= 1 for image in images)


def test_a_call_interrupted_before_the_last_step_has_no_detail_and_no_error(pipe, sample):
    def stop(pipeline, step, timestep, tensors):
        pipeline._interrupt = True
        return {}

    images = [
        np.asarray(
            dress_as_rendered(pipe, sample, detail=detail, num_inference_steps=3, callback_on_step_end=stop).images[0]
        )
        for detail in (0.0, 1.0)
    ]
    assert np.array_equal(*images)


def test_the_default_is_saved_with_the_weights(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "saved")
    assert TryOnPipeline.from_pretrained(tmp_path / "saved").config.default_detail == pipe.config.default_detail
