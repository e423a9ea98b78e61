"""Which part of a photo the network sees, and how the result goes back into it."""

import numpy as np
import pytest
from PIL import Image
from support.tiny import noise

from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.preprocessing.frame import Frame, choose_frame, feather_mask, paste_back, same_aspect

BILINEAR = Image.Resampling.BILINEAR


def ramp(size, axis=0):
    """A float image whose value is the pixel's centre along an axis: shows to sub-pixels what lies where."""
    centres = np.arange(size[axis], dtype=np.float32) + 0.5
    return Image.fromarray(
        np.ascontiguousarray(np.broadcast_to(centres if axis == 0 else centres[:, None], size[::-1]))
    )


# choose_frame


@pytest.mark.parametrize("size", [(768, 1024), (3000, 4000), (3, 4), (6, 8)])
def test_a_photo_of_the_right_proportions_is_taken_whole(size):
    assert choose_frame(size).box == (0, 0, *size)
    assert choose_frame(size, (384, 512), (1, 1, size[0], size[1] - 1)).box == (0, 0, *size)


def test_a_landscape_photo_is_cropped_around_the_person():
    frame = choose_frame((4000, 3000), (3, 4), (3000, 200, 3600, 2900))
    assert frame.size == (2250, 3000)
    assert frame.box == (1750, 0, 4000, 3000)  # as far right as the photo goes
    assert choose_frame((4000, 3000), (3, 4), (1500, 0, 2100, 3000)).box == (675, 0, 2925, 3000)


def test_a_photo_of_unknown_content_is_padded_on_both_sides():
    assert choose_frame((1000, 500)).box == (0, -417, 1000, 916)
    assert choose_frame((300, 1200)).box == (-300, 0, 600, 1200)


def test_a_person_too_wide_for_any_crop_is_framed_with_padding():
    frame = choose_frame((1200, 600), (3, 4), (100, 100, 1000, 500))
    assert frame.box[0] <= 100
    assert frame.box[2] >= 1000
    assert frame.box[1] < 0
    assert frame.box[3] > 600
    assert frame.size[0] * 4 == pytest.approx(frame.size[1] * 3, abs=4)


def test_padding_goes_to_the_side_where_the_photo_does_not_cut_the_person_off():
    frame = choose_frame((1200, 600), (3, 4), (100, 100, 1000, 600))
    assert frame.box[3] == 600
    assert frame.box[1] < -400
    frame = choose_frame((1200, 600), (3, 4), (100, 0, 1000, 400))
    assert frame.box[1] == 0


def test_close_zooms_in_on_a_small_person_only():
    small, large = (480, 500, 520, 620), (300, 200, 700, 900)
    assert choose_frame((900, 1200), (3, 4), small).box == (0, 0, 900, 1200)
    zoomed = choose_frame((900, 1200), (3, 4), small, zoom_to_person=True)
    assert zoomed.size[1] == pytest.approx(120 * 1.24, abs=2)
    assert zoomed.box[0] < 480
    assert zoomed.box[2] > 520
    assert choose_frame((900, 1200), (3, 4), large, zoom_to_person=True).box == (0, 0, 900, 1200)


@pytest.mark.parametrize("size", [(1, 1), (20, 3000), (3000, 20), (8000, 6000), (1, 500)])
@pytest.mark.parametrize("around", [None, (0, 0, 1, 1), (-50, -50, 10000, 10000), (0.4, 0.4, 0.6, 0.7)])
def test_frames_keep_the_proportions_for_photos_of_any_size(size, around):
    frame = choose_frame(size, (3, 4), around)
    assert same_aspect(frame.size, (3, 4))
    assert frame.crop(Image.new("RGB", size), (12, 16)).size == (12, 16)


# Frame


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (5, 5, 3, 9), (-9, 0, 0, 5), (10, 0, 20, 5)])
def test_an_empty_frame_or_one_beside_the_photo_is_refused(box):
    with pytest.raises(InvalidInput, match="frame"):
        Frame((10, 10), box)


@pytest.mark.parametrize("photo_size, box", [((10,), (0, 0, 1, 1)), ((10, 10), (0, 0, 1)), ((10, 10), (0, 0, 0.5, 1))])
def test_a_frame_is_made_of_whole_numbers(photo_size, box):
    with pytest.raises(InvalidInput, match="whole numbers"):
        Frame(photo_size, box)
    assert Frame([10, 10], np.array([0, 1, 2, 3])) == Frame((10, 10), (0, 1, 2, 3))


def test_a_crop_inside_the_photo_is_exact():
    photo = noise((50, 40))
    cropped = Frame((50, 40), (7, 3, 31, 35)).crop(photo)
    assert (np.asarray(cropped) == np.asarray(photo)[3:35, 7:31]).all()


def test_padding_repeats_the_edge_or_takes_the_fill_colour():
    photo = noise((10, 8))
    frame = Frame((10, 8), (-3, -2, 12, 18))
    values = np.asarray(photo)
    expected = np.pad(values, ((2, 10), (3, 2), (0, 0)), mode="edge")
    assert (np.asarray(frame.crop(photo)) == expected).all()
    filled = np.asarray(frame.crop(photo, fill=(1, 2, 3)))
    assert (filled[2:10, 3:13] == values).all()
    assert filled[0, 0].tolist() == [1, 2, 3]
    assert np.asarray(frame.crop(photo.convert("L"), fill=9))[0, 0] == 9


@pytest.mark.parametrize(
    "photo_size, around",
    [((1000, 500), None), ((211, 900), None), ((611, 433), (100, 50, 300, 400)), ((640, 480), None)],
)
@pytest.mark.parametrize("size", [(768, 1024), (192, 256)])
def test_a_frame_image_shows_the_photo_at_the_right_place_to_a_tenth_of_a_pixel(photo_size, around, size):
    frame = choose_frame(photo_size, (3, 4), around)
    for axis in (0, 1):
        seen = np.asarray(frame.crop(ramp(photo_size, axis), size, resample=BILINEAR))
        seen = seen[size[1] // 2] if axis == 0 else seen[:, size[0] // 2]
        scale = frame.size[axis] / size[axis]
        expected = frame.box[axis] + (np.arange(size[axis]) + 0.5) * scale
        known = (expected > frame.visible_box[axis] + 2 * scale) & (expected < frame.visible_box[axis + 2] - 2 * scale)
        assert known.any()
        assert np.abs(seen - expected)[known].max() < 0.1 * max(scale, 1)


@pytest.mark.parametrize("photo_size", [(1000, 500), (211, 900), (640, 480)])
def test_what_was_cropped_comes_back_to_where_it_was(photo_size):
    frame = choose_frame(photo_size)
    smooth = Image.new("L", (4, 4))
    smooth.putdata([0, 60, 120, 180, 30, 90, 150, 210, 60, 120, 180, 240, 90, 150, 210, 255])
    photo = smooth.resize(photo_size, Image.Resampling.BICUBIC)
    restored, corner = frame.uncrop(frame.crop(photo, (768, 1024)))
    assert corner == frame.visible_box[:2]
    assert restored.size == photo_size
    assert np.abs(np.asarray(restored).astype(int) - np.asarray(photo)).max() <= 3


def test_maps_of_another_resolution_are_cropped_to_the_same_part():
    frame = Frame((400, 400), (100, 0, 300, 200))
    half = np.asarray(frame.crop(ramp((200, 200))))
    assert half.shape == (100, 100)
    assert half[0, 0] == 50.5
    assert half[0, -1] == 149.5


@pytest.mark.parametrize(
    "box, size", [((0, 0, 90, 120), (45, 60)), ((-30, 10, 120, 210), (48, 64)), ((3, 4, 33, 44), (60, 80))]
)
def test_pixels_of_a_frame_image_lead_to_the_photo_and_back(box, size):
    rows, columns = np.mgrid[:200, :90].astype(np.float32)
    frame = Frame((90, 200), box)
    x, y = np.arange(size[0]), np.arange(size[1])[:, None]
    photo_x, photo_y = frame.to_photo(x, y, size)
    assert np.allclose(frame.from_photo(photo_x, photo_y, size)[0], x)
    assert np.allclose(frame.from_photo(photo_x, photo_y, size)[1], y)
    # a ramp, cropped as images are, says which photo pixel each pixel shows
    for ramp, places in ((columns, photo_x), (rows, photo_y)):
        image = Image.fromarray(ramp)
        seen = np.asarray(frame.crop(image, size, resample=Image.Resampling.BILINEAR, fill=-1000))
        left, top, right, bottom = frame.visible_box
        reach = 2 * frame.size[0] / size[0]  # of the filter: it is cut off at the photo's and the crop's edges
        across = (photo_x > left + reach) & (photo_x < right - 1 - reach)
        inner = across & (photo_y > top + reach) & (photo_y < bottom - 1 - reach)
        assert inner.any()
        assert np.allclose(seen[inner], np.broadcast_to(places, seen.shape)[inner], atol=0.05)


# paste_back and feather_mask


@pytest.mark.parametrize("photo_size", [(600, 400), (300, 400), (150, 900), (37, 23)])
@pytest.mark.parametrize("feather", [0.0, 6.0, 40.0])
def test_pixels_outside_the_mask_stay_the_photo_s_byte_for_byte(photo_size, feather):
    photo = noise(photo_size)
    frame = choose_frame(photo_size)
    mask = Image.new("L", (96, 128))
    mask.paste(255, (30, 40, 70, 90))
    back = np.asarray(paste_back(photo, frame, Image.new("RGB", (96, 128), (255, 0, 0)), mask, feather=feather))
    restored, (left, top) = frame.uncrop(mask, resample=BILINEAR)
    outside = np.ones(photo_size[::-1], bool)
    solid = np.asarray(restored) >= 128
    outside[top : top + restored.height, left : left + restored.width] = ~solid
    original = np.asarray(photo)
    assert (back[outside] == original[outside]).all()
    assert (~outside).any()
    assert (back[~outside] != original[~outside]).any()


def test_a_mask_at_the_photo_s_resolution_is_respected_pixel_for_pixel():
    photo = noise((60, 80))
    mask = noise((60, 80), 5, channels=1).point(lambda value: 255 if value > 200 else 0)
    back = paste_back(photo, Frame((60, 80), (0, 0, 60, 80)), Image.new("RGB", (30, 40), (255, 0, 0)), mask, feather=0)
    expected = np.where((np.asarray(mask) > 0)[..., None], np.array([255, 0, 0]), np.asarray(photo))
    assert (np.asarray(back) == expected).all()


def test_the_seam_lies_inside_the_mask_and_rises_to_the_result_s_own_colour():
    photo, result = Image.new("RGB", (300, 400)), Image.new("RGB", (300, 400), (200, 200, 200))
    mask = Image.new("L", (300, 400))
    mask.paste(255, (100, 100, 200, 300))
    values = np.asarray(paste_back(photo, Frame((300, 400), (0, 0, 300, 400)), result, mask, feather=9))[200, :, 0]
    assert (values[:100] == 0).all()
    assert (values[200:] == 0).all()
    rise = values[100:110].astype(int)
    assert (np.diff(rise) > 0).all()
    assert (values[110:190] == 200).all()
    share = np.arange(1, 11) / 10
    assert np.abs(rise - 200 * share**2 * (3 - 2 * share)).max() <= 1


def test_the_seam_is_as_wide_in_the_photo_as_in_the_result():
    photo, result = Image.new("RGB", (1200, 1600)), Image.new("RGB", (300, 400), (200, 200, 200))
    mask = Image.new("L", (300, 400))
    mask.paste(255, (100, 100, 200, 300))
    values = np.asarray(paste_back(photo, Frame((1200, 1600), (0, 0, 1200, 1600)), result, mask, feather=5))[800, :, 0]
    rise = np.flatnonzero((values > 0) & (values < 200))
    assert len(rise[rise < 600]) == pytest.approx(20, abs=1)


def test_a_mask_is_feathered_where_the_frame_ends_but_not_where_the_photo_ends():
    photo, result = Image.new("RGB", (600, 400)), Image.new("RGB", (300, 400), (200, 200, 200))
    frame = Frame((600, 400), (300, 0, 600, 400))
    values = np.asarray(paste_back(photo, frame, result, Image.new("L", (300, 400), 255), feather=9))[..., 0]
    assert (values[:, :300] == 0).all()
    assert (np.diff(values[200, 299:310].astype(int)) > 0).all()
    assert (values[:, 312:] == 200).all()  # to the very corners


def test_an_all_black_mask_changes_nothing_and_none_replaces_the_frame():
    photo, frame = noise((60, 80)), Frame((60, 80), (10, 10, 40, 50))
    result = Image.new("RGB", (30, 40), (9, 8, 7))
    assert (np.asarray(paste_back(photo, frame, result, Image.new("L", (30, 40)))) == np.asarray(photo)).all()
    back = np.array(paste_back(photo, frame, result, None))
    assert (back[10:50, 10:40] == (9, 8, 7)).all()
    back[10:50, 10:40] = np.asarray(photo)[10:50, 10:40]
    assert (back == np.asarray(photo)).all()


def test_the_result_lands_where_the_frame_was():
    photo = Image.new("RGB", (500, 300))
    frame = choose_frame(photo.size, (3, 4), (300, 0, 400, 300))
    result = Image.new("RGB", (90, 120))
    result.paste((0, 255, 0), (30, 40, 60, 80))
    mask = Image.new("L", (90, 120), 255)
    green = np.asarray(paste_back(photo, frame, result, mask, feather=0))[..., 1] > 127
    rows, columns = np.flatnonzero(green.any(axis=1)), np.flatnonzero(green.any(axis=0))
    scale = frame.size[0] / 90
    assert columns[0] == pytest.approx(frame.box[0] + 30 * scale, abs=1)
    assert columns[-1] + 1 == pytest.approx(frame.box[0] + 60 * scale, abs=1)
    assert rows[0] == pytest.approx(40 * scale, abs=1)
    assert rows[-1] + 1 == pytest.approx(80 * scale, abs=1)


def test_opacity_is_zero_outside_the_mask_and_one_deep_inside():
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    opacity = feather_mask(mask, 4)
    assert opacity.dtype == np.float32
    assert (opacity[~mask] == 0).all()
    assert (opacity[15:25, 15:25] == 1).all()
    assert 0 < opacity[10, 20] < opacity[11, 20] < opacity[13, 20] < 1
    assert (feather_mask(mask, 0) == mask).all()
