"""Labels from the network's logits, and drawings of labels that can be read back."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from support.densepose_weights import ramp_heads
from support.paths import SHARED

from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.preprocessing.densepose import draw_labels, labels_from_image, render_labels
from stableviton_sdk.preprocessing.labels import PARULA

BOX = (10.7, 20.3, 73.2, 150.9)  # columns 10..71 (62 of them), rows 20..149 (130)


def source_positions(count):
    """Where a bilinear resize from 112 to `count` looks, corners not aligned."""
    return np.clip((np.arange(count) + 0.5) * 112 / count - 0.5, 0, 111)


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
    coarse, fine = (torch.randn(channels, 112, 112, generator=generator) for channels in (2, 25))
    labels = render_labels(coarse, fine, (0, 0, 700, 900), (700, 900))
    resized = [
        F.interpolate(maps[None], (900, 700), mode="bilinear", align_corners=False)[0] for maps in (coarse, fine)
    ]
    exact = resized[1].argmax(0) * resized[0].argmax(0)
    assert (labels == exact.numpy()).mean() > 0.99999  # up to ties in the last bit


def test_drawings_have_the_palettes_colours_and_are_read_back():
    labels = np.arange(25, dtype=np.uint8).repeat(40).reshape(25, 40)
    drawing = draw_labels(labels)
    assert drawing.mode == "RGB"
    assert drawing.size == (40, 25)
    assert drawing.getpixel((0, 1)) == (37, 60, 163)
    assert drawing.getpixel((39, 24)) == (249, 251, 14)
    assert np.array_equal(labels_from_image(drawing), labels)


def test_labels_survive_jpeg():
    labels = np.zeros((256, 192), np.uint8)
    labels[32:224, 32:160] = (np.arange(128) // 32 * 6 + 2)[None]
    stream = io.BytesIO()
    draw_labels(labels).save(stream, "JPEG", quality=95, subsampling=0)
    assert (labels_from_image(stream.getvalue()) == labels).mean() > 0.99


@pytest.mark.parametrize(
    "make",
    [
        lambda drawing: drawing[..., ::-1],
        lambda drawing: np.full_like(drawing, 128),
        lambda drawing: 255 - drawing,
        lambda drawing: (drawing * np.array([0, 0, 1])).astype(np.uint8) + np.array([200, 0, 0], np.uint8),
    ],
)
def test_images_in_other_colours_are_refused(make):
    drawing = np.asarray(draw_labels(np.arange(25, dtype=np.uint8).repeat(40).reshape(25, 40)))
    with pytest.raises(InvalidInput, match="parula"):
        labels_from_image(make(drawing))


@pytest.mark.parametrize("bad", [np.full((4, 4), 25), np.full((4, 4), -1), np.zeros((4, 4)), np.zeros((4, 4, 3), int)])
def test_what_is_no_label_map_is_not_drawn(bad):
    with pytest.raises(InvalidInput, match="labels"):
        draw_labels(bad)


def test_colours_of_a_real_sample_are_within_jpeg_error_of_the_palette():
    path = SHARED / "samples" / "vitonhd" / "image-densepose" / "00006_00.jpg"
    if not path.is_file():
        pytest.skip(f"the non-commercial sample {path} is not on this machine")
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    labels = labels_from_image(path)
    error = np.abs(pixels - PARULA[labels]).max(axis=2)
    assert np.median(error) == 0
    assert np.percentile(error, 95) <= 3
    assert set(np.unique(labels)) == set(range(25))
