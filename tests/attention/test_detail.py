"""The garment's own detail in the result: where it belongs, and nowhere else."""

import cv2
import numpy as np
import pytest
from PIL import Image

from stableviton_sdk.attention import detail
from stableviton_sdk.attention.detail import transfer_detail
from stableviton_sdk.preprocessing.garment import CANVAS, prepare_garment

SIZE = (192, 256)  # width, height
MASK = Image.new("L", SIZE, 255)


def checked(size=SIZE, square=4, colours=((200, 40, 40), (120, 20, 90))):
    """A checked garment on the usual canvas, and its outline as left, top, right, bottom."""
    width, height = size
    box = (round(width * 0.09), round(height * 0.06), round(width * 0.91), round(height * 0.94))
    rows, columns = np.indices((height, width)) // square
    image = np.asarray(colours, np.uint8)[(rows + columns) % 2]
    outside = np.ones((height, width), bool)
    outside[box[1] : box[3], box[0] : box[2]] = False
    image[outside] = CANVAS
    return Image.fromarray(image), box


def cells_of(x=0.0, y=0.0, certainty=1.0, count=(32, 24), size=SIZE):
    """Attention that looks at the same place of the canvas, moved by x and y pixels."""
    rows, columns = np.indices(count)
    across, down = ((columns + 0.5) * size[0] / count[1] - 0.5 + x), ((rows + 0.5) * size[1] / count[0] - 0.5 + y)
    return np.dstack([across, down, np.full(count, certainty)]).astype(np.float32)


def floats(image):
    return np.asarray(image, dtype=np.float32) / 255


def blurred(image, sigma=4.0):
    return cv2.GaussianBlur(floats(image), (0, 0), sigma)


def inside(box, margin=16):
    return slice(box[1] + margin, box[3] - margin), slice(box[0] + margin, box[2] - margin)


def test_a_garment_that_stays_in_place_gets_its_squares_back():
    image, box = checked()
    garment = prepare_garment(image, size=SIZE)
    result = blurred(image)
    drawn = transfer_detail(result, cells_of(), garment, MASK)
    part = inside(box)
    before = np.abs(result - floats(image))[part].mean()
    after = np.abs(drawn - floats(image))[part].mean()
    assert before > 0.09
    assert after < 0.08 * before


def test_detail_comes_from_the_garments_own_resolution():
    large, _ = checked((4 * SIZE[0], 4 * SIZE[1]), square=2)  # finer than a pixel of the network's canvas
    garment = prepare_garment(large, size=SIZE)
    result = blurred(large, 16.0)
    drawn = transfer_detail(result, cells_of(), garment, Image.new("L", large.size, 255))
    part = (slice(300, 700), slice(200, 600))
    assert np.abs(result - floats(large))[part].mean() > 0.09
    assert np.abs(drawn - floats(large))[part].mean() < 0.01


def test_light_and_colour_stay_the_networks():
    image, box = checked()
    garment = prepare_garment(image, size=SIZE)
    shade = np.linspace(0.85, 1.0, SIZE[0], dtype=np.float32)[None, :, None]
    result = blurred(image) * shade
    drawn = transfer_detail(result, cells_of(), garment, MASK)
    part = inside(box, 24)
    assert np.abs(cv2.GaussianBlur(drawn, (0, 0), 8) - cv2.GaussianBlur(result, (0, 0), 8))[part].max() < 0.02
    truth = floats(image) * shade
    assert np.abs(drawn - truth)[part].mean() < 0.15 * np.abs(result - truth)[part].mean()


def test_nothing_changes_outside_the_mask():
    image, _ = checked()
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[60:180, 50:130] = 255
    result = blurred(image)
    drawn = transfer_detail(result, cells_of(), prepare_garment(image, size=SIZE), Image.fromarray(mask))
    assert np.array_equal(drawn[mask == 0], result[mask == 0])
    assert np.abs(drawn - result)[mask > 0].mean() > 0.05


def test_an_empty_mask_or_no_strength_changes_nothing():
    image, _ = checked()
    garment, result = prepare_garment(image, size=SIZE), blurred(image)
    assert np.array_equal(transfer_detail(result, cells_of(), garment, Image.new("L", SIZE)), result)
    assert np.array_equal(transfer_detail(result, cells_of(), garment, MASK, 0.0), result)


def test_uncertain_attention_brings_no_detail():
    image, _ = checked()
    garment, result = prepare_garment(image, size=SIZE), blurred(image)
    assert np.array_equal(transfer_detail(result, cells_of(certainty=0.55), garment, MASK), result)
    half = transfer_detail(result, cells_of(certainty=0.75), garment, MASK)
    whole = transfer_detail(result, cells_of(), garment, MASK)
    assert 0.3 < np.abs(half - result).mean() / np.abs(whole - result).mean() < 0.7


@pytest.mark.parametrize("background", [CANVAS, (225, 235, 240)])
def test_canvas_is_never_shown(background):
    image, box = checked()
    values = np.asarray(image).copy()
    values[(values == CANVAS).all(axis=-1)] = background
    garment = prepare_garment(Image.fromarray(values), size=SIZE)
    result = np.full((SIZE[1], SIZE[0], 3), np.float32(0.9))  # about the canvas's colour: it would be let in
    cells = cells_of(x=60)  # the right third looks beside the garment
    drawn = transfer_detail(result, cells, garment, MASK)
    beside = slice(box[2] - 60 + 1, None)
    assert np.array_equal(drawn[:, beside], result[:, beside])


def test_canvas_does_not_bleed_into_the_garments_edge():
    image, _ = checked(colours=((90, 30, 30), (60, 20, 20)))
    result = cv2.GaussianBlur(np.asarray(Image.new("RGB", SIZE, (75, 25, 25)), np.float32) / 255, (0, 0), 4)
    drawn = transfer_detail(result, cells_of(), prepare_garment(image, size=SIZE), MASK)
    assert drawn.max() <= 91 / 255  # nothing lighter than the fabric, though the canvas is nearly white


def test_detail_of_another_colour_stays_away():
    image, _ = checked()
    result = np.zeros((SIZE[1], SIZE[0], 3), np.float32) + np.float32([0.1, 0.6, 0.2])
    drawn = transfer_detail(result, cells_of(), prepare_garment(image, size=SIZE), MASK)
    assert np.abs(drawn - result).max() < 0.01


def test_strength_is_the_details_opacity():
    image, _ = checked()
    garment, result = prepare_garment(image, size=SIZE), blurred(image)
    whole, half = (transfer_detail(result, cells_of(), garment, MASK, strength) for strength in (1.0, 0.5))
    assert np.allclose(half - result, (whole - result) / 2, atol=1e-6)


def test_strips_and_repetition_make_no_difference(monkeypatch):
    image, _ = checked()
    garment, result = prepare_garment(image, size=SIZE), blurred(image)
    kept, cells = result.copy(), cells_of(x=1.3, y=-2.1)
    first = transfer_detail(result, cells, garment, MASK)
    assert np.array_equal(result, kept)
    assert np.array_equal(cells, cells_of(x=1.3, y=-2.1))
    monkeypatch.setattr(detail, "STRIP", 1000)
    assert np.array_equal(transfer_detail(result, cells, garment, MASK), first)


def test_attention_at_the_photos_resolution_reaches_a_larger_drawing():
    """Cells cover the frame whatever it is drawn at: three times as large, the detail lies at the same places."""
    image, box = checked(square=8)
    garment = prepare_garment(image, size=SIZE)
    large = (3 * SIZE[0], 3 * SIZE[1])
    truth = image.resize(large, Image.Resampling.BILINEAR)
    result = blurred(truth, 12.0)
    drawn = transfer_detail(result, cells_of(), garment, MASK)
    part = inside([3 * edge for edge in box], 48)
    assert np.abs(drawn - floats(truth))[part].mean() < 0.15 * np.abs(result - floats(truth))[part].mean()
