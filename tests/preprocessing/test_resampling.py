import numpy as np
import pytest
from PIL import Image

from stableviton_sdk.preprocessing.resampling import warp_to_bgr


def ramp(size, start, slope, axis):
    """An image that rises along an axis: 0 up to `start`, then by `slope` a pixel; and that function."""

    def value(position):
        return np.clip((position - start) * slope, 0, 255)

    line = value(np.arange(size[0] if axis == 0 else size[1]))
    grey = np.broadcast_to(line if axis == 0 else line[:, None], size[::-1])
    return Image.fromarray(np.repeat(grey[..., None], 3, axis=-1).round().astype(np.uint8)), value


@pytest.mark.parametrize("axis", [0, 1], ids=["across", "down"])
@pytest.mark.parametrize(
    "scale, offset", [(2.5, -3.2), (0.8, 7.4), (0.3, 0.0), (0.2, 11.0), (0.1, -60.3), (0.04, 2.5)]
)
def test_a_pixel_lands_at_scale_times_its_position_plus_the_offset(axis, scale, offset):
    size = [900, 900]
    size[axis] = 3000
    slope = min(2.0, 20 * scale)  # so that a shift by half a block of averaged pixels shows
    image, value = ramp(size, 700, slope, axis)
    offsets = [0.0, 0.0]
    offsets[axis] = offset
    length = max(int(1500 * scale), 2)
    output_size = [20, 20]
    output_size[axis] = length

    warped = warp_to_bgr(image, scale, offsets, tuple(output_size))

    positions = (np.arange(length) - offset) / scale
    on_image = (positions > 1) & (positions < 2998)
    # away from the ramp's ends, around which averaged pixels bend
    straight = on_image & (value(positions - 40) > 0) & (value(positions + 40) < 255)
    assert straight.sum() >= 2
    found = (warped[10] if axis == 0 else warped[:, 10]).astype(float)
    assert np.abs(found[straight, 0] - value(positions[straight])).max() <= 1 + 0.1 * slope / scale


@pytest.mark.parametrize("scale", [3.0, 0.7, 0.09])
def test_outside_of_the_image_is_black_unless_the_edge_is_repeated(scale):
    image = Image.new("RGB", (1000, 700), (10, 120, 250))
    offset = (30.0, 20.0)
    size = (int(1000 * scale) + 80, int(700 * scale) + 60)
    black, repeated = (warp_to_bgr(image, scale, offset, size, repeat_edge=repeat) for repeat in (False, True))
    assert (repeated == [250, 120, 10]).all()  # BGR
    x, y = (np.arange(size[0]) - offset[0]) / scale, (np.arange(size[1]) - offset[1]) / scale
    inside = ((y >= 0) & (y <= 699))[:, None] & ((x >= 0) & (x <= 999))
    margin = max(1.0, 0.5 + 0.01 / scale)  # bilinear interpolation fades over one pixel
    outside = ((y < -margin) | (y > 699 + margin))[:, None] | ((x < -margin) | (x > 999 + margin))
    assert inside.any()
    assert outside.any()
    assert (black[inside] == [250, 120, 10]).all()
    assert (black[outside] == 0).all()


def test_a_view_beside_the_image_is_black():
    image = Image.new("RGB", (50, 40), (255, 255, 255))
    assert not warp_to_bgr(image, 1.0, (-500.0, 0.0), (30, 20)).any()
    assert not warp_to_bgr(image, 0.01, (200.0, 0.0), (30, 20)).any()


def test_single_pixels_average_out_where_the_image_shrinks_a_lot():
    checkers = np.indices((1200, 1600)).sum(axis=0) % 2 * 200
    image = Image.fromarray(np.repeat(checkers[..., None], 3, axis=-1).astype(np.uint8))
    for scale in (0.24, 0.125, 0.05):
        warped = warp_to_bgr(image, scale, (0.0, 0.0), (int(1500 * scale), int(1100 * scale)))
        assert np.abs(warped.astype(float) - 100).max() <= 12  # an odd block has one pixel more of one kind
