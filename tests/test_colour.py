"""Colour profiles: into sRGB, and back into the photo's own space."""

import io
import threading
import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms
from support.colour_profiles import SPACES, cmyk_profile, from_srgb, grey_profile, rgb_profile, to_srgb
from support.tiny import random_image

from stableviton_sdk import colour
from stableviton_sdk.images import load_image, load_photo

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def smooth_image(size=(64, 48)):
    """Colours of every hue and lightness, as photos have them: not only the most saturated ones."""
    small = np.random.default_rng(3).integers(30, 226, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def tagged(values, profile, mode="RGB"):
    stream = io.BytesIO()
    image = Image.fromarray(values) if mode != "CMYK" else Image.frombytes("CMYK", values.shape[1::-1], values)
    image.save(stream, "TIFF", icc_profile=profile)
    return stream.getvalue()


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("version", [2, 4])
def test_an_image_in_another_space_becomes_the_same_in_srgb(space, version):
    expected = np.asarray(smooth_image())
    stored = from_srgb(expected, space)
    source = tagged(stored, rgb_profile(space, version))
    assert np.abs(stored.astype(int) - expected).mean() > 4  # what reading the values as they are would be off by
    loaded = load_image(source, srgb=True)
    assert np.abs(np.asarray(loaded).astype(int) - expected).mean() < 1
    assert "icc_profile" not in loaded.info
    untouched = load_image(source)
    assert np.array_equal(np.asarray(untouched), stored)
    assert untouched.info["icc_profile"] == rgb_profile(space, version)


@pytest.mark.parametrize("space", SPACES)
def test_srgb_goes_back_into_another_space(space):
    painted = smooth_image()
    back = colour.from_srgb(painted, rgb_profile(space))
    difference = np.abs(np.asarray(back).astype(int) - from_srgb(np.asarray(painted), space))
    assert difference.mean() < 0.5
    assert difference.max() <= 2
    assert back.info["icc_profile"] == rgb_profile(space)


def test_colours_that_srgb_lacks_are_the_nearest_it_has():
    saturated = np.full((8, 8, 3), (0, 255, 0), np.uint8)
    loaded = load_image(tagged(saturated, rgb_profile("Adobe RGB")), srgb=True)
    assert np.abs(np.asarray(loaded).astype(int) - to_srgb(saturated, "Adobe RGB")).max() <= 2


def test_untagged_and_srgb_images_stay_as_they_are():
    image = random_image()
    assert colour.to_srgb(image) is image
    image.info["icc_profile"] = SRGB
    assert colour.to_srgb(image) is image
    assert load_image(image, srgb=True) is image
    assert colour.from_srgb(image, None) is image
    assert colour.from_srgb(image, SRGB) is image


def test_transparency_is_laid_on_a_background_in_srgb():
    values = np.full((6, 8, 4), (40, 200, 90, 255), np.uint8)
    values[:, :4, 3] = 0
    expected = to_srgb(values[..., :3], "ProPhoto")
    source = tagged(values, rgb_profile("ProPhoto"))
    loaded = np.asarray(load_image(source, srgb=True, background=(246, 246, 246))).astype(int)
    assert (loaded[:, :4] == 246).all()
    assert np.abs(loaded[:, 4:] - expected[:, 4:]).max() <= 2
    photo = load_photo(source)
    assert np.array_equal(np.asarray(photo), values)
    seen = colour.to_srgb(photo)
    assert seen.mode == "RGBA"
    assert np.array_equal(np.asarray(seen)[..., 3], values[..., 3])
    assert "icc_profile" not in seen.info


@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_a_grey_image_keeps_its_values_and_is_seen_by_its_curve(version, mode):
    ramp = np.arange(256, dtype=np.uint8)[None].repeat(4, axis=0)
    image = Image.fromarray(ramp if mode != "I;16" else ramp.astype(np.uint16) * 257)
    image = image.convert("LA") if mode == "LA" else image
    image.info["icc_profile"] = grey_profile(1.8, version)
    loaded = load_image(image)
    assert np.array_equal(np.asarray(loaded), np.repeat(ramp[..., None], 3, axis=2))
    seen = np.asarray(colour.to_srgb(loaded)).astype(int)
    by_lcms = ImageCms.profileToProfile(
        Image.fromarray(ramp), io.BytesIO(grey_profile(1.8, version)), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert np.abs(seen - np.asarray(by_lcms)).max() <= 2
    assert np.abs(seen - ramp[..., None]).max() > 10
    ImageCms.getProfileDescription(io.BytesIO(loaded.info["icc_profile"]))  # one that others read, too


def test_inks_are_converted_by_their_profile():
    corners = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255]]], np.uint8)
    expected = [[255, 255, 255], [0, 255, 255], [255, 0, 255], [255, 255, 0], [0, 0, 0]]
    image = load_image(tagged(corners, cmyk_profile(), "CMYK"))
    assert "icc_profile" not in image.info
    assert np.abs(np.asarray(image)[0].astype(int) - expected).max() <= 8
    half = np.full((4, 4, 4), (0, 0, 0, 128), np.uint8)
    # half of black ink is half of the lightness, and not half of the value
    assert load_image(tagged(half, cmyk_profile(), "CMYK")).getpixel((0, 0)) == pytest.approx((119, 119, 119), abs=3)


def test_inks_without_a_profile_are_converted_as_pil_does_it():
    inks = Image.new("CMYK", (8, 6), (0, 255, 255, 0))
    assert load_image(inks).getpixel((0, 0)) == inks.convert("RGB").getpixel((0, 0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"no profile at all",
        lambda: rgb_profile("Display P3")[:300],
        lambda: rgb_profile("Display P3")[:16] + b"XYZ " + rgb_profile("Display P3")[20:],
        lambda: rgb_profile("Display P3") + bytes(17 * 2**20),
    ],
    ids=["text", "cut", "of another kind", "huge"],
)
def test_a_broken_profile_counts_as_srgb_and_is_warned_of_once(make):
    image = random_image()
    image.info["icc_profile"] = make()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            loaded = load_image(image, srgb=True)
    assert ["colour profile" in str(warning.message) for warning in caught] == [True]
    assert np.array_equal(np.asarray(loaded), np.asarray(image))
    assert "icc_profile" not in loaded.info


def test_a_profile_of_another_mode_is_dropped_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for profile in (cmyk_profile(), grey_profile(1.8)):
            image = random_image()
            image.info["icc_profile"] = profile
            loaded = load_image(image)
            assert "icc_profile" not in loaded.info
            assert np.array_equal(np.asarray(loaded), np.asarray(image))


def test_threads_share_a_transform():
    image = Image.fromarray(from_srgb(np.asarray(smooth_image((320, 240))), "Display P3"))
    image.info["icc_profile"] = rgb_profile("Display P3")
    expected, wrong = colour.to_srgb(image).tobytes(), []

    def convert():
        for _ in range(20):
            if colour.to_srgb(image).tobytes() != expected:
                wrong.append(True)

    threads = [threading.Thread(target=convert) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
