"""Augmented items: still one and the same try-on."""

import cv2
import numpy as np
import pytest

from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.training.augmentation import Augmentation, Transform, mirror, move_garment, move_person

HEIGHT, WIDTH = 64, 48
NOTHING = {"flip": 0.0, "move": 0.0, "hue_saturation_value": 0.0, "brightness_contrast": 0.0}


def smooth(seed):
    small = np.random.default_rng(seed).integers(30, 220, (4, 3, 3), dtype=np.uint8)
    return cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def an_item():
    """A person who wears rows 20..49 and columns 12..35 of the image; the garment is 1.5 times as large."""
    person, garment = smooth(0), smooth(1)
    worn = np.zeros((HEIGHT, WIDTH), dtype=bool)
    worn[20:50, 12:36] = True
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    correspondence = np.stack([(x - 23.5) * 1.5 + 23.5, (y - 34.5) * 1.5 + 31.5], axis=-1)
    correspondence[~worn] = np.nan
    person[worn] = look_up(garment, correspondence)[worn]
    mask = np.zeros_like(worn)
    mask[15:55, 8:40] = True
    agnostic = person.copy()
    agnostic[mask] = 128
    return {
        "person": person,
        "garment": garment,
        "agnostic": agnostic,
        "densepose": smooth(2),
        "mask": mask,
        "worn_mask": worn,
        "correspondence": correspondence,
        "name": "00000",
    }


def look_up(garment, correspondence):
    x, y = np.ascontiguousarray(np.moveaxis(np.nan_to_num(correspondence), -1, 0))
    return cv2.remap(garment, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def known(item):
    return np.isfinite(item["correspondence"]).all(-1)


@pytest.mark.parametrize("seed", range(12))
def test_the_correspondence_still_finds_every_worn_pixel_in_the_garment(seed):
    geometry = Augmentation(**{**NOTHING, "flip": 0.5, "move": 0.9})
    item = geometry(an_item(), np.random.default_rng(seed))
    places = known(item)
    assert places.sum() > 150
    assert not (places & ~item["worn_mask"]).any()
    # away from the seam between garment and rest, where the moved person is a mixture
    inner = cv2.erode(item["worn_mask"].astype(np.uint8), np.ones((5, 5))).astype(bool) & places
    difference = look_up(item["garment"], item["correspondence"])[inner].astype(int) - item["person"][inner]
    assert np.abs(difference).mean() < 2.5
    wrong = look_up(item["garment"], item["correspondence"] + np.float32(6))[inner].astype(int) - item["person"][inner]
    assert np.abs(difference).mean() < 0.4 * np.abs(wrong).mean()


def test_person_and_garment_move_independently():
    only_moves = Augmentation(**{**NOTHING, "move": 0.5})
    seen = set()
    for seed in range(60):
        before, item = an_item(), only_moves(an_item(), np.random.default_rng(seed))
        seen.add(tuple(not np.array_equal(item[name], before[name]) for name in ("person", "garment")))
    assert seen == {(False, False), (False, True), (True, False), (True, True)}


def test_maps_of_the_person_move_with_the_person():
    item, shift = an_item(), (6, -4)
    before = an_item()
    move_person(item, Transform(1.0, shift))
    for name in ("person", "agnostic", "densepose", "mask", "worn_mask", "correspondence"):
        assert np.array_equal(item[name][:-4, 6:], before[name][4:, :-6], equal_nan=name == "correspondence"), name
        assert item[name].dtype == before[name].dtype
    assert (item["person"][-4:] == 0).all()
    assert (item["densepose"][:, :6] == 0).all()
    assert not item["mask"][-4:].any()
    assert np.isnan(item["correspondence"][:, :6]).all()


def test_a_garment_moved_out_of_the_image_leaves_no_correspondence_there():
    item = an_item()
    move_garment(item, Transform(1.0, (20.0, 0.0)), border=246)
    assert (item["garment"][:, :20] == 246).all()
    outside = an_item()["correspondence"][..., 0] + 20 > WIDTH - 0.5
    assert outside.any()
    assert np.isnan(item["correspondence"][outside]).all()
    inside = item["worn_mask"] & ~outside
    assert np.allclose(item["correspondence"][inside], an_item()["correspondence"][inside] + np.float32([20, 0]))


def test_mirroring_twice_changes_nothing():
    item = an_item()
    mirror(item)
    assert not np.array_equal(item["person"], an_item()["person"])
    mirror(item)
    for name, value in an_item().items():
        if isinstance(value, np.ndarray):
            assert np.array_equal(item[name], value, equal_nan=value.dtype == np.float32), name


def test_scaling_keeps_the_centre_and_shifts_are_parts_of_the_sides():
    centre = np.float32([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    transform = Transform.about_centre(1.2, (0.1, -0.2), (HEIGHT, WIDTH))
    assert np.allclose(transform.points(centre), centre + np.float32([0.1 * WIDTH, -0.2 * HEIGHT]), atol=1e-4)
    assert np.allclose(transform.points(centre + 10) - transform.points(centre), 12, atol=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_the_region_to_repaint_is_grey_again(seed):
    item = Augmentation(move=1.0, hue_saturation_value=1.0, brightness_contrast=1.0)(
        an_item(), np.random.default_rng(seed)
    )
    assert item["mask"].any()
    assert (item["agnostic"][item["mask"]] == 128).all()
    outside = cv2.dilate(item["mask"].astype(np.uint8), np.ones((3, 3))) == 0
    assert np.array_equal(item["agnostic"][outside], item["person"][outside])


def test_one_draw_colours_person_agnostic_and_garment():
    colours = Augmentation(**{**NOTHING, "hue_saturation_value": 1.0, "brightness_contrast": 1.0})
    item = an_item()
    item["garment"] = item["person"].copy()
    item["agnostic"] = item["person"].copy()
    item["mask"] = np.zeros_like(item["mask"])
    coloured = colours(item, np.random.default_rng(3))
    assert not np.array_equal(coloured["person"], item["person"])
    assert np.array_equal(coloured["person"], coloured["garment"])
    assert np.array_equal(coloured["person"], coloured["agnostic"])
    assert np.array_equal(coloured["densepose"], item["densepose"])


def test_brightness_and_contrast_follow_the_authors_formula():
    bright = Augmentation(**{**NOTHING, "brightness_contrast": 1.0}, brightness=(-0.1, -0.1), contrast=0.0)
    item = an_item()
    expected = np.clip(item["person"].astype(float) - 25.5, 0, 255)
    assert np.abs(bright(item, np.random.default_rng(0))["person"] - expected).max() <= 0.5


def test_colours_stay_within_five_steps():
    colours = Augmentation(**{**NOTHING, "hue_saturation_value": 1.0})
    for seed in range(5):
        item = an_item()
        before = cv2.cvtColor(item["person"], cv2.COLOR_RGB2HSV).astype(int)
        after = cv2.cvtColor(colours(item, np.random.default_rng(seed))["person"], cv2.COLOR_RGB2HSV).astype(int)
        assert np.abs(after[..., 2] - before[..., 2]).max() <= 5
        vivid = before[..., 1] > 60
        hue = np.abs(after - before)[..., 0][vivid]
        assert np.minimum(hue, 180 - hue).max() <= 7  # the limit, and rounding to 8 bits


def test_the_same_generator_gives_the_same_item_and_the_given_one_stays():
    item = an_item()
    first, second = (Augmentation()(item, np.random.default_rng(5)) for _ in range(2))
    for name, value in an_item().items():
        if isinstance(value, np.ndarray):
            assert np.array_equal(first[name], second[name], equal_nan=value.dtype == np.float32)
            assert np.array_equal(item[name], value, equal_nan=value.dtype == np.float32), name
    assert first["name"] == "00000"


def test_items_without_correspondence_are_augmented_too():
    item = {name: value for name, value in an_item().items() if name not in ("worn_mask", "correspondence")}
    augmented = Augmentation(flip=1.0, move=1.0)(item, np.random.default_rng(0))
    assert set(augmented) == set(item)


def test_with_everything_off_the_item_is_unchanged():
    item = Augmentation(**NOTHING)(an_item(), np.random.default_rng(0))
    for name, value in an_item().items():
        if isinstance(value, np.ndarray):
            assert np.array_equal(item[name], value, equal_nan=value.dtype == np.float32)


@pytest.mark.parametrize("option", [{"flip": 1.5}, {"shift": -0.1}, {"garment_border": 300}])
def test_impossible_options_are_refused(option):
    with pytest.raises(InvalidInput, match=next(iter(option))):
        Augmentation(**option)
