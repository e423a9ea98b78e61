"""DensePose: the network against the original's numbers, weights without unpickling, labels pixel for pixel."""

import io
import json
import os
import pickle
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from stableviton_sdk.errors import IncompatibleCheckpoint, InvalidInput, NoPersonFound, WeightsUnavailable
from stableviton_sdk.preprocessing.densepose import (
    PARULA,
    DensePoseEstimator,
    DensePoseNetwork,
    convert_checkpoint,
    draw_labels,
    labels_from_picture,
    render_labels,
    render_uv,
)
from stableviton_sdk.preprocessing.densepose.boxes import apply_deltas, pool_from_levels, with_cpu_fallback
from stableviton_sdk.preprocessing.densepose.estimator import find_at, network_size
from stableviton_sdk.preprocessing.densepose.pickled_arrays import read_pickle
from stableviton_sdk.preprocessing.densepose.weights import fold_batch_norm, read_checkpoint

FIXTURES = Path(__file__).parent / "fixtures" / "densepose"
SHARED = Path(os.environ.get("STABLEVITON_SHARED", Path(__file__).parents[1].parent / "shared"))


def stand_in_tensor(key, shape, salt, damping):
    """Values that follow from the tensor's name, so that the weights needn't be stored."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32((salt + key).encode())))
    values = generator.standard_normal(shape, dtype=np.float32)
    if key.endswith("running_var"):
        values = 1 + 0.1 * np.abs(values)
    elif key.endswith("running_mean"):
        values *= 0.05
    elif len(shape) >= 2:
        values *= 1.0 / np.sqrt(int(np.prod(shape[1:])))
    elif key.endswith("weight"):
        values = 1 + 0.1 * values
    else:
        values *= 0.05
    for part, scale in damping.items():
        if part in key:
            values = values * np.float32(scale)
    return values.astype(np.float32)


def relative_error(actual, expected):
    return float((actual.float() - expected.float()).norm() / expected.float().norm())


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file in the released layout, full size."""
    manifest = json.loads((FIXTURES / "manifest.json").read_text())
    model = {
        key: stand_in_tensor(key, shape, manifest["salt"], manifest["damping"])
        for key, shape in manifest["tensors"].items()
    }
    path = tmp_path_factory.mktemp("densepose") / "model_final.pkl"
    with path.open("wb") as stream:
        pickle.dump({"model": model, "__author__": "stand-in"}, stream, protocol=4)
    yield path
    path.unlink()  # pytest would keep 256 MB for three runs


@pytest.fixture(scope="module")
def network(weights):
    return DensePoseNetwork.from_checkpoint(weights)


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
    picture = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (3, 160, 128)).astype(np.float32))
    boxes = torch.tensor([[10.25, 20.5, 100.0, 150.0]])
    reference = network(picture, boxes)
    state = {name: value.to(torch.bfloat16) for name, value in network.state_dict().items()}
    with torch.device("meta"):
        half = DensePoseNetwork()
    half.load_state_dict(state, assign=True)
    output = half(picture, boxes)
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
    again = DensePoseNetwork.from_checkpoint(target).state_dict()
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


LAYOUT = {"a.weight": (2, 3), "b.bias": (4,)}


def small_model(**changes):
    return {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b.bias": np.zeros(4, np.float32), **changes}


def written(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def read(data: bytes):
    return read_pickle(io.BytesIO(data), len(data))


@pytest.mark.parametrize(
    "changes, name",
    [
        ({"b.bias": np.zeros(5, np.float32)}, r"b\.bias of shape \(5,\) instead of \(4,\)"),
        ({"b.bias": np.zeros(4, np.int64)}, r"b\.bias as int64"),
        ({"b.bias": "text"}, r"b\.bias as str"),
        ({"extra": np.zeros(4, np.float32)}, "unknown tensor extra"),
        ({"pixel_mean": np.array([123.675, 116.28, 103.53], np.float32)}, "another pixel_mean"),
    ],
)
def test_a_foreign_tensor_is_named(tmp_path, changes, name):
    with pytest.raises(IncompatibleCheckpoint, match=name):
        read_checkpoint(written(tmp_path / "model.pkl", {"model": small_model(**changes)}), LAYOUT)


def test_a_missing_tensor_is_named(tmp_path):
    model = small_model()
    del model["b.bias"]
    save_file({name: torch.from_numpy(value) for name, value in model.items()}, tmp_path / "model.safetensors")
    for path in (written(tmp_path / "model.pkl", {"model": model}), tmp_path / "model.safetensors"):
        with pytest.raises(IncompatibleCheckpoint, match=r"lacks the tensor b\.bias"):
            read_checkpoint(path, LAYOUT)


def test_settings_stored_as_tensors_are_checked_and_left_out(tmp_path):
    square = np.array([[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]])  # 32 pixels, three shapes
    exact = 8 * np.array([[-8, -4, 8, 4], [-(32**0.5), -(32**0.5), 32**0.5, 32**0.5], [-4, -8, 4, 8]]) / 8**0.5
    assert np.abs(exact - square).max() < 0.7
    settings = {
        "pixel_mean": np.array([103.53, 116.28, 123.675], np.float32).reshape(3, 1, 1),
        "pixel_std": np.ones((3, 1, 1), np.float32),
        "proposal_generator.anchor_generator.cell_anchors.0": exact.astype(np.float32),
    }
    tensors = read_checkpoint(written(tmp_path / "model.pkl", {"model": small_model(**settings)}), LAYOUT)
    assert list(tensors) == list(LAYOUT)


def test_arrays_of_any_float_type_and_order_are_read(tmp_path):
    values = np.arange(6.0).reshape(2, 3)
    for stored in (values, values.astype(">f4"), values.astype(np.float16), np.asfortranarray(values)):
        for protocol in (3, 4):
            content = {"model": small_model(**{"a.weight": stored})}
            tensors = read_checkpoint(written(tmp_path / "model.pkl", content, protocol), LAYOUT)
            assert tensors["a.weight"].dtype == torch.float32
            assert torch.equal(tensors["a.weight"], torch.from_numpy(values).float())


def python2_array(module: bytes, values: np.ndarray) -> bytes:
    """A pickle of {"x": values} as Python 2 wrote it: strings for bytes."""
    data = values.astype("<f4").tobytes()
    shape = b"".join(b"K" + bytes([side]) for side in values.shape)
    return (
        b"\x80\x02}q\x00U\x01xc" + module + b"\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01("
        + shape
        + b"tcnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<I", len(data)) + data + b"tbs."
    )


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_python2_strings_are_read_as_latin1_under_both_names_of_numpy(module):
    values = np.array([[1.5, -2.0, 3e30], [0.1, 7.0, -1e-9]], np.float32)  # bytes above 127 among them
    assert np.array_equal(read(python2_array(module, values))["x"], values)


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "make",
    [
        lambda marker: Call(os.mkdir, str(marker)),
        lambda marker: Call(eval, f"__import__('os').mkdir({str(marker)!r})"),
        lambda marker: Call(getattr, "text", "upper"),
        lambda marker: Call(np.load, str(marker)),
        lambda marker: np.array([Call(os.mkdir, str(marker))], dtype=object),
        lambda marker: np.array(["text"]),
        lambda marker: SimpleNamespace(a=1),
        lambda marker: {1, 2},
        lambda marker: {1: "not by name"},
        lambda marker: np.dtype,
        lambda marker: bytearray(8),
        lambda marker: torch.zeros(2),
    ],
)
def test_a_pickle_of_anything_but_arrays_is_refused_and_nothing_runs(tmp_path, make, protocol):
    marker = tmp_path / "ran"
    content = {"model": small_model(**{"a.weight": make(marker)})}
    with pytest.raises(IncompatibleCheckpoint):
        read_checkpoint(written(tmp_path / "model.pkl", content, protocol), LAYOUT)
    assert not marker.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04cnumpy\nndarray\n}b.",  # sets attributes of a name
        b"\x80\x04cnumpy\ndtype\n)R.",  # too few arguments
        b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n)R(K\x01)NK\x00C\x00tb.",  # no dtype
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",  # claims four exabytes
        b"\x80\x04)r" + struct.pack("<I", 2**32 - 1) + b"00.",
        b"\x80\x04" + b"(" * 1_100_000 + b".",
        b"\x80\x04h\x05.",  # recalls what was never stored
        b"\x80\x04t.",
        b"\x80\x04}}.",
        b"\x80\x04(K\x01tK\x02a.",
        b"\x80\x04" + b"c" + b"a" * 10_000 + b"\nb\n.",
        b"\x80\x04",
        b"",
    ],
)
def test_a_malformed_pickle_is_refused(data):
    with pytest.raises(IncompatibleCheckpoint):
        read(data)


def test_a_damaged_pickle_is_refused_wherever_it_is_cut(tmp_path):
    whole = pickle.dumps({"model": small_model()}, 4)
    for length in range(len(whole)):
        with pytest.raises(IncompatibleCheckpoint):
            read_checkpoint(_bytes_file(tmp_path, whole[:length]), LAYOUT)


def test_a_pickle_with_flipped_bytes_is_read_or_refused_but_never_more():
    whole = pickle.dumps({"model": small_model()}, 4)
    generator = np.random.default_rng(5)
    refused = 0
    for _ in range(3000):
        damaged = bytearray(whole)
        for position in generator.integers(0, len(whole), 3):
            damaged[position] = generator.integers(0, 256)
        try:
            read(bytes(damaged))
        except IncompatibleCheckpoint:
            refused += 1
    assert refused > 1000


def _bytes_file(folder, data):
    path = folder / "model.pkl"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "neither"),
        (b"<html>not found</html>", "neither"),
        (b"PK\x03\x04" + bytes(30), "neither"),
        (struct.pack("<Q", 12) + b"{" + b"x" * 40, "damaged"),
        (pickle.dumps([1, 2], 4), "model"),
        (pickle.dumps({"weights": {}}, 4), "model"),
        (pickle.dumps({"model": {}}, 4), r"lacks the tensor a\.weight"),
    ],
)
def test_other_files_are_refused(tmp_path, data, words):
    with pytest.raises(IncompatibleCheckpoint, match=words):
        read_checkpoint(_bytes_file(tmp_path, data), LAYOUT)


def test_an_oversized_file_is_refused_unread(tmp_path):
    path = tmp_path / "model.pkl"
    with path.open("wb") as stream:
        stream.truncate(2**31 + 1)  # sparse
    with pytest.raises(IncompatibleCheckpoint, match=r"2\.0 GiB"):
        read_checkpoint(path, LAYOUT)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(WeightsUnavailable, match="there is no file"):
        DensePoseNetwork.from_checkpoint(tmp_path / "nothing.pkl")


# --- rendering ---

BOX = (10.7, 20.3, 73.2, 150.9)  # columns 10..71 (62 of them), rows 20..149 (130)


def source_positions(count):
    """Where a bilinear resize from 112 to `count` looks, corners not aligned."""
    return np.clip((np.arange(count) + 0.5) * 112 / count - 0.5, 0, 111)


def ramp_heads():
    """Body right of x = 40.3; the part is the whole number nearest to y / 4 (classes are tangents of a parabola)."""
    x = torch.arange(112.0).expand(112, 112)
    y = x.T
    coarse = torch.stack((torch.zeros(112, 112), x - 40.3))
    part = torch.arange(25.0)[:, None, None]
    return coarse, part * (y / 4 + 1e-4) - part**2 / 2


def test_labels_in_a_box_with_fractional_corners_are_exact():
    labels = render_labels(*ramp_heads(), BOX, (100, 160))
    expected = np.zeros((160, 100), np.uint8)
    part = np.floor(source_positions(130) / 4 + 1e-4 + 0.5).clip(0, 24)
    expected[20:150, 10:72] = part[:, None] * (source_positions(62) > 40.3)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, expected)
    assert set(np.unique(labels)) == set(range(25))


def test_the_background_needs_the_better_coarse_logit_and_fine_class_0_is_background_too():
    coarse, fine = torch.zeros(2, 112, 112), torch.zeros(25, 112, 112)
    fine[7] = 1.0
    assert not render_labels(coarse, fine, (0, 0, 9, 9), (9, 9)).any()  # a tie is background
    coarse[1] = 1.0
    assert (render_labels(coarse, fine, (0, 0, 9, 9), (9, 9)) == 7).all()
    fine[0] = 2.0
    assert not render_labels(coarse, fine, (0, 0, 9, 9), (9, 9)).any()


def test_a_box_over_the_edge_is_cut_not_squeezed():
    whole = render_labels(*ramp_heads(), (50, 40, 112.5, 170.6), (200, 200))
    cut = render_labels(*ramp_heads(), (-20, -10, 42.5, 120.6), (40, 100))
    assert np.array_equal(cut, whole[50:150, 70:110])
    assert not render_labels(*ramp_heads(), (300, 0, 350, 50), (200, 200)).any()


def test_a_box_smaller_than_a_pixel_colours_one_pixel():
    coarse, fine = torch.zeros(2, 112, 112), torch.zeros(25, 112, 112)
    coarse[1], fine[3] = 1.0, 1.0
    labels = render_labels(coarse, fine, (4.2, 5.9, 4.6, 6.1), (10, 10))
    assert labels[5, 4] == 3
    assert np.count_nonzero(labels) == 1


def test_large_boxes_rendered_in_strips_equal_one_resize():
    generator = torch.Generator().manual_seed(1)
    coarse, fine, u, v = (torch.randn(channels, 112, 112, generator=generator) for channels in (2, 25, 25, 25))
    labels = render_labels(coarse, fine, (0, 0, 700, 900), (700, 900))
    resized = [
        F.interpolate(maps[None], (900, 700), mode="bilinear", align_corners=False)[0] for maps in (coarse, fine, u, v)
    ]
    exact = resized[1].argmax(0) * resized[0].argmax(0)
    assert (labels == exact.numpy()).mean() > 0.99999  # up to ties in the last bit
    rendered = render_uv(u, v, exact.numpy().astype(np.uint8), (0, 0, 700, 900))
    for values, maps in zip(rendered, resized[2:], strict=True):
        chosen = maps.gather(0, exact[None])[0].clamp(0, 1) * (exact > 0)
        assert np.abs(values - chosen.numpy()).max() < 1e-4


def test_surface_coordinates_come_from_the_part_of_the_label():
    part = torch.arange(25.0)[:, None, None].expand(25, 112, 112)
    labels = render_labels(*ramp_heads(), BOX, (100, 160))
    u, v = render_uv(part / 24, 1.5 - part / 24, labels, BOX)
    assert np.allclose(u, labels / 24)
    assert np.allclose(v, np.where(labels > 0, np.clip(1.5 - labels / 24, 0, 1), 0))


def test_drawings_have_the_palettes_colours_and_are_read_back():
    labels = np.arange(25, dtype=np.uint8).repeat(40).reshape(25, 40)
    drawing = draw_labels(labels)
    assert drawing.mode == "RGB"
    assert drawing.size == (40, 25)
    assert drawing.getpixel((0, 1)) == (37, 60, 163)
    assert drawing.getpixel((39, 24)) == (249, 251, 14)
    assert np.array_equal(labels_from_picture(drawing), labels)


def test_labels_survive_jpeg():
    labels = np.zeros((256, 192), np.uint8)
    labels[32:224, 32:160] = (np.arange(128) // 32 * 6 + 2)[None]
    stream = io.BytesIO()
    draw_labels(labels).save(stream, "JPEG", quality=95, subsampling=0)
    assert (labels_from_picture(stream.getvalue()) == labels).mean() > 0.99


@pytest.mark.parametrize(
    "make",
    [
        lambda drawing: drawing[..., ::-1],
        lambda drawing: np.full_like(drawing, 128),
        lambda drawing: 255 - drawing,
        lambda drawing: (drawing * np.array([0, 0, 1])).astype(np.uint8) + np.array([200, 0, 0], np.uint8),
    ],
)
def test_pictures_in_other_colours_are_refused(make):
    drawing = np.asarray(draw_labels(np.arange(25, dtype=np.uint8).repeat(40).reshape(25, 40)))
    with pytest.raises(InvalidInput, match="parula"):
        labels_from_picture(make(drawing))


@pytest.mark.parametrize("bad", [np.full((4, 4), 25), np.full((4, 4), -1), np.zeros((4, 4)), np.zeros((4, 4, 3), int)])
def test_what_is_no_label_map_is_not_drawn(bad):
    with pytest.raises(InvalidInput, match="labels"):
        draw_labels(bad)


def test_colours_of_a_real_sample_are_within_jpeg_error_of_the_palette():
    path = SHARED / "samples" / "vitonhd" / "image-densepose" / "00006_00.jpg"
    if not path.is_file():
        pytest.skip(f"the non-commercial sample {path} is not on this machine")
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    labels = labels_from_picture(path)
    error = np.abs(pixels - PARULA[labels]).max(axis=2)
    assert np.median(error) == 0
    assert np.percentile(error, 95) <= 3
    assert set(np.unique(labels)) == set(range(25))


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
def test_pictures_are_resized_by_the_short_side_unless_the_long_one_is_too_long(size, expected):
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
    maps = analysis.maps()
    assert network.calls == ["features", "detect", "decode", "read", "read", "read"]
    assert np.array_equal(maps.labels, first)
    assert np.allclose(maps.u, first / 24)
    assert np.allclose(maps.v, np.where(first > 0, 1 - first / 24, 0))
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
    assert find_at(boxes, np.array(wanted, float)) == index


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


def test_photos_are_turned_upright_before_anyone_is_looked_for():
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.new("RGB", (400, 200), (10, 20, 30)).save(stream, "JPEG", exif=exif)
    analysis = DensePoseEstimator(FakeNetwork()).analyse(stream.getvalue())
    assert analysis.size == (200, 400)


def test_a_photo_goes_through_the_real_network_by_the_rule(network, portrait, features, expected):
    estimator = DensePoseEstimator(network, score_threshold=0.5)
    analysis = estimator.analyse(portrait)
    scale = torch.tensor([384 / 800, 512 / 1067] * 2)
    assert np.abs(analysis.boxes[:5] - (expected["instance_boxes"] * scale).numpy()).max() <= 0.25
    # the whole rule once more, written down differently: one fixed box, one resize
    box = expected["fixed_boxes"][0] * scale
    labels = analysis.labels(box.tolist())
    chosen = find_at(analysis.boxes, box.double().numpy())
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
