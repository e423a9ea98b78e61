import json
import os

import numpy as np
import pytest
from PIL import Image

from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.preprocessing.contact_sheet import FRAME_COLOUR, contact_sheet
from stableviton_sdk.preprocessing.framing import choose_frame, feather_mask, paste_back
from stableviton_sdk.preprocessing.inputs import Frame, TryOnInputs, grey_out, same_aspect

BILINEAR = Image.Resampling.BILINEAR


def ramp(size, axis=0):
    """A float picture whose value is the pixel's centre along an axis: shows to sub-pixels what lies where."""
    centres = np.arange(size[axis], dtype=np.float32) + 0.5
    return Image.fromarray(
        np.ascontiguousarray(np.broadcast_to(centres if axis == 0 else centres[:, None], size[::-1]))
    )


def noise(size, seed=0, channels=3):
    shape = (size[1], size[0], channels) if channels > 1 else size[::-1]
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def prepared(photo_size=(600, 400), size=(96, 128), **changes):
    photo = noise(photo_size)
    frame = choose_frame(photo.size, (3, 4), (200, 50, 350, 380))
    mask = Image.new("L", size)
    mask.paste(255, (20, 30, 70, 100))
    parts = {
        "person": frame.crop(photo, size),
        "mask": mask,
        "densepose": noise(size, 1),
        "parsing": np.random.default_rng(2).integers(0, 20, size[::-1], np.uint8),
        "keypoints": np.random.default_rng(3).random((25, 3), np.float32),
    }
    return TryOnInputs(photo, frame, **(parts | changes))


def test_a_whole_photo_with_known_maps_needs_no_cropping():
    photo, densepose, agnostic = noise((30, 40)), noise((15, 20), 1), noise((30, 40), 2)
    mask = np.zeros((40, 30), bool)
    mask[10:20, 5:25] = True
    inputs = TryOnInputs.of_whole_photo(np.asarray(photo), mask, densepose, np.asarray(agnostic))
    assert inputs.frame == Frame((30, 40), (0, 0, 30, 40))
    assert inputs.photo is inputs.person
    for name, picture in (("person", photo), ("densepose", densepose), ("agnostic", agnostic)):
        assert getattr(inputs, name).tobytes() == picture.tobytes(), name
    assert inputs.mask.mode == "L"
    np.testing.assert_array_equal(np.asarray(inputs.mask), mask * 255)
    assert inputs.parsing is None
    labels, joints = np.ones((40, 30), np.uint8), np.zeros((25, 3))
    analysed = TryOnInputs.of_whole_photo(photo, mask, densepose, parsing=labels, keypoints=joints)
    assert analysed.agnostic is None
    assert analysed.parsing is labels
    assert analysed.keypoints is joints


def test_a_map_of_another_shape_is_no_map_of_the_whole_photo():
    with pytest.raises(InvalidInput, match="densepose is 40 x 30"):
        TryOnInputs.of_whole_photo(noise((30, 40)), np.ones((40, 30), bool), noise((40, 30)))


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
    zoomed = choose_frame((900, 1200), (3, 4), small, close=True)
    assert zoomed.size[1] == pytest.approx(120 * 1.24, abs=2)
    assert zoomed.box[0] < 480
    assert zoomed.box[2] > 520
    assert choose_frame((900, 1200), (3, 4), large, close=True).box == (0, 0, 900, 1200)


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
def test_a_frame_picture_shows_the_photo_at_the_right_place_to_a_tenth_of_a_pixel(photo_size, around, size):
    frame = choose_frame(photo_size, (3, 4), around)
    for axis in (0, 1):
        seen = np.asarray(frame.crop(ramp(photo_size, axis), size, resample=BILINEAR))
        seen = seen[size[1] // 2] if axis == 0 else seen[:, size[0] // 2]
        scale = frame.size[axis] / size[axis]
        expected = frame.box[axis] + (np.arange(size[axis]) + 0.5) * scale
        known = (expected > frame.inside[axis] + 2 * scale) & (expected < frame.inside[axis + 2] - 2 * scale)
        assert known.any()
        assert np.abs(seen - expected)[known].max() < 0.1 * max(scale, 1)


@pytest.mark.parametrize("photo_size", [(1000, 500), (211, 900), (640, 480)])
def test_what_was_cropped_comes_back_to_where_it_was(photo_size):
    frame = choose_frame(photo_size)
    smooth = Image.new("L", (4, 4))
    smooth.putdata([0, 60, 120, 180, 30, 90, 150, 210, 60, 120, 180, 240, 90, 150, 210, 255])
    photo = smooth.resize(photo_size, Image.Resampling.BICUBIC)
    restored, corner = frame.restore(frame.crop(photo, (768, 1024)))
    assert corner == frame.inside[:2]
    assert restored.size == photo_size
    assert np.abs(np.asarray(restored).astype(int) - np.asarray(photo)).max() <= 3


def test_maps_of_another_resolution_are_cropped_to_the_same_part():
    frame = Frame((400, 400), (100, 0, 300, 200))
    half = np.asarray(frame.crop(ramp((200, 200))))
    assert half.shape == (100, 100)
    assert half[0, 0] == 50.5
    assert half[0, -1] == 149.5


def test_boxes_are_converted_to_whole_pixels_of_the_frame():
    frame = Frame((400, 400), (100, 0, 300, 200))
    assert frame.to_frame_box((150, 50, 250, 100), (100, 100)) == (25, 25, 75, 50)
    assert frame.to_frame_box((0, 0, 400, 400), (100, 100)) == (0, 0, 100, 100)
    left, top, right, bottom = frame.to_frame_box((150, 50, 150, 50), (100, 100))
    assert right - left == bottom - top == 1


# paste_back and feather_mask


@pytest.mark.parametrize("photo_size", [(600, 400), (300, 400), (150, 900), (37, 23)])
@pytest.mark.parametrize("feather", [0.0, 6.0, 40.0])
def test_pixels_outside_the_mask_stay_the_photo_s_byte_for_byte(photo_size, feather):
    photo = noise(photo_size)
    frame = choose_frame(photo_size)
    mask = Image.new("L", (96, 128))
    mask.paste(255, (30, 40, 70, 90))
    back = np.asarray(paste_back(photo, frame, Image.new("RGB", (96, 128), (255, 0, 0)), mask, feather=feather))
    restored, (left, top) = frame.restore(mask, resample=BILINEAR)
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


# TryOnInputs


def test_the_agnostic_picture_is_grey_where_the_mask_is_white():
    person = noise((30, 40))
    mask = Image.new("L", (15, 20))
    mask.paste(255, (5, 5, 10, 10))
    agnostic = np.asarray(grey_out(person, mask))
    assert (agnostic[11:19, 11:19] == 128).all()
    assert (agnostic[:9] == np.asarray(person)[:9]).all()


def test_a_replaced_mask_drops_the_agnostic_picture_that_contradicts_it():
    inputs = prepared(agnostic=noise((96, 128), 7))
    mask = np.zeros((128, 96), np.uint8)
    mask[:20] = 255
    replaced = inputs.replace(mask=mask)
    assert replaced.agnostic is None
    assert (np.asarray(replaced.mask) == mask).all()
    assert replaced.person is inputs.person
    assert inputs.agnostic is not None
    assert inputs.replace(densepose=noise((96, 128))).agnostic is inputs.agnostic
    own = noise((96, 128), 9)
    assert inputs.replace(mask=mask, agnostic=own).agnostic.tobytes() == own.tobytes()
    assert inputs.replace(agnostic=None).agnostic is None


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"maks": None}, "no 'maks'"),
        ({"mask": np.zeros((50, 96), np.uint8)}, "mask is 96 x 50"),
        ({"person": None}, "person"),
        ({"densepose": "nowhere.png"}, "nowhere.png"),
        ({"photo": np.zeros((5, 5, 3), np.uint8)}, "photo"),
        ({"parsing": np.zeros((128, 96))}, "parsing"),
        ({"parsing": np.zeros((96, 128), np.uint8)}, "parsing is 128 x 96"),
        ({"keypoints": np.zeros((18, 3))}, "keypoints"),
    ],
)
def test_a_wrong_replacement_is_refused_with_one_sentence(changes, message):
    with pytest.raises(InvalidInput, match=message):
        prepared().replace(**changes)


def test_parts_that_are_no_pictures_are_refused():
    with pytest.raises(InvalidInput, match="mask is a ndarray"):
        prepared(mask=np.zeros((128, 96), np.uint8))


def test_inputs_are_compared_and_hashed_by_identity():
    inputs = prepared()
    assert inputs == inputs
    assert inputs != prepared()
    assert len({inputs, inputs}) == 1


# saving and loading


def assert_same(first, second):
    assert first.frame == second.frame
    for name in ("photo", "person", "mask", "densepose", "agnostic"):
        one, other = getattr(first, name), getattr(second, name)
        assert (one is None) == (other is None), name
        if one is not None:
            assert one.mode == other.mode
            assert (np.asarray(one) == np.asarray(other)).all(), name
    for name in ("parsing", "keypoints"):
        one, other = getattr(first, name), getattr(second, name)
        assert (one is None) == (other is None), name
        if one is not None:
            assert one.dtype == other.dtype
            assert (one == other).all(), name


@pytest.mark.parametrize(
    "changes", [{}, {"agnostic": noise((96, 128), 4)}, {"parsing": None, "keypoints": None}], ids=str
)
def test_saved_inputs_come_back_exactly(tmp_path, changes):
    inputs = prepared(**changes)
    inputs.save(tmp_path / "new" / "folder")
    assert_same(TryOnInputs.load(tmp_path / "new" / "folder"), inputs)
    assert sorted(os.listdir(tmp_path / "new")) == ["folder"]


def test_saving_again_replaces_the_folder_as_a_whole(tmp_path):
    prepared(agnostic=noise((96, 128), 4)).save(tmp_path / "saved")
    inputs = prepared(parsing=None)
    inputs.save(tmp_path / "saved")
    assert not (tmp_path / "saved" / "agnostic.png").exists()
    assert_same(TryOnInputs.load(tmp_path / "saved"), inputs)
    (tmp_path / "empty").mkdir()
    inputs.save(tmp_path / "empty")
    assert_same(TryOnInputs.load(tmp_path / "empty"), inputs)
    assert sorted(os.listdir(tmp_path)) == ["empty", "saved"]


def test_a_folder_with_anything_else_in_it_is_not_overwritten(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"dear")
    with pytest.raises(InvalidInput, match=r"holiday\.jpg"):
        prepared().save(tmp_path / "photos")
    prepared().save(tmp_path / "saved")
    (tmp_path / "saved" / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInput, match=r"notes\.txt"):
        prepared().save(tmp_path / "saved")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "inputs.json").write_text('{"format": "something else"}')
    with pytest.raises(InvalidInput, match=r"inputs\.json"):
        prepared().save(tmp_path / "other")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidInput, match="is a file"):
        prepared().save(tmp_path / "file")
    assert (tmp_path / "photos" / "holiday.jpg").read_bytes() == b"dear"
    assert (tmp_path / "saved" / "notes.txt").read_text() == "mine"


def test_a_failing_save_leaves_the_old_folder_and_nothing_else(tmp_path, monkeypatch):
    old = prepared()
    old.save(tmp_path / "saved")
    new = prepared(parsing=None)
    monkeypatch.setattr(
        new.densepose, "save", lambda *arguments, **options: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(InvalidInput, match="disk full"):
        new.save(tmp_path / "saved")
    assert_same(TryOnInputs.load(tmp_path / "saved"), old)
    assert sorted(os.listdir(tmp_path)) == ["saved"]


@pytest.mark.parametrize("name", ["photo", "person", "mask", "densepose", "parsing"])
def test_a_missing_or_damaged_picture_is_named(tmp_path, name):
    prepared().save(tmp_path / "saved")
    path = tmp_path / "saved" / f"{name}.png"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidInput, match=rf"{name}\.png.*damaged"):
        TryOnInputs.load(tmp_path / "saved")
    path.unlink()
    with pytest.raises(InvalidInput, match=rf"{name}\.png is missing"):
        TryOnInputs.load(tmp_path / "saved")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"version": 2}, "version 2"),
        ({"format": "other"}, "doesn't describe"),
        ({"frame": {"photo_size": [1, 2]}}, "damaged"),
        ({"frame": {"photo_size": [600, 400], "box": [0, 0, 0, 0]}}, "damaged"),
        ({"frame": {"photo_size": [60, 40], "box": [0, 0, 30, 40]}}, "belongs to a photo"),
        ({"pictures": ["photo"]}, "damaged"),
        ({"pictures": [["photo"]]}, "damaged"),
        ({"pictures": ["photo", "person", "mask", "densepose", "../secret"]}, "damaged"),
        ({"keypoints": [[1, 2]]}, "damaged"),
        ({"keypoints": "many"}, "damaged"),
    ],
)
def test_a_wrong_index_is_refused_with_one_sentence(tmp_path, change, message):
    prepared().save(tmp_path / "saved")
    path = tmp_path / "saved" / "inputs.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InvalidInput, match=message):
        TryOnInputs.load(tmp_path / "saved")


def test_a_missing_or_unreadable_index_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"inputs\.json"):
        TryOnInputs.load(tmp_path / "nowhere")
    prepared().save(tmp_path / "saved")
    (tmp_path / "saved" / "inputs.json").write_text("{half")
    with pytest.raises(InvalidInput, match="damaged"):
        TryOnInputs.load(tmp_path / "saved")


# the contact sheet


def tiles_of(sheet, size=(288, 384)):
    """The sheet's tiles in reading order."""
    width, height = size
    return [
        np.asarray(sheet.crop((x, y + 26, x + width, y + 26 + height)))
        for y in range(12, sheet.height - 12, height + 38)
        for x in range(12, sheet.width - 12, width + 12)
    ]


def test_the_contact_sheet_shows_every_part_in_its_own_labelled_tile():
    grey, green = Image.new("RGB", (96, 128), (90, 90, 90)), Image.new("RGB", (96, 128), (0, 200, 0))
    keypoints = np.zeros((25, 3), np.float32)
    keypoints[1] = 0.5, 0.25, 1
    parsing = np.full((128, 96), 5, np.uint8)
    inputs = prepared(person=grey, densepose=green, parsing=parsing, keypoints=keypoints)
    sheet = inputs.to_image()
    assert sheet.mode == "RGB"
    photo, person, mask, agnostic, densepose, parse, joints, *_ = tiles_of(sheet)
    assert (np.abs(photo.astype(int) - FRAME_COLOUR).max(axis=2) < 5).any()
    assert (person == 90).all()
    assert mask[10, 10].tolist() == [90, 90, 90]
    assert mask[192, 130, 0] > 130
    assert agnostic[192, 130].tolist() == [128, 128, 128]
    assert agnostic[10, 10].tolist() == [90, 90, 90]
    assert (densepose == (0, 200, 0)).all()
    assert np.ptp(parse.reshape(-1, 3), axis=0).max() == 0
    assert parse.any()
    assert (np.abs(joints[96, 144].astype(int) - 90) > 50).any()
    assert (joints[300] == 90).all()
    labels = np.asarray(sheet.crop((12, 12, sheet.width, 36)))
    assert (labels < 100).any()


def test_the_contact_sheet_leaves_out_what_is_not_there():
    full, bare = contact_sheet(prepared()), contact_sheet(prepared(parsing=None, keypoints=None))
    count = len({tuple(tile.mean(axis=(0, 1)).round(3)) for tile in tiles_of(full)})
    assert count - len({tuple(tile.mean(axis=(0, 1)).round(3)) for tile in tiles_of(bare)}) == 2


@pytest.mark.parametrize("photo_size", [(1, 1), (20, 3000), (3000, 20)])
def test_the_contact_sheet_of_odd_photos_stays_small(photo_size):
    photo = Image.new("RGB", photo_size)
    frame, blank = choose_frame(photo_size), Image.new("RGB", (12, 16))
    sheet = contact_sheet(TryOnInputs(photo, frame, blank, blank.convert("L"), blank))
    assert max(sheet.size) < 2000
    strip = Frame((3000, 20), (0, 0, 3000, 20))
    strip_picture = Image.new("RGB", (300, 2))
    sheet = contact_sheet(
        TryOnInputs(Image.new("RGB", (3000, 20)), strip, strip_picture, strip_picture.convert("L"), strip_picture)
    )
    assert max(sheet.size) < 4000


@pytest.mark.parametrize(
    "box, size", [((0, 0, 90, 120), (45, 60)), ((-30, 10, 120, 210), (48, 64)), ((3, 4, 33, 44), (60, 80))]
)
def test_pixels_of_a_frame_picture_lead_to_the_photo_and_back(box, size):
    rows, columns = np.mgrid[:200, :90].astype(np.float32)
    frame = Frame((90, 200), box)
    x, y = np.arange(size[0]), np.arange(size[1])[:, None]
    photo_x, photo_y = frame.to_photo(x, y, size)
    assert np.allclose(frame.from_photo(photo_x, photo_y, size)[0], x)
    assert np.allclose(frame.from_photo(photo_x, photo_y, size)[1], y)
    # a ramp, cropped as pictures are, says which photo pixel each pixel shows
    for ramp, places in ((columns, photo_x), (rows, photo_y)):
        picture = Image.fromarray(ramp)
        seen = np.asarray(frame.crop(picture, size, resample=Image.Resampling.BILINEAR, fill=-1000))
        left, top, right, bottom = frame.inside
        reach = 2 * frame.size[0] / size[0]  # of the filter: it is cut off at the photo's and the crop's edges
        across = (photo_x > left + reach) & (photo_x < right - 1 - reach)
        inner = across & (photo_y > top + reach) & (photo_y < bottom - 1 - reach)
        assert inner.any()
        assert np.allclose(seen[inner], np.broadcast_to(places, seen.shape)[inner], atol=0.05)
