import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper
from PIL import Image
from support.parsing_networks import (
    ATR_NETWORK,
    BGR_MEAN,
    BGR_STD,
    LIP,
    save_colour_network,
    save_constant_network,
    save_label_network,
    save_linear_network,
    save_network,
)
from support.paths import SHARED

from stableviton_sdk.errors import IncompatibleCheckpoint, InvalidInput, MissingDependency, WeightsUnavailable
from stableviton_sdk.preprocessing.analyzers.human_parsing import ATR, CIHP, LIP_JUMPSUIT, HumanParser
from stableviton_sdk.preprocessing.analyzers.onnx_session import check_device, execution_providers

GREY = (100, 100, 100)
# Each colour comes with its red and blue exchanged, under another label: a network fed RGB would swap them.
PALETTE = {0: GREY, 5: (220, 30, 60), 9: (60, 30, 220), 13: (240, 200, 20), 14: (20, 200, 240)}


def soft_rectangle(size, box, softness):
    """Share of each pixel that belongs to a rectangle whose edges are ramps, 0.5 at the edge: float (H, W)."""
    left, top, right, bottom = box
    x, y = np.arange(size[0]), np.arange(size[1])
    across = np.clip(np.minimum(x - left, right - x) / softness + 0.5, 0, 1)
    down = np.clip(np.minimum(y - top, bottom - y) / softness + 0.5, 0, 1)
    return down[:, None] * across


def paint(size, rectangles, softness):
    """Soft rectangles on grey: an image, and the label map that a network of `PALETTE` should give."""
    pixels = np.broadcast_to(np.array(GREY, float), (size[1], size[0], 3))
    labels = np.zeros((size[1], size[0]), np.uint8)
    for label, box in rectangles.items():
        share = soft_rectangle(size, box, softness)
        pixels = pixels + share[..., None] * (np.array(PALETTE[label]) - GREY)
        labels[share > 0.5] = label
    return Image.fromarray(pixels.round().astype(np.uint8)), labels


def edges_along(line):
    """Positions in a line of labels where the label changes, and the labels in between."""
    changes = np.flatnonzero(np.diff(line.astype(int))) + 1
    return changes, line[np.r_[0, changes]]


@pytest.fixture(scope="module")
def colour_networks(tmp_path_factory):
    """Files of a LIP and an ATR network."""
    folder = tmp_path_factory.mktemp("networks")
    return (
        save_colour_network(folder / "parsing_lip.onnx", LIP, PALETTE),
        save_colour_network(folder / "parsing_atr.onnx", ATR_NETWORK, PALETTE),
    )


@pytest.fixture(scope="module")
def colour_parser(colour_networks):
    return HumanParser(*colour_networks)


SIZES = {"portrait": (768, 1024), "wide": (900, 260), "tall": (210, 1000), "odd": (333, 517), "tiny": (20, 30)}


@pytest.mark.parametrize("method", ["lip", "atr"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_coloured_rectangles_come_back_as_labels_within_one_pixel(colour_parser, method, size):
    width, height = size
    softness = max(2.0, max(size) / 40)  # a few cells of the logits' grid, which couldn't tell where a hard edge is
    rectangles = {
        5: (0.12 * width, 0.10 * height, 0.42 * width, 0.38 * height),
        9: (0.58 * width, 0.10 * height, 0.90 * width, 0.38 * height),
        13: (0.12 * width, 0.60 * height, 0.42 * width, 0.90 * height),
        14: (0.58 * width, 0.60 * height, 0.90 * width, 0.90 * height),
    }
    image, expected = paint(size, rectangles, softness)

    labels = getattr(colour_parser, method)(image)

    assert labels.shape == (height, width)
    assert labels.dtype == np.uint8
    for share in (0.24, 0.75):
        for line, truth in [
            (labels[round(share * height)], expected[round(share * height)]),
            (labels[:, round(share * width)], expected[:, round(share * width)]),
        ]:
            (found, found_labels), (wanted, wanted_labels) = edges_along(line), edges_along(truth)
            assert len(wanted) == 4
            assert found_labels.tolist() == wanted_labels.tolist()
            assert np.abs(found - wanted).max() <= 1


def test_a_label_reaches_the_outermost_pixels_of_the_photo(colour_parser):
    for width, height in SIZES.values():
        labels = colour_parser.lip(Image.new("RGB", (width, height), PALETTE[14]))
        # along the longer side, where the photo touches the square's edge; beside it lies black
        ends = labels[[0, -1], width // 2] if height > width else labels[height // 2, [0, -1]]
        assert ends.tolist() == [14, 14]
    assert (colour_parser.lip(Image.new("RGB", (700, 700), PALETTE[14])) == 14).all()


@pytest.mark.parametrize("size", [(768, 1024), (333, 517), (40, 9)], ids=str)
def test_logits_are_upsampled_with_aligned_corners_and_warped_back(tmp_path, size):
    side, grid, labels = LIP
    coarse = torch.from_numpy(np.random.default_rng(0).normal(size=(1, labels, 13, 13)).astype(np.float32))
    logits = torch.nn.functional.interpolate(coarse, (grid, grid), mode="bicubic", align_corners=True)
    parser = HumanParser(save_constant_network(tmp_path / "lip.onnx", LIP, logits[0].numpy()))

    found = parser.lip(Image.new("RGB", size))

    upsampled = torch.nn.functional.interpolate(logits, (side, side), mode="bilinear", align_corners=True)
    half = (max(size) - 1) / 2  # the square's corners are the input's corners
    x = (torch.arange(size[0]) - (size[0] - 1) / 2) / half
    y = (torch.arange(size[1]) - (size[1] - 1) / 2) / half
    where = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None].float()
    expected = torch.nn.functional.grid_sample(upsampled, where, align_corners=True)[0].argmax(dim=0).numpy()
    assert len(np.unique(expected)) > 10
    assert (found != expected).sum() <= max(1, found.size // 1000)  # where two labels tie, rounding decides


@pytest.mark.parametrize("channel", [0, 1, 2], ids=["blue", "green", "red"])
def test_each_channel_is_divided_by_255_and_normalised_by_its_own_mean_and_deviation(tmp_path, channel):
    # label 7 where the channel's normalised value is above 0.5, else label 3, on a ramp from 0 to 255
    weight, bias = np.zeros((LIP[2], 3)), np.full(LIP[2], -1e6)
    weight[7, channel], bias[7], bias[3] = 1.0, 0.0, 0.5
    parser = HumanParser(save_linear_network(tmp_path / "lip.onnx", LIP, weight, bias))
    pixels = np.full((256, 256, 3), 128, np.uint8)
    pixels[..., 2 - channel] = np.arange(256)

    labels = parser.lip(Image.fromarray(pixels))

    threshold = (0.5 * BGR_STD[channel] + BGR_MEAN[channel]) * 255
    changes, found = edges_along(labels[100])
    assert found.tolist() == [3, 7]
    assert abs(changes[0] - np.ceil(threshold)) <= 1


def test_what_surrounds_the_photo_in_the_square_is_black_before_normalisation(tmp_path):
    # a network that labels everything by the input's top left corner, which a wide photo doesn't cover
    _, grid, labels = LIP
    black = (0.0 - BGR_MEAN) / BGR_STD
    pick = [
        helper.make_node("Slice", ["input.1", "starts", "ends", "axes"], ["corner"]),
        helper.make_node("Sub", ["corner", "black"], ["difference"]),
        helper.make_node("ReduceSumSquare", ["difference"], ["distance"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["distance", "where"], ["scores"]),
        helper.make_node("Add", ["scores", "bias"], ["fusion"]),
    ]
    where, bias = np.zeros((1, labels, grid, grid)), np.full((1, labels, grid, grid), -1e6)
    where[:, 2], bias[:, 2] = 1.0, 0.0  # label 2: the distance from black; label 4: a very small distance
    bias[:, 4] = 1e-9
    initializers = {
        "starts": np.array([0, 0], np.int64),
        "ends": np.array([1, 1], np.int64),
        "axes": np.array([2, 3], np.int64),
        "black": black.astype(np.float32).reshape(1, 3, 1, 1),
        "where": where.astype(np.float32),
        "bias": bias.astype(np.float32),
    }
    parser = HumanParser(save_network(tmp_path / "lip.onnx", LIP, pick, initializers))
    assert np.unique(parser.lip(Image.new("RGB", (90, 30), (255, 255, 255)))).tolist() == [4]
    assert np.unique(parser.lip(Image.new("RGB", (60, 60), (255, 255, 255)))).tolist() == [2]


def test_parse_turns_jumpsuits_into_dresses_and_faces_that_only_atr_sees_into_torso_skin(tmp_path):
    lip, atr = np.zeros((119, 119), int), np.zeros((128, 128), int)
    rows = {
        # band: LIP says, ATR says, CIHP should be
        0: (LIP_JUMPSUIT, ATR.DRESS, CIHP.DRESS),
        1: (CIHP.FACE, ATR.FACE, CIHP.FACE),
        2: (CIHP.BACKGROUND, ATR.FACE, CIHP.TORSO_SKIN),
        3: (CIHP.UPPER_CLOTHES, ATR.FACE, CIHP.TORSO_SKIN),
        4: (CIHP.HAIR, ATR.FACE, CIHP.HAIR),
        5: (CIHP.GLASSES, ATR.FACE, CIHP.GLASSES),
        6: (CIHP.UPPER_CLOTHES, ATR.UPPER_CLOTHES, CIHP.UPPER_CLOTHES),
        7: (LIP_JUMPSUIT, ATR.FACE, CIHP.TORSO_SKIN),
    }
    for band, (lip_label, atr_label, _) in rows.items():
        lip[band * 119 // 8 : (band + 1) * 119 // 8] = lip_label
        atr[band * 128 // 8 : (band + 1) * 128 // 8] = atr_label
    lip_path = save_label_network(tmp_path / "lip.onnx", LIP, lip)
    atr_path = save_label_network(tmp_path / "atr.onnx", ATR_NETWORK, atr)
    image = Image.new("RGB", (80, 80))
    middles = [10 * band + 5 for band in rows]

    both = HumanParser(lip_path, atr_path).parse(image)
    assert both[middles, 40].tolist() == [cihp for _, _, cihp in rows.values()]

    alone = HumanParser(lip_path).parse(image)
    assert alone[middles, 40].tolist() == [6, 13, 0, 5, 2, 4, 5, 6]
    assert not (alone == CIHP.TORSO_SKIN).any()

    raw = HumanParser(lip_path, atr_path).lip(image)
    assert raw[middles, 40].tolist() == [lip_label for lip_label, _, _ in rows.values()]


def test_large_photos_are_labelled_in_tiles_without_seams_and_averaged_before_they_shrink(tmp_path):
    # a checkerboard of single pixels, whose average is one label's colour and whose pixels are others'
    average, light, dark, other = (220, 30, 60), (255, 60, 120), (185, 0, 0), (60, 30, 220)
    palette = {3: light, 4: dark, 5: average, 9: other}
    parser = HumanParser(save_colour_network(tmp_path / "lip.onnx", LIP, palette))
    pixels = np.empty((3100, 5200, 3), np.uint8)
    pixels[:] = dark
    pixels[::2, ::2] = pixels[1::2, 1::2] = light
    pixels[2200:, 4300:] = other

    labels = parser.lip(Image.fromarray(pixels))

    cell = 5200 / 118  # of the logits' grid, which can't tell where in a cell a hard edge is
    labels = labels[100:-100]  # above and below the photo lies black
    for line, edge in ((labels[2700], 4300), (labels[:, 4800], 2100)):
        changes, found = edges_along(line)
        assert found.tolist() == [5, 9]
        assert abs(changes[0] - edge) <= cell / 2 + 1
    assert (labels[: round(2100 - cell)] == 5).all()
    assert (labels[:, : round(4300 - cell)] == 5).all()


def test_one_pixel_photos_and_strips_are_labelled(colour_parser):
    assert colour_parser.lip(Image.new("RGB", (1, 1), PALETTE[9])).tolist() == [[9]]
    # thinner than a cell of the logits' grid, so that the network sees the strip or what surrounds it, as it happens
    for size in ((3000, 20), (1, 40000)):
        labels = colour_parser.atr(Image.new("RGB", size, PALETTE[5]))
        assert labels.shape == size[::-1]
        assert np.isin(labels, [0, 5]).all()


def test_files_are_not_needed_once_the_parser_is_made(tmp_path):
    parser = HumanParser(save_label_network(tmp_path / "lip.onnx", LIP, np.full((119, 119), 9)))
    (tmp_path / "lip.onnx").unlink()
    assert (parser.lip(Image.new("RGB", (8, 8))) == 9).all()


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8, 3), np.uint8), Image.new("RGBA", (8, 8)), Image.new("L", (8, 8)), None, "photo.jpg"],
    ids=["array", "RGBA", "grey", "nothing", "path"],
)
def test_anything_but_an_rgb_image_is_refused(colour_parser, image):
    with pytest.raises(InvalidInput, match=r"PIL image|mode RGB"):
        colour_parser.parse(image)


def test_atr_without_its_network_is_refused(colour_networks):
    with pytest.raises(InvalidInput, match="atr_path"):
        HumanParser(colour_networks[0]).atr(Image.new("RGB", (8, 8)))


def test_missing_damaged_and_other_networks_files_are_named(tmp_path, colour_networks):
    lip_path, atr_path = colour_networks
    with pytest.raises(WeightsUnavailable, match=r"no file .*absent\.onnx"):
        HumanParser(tmp_path / "absent.onnx")
    with pytest.raises(WeightsUnavailable, match="no file"):
        HumanParser(tmp_path)
    with pytest.raises(InvalidInput, match="None is no path"):
        HumanParser(None)

    whole = Path(lip_path).read_bytes()
    for content in (b"", b"version https://git-lfs.github.com/spec/v1\n", whole[: len(whole) // 2]):
        damaged = tmp_path / "damaged.onnx"
        damaged.write_bytes(content)
        with pytest.raises((WeightsUnavailable, IncompatibleCheckpoint), match=r"damaged\.onnx"):
            HumanParser(damaged)

    with pytest.raises(IncompatibleCheckpoint, match=r"parsing_atr\.onnx is not the LIP parsing network"):
        HumanParser(atr_path)
    with pytest.raises(IncompatibleCheckpoint, match=r"parsing_lip\.onnx is not the ATR parsing network"):
        HumanParser(lip_path, lip_path)
    too_few = save_label_network(tmp_path / "few.onnx", (473, 119, 7), np.zeros((119, 119)))
    with pytest.raises(IncompatibleCheckpoint, match=r"\(1, 7, 119, 119\)"):
        HumanParser(too_few).lip(Image.new("RGB", (8, 8)))


def test_a_missing_onnxruntime_is_named_with_its_remedy(colour_networks, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependency, match="pip install onnxruntime"):
        HumanParser(*colour_networks)


def test_providers_follow_the_device_and_fall_back_to_the_cpu():
    everything = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    cuda = lambda index: [("CUDAExecutionProvider", {"device_id": index}), "CPUExecutionProvider"]  # noqa: E731
    assert execution_providers("cuda", everything) == cuda(0)
    assert execution_providers(torch.device("cuda", 1), everything) == cuda(1)
    assert execution_providers("cpu", everything) == ["CPUExecutionProvider"]
    assert execution_providers("mps", everything) == ["CPUExecutionProvider"]
    assert execution_providers("cuda:3", ["CPUExecutionProvider"]) == ["CPUExecutionProvider"]


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "cuda:x", "", None, 0])
def test_devices_that_do_not_exist_are_refused_at_once(device):
    with pytest.raises(InvalidInput, match="device"):
        HumanParser("lip.onnx", device=device)
    assert check_device(torch.device("cuda", 2)) == "cuda:2"


def test_a_parser_stays_usable_after_an_error(colour_parser):
    with pytest.raises(InvalidInput):
        colour_parser.lip(Image.new("L", (8, 8)))
    assert (colour_parser.lip(Image.new("RGB", (8, 8), PALETTE[13])) == 13).all()


@pytest.mark.parametrize("name", ["00034_00.jpg", "00055_00.jpg", "01992_00.jpg"])
def test_real_photos_are_labelled_like_their_nearest_colours(colour_parser, name):
    path = SHARED / "samples" / "photos" / "person" / name
    if not path.is_file():
        pytest.skip("the real photos may not be distributed and are not here")
    photo = Image.open(path).convert("RGB")
    labels = colour_parser.lip(photo)
    pixels = np.asarray(photo, np.float64) / 255 / BGR_STD[::-1]
    colours = np.array(list(PALETTE.values())) / 255 / BGR_STD[::-1]
    nearest = np.array(list(PALETTE))[((pixels[:, :, None] - colours) ** 2).sum(axis=-1).argmin(axis=-1)]
    assert labels.shape == (photo.height, photo.width)
    assert (labels == nearest).mean() > 0.9  # all but the outlines and textures finer than the logits' grid
