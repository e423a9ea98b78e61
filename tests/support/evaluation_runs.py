"""Small evaluations: the tiny pipeline, seven listed pairs, made-up results, networks that need no download."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from stableviton_sdk.errors import NoPersonFound
from stableviton_sdk.evaluation.inference import InferenceSettings
from stableviton_sdk.evaluation.metric_networks import FeatureExtractor, MetricNetworks
from stableviton_sdk.evaluation.runner import evaluate
from stableviton_sdk.preprocessing.analyzers.base import BodyAnalysis
from support.flat_figures import JOINTS
from support.tiny import HEIGHT, WIDTH, mask_image, random_image, tiny_pipeline

SIZE = (WIDTH, HEIGHT)
QUICK = InferenceSettings(steps=1)
PLAIN_METRICS = ("ssim", "psnr", "ssim_region", "psnr_region")
PLAIN = ",".join(PLAIN_METRICS)


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def listed(tmp_path):
    """Seven pairs in a CSV."""
    root = tmp_path / "listed"
    root.mkdir()
    mask_image().save(root / "mask.png")
    rows = ["person,garment,mask,densepose"]
    for seed in range(7):
        random_image(seed=seed).save(root / f"p{seed}.png")
        random_image(seed=10 + seed).save(root / f"g{seed}.png")
        random_image(seed=20 + seed).save(root / f"d{seed}.png")
        rows.append(f"p{seed}.png,g{seed}.png,mask.png,d{seed}.png")
    (root / "pairs.csv").write_text("\n".join(rows) + "\n")
    return root / "pairs.csv"


@pytest.fixture
def results(tmp_path, listed):
    """Images in place of results for the list, slightly different from the photos."""
    folder = tmp_path / "results"
    folder.mkdir()
    for seed in range(7):
        values = np.asarray(random_image(seed=seed)).copy()
        values[20:40, 15:30] = values[20:40, 15:30] ^ (4 * seed + 1)
        Image.fromarray(values).save(folder / f"p{seed}_g{seed}.png")
    return folder


class Anywhere:
    """Sees the same figure in every image that isn't black."""

    def find_people(self, image):
        return np.array([[0, 0, *image.size]], np.float32), np.ones(1, np.float32)

    def __call__(self, image, *, person_box=None):
        if not np.asarray(image).any():
            raise NoPersonFound("there is nobody in the dark.")
        labels = np.zeros((image.height, image.width), np.uint8)
        labels[image.height // 5 : image.height // 2, image.width // 3 : image.width * 2 // 3] = 5
        keypoints = np.zeros((25, 3), np.float32)
        for joint, (x, y) in JOINTS.items():
            keypoints[joint] = x * image.width, y * image.height, 0.9
        return BodyAnalysis(labels, keypoints, np.minimum(labels, 2), *self.find_people(image))


class Pooled(torch.nn.Module):
    """A stand-in for Inception: means of a 4 x 4 grid, mixed by fixed weights."""

    def __init__(self, width=6):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weights = torch.randn(48, width, generator=generator) / 10

    def forward(self, images):
        pooled = torch.nn.functional.adaptive_avg_pool2d(images.float(), 4).flatten(1)
        return pooled / 255 @ self.weights


def stand_in_networks():
    """Measures all that networks measure, with networks that need no download."""

    def distance(result, truth):
        return float(np.abs(result.astype(float) - truth).mean() / 255)

    return MetricNetworks(distance, FeatureExtractor(Pooled()), weights={"alexnet": "a" * 64, "inception": "b" * 64})


def run(data, output, **options):
    options = {"settings": QUICK, "networks": stand_in_networks(), "progress": False, **options}
    if "results" in options:
        del options["settings"]
    return evaluate(data, output, **options)


def without_timings(report):
    return {name: value for name, value in report.items() if name != "timings"}


def images(folder):
    return {path.name: np.asarray(Image.open(path)) for path in sorted((folder / "images").iterdir())}


def snapshot(folder):
    """Every file but the report's two, byte for byte."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "report.json"
    }
