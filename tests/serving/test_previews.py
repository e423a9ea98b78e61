"""Previews and progress of a call: small images, only for those who watch, and never for every step."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny import densepose_image, mask_image, random_image, tiny_pipeline

from stableviton_sdk.preprocessing.inputs import TryOnInputs
from stableviton_sdk.serving.previews import ProgressReporter, as_data_url, preview_of
from stableviton_sdk.serving.tryon import LastStep, TryOnWork


class Watched:
    """A job under way whose reports are kept."""

    def __init__(self, is_watched=True):
        self.is_watched = is_watched
        self.reports = []
        self.cancel_event = None

    def check(self):
        """Nobody cancels it."""

    def report(self, step, steps, preview=None):
        self.reports.append((step, steps, preview))


def prepared():
    return TryOnInputs.from_maps(random_image(), mask=mask_image(), densepose=densepose_image())


@pytest.fixture(scope="module")
def tiny():
    return tiny_pipeline()


def call(pipeline, running, steps=4, **options):
    reporter = ProgressReporter(running, **options)
    pipeline(prepared(), random_image(seed=1), num_inference_steps=steps, callback_on_step_end=reporter)
    return running.reports


def test_every_step_is_reported_with_a_preview_of_all_but_the_last(tiny):
    reports = call(tiny, Watched(), seconds_between=0.0)
    steps = len(reports)
    assert [step for step, *_ in reports] == list(range(1, steps + 1))
    assert {total for _, total, _ in reports} == {steps}
    assert [preview is not None for *_, preview in reports] == [True] * (steps - 1) + [False]
    preview = Image.open(io.BytesIO(base64.b64decode(reports[0][2].removeprefix("data:image/jpeg;base64,"))))
    assert preview.size == (12, 16)  # a pixel for each latent


def test_previews_are_made_for_those_who_watch_alone_and_not_too_often(tiny):
    assert {preview for *_, preview in call(tiny, Watched(is_watched=False), seconds_between=0.0)} == {None}
    seldom = [preview is not None for *_, preview in call(tiny, Watched(), seconds_between=3600.0)]
    assert seldom.count(True) == 1


def test_watching_changes_no_pixel(tiny):
    def image(**options):
        generator = torch.Generator().manual_seed(0)
        return tiny(prepared(), random_image(seed=1), num_inference_steps=2, generator=generator, **options).images[0]

    watched = image(
        callback_on_step_end=ProgressReporter(Watched(), seconds_between=0.0), output_attention=LastStep(tiny)
    )
    np.testing.assert_array_equal(watched, image())


def test_a_patch_autoencoders_preview_is_what_it_decodes(bundled):
    photo = random_image(192, 256)
    with torch.no_grad():
        latents = bundled.encode_images([photo], (192, 256))
        expected = bundled.decode_latents(latents)[0] * 255
    preview = np.asarray(preview_of(bundled.vae, latents)).astype(float)
    assert np.abs(preview - expected).max() <= 1


def test_latents_of_stable_diffusion_are_coloured_by_a_linear_map(tiny):
    latents = torch.zeros(1, 4, 6, 5)
    assert np.asarray(preview_of(tiny.vae, latents)).tolist() == [[[128, 128, 128]] * 5] * 6
    latents[:, 3] = -2.0  # warm to the map, above all light in blue
    red, green, blue = np.asarray(preview_of(tiny.vae, latents))[0, 0].tolist()
    assert blue > green > red > 128
    assert preview_of(tiny.vae, torch.ones(1, 7, 6, 5)).size == (5, 6)  # of an unknown autoencoder


def test_large_previews_are_shrunk(tiny):
    assert max(preview_of(tiny.vae, torch.zeros(1, 4, 700, 500)).size) == 320
    assert len(as_data_url(preview_of(tiny.vae, torch.randn(1, 4, 700, 500)))) < 100_000


def test_a_work_answers_with_the_sharpest_block_where_the_weights_name_none(tiny):
    work = TryOnWork(
        person=random_image(),
        garment=random_image(seed=1),
        mask=None,
        category="upper",
        garment_photo="flat-lay",
        seed=0,
        options={"num_inference_steps": 3, "detail": 0.0},
        identity={"model": "tiny", "revision": ""},
    )
    assert work.nbytes == 2 * 48 * 64 * 4
    recorder = LastStep(tiny)
    inputs, garment = prepared(), tiny.prepare_garment(work.garment)
    tiny(inputs, garment, num_inference_steps=3, output_attention=recorder)
    attention = recorder.attention(inputs, garment, None)
    assert len(attention.steps) == 1
    assert attention.answering_block() == attention.sharpest_block()
    assert set(recorder.tokens) == set(attention.blocks)
