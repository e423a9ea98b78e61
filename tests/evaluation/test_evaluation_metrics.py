"""Metrics against hand-computed cases and against the libraries' own values; nothing is downloaded."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image
from support.evaluation_runs import Pooled
from support.tiny import random_image

from stableviton_sdk.choices import METRICS
from stableviton_sdk.errors import InvalidInput, MissingDependency, WeightsUnavailable
from stableviton_sdk.evaluation import metric_networks as network_rooms
from stableviton_sdk.evaluation import metrics as measure
from stableviton_sdk.evaluation.metric_networks import (
    FeatureExtractor,
    PerceptualDistance,
    fetch_weights,
    load_networks,
    weights_needed,
)
from stableviton_sdk.evaluation.metrics import frechet_distance, kernel_distance, psnr, similarity_map


def array(seed, width=48, height=64):
    return np.asarray(random_image(width, height, seed=seed))


def tensor(values):
    return torch.from_numpy(values.copy()).permute(2, 0, 1)[None].float() / 255


def rectangle(height=64, width=48):
    mask = np.zeros((height, width), bool)
    mask[20:40, 10:30] = True
    return mask


@pytest.fixture
def folders(tmp_path):
    """Eight results and eight photos, as files and as arrays."""
    arrays = {}
    for name, offset in (("results", 0), ("photos", 50)):
        (tmp_path / name).mkdir()
        arrays[name] = [array(offset + seed) for seed in range(8)]
        for index, values in enumerate(arrays[name]):
            Image.fromarray(values).save(tmp_path / name / f"{index}.png")
    return tmp_path, arrays


@pytest.fixture
def numpy_generator():
    """The libraries use numpy's global generator; put it back."""
    state = np.random.get_state()
    yield np.random
    np.random.set_state(state)


@pytest.fixture
def hub_folder(tmp_path, monkeypatch):
    """An empty folder in place of torch.hub's."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


# images


def test_psnr_of_hand_computed_cases():
    black = np.zeros((8, 8, 3), np.uint8)
    grey = black + np.uint8(51)  # 0.2 off everywhere: -10 log10(0.04)
    assert psnr(black, grey) == pytest.approx(13.979400086720375, abs=1e-12)
    half = black.copy()
    half[:4] = 51  # half of the pixels: -10 log10(0.02)
    assert psnr(black, half) == pytest.approx(16.989700043360187, abs=1e-12)
    one = black.copy()
    one[0, 0, 1] = 255  # one value of 192
    assert psnr(black, one) == pytest.approx(10 * math.log10(192), abs=1e-12)
    assert psnr(grey, grey) == math.inf


def test_psnr_is_the_librarys():
    from torchmetrics.functional.image import peak_signal_noise_ratio

    for seed in range(4):
        first, second = array(seed), array(seed + 20)
        expected = float(peak_signal_noise_ratio(tensor(first).double(), tensor(second).double(), data_range=1.0))
        assert psnr(first, second) == pytest.approx(expected, abs=1e-6)


def test_psnr_of_a_region_counts_its_pixels_only():
    first = array(0)
    second, mask = first.copy(), rectangle()
    second[mask] = first[mask] ^ 16
    second[0, 0] = first[0, 0] ^ 255  # outside
    errors = (second[mask].astype(float) - first[mask]) / 255
    assert psnr(second, first, mask) == pytest.approx(-10 * np.log10(np.mean(errors**2)), abs=1e-9)
    second[mask] = first[mask]
    assert psnr(second, first, mask) == math.inf
    assert psnr(second, first) < 60


def test_ssim_is_the_librarys():
    from torchmetrics.functional.image import structural_similarity_index_measure

    for seed in range(4):
        first, second = array(seed), array(seed + 20)
        expected = float(structural_similarity_index_measure(tensor(first), tensor(second), data_range=1.0))
        found = similarity_map(first, second)
        assert found.mean == pytest.approx(expected, abs=1e-6)
        assert found.values.shape == (64, 48, 3)
        assert found.over(np.ones((64, 48), bool)) == pytest.approx(found.mean, abs=1e-6)


def test_ssim_of_hand_computed_cases():
    flat, other = np.full((32, 32, 3), 51, np.uint8), np.full((32, 32, 3), 102, np.uint8)
    # no variance: only the luminance term is left, (2 a b + C1) / (a^2 + b^2 + C1) with C1 = 0.01^2
    expected = (2 * 0.2 * 0.4 + 1e-4) / (0.04 + 0.16 + 1e-4)
    assert similarity_map(flat, other).mean == pytest.approx(expected, abs=1e-4)  # float32 variances aren't quite 0
    assert similarity_map(flat, flat).mean == pytest.approx(1, abs=1e-6)


def test_ssim_of_a_region_sees_windows_centred_in_it():
    first = array(0)
    second, mask = first.copy(), rectangle()
    far = np.zeros_like(mask)
    far[52:, 36:] = True
    second[far] = 255 - first[far]
    # the window reaches 5 pixels: nothing of the far corner is seen from the rectangle
    assert similarity_map(second, first).over(mask) == pytest.approx(1, abs=1e-6)
    near = np.zeros_like(mask)
    near[42:, :] = True
    second[near] = 255 - first[near]
    assert similarity_map(second, first).over(mask) < 0.999
    found = similarity_map(second, first)
    assert found.over(mask) == pytest.approx(float(found.values[20:40, 10:30].mean()), abs=1e-6)


@pytest.mark.parametrize(
    "result, truth, mask, words",
    [
        (np.zeros((8, 8, 3)), np.zeros((8, 8, 3), np.uint8), None, "uint8 RGB"),
        (np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8), None, "uint8 RGB"),
        (np.zeros((8, 9, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), None, "9 x 8 and 8 x 8"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool), "empty"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.uint8), "pass bool"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), np.ones((4, 8), bool), "pass bool"),
    ],
)
def test_images_and_masks_that_dont_fit_are_refused(result, truth, mask, words):
    with pytest.raises(InvalidInput, match=words):
        psnr(result, truth, mask)


# sets


def test_fid_from_images_is_clean_fids_own(folders):
    from cleanfid import fid

    root, arrays = folders
    network = Pooled()
    expected = fid.compute_fid(
        str(root / "results"),
        str(root / "photos"),
        mode="clean",
        custom_feat_extractor=network,
        num_workers=0,
        device=torch.device("cpu"),
        verbose=False,
    )
    extract = FeatureExtractor(network)
    features = {name: np.stack([extract(values) for values in images]) for name, images in arrays.items()}
    assert frechet_distance(features["results"], features["photos"]) == pytest.approx(expected, rel=1e-5)
    assert expected > 0.01


def test_kid_from_images_is_clean_fids_own(folders, numpy_generator):
    from cleanfid import fid

    root, arrays = folders
    network = Pooled()
    theirs = [
        fid.get_folder_features(
            str(root / name), network, num_workers=0, device=torch.device("cpu"), mode="clean", verbose=False
        )
        for name in ("results", "photos")
    ]
    extract = FeatureExtractor(network)
    ours = [np.stack([extract(values) for values in arrays[name]]) for name in ("results", "photos")]
    for mine, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, their, rtol=1e-5, atol=1e-6)
    for size in (1000, 5):
        numpy_generator.seed(7)
        expected = fid.kernel_distance(*theirs, num_subsets=20, max_subset_size=size)
        assert kernel_distance(*theirs, subsets=20, max_subset_size=size, seed=7) == expected
        assert expected != 0


def test_kid_leaves_numpys_global_generator_alone(numpy_generator):
    rows = np.random.default_rng(0).normal(size=(9, 4))
    numpy_generator.seed(1)
    expected = numpy_generator.random()
    numpy_generator.seed(1)
    kernel_distance(rows, rows + 1)
    assert numpy_generator.random() == expected


def test_frechet_distance_of_gaussians_that_are_known():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(400, 3))
    rows = (rows - rows.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(rows, rowvar=False))).T  # covariance 1
    for library in ("clean-fid", "torchmetrics"):
        # |mu|^2 + tr(1 + 4 - 2 * 2) for twice the spread
        assert frechet_distance(rows * 2 + [3, 0, 0], rows, library) == pytest.approx(9 + 3, abs=1e-6)
        assert frechet_distance(rows, rows, library) == pytest.approx(0, abs=1e-6)


def test_fid_from_images_is_torchmetrics_own(folders):
    from torchmetrics.image import FrechetInceptionDistance, KernelInceptionDistance

    _, arrays = folders
    network = Pooled()
    network.num_features = 6
    fid = FrechetInceptionDistance(feature=network)
    kid = KernelInceptionDistance(feature=network, subsets=1, subset_size=8)  # all of them: no chance in it
    for name, real in (("results", False), ("photos", True)):
        batch = torch.from_numpy(np.stack(arrays[name])).permute(0, 3, 1, 2)
        fid.update(batch, real=real)
        kid.update(batch, real=real)
    extract = FeatureExtractor(network, "torchmetrics")
    features = {name: np.stack([extract(values) for values in images]) for name, images in arrays.items()}
    found = frechet_distance(features["results"], features["photos"], "torchmetrics")
    assert found == pytest.approx(float(fid.compute()), rel=1e-5)
    assert kernel_distance(features["results"], features["photos"], subsets=1) == pytest.approx(
        float(kid.compute()[0]), abs=1e-5
    )


def test_a_single_image_is_no_set():
    for distance in (frechet_distance, kernel_distance):
        with pytest.raises(InvalidInput, match="at least two"):
            distance(np.zeros((1, 4)), np.zeros((5, 4)))


# networks


def alexnet_features(*_):
    from torchvision.models import alexnet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return alexnet(weights=None).features


def test_lpips_is_the_librarys_with_the_same_network(hub_folder, monkeypatch):
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity

    # AlexNet without its training; the linear layers are the real ones, they come with torchmetrics
    features = alexnet_features()
    monkeypatch.setattr("torchmetrics.functional.image.lpips._get_tv_model_features", lambda *_: features)
    monkeypatch.setattr(network_rooms, "ALEXNET", dataclasses.replace(network_rooms.ALEXNET, sha256=""))
    (hub_folder / network_rooms.ALEXNET.name).write_bytes(b"stand-in")
    networks = load_networks(("lpips", "ssim"))
    assert isinstance(networks.distance, PerceptualDistance)
    assert not networks.reasons
    for seed in range(3):
        first, second = array(seed), array(seed + 20)
        expected = learned_perceptual_image_patch_similarity(
            tensor(first), tensor(second), net_type="alex", normalize=True
        )
        assert networks.distance(first, second) == pytest.approx(float(expected), abs=1e-6)
        assert float(expected) > 1e-4
        assert networks.distance(first, first) == 0


def test_clean_fids_network_is_loaded_by_clean_fids_own_code(hub_folder):
    class Base(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(
                torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(48, 2048)
            )

        def forward(self, x):
            return self.layers(x)

    base = Base()
    path = hub_folder / network_rooms.INCEPTION["clean-fid"].name
    torch.jit.script(base).save(str(path))
    networks = load_networks(("fid",))
    assert networks.weights == {"inception": network_rooms.file_sha256(path)}
    features = networks.features(array(0))
    from cleanfid.resize import build_resizer

    resized = torch.from_numpy(build_resizer("clean")(array(0))).permute(2, 0, 1)[None]
    expected = base((resized - 128) / 128)[0].detach().numpy()
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_torchmetrics_network_is_loaded_from_the_file(hub_folder, monkeypatch):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    seen = []
    monkeypatch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda _, state: seen.append(state))
    file = network_rooms.INCEPTION["torchmetrics"]
    monkeypatch.setitem(network_rooms.INCEPTION, "torchmetrics", dataclasses.replace(file, sha256=""))
    torch.save({"stand": torch.ones(1)}, hub_folder / file.name)
    networks = load_networks(("kid_x1000",), "torchmetrics")
    assert torch.equal(seen[0]["stand"], torch.ones(1))
    assert networks.features(array(0)).shape == (2048,)


def test_missing_weights_are_a_reason_for_each_metric_and_nothing_is_downloaded(hub_folder, monkeypatch):
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("downloaded"))
    networks = load_networks(METRICS, refusals={"inception": "there is no network"})
    assert set(networks.reasons) == {"lpips", "fid", "kid_x1000"}
    assert "nothing is downloaded without consent" in networks.reasons["lpips"]
    assert "alexnet-owt-7be5be79.pth" in networks.reasons["lpips"]
    assert "there is no network" in networks.reasons["fid"]
    assert networks.distance is None
    assert networks.features is None


def test_damaged_weights_are_a_reason(hub_folder):
    (hub_folder / "alexnet-owt-7be5be79.pth").write_bytes(b"half of it")
    (hub_folder / "inception-2015-12-05.pt").write_bytes(b"half of it")
    networks = load_networks(("lpips", "fid"))
    assert "damaged" in networks.reasons["lpips"]
    assert networks.reasons["fid"]
    assert networks.weights == {}


def test_a_download_that_fails_leaves_nothing(hub_folder, monkeypatch):
    file = dataclasses.replace(network_rooms.ALEXNET, url="http://127.0.0.1:9/alexnet.pth")
    with pytest.raises(WeightsUnavailable, match="could not be downloaded"):
        fetch_weights(file, progress=False)
    assert list(hub_folder.iterdir()) == []


def test_a_download_is_checked_against_its_hash(hub_folder, tmp_path):
    source = tmp_path / "weights.pth"
    source.write_bytes(b"weights")
    file = dataclasses.replace(network_rooms.ALEXNET, url=source.as_uri())
    with pytest.raises(WeightsUnavailable, match="hash"):
        fetch_weights(file, progress=False)
    assert not file.path.exists()
    right = dataclasses.replace(file, sha256=network_rooms.file_sha256(source)[:8])
    fetch_weights(right, progress=False)
    assert right.path.read_bytes() == b"weights"


def test_only_what_the_metrics_need_is_needed():
    assert weights_needed(("ssim", "psnr_region")) == {}
    assert set(weights_needed(("lpips",))) == {"alexnet"}
    assert weights_needed(("kid_x1000",), "torchmetrics")["inception"].name.endswith("6726825d.pth")
    with pytest.raises(InvalidInput, match="clean-fid"):
        weights_needed(("fid",), "other")


def test_a_missing_library_names_the_extra():
    with pytest.raises(MissingDependency, match=r"stableviton-sdk\[eval\]"):
        measure.require("no_such_library.at_all")
