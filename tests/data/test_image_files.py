"""Which file of a folder is read: the listed one, images only, nothing hidden, and never one of two in silence."""

import logging
import unicodedata

import numpy as np
import pytest
from support.data_sets import NAMES, SIZE, put
from support.tiny import mask_image, random_image

from stableviton_sdk.data.dress_code import DressCode
from stableviton_sdk.data.folder import FolderDataset
from stableviton_sdk.data.image_files import ImageFinder, file_name, images_by_stem, stem_of
from stableviton_sdk.data.pair_dataset import BadDataSet
from stableviton_sdk.data.viton_hd import VitonHD
from stableviton_sdk.evaluation.data import load_data

FIRST = NAMES[0]
CLUTTER = (".DS_Store", "Thumbs.db", f"{FIRST}.txt", f"{FIRST}.json", f"{FIRST}.xmp", f"{FIRST}.MOV")


def clutter(folder):
    """Files beside the images that are none, as cameras, macOS and Windows leave them."""
    for name in (*CLUTTER, f"._{FIRST}.jpg", f"._{FIRST}.png"):
        (folder / name).write_bytes(b"\0\5\26\7 not an image")


@pytest.mark.parametrize(
    "name, stem",
    [
        ("00001_00.jpg", "00001_00"),
        ("image/00001_00.JPG", "00001_00"),
        ("image\\00001_00.png", "00001_00"),
        ("coat.v2.webp", "coat.v2"),
        ("coat.v2", "coat.v2"),
        ("00001_00", "00001_00"),
        (".jpg", ".jpg"),
    ],
)
def test_only_an_image_ending_is_cut_off_a_name(name, stem):
    assert stem_of(name) == stem


def test_a_listed_name_is_known_without_its_folders():
    assert file_name("a/b\\c.jpg") == "c.jpg"
    assert file_name("c.jpg") == "c.jpg"


def test_only_visible_images_are_listed(tmp_path):
    clutter(tmp_path)
    (tmp_path / "folder.jpg").mkdir()
    for name in ("b.PNG", "a.jpg", "a.webp"):
        (tmp_path / name).write_bytes(b"")
    assert images_by_stem(tmp_path) == {"a": ["a.jpg", "a.webp"], "b": ["b.PNG"]}
    assert images_by_stem(tmp_path / "nowhere") == {}


@pytest.mark.parametrize("reader", ["viton-hd", "dress-code", "folder"])
def test_files_that_are_no_images_change_nothing(viton_hd, dress_code, plain, reader):
    root, read = {
        "viton-hd": (viton_hd, lambda: VitonHD(viton_hd, "test", size=SIZE)),
        "dress-code": (dress_code, lambda: DressCode(dress_code, size=SIZE)),
        "folder": (plain, lambda: FolderDataset(plain, SIZE)),
    }[reader]
    before = read()
    for folder in [path for path in root.rglob("*") if path.is_dir()]:
        clutter(folder)
        for stem in ("000001_0", "000001_1", "000001_5", f"{FIRST}_mask", "000001_0_mask"):
            (folder / f"{stem}.txt").write_text("not an image")
    after = read()
    assert [record.files for record in after.records] == [record.files for record in before.records]


def test_the_listed_file_is_read_and_the_other_one_named(viton_hd, caplog):
    put(viton_hd / "test" / "image", f"{FIRST}.png", random_image(seed=99))
    put(viton_hd / "test" / "agnostic-mask", f"{FIRST}_mask.jpg", mask_image())
    with caplog.at_level(logging.WARNING):
        data = VitonHD(viton_hd, "test", size=SIZE)
    assert np.array_equal(data[0]["person"], np.asarray(random_image(seed=0)))
    assert data.records[0].files["mask"].name == f"{FIRST}_mask.png"
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert f"{FIRST}.jpg, not {FIRST}.png" in said[0]
    assert f"{FIRST}_mask.png, not {FIRST}_mask.jpg" in said[1]


def test_two_files_of_which_none_is_listed_are_refused_by_name(viton_hd):
    folder = viton_hd / "test" / "image"
    (folder / f"{FIRST}.jpg").rename(folder / f"{FIRST}.webp")
    put(folder, f"{FIRST}.png", random_image())
    with pytest.raises(BadDataSet) as error:
        VitonHD(viton_hd, "test", size=SIZE)
    assert error.value.problems == [
        f"{folder} holds {FIRST}.png and {FIRST}.webp: keep one of them, or list the one to read with its ending."
    ]


def test_without_a_list_two_persons_of_one_name_are_refused(plain):
    put(plain / "person", f"{FIRST}.jpg", random_image(seed=99))
    with pytest.raises(BadDataSet, match=rf"{FIRST}\.jpg and {FIRST}\.png"):
        FolderDataset(plain, SIZE)
    (plain / "pairs.txt").write_text(f"{FIRST}.png {FIRST}.png\n")
    assert np.array_equal(FolderDataset(plain, SIZE)[0]["person"], np.asarray(random_image(seed=0)))


def test_a_folder_of_photos_with_clutter_has_as_many_persons_as_photos(tmp_path):
    photos, garments = tmp_path / "photos", tmp_path / "garments"
    put(photos, f"{FIRST}.jpg", random_image())
    put(garments, "coat.jpg", random_image())
    for folder in (photos, garments):
        clutter(folder)
    assert load_data(photos, garments=garments, setting="unpaired", size=SIZE).pairs == [(FIRST, "coat")]
    put(garments, "coat.png", random_image())
    with pytest.raises(BadDataSet, match=r"coat\.jpg and coat\.png"):
        load_data(photos, garments=garments, setting="unpaired", size=SIZE)


def test_another_ending_than_the_listed_one_is_read_if_it_is_the_only_one(tmp_path):
    put(tmp_path, "a.PNG", random_image())
    find = ImageFinder()
    assert find(tmp_path, "a.jpg") == find(tmp_path, "a") == tmp_path / "a.PNG"
    assert find.problems() == []


def test_decomposed_letters_of_macos_are_the_same_name(tmp_path):
    on_disk, listed = (unicodedata.normalize(form, "rené.jpg") for form in ("NFD", "NFC"))
    put(tmp_path, on_disk, random_image())
    find = ImageFinder()
    assert find(tmp_path, listed).name == on_disk
    assert find.problems() == []


def test_a_name_in_other_capitals_is_missing_and_hinted_at(tmp_path):
    put(tmp_path, "IMG_1.jpg", random_image())
    find = ImageFinder()
    find(tmp_path, "img_1.jpg")
    assert find.problems() == [f"{tmp_path / 'img_1.jpg'} is missing (there is IMG_1.jpg: mind capitals)."]
