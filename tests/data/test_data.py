"""Readers of real data sets: what they read, and the one report on what they can't."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from support.data_sets import HEIGHT, NAMES, SIZE, WIDTH, put
from support.tiny import mask_image, random_image

from stableviton_sdk.data.dress_code import DressCode
from stableviton_sdk.data.folder import FolderDataset
from stableviton_sdk.data.pair_dataset import BadDataSet
from stableviton_sdk.data.viton_hd import VitonHD
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.images import load_image, resize
from stableviton_sdk.preprocessing.labels import PARULA


def array(image):
    return np.asarray(image)


def test_viton_hd_items_hold_the_authors_files(viton_hd):
    data = VitonHD(viton_hd, size=SIZE, garment_mask=True)
    assert len(data) == 3
    item = data[1]
    assert (item["name"], item["garment_name"]) == ("00002_00", "00002_00")
    for part, seed in (("person", 1), ("garment", 11), ("densepose", 21), ("agnostic", 31)):
        assert np.array_equal(item[part], array(random_image(seed=seed))), part
    for part in ("mask", "worn_mask", "garment_mask"):
        assert np.array_equal(item[part], array(mask_image()) >= 128), part
        assert item[part].dtype == bool


def test_unpaired_viton_hd_pairs_as_the_list_says_and_knows_no_worn_mask(viton_hd):
    item = VitonHD(viton_hd, "test", paired=False, size=SIZE)[0]
    assert (item["name"], item["garment_name"]) == ("00001_00", "00002_00")
    assert np.array_equal(item["garment"], array(random_image(seed=11)))
    assert "worn_mask" not in item


def test_a_missing_agnostic_folder_is_derived_from_the_mask(viton_hd):
    shutil.rmtree(viton_hd / "train" / "agnostic-v3.2")
    item = VitonHD(viton_hd, size=SIZE)[0]
    assert (item["agnostic"][item["mask"]] == 128).all()
    assert np.array_equal(item["agnostic"][~item["mask"]], item["person"][~item["mask"]])


def test_items_have_the_size_asked_for_and_masks_stay_sharp(viton_hd):
    item = VitonHD(viton_hd, size=(24, 32))[0]
    assert item["person"].shape == (32, 24, 3)
    assert item["mask"].shape == (32, 24)
    assert np.array_equal(item["person"], array(random_image(seed=0).resize((24, 32), Image.Resampling.LANCZOS)))
    assert item["mask"].mean() == pytest.approx((array(mask_image()) >= 128).mean(), abs=0.02)


def test_large_jpegs_are_resized_exactly_as_the_pipeline_does(viton_hd):
    for name in NAMES:
        put(viton_hd / "train" / "image", f"{name}.jpg", random_image(WIDTH * 16, HEIGHT * 16), quality=95)
    item = VitonHD(viton_hd, size=SIZE)[0]
    photo = load_image(viton_hd / "train" / "image" / f"{NAMES[0]}.jpg")
    assert np.array_equal(item["person"], array(resize(photo, (WIDTH, HEIGHT))))


def test_items_go_through_a_data_loader_with_workers(viton_hd):
    data = VitonHD(viton_hd, size=SIZE)
    loader = torch.utils.data.DataLoader(data, batch_size=3, num_workers=1)
    batch = next(iter(loader))
    assert batch["person"].dtype == torch.uint8
    assert batch["mask"].dtype == torch.bool
    assert torch.equal(batch["garment"][2], torch.from_numpy(data[2]["garment"]))
    assert batch["name"] == list(NAMES)


def test_one_report_names_every_problem(viton_hd):
    train = viton_hd / "train"
    (train / "cloth" / "00001_00.jpg").unlink()
    (train / "image" / "00002_00.jpg").unlink()
    (train / "image-densepose" / "00003_00.jpg").write_bytes(b"not an image")
    whole = train / "agnostic-v3.2" / "00001_00.jpg"
    put(whole.parent, whole.name, random_image(480, 640), format="JPEG")
    whole.write_bytes(whole.read_bytes()[:-2000])
    put(train / "agnostic-v3.2", "00002_00.jpg", random_image(64, 64))
    put(train / "agnostic-mask", "00001_00_mask.png", random_image())
    (train / "agnostic-mask" / "00002_00_mask.png").write_bytes(b"")
    shutil.rmtree(train / "gt_cloth_warped_mask")
    with (viton_hd / "train_pairs.txt").open("a") as stream:
        stream.write("00004_00.jpg\n")
    with pytest.raises(BadDataSet) as caught:
        VitonHD(viton_hd, size=SIZE)
    report = str(caught.value)
    assert len(caught.value.problems) == 8
    for expected in (
        "8 problems",
        f"{train / 'cloth' / '00001_00.jpg'} is missing",
        f"{train / 'image' / '00002_00.jpg'} is missing",
        "00003_00.jpg is not an image in a known format",
        "agnostic-v3.2/00001_00.jpg could not be read as an image",
        "agnostic-v3.2/00002_00.jpg is 64 x 64, which isn't in the proportions",
        "00001_00_mask.png is a colour image, not a mask",
        "00002_00_mask.png is empty",
        "line 4: '00004_00.jpg' isn't a person's and a garment's file name",
    ):
        assert expected in report, expected
    assert str(pickle.loads(pickle.dumps(caught.value))) == report


def test_the_quick_check_finds_cut_off_files(viton_hd):
    for name, options in (("00001_00.jpg", {"format": "JPEG"}), ("00002_00.jpg", {"format": "PNG"})):
        path = viton_hd / "train" / "image" / name
        put(path.parent, name, random_image(480, 640), **options)
        path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(BadDataSet) as caught:
        VitonHD(viton_hd, size=SIZE, check="quick")
    assert sorted(line.split("/")[-1] for line in caught.value.problems) == [
        "00001_00.jpg is cut off.",
        "00002_00.jpg is cut off.",
    ]


def test_a_missing_folder_is_one_line(viton_hd):
    shutil.rmtree(viton_hd / "train" / "image-densepose")
    with pytest.raises(BadDataSet) as caught:
        VitonHD(viton_hd, size=SIZE)
    assert caught.value.problems == [
        f"the folder {viton_hd / 'train' / 'image-densepose'} is missing: 3 images were to be read from it."
    ]


def test_missing_lists_and_folders_are_named(viton_hd, tmp_path):
    (viton_hd / "test_pairs.txt").unlink()
    with pytest.raises(BadDataSet, match=r"test_pairs\.txt is missing"):
        VitonHD(viton_hd, "test", size=SIZE)
    (viton_hd / "test_pairs.txt").write_text("\n\n")
    with pytest.raises(BadDataSet, match="is empty"):
        VitonHD(viton_hd, "test", size=SIZE)
    with pytest.raises(InvalidInput, match="no data set folder"):
        VitonHD(tmp_path / "nowhere", size=SIZE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadDataSet, match="holds no images"):
        FolderDataset(tmp_path / "empty", SIZE)


@pytest.mark.parametrize(
    "options", [{"size": (48.5, 64)}, {"size": 64}, {"split": "val"}, {"check": "never"}, {"size": (3, 4)}]
)
def test_impossible_options_are_refused(viton_hd, options):
    with pytest.raises(InvalidInput, match=next(iter(options))):
        VitonHD(viton_hd, **{"size": SIZE, **options})


def test_dress_code_items_draw_densepose_from_the_labels(dress_code):
    item = DressCode(dress_code, size=SIZE)[1]
    assert (item["name"], item["garment_name"]) == ("000002_0", "000002_1")
    assert np.array_equal(item["person"], array(random_image(seed=1)))
    assert np.array_equal(item["garment"], array(random_image(seed=11)))
    labels = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 25 // (HEIGHT * WIDTH)
    assert np.array_equal(item["densepose"], PARULA[labels])
    assert (item["agnostic"][item["mask"]] == 128).all()


def test_dress_code_reads_the_lists_of_its_splits(dress_code):
    assert len(DressCode(dress_code, "test", size=SIZE)) == 2
    unpaired = DressCode(dress_code / "upper_body", "test", paired=False, size=SIZE)
    assert [(record.name, record.garment_name) for record in unpaired.records] == [("000001_0", "000002_1")]
    with pytest.raises(InvalidInput, match="training list is paired"):
        DressCode(dress_code, paired=False, size=SIZE)
    with pytest.raises(InvalidInput, match="category"):
        DressCode(dress_code, category="shoes", size=SIZE)


def test_dress_code_says_where_it_looked_for_masks(dress_code):
    shutil.rmtree(dress_code / "upper_body" / "agnostic-mask")
    with pytest.raises(BadDataSet, match="agnostic-mask is missing: 2 images"):
        DressCode(dress_code, size=SIZE)


def test_a_plain_folder_needs_no_list_of_pairs(plain):
    data = FolderDataset(plain, SIZE)
    assert [record.name for record in data.records] == list(NAMES)
    assert np.array_equal(data[2]["garment"], array(random_image(seed=12)))
    (plain / "pairs.txt").write_text("00001_00.png 00003_00.png\n")
    assert np.array_equal(FolderDataset(plain, SIZE)[0]["garment"], array(random_image(seed=12)))
    assert len(FolderDataset(plain, SIZE, limit=1)) == 1


def test_correspondence_of_a_plain_folder_is_in_pixels_of_the_item(plain):
    (plain / "correspondence").mkdir()
    height, width = 2 * HEIGHT, 2 * WIDTH
    y, x = np.mgrid[:height, :width]
    places = np.stack([(x + 0.5) / width, (y + 0.5) / height], -1).astype(np.float32)  # the garment as it lies
    places[:10] = np.nan
    for name in NAMES:
        np.save(plain / "correspondence" / f"{name}.npy", places)
    item = FolderDataset(plain, SIZE)[0]
    assert item["correspondence"].dtype == np.float32
    assert np.isnan(item["correspondence"][:5]).all()
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    assert np.abs(item["correspondence"][5:] - np.stack([x, y], -1)[5:]).max() <= 0.5

    np.save(plain / "correspondence" / f"{NAMES[1]}.npy", places * 400)
    np.save(plain / "correspondence" / f"{NAMES[2]}.npy", places[..., 0])
    with pytest.raises(BadDataSet) as caught:
        FolderDataset(plain, SIZE)
    assert "far outside of [0, 1]" in str(caught.value)
    assert "not float (h, w, 2)" in str(caught.value)


def test_photos_turned_by_exif_are_measured_upright(plain):
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = random_image(seed=0).transpose(Image.Transpose.ROTATE_90)
    (plain / "person" / f"{NAMES[0]}.png").unlink()
    put(plain / "person", f"{NAMES[0]}.jpg", lying, exif=exif, quality=95)
    item = FolderDataset(plain, SIZE)[0]
    assert np.abs(item["person"].astype(int) - array(random_image(seed=0))).mean() < 4
