"""Photos and garments in other colour spaces, and photos with transparent parts, through whole calls."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from support.colour_profiles import SPACES, from_srgb, grey_profile, rgb_profile, to_srgb
from support.flat_figures import FigureAnalyzer, photo_of
from support.tiny import call_arguments, mask_image, random_image, tiny_pipeline

from stableviton_sdk.colour import to_srgb as converted
from stableviton_sdk.preprocessing.garment import CANVAS
from stableviton_sdk.preprocessing.inputs import TryOnInputs
from stableviton_sdk.preprocessing.preprocessor import PersonPreprocessor

SIZE = (90, 120)
OUTSIDE = np.asarray(mask_image(*SIZE)) == 0


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


def muted(seed=0, size=SIZE):
    """An image whose colours every space has."""
    return random_image(*size, seed=seed).point(lambda value: 50 + value * 150 // 255)


def tagged(image, space):
    """The same image stored in another space."""
    stored = Image.fromarray(from_srgb(np.asarray(image), space))
    stored.info["icc_profile"] = rgb_profile(space)
    return stored


def paint(pipeline, **changes):
    arguments = {"person": muted(), "mask": mask_image(*SIZE), "densepose": random_image(*SIZE, seed=2)}
    return pipeline(**call_arguments(**{"garment": muted(1), "output_type": "pil", **arguments, **changes}))


def mean_difference(first, second):
    return np.abs(np.asarray(first).astype(int) - np.asarray(second)).mean()


@pytest.mark.parametrize("space", SPACES)
def test_a_garment_in_another_space_is_prepared_as_the_same_in_srgb(pipeline, space):
    garment, stored = muted(1), tagged(muted(1), space)
    assert mean_difference(garment, stored) > 3
    expected, prepared = pipeline.prepare_garment(garment), pipeline.prepare_garment(stored)
    assert mean_difference(prepared.image, expected.image) < 1
    assert mean_difference(prepared.original, expected.original) < 1
    image, reference = paint(pipeline, garment=stored).images[0], paint(pipeline, garment=garment).images[0]
    assert mean_difference(image, reference) < 1
    assert "icc_profile" not in image.info


@pytest.mark.parametrize("background", [(240, 240, 240), (120, 160, 90)])
def test_the_canvas_around_a_garment_is_the_same_in_every_space(pipeline, background):
    garment = Image.new("RGB", (120, 90), background)
    garment.paste((40, 60, 150), (30, 20, 90, 70))
    for space in SPACES:
        prepared = pipeline.prepare_garment(tagged(garment, space)).image
        assert mean_difference(prepared, pipeline.prepare_garment(garment).image) < 1
    cut = tagged(garment, "ProPhoto")
    cut.putalpha(Image.fromarray((np.asarray(garment)[..., 2] == 150).astype(np.uint8) * 255))
    cut.info["icc_profile"] = rgb_profile("ProPhoto")
    assert pipeline.prepare_garment(cut).image.getpixel((0, 0)) == CANVAS


@pytest.mark.parametrize("space", SPACES)
def test_a_photo_in_another_space_keeps_its_values_and_gets_the_garment_in_its_own_space(pipeline, space):
    photo, stored = muted(), tagged(muted(), space)
    out, reference = paint(pipeline, person=stored), paint(pipeline, person=photo)
    assert mean_difference(out.inputs[0].frame_person, photo) < 1
    image = out.images[0]
    assert image.info["icc_profile"] == rgb_profile(space)
    assert np.array_equal(np.asarray(image)[OUTSIDE], np.asarray(stored)[OUTSIDE])
    # seen through its profile, it is what the same photo in sRGB becomes; what was painted has any colours at all
    seen = to_srgb(np.asarray(image), space)
    painted = np.asarray(reference.images[0])
    assert np.abs(seen.astype(int) - painted)[~OUTSIDE].mean() < 1.5
    assert np.abs(np.asarray(image).astype(int) - painted)[~OUTSIDE].mean() > 3


def test_without_paste_back_the_frame_comes_back_in_the_photos_space(pipeline):
    image = paint(pipeline, person=tagged(muted(), "Display P3"), paste_back=False).images[0]
    reference = paint(pipeline, paste_back=False).images[0]
    assert mean_difference(converted(image), reference) < 1.5
    assert image.info["icc_profile"] == rgb_profile("Display P3")


def test_numbers_are_those_of_the_image_in_every_space(pipeline):
    for person in (tagged(muted(), "Display P3"), muted(size=(24, 32)), cut_out(muted(size=(24, 32)))):
        changes = {"mask": mask_image(*person.size), "densepose": random_image(*person.size, seed=2), "person": person}
        image = np.asarray(paint(pipeline, **changes).images[0]) / 255
        array = paint(pipeline, **changes, output_type="np").images[0]
        tensor = paint(pipeline, **changes, output_type="pt").images[0].permute(1, 2, 0).numpy()
        assert array.shape == image.shape
        assert np.abs(array - image).max() < 1.01 / 255
        assert np.abs(tensor - array).max() < 1e-6


def test_a_grey_photo_with_a_curve_of_its_own_keeps_its_values(pipeline):
    photo = muted().convert("L")
    photo.info["icc_profile"] = grey_profile(1.8)
    image = paint(pipeline, person=photo).images[0]
    assert np.array_equal(np.asarray(image)[OUTSIDE], np.asarray(photo.convert("RGB"))[OUTSIDE])


@pytest.mark.parametrize("size", [(240, 320), (480, 200), (150, 400)])
def test_what_is_derived_from_a_photo_does_not_depend_on_its_space(size):
    preprocessor = PersonPreprocessor(FigureAnalyzer())
    photo = photo_of(size, (20, 20, 20 + size[0] // 3, size[1] - 10))
    expected = preprocessor(photo)
    for space in SPACES:
        inputs = preprocessor(tagged(photo, space))
        assert mean_difference(inputs.frame_person, expected.frame_person) < 1
        assert mean_difference(inputs.frame_mask, expected.frame_mask) < 1
        assert inputs.frame == expected.frame
        assert inputs.photo.info["icc_profile"] == rgb_profile(space)


def test_saved_inputs_keep_the_photos_profile_and_transparency(pipeline, tmp_path):
    for photo in (tagged(muted(), "Display P3"), cut_out(tagged(muted(), "Adobe RGB"))):
        inputs = TryOnInputs.from_maps(
            photo, mask=mask_image(*SIZE), densepose=random_image(*SIZE, seed=2), aspect=pipeline.default_size
        )
        inputs.save(tmp_path / "saved")
        loaded = TryOnInputs.load(tmp_path / "saved")
        assert loaded.photo.mode == photo.mode
        assert loaded.photo.info["icc_profile"] == photo.info["icc_profile"]
        images = [paint(pipeline, person=person, mask=None, densepose=None).images[0] for person in (inputs, loaded)]
        direct = paint(pipeline, person=photo).images[0]
        assert all(image.tobytes() == direct.tobytes() for image in images)
        assert inputs.to_image().tobytes() == loaded.to_image().tobytes()


def test_the_contact_sheet_shows_the_photo_as_it_is_seen(pipeline):
    flat = Image.new("RGB", SIZE, (60, 160, 90))
    sheets = []
    for photo in (flat, tagged(flat, "ProPhoto")):
        inputs = TryOnInputs.from_maps(photo, mask=mask_image(*SIZE), densepose=random_image(*SIZE, seed=2))
        sheets.append(inputs.to_image())
    assert mean_difference(*sheets) < 1


def test_the_warped_garment_is_in_the_photos_space(pipeline):
    warped = {}
    for name, person in (("srgb", muted()), ("p3", tagged(muted(), "Display P3"))):
        attention = paint(pipeline, person=person, output_attention=True).attention
        warped[name] = attention.warp()
    assert warped["p3"].info["icc_profile"] == rgb_profile("Display P3")
    seen = to_srgb(np.asarray(warped["p3"])[..., :3], "Display P3")  # its colours: an untrained network is unsure
    assert np.abs(seen.astype(int) - np.asarray(warped["srgb"])[..., :3])[~OUTSIDE].mean() < 2


# transparency


def cut_out(image):
    """The image, transparent on the left and half-transparent beside that."""
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (0, 0, image.width // 3, image.height))
    alpha.paste(100, (image.width // 3, 0, image.width // 2, image.height))
    cut = image.copy()
    cut.putalpha(alpha)
    return cut


@pytest.mark.parametrize("paste_back", [True, False])
def test_a_cut_out_person_comes_back_cut_out(pipeline, paste_back):
    photo = cut_out(muted())
    out = paint(pipeline, person=photo, paste_back=paste_back)
    image = out.images[0]
    assert image.mode == "RGBA"
    assert np.array_equal(np.asarray(image)[..., 3], np.asarray(photo)[..., 3])
    changed = (np.asarray(image) != np.asarray(photo)).any(axis=2)
    assert changed[~OUTSIDE].mean() > 0.9
    assert changed[OUTSIDE].any() == (not paste_back)
    # the network sees the person on white
    assert out.inputs[0].frame_person.mode == "RGB"
    assert out.inputs[0].frame_person.getpixel((0, 0)) == (255, 255, 255)


def test_a_cut_out_person_of_a_file_is_prepared_and_comes_back_cut_out(tmp_path):
    pipeline = tiny_pipeline()
    pipeline.register_modules(preprocessor=PersonPreprocessor(FigureAnalyzer()))
    photo = photo_of((240, 320), (60, 20, 180, 300))
    photo.putalpha(Image.fromarray((np.asarray(photo)[..., 0] != 110).astype(np.uint8) * 255))
    photo.save(tmp_path / "cut.png")
    image = pipeline(tmp_path / "cut.png", muted(1), num_inference_steps=1).images[0]
    assert image.mode == "RGBA"
    assert np.array_equal(np.asarray(image)[..., 3], np.asarray(photo)[..., 3])


def test_a_palette_with_a_transparent_colour_is_cut_out_too(pipeline):
    stream = io.BytesIO()
    muted().quantize(16).save(stream, "PNG", transparency=0)
    photo = Image.open(stream).convert("RGBA")
    image = paint(pipeline, person=stream).images[0]
    assert np.array_equal(np.asarray(image)[OUTSIDE], np.asarray(photo)[OUTSIDE])
    assert np.array_equal(np.asarray(image)[..., 3], np.asarray(photo)[..., 3])


# arrays of masks


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_masks_may_be_one_array(pipeline, library, count):
    masks = [np.asarray(mask_image(*SIZE)) > 0 for _ in range(count)]
    for index, mask in enumerate(masks):
        mask = mask.copy()
        mask[: 40 + 10 * index] = False
        masks[index] = mask
    stacked = np.stack(masks)
    persons = [muted(index) for index in range(count)]
    densepose = [random_image(*SIZE, seed=2)] * count
    expected = paint(pipeline, person=persons, mask=masks, densepose=densepose).images
    given = torch.from_numpy(stacked) if library == "torch" else stacked
    images = paint(pipeline, person=persons, mask=given, densepose=densepose).images
    assert [image.tobytes() for image in images] == [image.tobytes() for image in expected]
