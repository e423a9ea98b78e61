"""DensePose: the network against the original's numbers, its weights, and a photo's way through it."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from support.densepose_weights import FIXTURES, ramp_heads, write_weights

from stableviton_sdk.errors import InvalidInput, NoPersonFound, WeightsUnavailable
from stableviton_sdk.preprocessing.boxes import match_box
from stableviton_sdk.preprocessing.densepose import (
    DensePoseEstimator,
    DensePoseNetwork,
    convert_checkpoint,
    load_network,
    render_labels,
)
from stableviton_sdk.preprocessing.densepose.estimator import network_size
from stableviton_sdk.preprocessing.densepose.regions import apply_deltas, pool_from_levels, with_cpu_fallback
from stableviton_sdk.preprocessing.densepose.weights import fold_batch_norm


def relative_error(actual, expected):
    return float((actual.float() - expected.float()).norm() / expected.float().norm())


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file in the released layout, full size."""
    path = write_weights(tmp_path_factory.mktemp("densepose") / "model_final.pkl")
    yield path
    path.unlink()  # pytest would keep 256 MB for three runs


@pytest.fixture(scope="module")
def network(weights):
    return load_network(weights)


@pytest.fixture(scope="module")
def portrait():
    return Image.open(FIXTURES / "input_384x512.png").convert("RGB")


@pytest.fixture(scope="module")
def image(portrait):
    resized = np.asarray(portrait.resize((800, 1067), Image.Resampling.BILINEAR))
    return torch.from_numpy(np.ascontiguousarray(resized[..., ::-1].transpose(2, 0, 1))).float()


@pytest.fixture(scope="module")
def features(network, image):
    return network.extract_features(image)


@pytest.fixture(scope="module")
def expected():
    return load_file(FIXTURES / "expected.safetensors")


# --- the network ---


@pytest.mark.slow
def test_feature_pyramid_equals_the_originals(features, expected):
    for level, feature in zip("23456", features, strict=True):
        statistics = torch.stack((feature.mean(), feature.std()))
        assert relative_error(statistics, expected[f"fpn_p{level}_mean_std"]) <= 1e-3
    assert relative_error(features[4], expected["fpn_p6"]) <= 1e-3


def test_best_proposals_and_their_order_equal_the_originals(network, features, expected):
    boxes, logits = network.propose(features, (1067, 800))
    assert (boxes[:50] - expected["proposal_boxes_top50"]).abs().max() <= 0.5
    assert (logits[:50] - expected["proposal_logits_top50"]).abs().max() <= 1e-3
    assert len(boxes) == 1000
    assert boxes[:, 2].max() <= 800  # not the padded 832 x 1088
    assert boxes[:, 3].max() <= 1067


@pytest.mark.slow
def test_best_people_of_a_whole_run_equal_the_originals(network, image, expected):
    output = network(image, max_people=5)
    assert (output.boxes - expected["instance_boxes"]).abs().max() <= 0.5
    assert (output.scores - expected["instance_scores"]).abs().max() <= 1e-3
    assert output.u.shape == (5, 25, 112, 112)
    assert not output.fine_segm.requires_grad


def test_heads_on_given_boxes_equal_the_originals(network, features, expected):
    heads = network.read_surface(network.decode(features), expected["fixed_boxes"])
    for name, values in zip(("coarse_segm", "fine_segm", "u", "v"), heads, strict=True):
        reference = expected[f"fixed_{name}"]
        assert relative_error(values[:, : reference.shape[1]], reference) <= 1e-3, name


def test_half_precision_keeps_boxes_exact_and_heads_close(network):
    image = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (3, 160, 128)).astype(np.float32))
    boxes = torch.tensor([[10.25, 20.5, 100.0, 150.0]])
    reference = network(image, boxes)
    state = {name: value.to(torch.bfloat16) for name, value in network.state_dict().items()}
    with torch.device("meta"):
        half = DensePoseNetwork()
    half.load_state_dict(state, assign=True)
    output = half(image, boxes)
    assert output.fine_segm.dtype == torch.bfloat16
    assert output.boxes.dtype == output.scores.dtype == torch.float32
    assert torch.equal(output.boxes, boxes)
    for values, exact in zip(output[1:], reference[1:], strict=True):
        assert relative_error(values, exact) < 0.03


def test_no_boxes_give_empty_results(network):
    output = network(torch.zeros(3, 64, 64), torch.zeros(0, 4))
    assert [tuple(values.shape) for values in output[1:4]] == [(0,), (0, 2, 112, 112), (0, 25, 112, 112)]


@pytest.mark.parametrize(
    "bad, words",
    [
        (np.zeros((3, 8, 8)), "ndarray"),
        (torch.zeros(8, 8, 3), r"\(8, 8, 3\)"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "uint8"),
        (torch.zeros(3, 0, 8), "no pixels"),
        (torch.full((3, 8, 8), -1.0), "not normalised"),
        (torch.full((3, 8, 8), float("nan")), "nan"),
    ],
)
def test_an_unsuitable_image_is_refused(network, bad, words):
    with pytest.raises(InvalidInput, match=words):
        network(bad)


@pytest.mark.parametrize("bad", [[[0, 0, 1, 1]], torch.zeros(4), torch.tensor([[5.0, 0.0, 5.0, 9.0]])])
def test_unsuitable_boxes_are_refused(network, bad):
    with pytest.raises(InvalidInput, match="boxes"):
        network(torch.zeros(3, 64, 64), bad)


def test_boxes_grow_by_a_bounded_factor_and_move_by_their_own_size():
    boxes = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    moved = apply_deltas(torch.tensor([[5.0, -5.0, 5 * np.log(2), 0.0]]), boxes, (10.0, 10.0, 5.0, 5.0))
    assert moved.tolist() == [pytest.approx([10.0, 0.0, 50.0, 40.0])]
    grown = apply_deltas(torch.tensor([[0.0, 0.0, 1e6, 0.0]]), boxes, (1.0, 1.0, 1.0, 1.0))
    assert float(grown[0, 2] - grown[0, 0]) == pytest.approx(20 * 1000 / 16)


def test_people_are_read_from_the_level_that_suits_their_size():
    sides = torch.tensor([10.0, 111.0, 112.5, 223.0, 224.5, 449.0, 1300.0])
    boxes = torch.cat((torch.zeros(7, 2), sides[:, None].expand(7, 2)), dim=1)
    features = [torch.full((1, 1, 4, 4), float(level)) for level in (2, 3, 4, 5)]
    pooled = pool_from_levels(features, boxes, 7, (400, 400, 400, 400))
    assert pooled.mean(dim=(1, 2, 3)).tolist() == [2, 2, 3, 3, 4, 5, 5]


def test_operators_that_a_device_lacks_run_on_the_cpu():
    calls = []

    def operator(values, factor):
        calls.append(values.device)
        if len(calls) == 1:
            raise NotImplementedError("not on this device")
        return values * factor

    assert with_cpu_fallback(operator, torch.tensor([2.0]), factor=3).tolist() == [6.0]
    assert len(calls) == 2


# --- the weights ---


def test_converted_weights_are_the_released_ones_under_the_released_names(weights, network, tmp_path):
    target = convert_checkpoint(weights, tmp_path / "folder" / "densepose.safetensors")
    assert [path.name for path in target.parent.iterdir()] == ["densepose.safetensors"]  # nothing half-written
    converted = load_file(target)
    manifest = json.loads((FIXTURES / "manifest.json").read_text())["tensors"]
    assert {name: list(value.shape) for name, value in converted.items()} == manifest
    again = load_network(target).state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(value, again[name]), name
    target.unlink()


def test_a_failed_conversion_leaves_nothing_behind(weights, tmp_path):
    (tmp_path / "taken").write_text("a file where a folder is needed")
    with pytest.raises(WeightsUnavailable, match="could not be written"):
        convert_checkpoint(weights, tmp_path / "taken" / "densepose.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(WeightsUnavailable, match="could not be written"):
        convert_checkpoint(weights, tmp_path / "folder.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.safetensors", "taken"]


def test_folding_equals_convolution_and_batch_norm():
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(4, 2, 3, 3, generator=generator)
    gain, bias, mean, variance = (torch.rand(4, generator=generator) + 0.1 for _ in range(4))
    x = torch.randn(1, 2, 6, 6, generator=generator)
    parts = zip(("weight", "bias", "running_mean", "running_var"), (gain, bias, mean, variance), strict=True)
    folded = fold_batch_norm({"a.weight": weight, **{f"a.norm.{part}": value for part, value in parts}})
    assert set(folded) == {"a.weight", "a.bias"}
    exact = F.batch_norm(F.conv2d(x, weight), mean, variance, gain, bias, eps=1e-5)
    torch.testing.assert_close(F.conv2d(x, folded["a.weight"], folded["a.bias"]), exact)


# --- photo in, labels out ---


class FakeNetwork:
    """Sees two people at fixed places, and counts its work."""

    device = torch.device("cpu")
    people = torch.tensor([[100.0, 50.0, 300.0, 750.0], [420.0, 100.0, 640.0, 700.0]])
    scores = torch.tensor([0.99, 0.9])

    def __init__(self):
        self.images, self.calls, self.read = [], [], []

    def extract_features(self, image):
        self.calls.append("features")
        self.images.append(image)
        return [image]

    def detect(self, features, size):
        self.calls.append("detect")
        self.size = size
        return self.people, self.scores

    def decode(self, features):
        self.calls.append("decode")
        return features[0]

    def read_surface(self, decoded, boxes):
        self.calls.append("read")
        self.read.append(boxes)
        coarse, fine = ramp_heads()
        coarse[1] = 1.0
        part = torch.arange(25.0)[:, None, None].expand(25, 112, 112) / 24
        return tuple(maps[None].repeat(len(boxes), 1, 1, 1) for maps in (coarse, fine, part, 1 - part))


@pytest.fixture
def photo():
    values = np.zeros((600, 500, 3), np.uint8)
    values[...] = (200, 100, 50)
    return Image.fromarray(values)


def test_the_network_gets_bgr_at_a_short_side_of_800(photo):
    network = FakeNetwork()
    DensePoseEstimator(network).analyse(photo)
    assert network.images[0].shape == (3, 960, 800)
    assert network.size == (960, 800)
    assert network.images[0].dtype == torch.float32
    assert network.images[0][:, 7, 7].tolist() == [50.0, 100.0, 200.0]


@pytest.mark.parametrize(
    "size, expected",
    [
        ((384, 512), (800, 1067)),
        ((768, 1024), (800, 1067)),
        ((600, 600), (800, 800)),
        ((1, 1), (800, 800)),
        ((8000, 6000), (1067, 800)),
        ((20, 3000), (9, 1333)),
        ((10000, 1), (1333, 1)),
        ((750, 1400), (714, 1333)),
    ],
)
def test_images_are_resized_by_the_short_side_unless_the_long_one_is_too_long(size, expected):
    assert network_size(size) == expected


def test_people_are_given_in_pixels_of_the_photo(photo):
    boxes, scores = DensePoseEstimator(FakeNetwork()).find_people(photo)
    assert np.allclose(boxes, [[62.5, 31.25, 187.5, 468.75], [262.5, 62.5, 400, 437.5]])
    assert np.allclose(scores, [0.99, 0.9])
    assert boxes.dtype == scores.dtype == np.float32


def test_one_run_gives_boxes_and_everybodys_labels(photo):
    network = FakeNetwork()
    analysis = DensePoseEstimator(network).analyse(photo)
    first, second = analysis.labels(), analysis.labels(analysis.boxes[1])
    assert network.calls == ["features", "detect", "decode", "read", "read"]
    assert np.nonzero(first)[1].max() < 262
    rows, columns = np.nonzero(second)
    assert (columns.min(), columns.max()) == (262, 262 + 137 - 1)
    assert rows.max() == 62 + 375 - 1


def test_the_best_person_is_labelled_at_the_photos_size(photo):
    labels = DensePoseEstimator(FakeNetwork())(photo)
    coarse, fine = ramp_heads()
    coarse[1] = 1.0
    assert np.array_equal(labels, render_labels(coarse, fine, (62.5, 31.25, 187.5, 468.75), (500, 600)))


def test_a_person_box_chooses_the_person_it_overlaps_best(photo):
    network = FakeNetwork()
    labels = DensePoseEstimator(network)(photo, person_box=(255, 50, 390, 450))
    assert torch.equal(network.read[0], network.people[1:])
    assert np.nonzero(labels)[1].min() == 262  # the person's own box, not the rough one


def test_a_person_box_where_nobody_was_found_is_used_itself(photo):
    network = FakeNetwork()
    labels = DensePoseEstimator(network)(photo, person_box=(200, 500, 260, 590))
    assert torch.allclose(network.read[0], torch.tensor([[320.0, 800.0, 416.0, 944.0]]))
    rows, columns = np.nonzero(labels)
    assert (columns.min(), columns.max(), rows.max()) == (200, 259, 589)


@pytest.mark.parametrize(
    "wanted, index",
    [
        ((12, 2, 38, 80), 0),
        ((20, 5, 30, 15), 0),  # a face within the person
        ((0, 0, 100, 100), 0),  # both fit in it: the larger one
        ((35, 0, 62, 100), None),  # a third person between the two, touching both
        ((62, 20, 80, 70), 1),
    ],
)
def test_a_neighbour_is_not_taken_for_the_person_meant(wanted, index):
    boxes = np.array([[10, 0, 40, 100], [60, 20, 80, 70]], np.float32)
    assert match_box(boxes, np.array(wanted, float)) == index


def test_nobody_found_is_said_in_one_sentence_with_the_best_score(photo):
    network = FakeNetwork()
    network.scores = torch.tensor([0.55, 0.3])
    estimator = DensePoseEstimator(network)
    assert estimator.find_people(photo)[0].shape == (0, 4)
    with pytest.raises(NoPersonFound, match=r"nobody.*0\.55.*0\.80"):
        estimator(photo)
    assert network.calls.count("read") == 0
    assert estimator(photo, person_box=(10, 10, 200, 500)).any()
    assert DensePoseEstimator(network, score_threshold=0.5)(photo).any()
    network.people, network.scores = torch.zeros(0, 4), torch.zeros(0)
    with pytest.raises(NoPersonFound, match=r"0\.00"):
        estimator(photo)


@pytest.mark.parametrize(
    "box", [(5, 5, 5, 9), (600, 0, 700, 50), (9, 9, 3, 3), (0, 0, 1), "left", (0, 0, float("nan"), 9), [[1] * 4]]
)
def test_an_unusable_person_box_is_refused(photo, box):
    analysis = DensePoseEstimator(FakeNetwork()).analyse(photo)
    with pytest.raises(InvalidInput, match="person_box"):
        analysis.labels(box)


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_an_impossible_threshold_is_refused(threshold):
    with pytest.raises(InvalidInput, match="score_threshold"):
        DensePoseEstimator(FakeNetwork(), score_threshold=threshold)


@pytest.mark.parametrize("image", [np.zeros((8, 8, 3), np.uint8), Image.new("RGBA", (8, 8)), None, "photo.jpg"])
def test_anything_but_an_rgb_image_is_refused(image):
    estimator = DensePoseEstimator(FakeNetwork())
    for call in (estimator, estimator.find_people):
        with pytest.raises(InvalidInput, match=r"PIL image|mode RGB"):
            call(image)


@pytest.mark.slow
def test_a_photo_goes_through_the_real_network_by_the_rule(network, portrait, features, expected):
    estimator = DensePoseEstimator(network, score_threshold=0.5)
    analysis = estimator.analyse(portrait)
    scale = torch.tensor([384 / 800, 512 / 1067] * 2)
    assert np.abs(analysis.boxes[:5] - (expected["instance_boxes"] * scale).numpy()).max() <= 0.25
    # the whole rule once more, written down differently: one fixed box, one resize
    box = expected["fixed_boxes"][0] * scale
    labels = analysis.labels(box.tolist())
    chosen = match_box(analysis.boxes, box.double().numpy())
    box = box if chosen is None else torch.from_numpy(analysis.boxes[chosen])
    left, top, width, height = int(box[0]), int(box[1]), int(box[2] - box[0]), int(box[3] - box[1])
    heads = network.read_surface(network.decode(features), (box / scale)[None])
    coarse, fine = (
        F.interpolate(maps, (height, width), mode="bilinear", align_corners=False)[0].argmax(0) for maps in heads[:2]
    )
    reference = np.zeros((512, 384), np.uint8)
    reference[top : top + height, left : left + width] = (fine * coarse).numpy()
    assert (labels != reference).mean() < 1e-3
    assert np.count_nonzero(labels)
