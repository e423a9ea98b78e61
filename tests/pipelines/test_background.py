"""Background that the network paints as fog gives way to the photo's own, continued; nothing else changes."""

import numpy as np
import pytest
from PIL import Image

from stableviton_sdk import TryOnInputs, TryOnPipeline
from stableviton_sdk.data.synthetic import render_pair
from stableviton_sdk.pipelines.background import continued, restore_background, with_background
from stableviton_sdk.preprocessing.frame import Frame
from stableviton_sdk.preprocessing.labels import PARULA
from tests.support.bundled import dress, given
from tests.support.tiny import tiny_pipeline

WIDTH, HEIGHT = 96, 128
WALL, FOG, CLOTH = (200, 210, 220), (150, 150, 150), (30, 90, 160)


def rectangle(left, top, right, bottom):
    area = np.zeros((HEIGHT, WIDTH), bool)
    area[top:bottom, left:right] = True
    return area


TORSO = 2  # of DensePose

BODY, MASK = rectangle(36, 10, 60, HEIGHT), rectangle(20, 30, 76, 100)


def inputs(wall=WALL, worn=(200, 30, 30)):
    photo = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    photo[:] = wall
    photo[BODY] = worn
    return TryOnInputs.from_maps(photo, mask=MASK, densepose=PARULA[BODY * np.uint8(TORSO)])


def painted():
    result = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    result[:] = FOG
    result[BODY] = CLOTH
    return result


def silhouette(image):
    return np.asarray(Image.fromarray(BODY).resize(image.size), np.float32)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_fog_beside_the_body_becomes_the_wall_and_the_body_stays(kind):
    given = painted() if kind == np.uint8 else painted() / np.float32(255)
    result = restore_background(given, inputs(), silhouette)
    assert result.dtype == kind
    in_bytes = np.rint(result * (1 if kind == np.uint8 else 255)).astype(int)
    far = MASK & ~rectangle(33, 0, 63, HEIGHT)
    assert np.abs(in_bytes[far] - WALL).max() <= 2
    assert np.array_equal(result[BODY], given[BODY])
    assert np.array_equal(result[~MASK], given[~MASK])


def test_nothing_that_the_photo_shows_inside_the_mask_gets_in():
    person = inputs()
    other = np.asarray(person.photo).copy()
    other[MASK] = np.random.default_rng(0).integers(0, 256, (int(MASK.sum()), 3))
    changed = TryOnInputs.from_maps(other, mask=MASK, densepose=PARULA[BODY * np.uint8(TORSO)])
    results = [restore_background(painted(), entry, silhouette) for entry in (person, changed)]
    assert np.array_equal(results[0][MASK], results[1][MASK])


def test_a_background_that_cannot_be_continued_stays_as_painted():
    wall = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    result = restore_background(painted(), inputs(wall), silhouette)
    assert np.abs(result.astype(int) - painted()).max() <= 1


def test_without_background_to_be_seen_the_result_stays():
    everywhere = restore_background(painted(), inputs(), lambda image: np.ones(image.size[::-1], np.float32))
    assert np.array_equal(everywhere, painted())


def test_what_lies_beyond_the_photos_edge_is_no_background():
    whole = inputs()
    narrow = whole.photo.crop((18, 0, 78, HEIGHT))
    frame = Frame(narrow.size, (-18, 0, WIDTH - 18, HEIGHT))
    entry = TryOnInputs(
        photo=narrow,
        frame=frame,
        frame_person=frame.crop(narrow, (WIDTH, HEIGHT)),
        frame_mask=whole.frame_mask,
        frame_densepose=whole.frame_densepose,
    )
    result = restore_background(painted(), entry, silhouette)
    assert np.abs(result[MASK & ~rectangle(33, 0, 63, HEIGHT)].astype(int) - WALL).max() <= 2


def test_a_larger_result_is_restored_at_its_own_resolution():
    large = np.asarray(Image.fromarray(painted()).resize((8 * WIDTH, 8 * HEIGHT), Image.Resampling.NEAREST))
    result = restore_background(large, inputs(), silhouette)
    assert result.shape == large.shape
    assert np.abs(result[8 * 65, 8 * 24].astype(int) - WALL).max() <= 2
    assert np.array_equal(result[8 * 65, 8 * 48], large[8 * 65, 8 * 48])


def test_known_pixels_stay_and_the_others_lie_between_them():
    image = np.zeros((9, 14, 3), np.float32)
    image[:, 0], image[:, -1] = 40, 80
    known = np.zeros((9, 14), bool)
    known[:, [0, -1]] = True
    filled = continued(image, known)
    np.testing.assert_allclose(filled[known], image[known], atol=1e-3)
    assert filled.min() >= 40 - 1e-3
    assert filled.max() <= 80 + 1e-3
    assert (np.diff(filled[4, :, 0]) >= -1e-3).all()


def test_other_finishes_come_first():
    (finish,) = with_background([lambda result: 255 - result], [inputs()], TryOnPipeline.from_bundled().preprocessor)
    found = finish(painted())
    assert np.array_equal(found[:20], 255 - painted()[:20])  # outside the mask
    assert with_background([], [inputs()], None) == []


def test_the_bundled_model_restores_and_others_do_not():
    pipe = TryOnPipeline.from_bundled()
    pipe.set_progress_bar_config(disable=True)
    assert pipe.config.restores_background
    assert TryOnPipeline(**pipe.components).config.restores_background
    assert not tiny_pipeline().config.restores_background
    sample = render_pair(2, 1)
    restored = np.asarray(dress(pipe, sample, **given(sample)).images[0]).astype(int)
    plain_pipe = TryOnPipeline(**pipe.components, restores_background=False)
    plain_pipe.set_progress_bar_config(disable=True)
    plain = np.asarray(dress(plain_pipe, sample, **given(sample)).images[0]).astype(int)
    beside = sample.mask & (sample.other_rendering.parsing == 0)
    assert (restored != plain).any(-1)[beside].mean() > 0.3
    worn = sample.other_rendering.coverage > 0.99
    assert (restored != plain).any(-1)[worn].mean() < 0.05
    assert np.array_equal(restored[~sample.mask], plain[~sample.mask])
