import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.tiny import noise

from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.preprocessing.contact_sheet import FRAME_COLOUR
from stableviton_sdk.preprocessing.frame import Frame, choose_frame
from stableviton_sdk.preprocessing.inputs import TryOnInputs, derive_agnostic


def prepared(photo_size=(600, 400), size=(96, 128), **changes):
    photo = noise(photo_size)
    frame = choose_frame(photo.size, (3, 4), (200, 50, 350, 380))
    mask = Image.new("L", size)
    mask.paste(255, (20, 30, 70, 100))
    parts = {
        "frame_person": frame.crop(photo, size),
        "frame_mask": mask,
        "frame_densepose": noise(size, 1),
        "parsing": np.random.default_rng(2).integers(0, 20, size[::-1], np.uint8),
        "keypoints": np.random.default_rng(3).random((25, 3), np.float32),
    }
    return TryOnInputs(photo, frame, **(parts | changes))


def test_a_whole_photo_with_known_maps_needs_no_cropping():
    photo, densepose, agnostic = noise((30, 40)), noise((15, 20), 1), noise((30, 40), 2)
    mask = np.zeros((40, 30), bool)
    mask[10:20, 5:25] = True
    inputs = TryOnInputs.from_maps(np.asarray(photo), mask=mask, densepose=densepose, agnostic=np.asarray(agnostic))
    assert inputs.frame == Frame((30, 40), (0, 0, 30, 40))
    assert inputs.photo.tobytes() == inputs.frame_person.tobytes()
    for name, image in (("person", photo), ("densepose", densepose), ("agnostic", agnostic)):
        assert getattr(inputs, f"frame_{name}").tobytes() == image.tobytes(), name
    assert inputs.frame_mask.mode == "L"
    np.testing.assert_array_equal(np.asarray(inputs.frame_mask), mask * 255)
    assert inputs.parsing is None
    labels, joints = np.ones((40, 30), np.uint8), np.zeros((25, 3))
    analysed = TryOnInputs.from_maps(photo, mask=mask, densepose=densepose, parsing=labels, keypoints=joints)
    assert analysed.frame_agnostic is None
    assert analysed.parsing is labels
    assert analysed.keypoints is joints


def test_a_map_of_another_shape_is_no_map_of_the_whole_photo():
    with pytest.raises(InvalidInput, match="densepose is 40 x 30"):
        TryOnInputs.from_maps(noise((30, 40)), mask=np.ones((40, 30), bool), densepose=noise((40, 30)))


# TryOnInputs


def test_the_agnostic_image_is_grey_where_the_mask_is_white():
    person = noise((30, 40))
    mask = Image.new("L", (15, 20))
    mask.paste(255, (5, 5, 10, 10))
    agnostic = np.asarray(derive_agnostic(person, mask, (30, 40)))
    assert (agnostic[11:19, 11:19] == 128).all()
    assert (agnostic[:9] == np.asarray(person)[:9]).all()


@pytest.mark.parametrize("size", [(60, 80), (45, 60), (100, 140), (270, 360)])
def test_nothing_below_the_mask_gets_into_the_agnostic_image_at_any_size(size):
    person = np.full((180, 135, 3), 60, np.uint8)
    other = person.copy()
    area = np.zeros((180, 135), bool)
    area[41:133, 23:98] = True
    other[area] = np.random.default_rng(0).integers(0, 256, (int(area.sum()), 3))
    mask = Image.fromarray(area.astype(np.uint8) * 255)
    first, second = (derive_agnostic(Image.fromarray(image), mask, size) for image in (person, other))
    assert first.tobytes() == second.tobytes()
    assert set(np.unique(np.asarray(first))) == {60, 128}


def test_the_mask_of_the_whole_photo_is_black_outside_the_frame_and_can_be_passed_back():
    inputs = prepared()
    mask = np.asarray(inputs.photo_mask())
    assert mask.shape == (400, 600)
    assert set(np.unique(mask)) == {0, 255}
    left, top, right, bottom = inputs.frame.visible_box
    outside = np.ones(mask.shape, bool)
    outside[top:bottom, left:right] = False
    assert not mask[outside].any()
    again = inputs.replace(mask=inputs.photo_mask())
    assert (np.asarray(again.photo_mask()) == mask).mean() > 0.999


def test_a_replaced_mask_drops_the_agnostic_image_that_contradicts_it():
    inputs = prepared(frame_agnostic=noise((96, 128), 7))
    mask = np.zeros((128, 96), np.uint8)
    mask[:20] = 255
    replaced = inputs.replace(frame_mask=mask)
    assert replaced.frame_agnostic is None
    assert (np.asarray(replaced.frame_mask) == mask).all()
    assert replaced.frame_person is inputs.frame_person
    assert inputs.frame_agnostic is not None
    assert inputs.replace(frame_densepose=noise((96, 128))).frame_agnostic is inputs.frame_agnostic
    own = noise((96, 128), 9)
    assert inputs.replace(frame_mask=mask, frame_agnostic=own).frame_agnostic.tobytes() == own.tobytes()
    assert inputs.replace(frame_agnostic=None).frame_agnostic is None


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"maks": None}, "no 'maks'"),
        ({"frame_mask": np.zeros((50, 96), np.uint8)}, "frame_mask is 96 x 50"),
        ({"mask": np.zeros((50, 96), np.uint8)}, "whole photo"),
        ({"mask": np.zeros((128, 96), np.uint8), "frame_mask": np.zeros((128, 96), np.uint8)}, "pass one"),
        ({"frame_person": None}, "frame_person"),
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


def test_parts_that_are_no_images_are_refused():
    with pytest.raises(InvalidInput, match="mask is a ndarray"):
        prepared(frame_mask=np.zeros((128, 96), np.uint8))


def test_inputs_are_compared_and_hashed_by_identity():
    inputs = prepared()
    assert inputs == inputs
    assert inputs != prepared()
    assert len({inputs, inputs}) == 1


# saving and loading


def assert_same(first, second):
    assert first.frame == second.frame
    for name in ("photo", "frame_person", "frame_mask", "frame_densepose", "frame_agnostic"):
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
    "changes",
    [{}, {"frame_agnostic": noise((96, 128), 4)}, {"parsing": None, "keypoints": None}],
    ids=lambda changes: "-".join(changes) or "as they are",
)
def test_saved_inputs_come_back_exactly(tmp_path, changes):
    inputs = prepared(**changes)
    inputs.save(tmp_path / "new" / "folder")
    assert_same(TryOnInputs.load(tmp_path / "new" / "folder"), inputs)
    assert sorted(os.listdir(tmp_path / "new")) == ["folder"]


def test_saving_again_replaces_the_folder_as_a_whole(tmp_path):
    prepared(frame_agnostic=noise((96, 128), 4)).save(tmp_path / "saved")
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
        new.frame_densepose, "save", lambda *arguments, **options: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(InvalidInput, match="disk full"):
        new.save(tmp_path / "saved")
    assert_same(TryOnInputs.load(tmp_path / "saved"), old)
    assert sorted(os.listdir(tmp_path)) == ["saved"]


def test_an_interrupt_between_the_renames_leaves_the_old_folder(tmp_path, monkeypatch):
    old = prepared()
    old.save(tmp_path / "saved")
    rename = Path.rename

    def interrupted(path, target):
        if path.suffix == ".partial":  # the new one's turn
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepared().save(tmp_path / "saved")
    assert_same(TryOnInputs.load(tmp_path / "saved"), old)
    assert sorted(os.listdir(tmp_path)) == ["saved"]


@pytest.mark.parametrize("name", ["photo", "person", "mask", "densepose", "parsing"])
def test_a_missing_or_damaged_image_is_named(tmp_path, name):
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
    inputs = prepared(frame_person=grey, frame_densepose=green, parsing=parsing, keypoints=keypoints)
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
    full, bare = prepared().to_image(), prepared(parsing=None, keypoints=None).to_image()
    count = len({tuple(tile.mean(axis=(0, 1)).round(3)) for tile in tiles_of(full)})
    assert count - len({tuple(tile.mean(axis=(0, 1)).round(3)) for tile in tiles_of(bare)}) == 2


@pytest.mark.parametrize("photo_size", [(1, 1), (20, 3000), (3000, 20)])
def test_the_contact_sheet_of_odd_photos_stays_small(photo_size):
    photo = Image.new("RGB", photo_size)
    frame, blank = choose_frame(photo_size), Image.new("RGB", (12, 16))
    sheet = TryOnInputs(photo, frame, blank, blank.convert("L"), blank).to_image()
    assert max(sheet.size) < 2000
    strip = Frame((3000, 20), (0, 0, 3000, 20))
    strip_image = Image.new("RGB", (300, 2))
    sheet = TryOnInputs(
        Image.new("RGB", (3000, 20)), strip, strip_image, strip_image.convert("L"), strip_image
    ).to_image()
    assert max(sheet.size) < 4000
