"""Data sets of a few pairs in the layouts that the readers know."""

import numpy as np
import pytest
from PIL import Image

from support.tiny import mask_image, random_image

WIDTH, HEIGHT = 48, 64
NAMES = ("00001_00", "00002_00", "00003_00")
SIZE = (WIDTH, HEIGHT)


def put(folder, name, image, **options):
    folder.mkdir(parents=True, exist_ok=True)
    image.save(folder / name, **options)


@pytest.fixture
def viton_hd(tmp_path):
    """PNG content under the authors' names, so that values can be compared."""
    root = tmp_path / "VITON-HD"
    for split in ("train", "test"):
        folder = root / split
        for seed, name in enumerate(NAMES):
            put(folder / "image", f"{name}.jpg", random_image(seed=seed), format="PNG")
            put(folder / "cloth", f"{name}.jpg", random_image(seed=10 + seed), format="PNG")
            put(folder / "cloth-mask", f"{name}.jpg", mask_image(), format="PNG")
            put(folder / "image-densepose", f"{name}.jpg", random_image(seed=20 + seed), format="PNG")
            put(folder / "agnostic-v3.2", f"{name}.jpg", random_image(seed=30 + seed), format="PNG")
            put(folder / "agnostic-mask", f"{name}_mask.png", mask_image())
            put(folder / "gt_cloth_warped_mask", f"{name}.jpg", mask_image(), format="PNG")
        rotated = (*NAMES[1:], NAMES[0])
        lines = [f"{person}.jpg {garment}.jpg" for person, garment in zip(NAMES, rotated, strict=True)]
        (root / f"{split}_pairs.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def dress_code(tmp_path):
    folder = tmp_path / "DressCode" / "upper_body"
    labels = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 25 // (HEIGHT * WIDTH)
    for number, seed in (("000001", 0), ("000002", 1)):
        put(folder / "images", f"{number}_0.jpg", random_image(seed=seed), format="PNG")
        put(folder / "images", f"{number}_1.jpg", random_image(seed=10 + seed), format="PNG")
        put(folder / "dense", f"{number}_5.png", Image.fromarray(labels.astype(np.uint8)))
        put(folder / "agnostic-mask", f"{number}_0_mask.png", mask_image())
    paired, unpaired = "000001_0.jpg\t000001_1.jpg\n000002_0.jpg\t000002_1.jpg\n", "000001_0.jpg\t000002_1.jpg\n"
    (folder / "train_pairs.txt").write_text(paired)
    (folder / "test_pairs_paired.txt").write_text(paired)
    (folder / "test_pairs_unpaired.txt").write_text(unpaired)
    return folder.parent


@pytest.fixture
def plain(tmp_path):
    root = tmp_path / "plain"
    for seed, name in enumerate(NAMES):
        for part, offset in (("person", 0), ("garment", 10), ("densepose", 20)):
            put(root / part, f"{name}.png", random_image(seed=offset + seed))
        put(root / "mask", f"{name}.png", mask_image())
    return root
