"""Drawings of attention: the garment warped by it, colours that follow it, and single maps."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ..colour import from_srgb
from ..errors import InvalidInput
from ..grids import labelled_grid
from ..preprocessing.frame import Box
from ..preprocessing.garment import PreparedGarment, garment_area
from ..preprocessing.inputs import TryOnInputs
from ..preprocessing.resampling import interpolate
from ..validation import is_whole_number

INVISIBLE, SOLID = 0.25, 0.65  # certainties: a spread of 0.31 and of 0.14 of the garment's sides
STRIP = 2**20  # pixels worked on at once: float buffers of a 48-megapixel photo would take gigabytes
GRID_LINES = 10  # over the garment's height
GRID_DARK = 0.45  # how much of the light a grid line leaves
# Corners of the colour field in OKLab, evenly light: rose, gold / blue, green; every point between them is its own.
CORNERS = np.array(
    [[[0.76, 0.17, -0.02], [0.86, 0.02, 0.16]], [[0.70, -0.01, -0.16], [0.82, -0.15, 0.07]]], dtype=np.float32
)


def upsample(cells: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear values between cells, clamped at the border.

    Args:
        cells (`np.ndarray`): (height, width, channels).
        rows (`np.ndarray`), columns (`np.ndarray`): Cells, whole numbers being their centres; (H,) and (W,).

    Returns:
        `np.ndarray`: float32, (H, W, channels).
    """
    return np.moveaxis(interpolate(np.moveaxis(cells, -1, 0).astype(np.float32), columns, rows), 0, -1)


def places_between(cells: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Garment places and certainties between cells, from `TryOnAttention.coordinates`.

    Bilinear, with every cell's place weighted by its opacity (see `opacity_of`): cells of low certainty, such as those
    beyond the edge of the worn garment, hardly move the places beside them.

    Args:
        cells, rows, columns: See `upsample`; the channels are x, y and certainty.

    Returns:
        `np.ndarray`: float32, (H, W, 3).
    """
    weight = opacity_of(cells[..., 2:]) + 1e-3
    values = upsample(np.concatenate([cells[..., :2] * weight, cells[..., 2:], weight], axis=-1), rows, columns)
    values[..., :2] /= values[..., 3:]
    return values[..., :3]


def opacity_of(certainty: np.ndarray) -> np.ndarray:
    """Opacity of a pixel, from its certainty: 0 up to 0.25, 1 from 0.65, smooth in between."""
    share = ((certainty - INVISIBLE) / (SOLID - INVISIBLE)).clip(0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def warp_garment(cells: np.ndarray, inputs: TryOnInputs, garment: PreparedGarment) -> Image.Image:
    """Draw the garment where its attention landed; see `TryOnAttention.warp`.

    Args:
        cells (`np.ndarray`): Result of `TryOnAttention.coordinates`.
        inputs (`TryOnInputs`): Person with photo, frame and mask.
        garment (`PreparedGarment`): Garment whose `original` is drawn.

    Returns:
        `PIL.Image.Image`: RGBA, of the photo's size and in its colour space.
    """
    frame, photo_size = inputs.frame, inputs.photo.size
    mask, (left, top) = frame.uncrop(inputs.frame_mask, resample=Image.Resampling.BILINEAR)
    warped = Image.new("RGBA", photo_size)
    box = mask.getbbox()
    if box is None:
        return warped
    original, shrunk = matching_resolution(cells, garment, frame.size)
    profile = inputs.photo.info.get("icc_profile")
    colours = np.asarray(from_srgb(original, profile))
    if profile:
        warped.info["icc_profile"] = profile
    height, width = cells.shape[:2]
    columns = (np.arange(box[0], box[2]) + left + 0.5 - frame.box[0]) / frame.size[0] * width - 0.5
    rows_at_once = max(1, STRIP // (box[2] - box[0]))
    for start in range(box[1], box[3], rows_at_once):
        stop = min(start + rows_at_once, box[3])
        rows = (np.arange(start, stop) + top + 0.5 - frame.box[1]) / frame.size[1] * height - 0.5
        values = places_between(cells, rows, columns)
        x, y = garment.to_original(values[..., 0], values[..., 1])
        x, y = ((place + 0.5) * scale - 0.5 for place, scale in zip((x, y), shrunk, strict=True))
        strip = np.empty((*values.shape[:2], 4), np.uint8)
        strip[..., :3] = cv2.remap(
            colours, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        # a pixel's width of transition where the image ends and the added canvas begins
        inside = [
            np.minimum(place + 1.0, side - place).clip(0.0, 1.0)
            for place, side in zip((x, y), original.size, strict=True)
        ]
        painted = np.asarray(mask.crop((box[0], start, box[2], stop))) >= 128
        opacity = opacity_of(values[..., 2]) * inside[0] * inside[1] * painted
        strip[..., 3] = np.rint(opacity * 255)
        warped.paste(Image.fromarray(strip), (left + box[0], top + start))
    return warped


def draw_correspondence(
    cells: np.ndarray, result: Image.Image, inputs: TryOnInputs, garment: PreparedGarment, height: int
) -> Image.Image:
    """Colours and a grid on the garment, and where they landed; see `TryOnAttention.to_image`.

    Args:
        cells (`np.ndarray`): Result of `TryOnAttention.coordinates`.
        result (`PIL.Image.Image`): Result, of the photo's size.
        inputs (`TryOnInputs`), garment (`PreparedGarment`): Person and garment of the result.
        height (`int`): Height of each of the two images, in pixels.

    Returns:
        `PIL.Image.Image`: RGB.
    """
    size = _panel_size(garment, height)
    box, known = _garment_on_canvas(garment.image)
    across = (centres(side, count) for side, count in zip(garment.image.size, size, strict=True))
    x, y = np.meshgrid(*across)
    opacity = cv2.remap(known, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    left = _paint(_canvas_at(garment, size), _colour_field(x, y, box), opacity, dimmed=1.0)

    values = places_between(
        cells, *(centres(side, count) for side, count in zip(cells.shape, size[::-1], strict=False))
    )
    x, y = np.ascontiguousarray(values[..., 0]), np.ascontiguousarray(values[..., 1])
    opacity = cv2.remap(known, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    opacity *= opacity_of(values[..., 2])
    opacity *= np.asarray(inputs.frame_mask.resize(size, Image.Resampling.BILINEAR), dtype=np.float32) / 255
    body = inputs.frame.crop(result, size)
    right = _paint(body, _colour_field(x, y, box), opacity, dimmed=0.62)
    return labelled_grid([("the garment", left), ("where it landed", right)], size)


def draw_map(
    heat: np.ndarray,
    pixel: tuple[float, float],
    result: Image.Image,
    inputs: TryOnInputs,
    garment: PreparedGarment,
    height: int,
) -> Image.Image:
    """One pixel's attention as heat on the garment, and the pixel on the result; see `TryOnAttention.draw_map`.

    Args:
        heat (`np.ndarray`): Result of `TryOnAttention.map_of`.
        pixel (`tuple[float, float]`): x and y of the result.
        result, inputs, garment, height: See `draw_correspondence`.

    Returns:
        `PIL.Image.Image`: RGB.
    """
    size = _panel_size(garment, height)
    places = (centres(side, count) for side, count in zip(heat.shape, size[::-1], strict=True))
    left = _paint_heat(_canvas_at(garment, size), upsample(heat[..., None], *places)[..., 0])
    right = inputs.frame.crop(result, size)
    x, y = inputs.frame.from_photo(*pixel, size)
    pencil, radius = ImageDraw.Draw(right), height / 60
    for grow, colour in ((2.5, (0, 0, 0)), (0.0, (255, 255, 255))):
        pencil.circle((x + 0.5, y + 0.5), radius + grow / 2, outline=colour, width=round(3 + grow))
    pencil.circle((x + 0.5, y + 0.5), 2, fill=(255, 60, 0))
    return labelled_grid([("where it looked", left), (f"the pixel {pixel[0]:g}, {pixel[1]:g}", right)], size)


def draw_heat(heat: np.ndarray, garment: PreparedGarment, longest_side: int) -> Image.Image:
    """One pixel's attention as heat on the garment's image as it was passed in.

    Args:
        heat (`np.ndarray`): Result of `TryOnAttention.map_of`.
        garment (`PreparedGarment`): Garment whose `original` is drawn.
        longest_side (`int`): Longest side of the drawing, in pixels, where the image is larger.

    Returns:
        `PIL.Image.Image`: RGB, in the image's proportions.
    """
    image = garment.original.copy()
    image.thumbnail((longest_side, longest_side))
    across, down = (
        (np.arange(count) + 0.5) * (side / count) - 0.5
        for side, count in zip(garment.original.size, image.size, strict=True)
    )
    columns, rows = garment.frame.from_photo(across, down, heat.shape[::-1])
    return _paint_heat(image, upsample(heat[..., None], rows, columns)[..., 0])


def matching_resolution(
    cells: np.ndarray, garment: PreparedGarment, size: tuple[int, int]
) -> tuple[Image.Image, tuple[float, float]]:
    """The garment's image, shrunk where a pixel that is drawn covers several of it, and the scale of x and y.

    Args:
        cells (`np.ndarray`): Result of `TryOnAttention.coordinates`.
        garment (`PreparedGarment`): Garment whose `original` is drawn.
        size (`tuple[int, int]`): Width and height that the frame is drawn at.
    """
    original = garment.original
    x, y = garment.to_original(cells[..., 0], cells[..., 1])
    sure = cells[:-1, :-1, 2] >= INVISIBLE
    # garment pixels a cell's area covers, from the steps to its neighbours
    area = np.abs(
        np.diff(x, axis=1)[:-1] * np.diff(y, axis=0)[:, :-1] - np.diff(x, axis=0)[:, :-1] * np.diff(y, axis=1)[:-1]
    )
    cell_area = size[0] / cells.shape[1] * size[1] / cells.shape[0]
    stretch = float(np.sqrt(np.median(area[sure]) / cell_area)) if sure.any() else 1.0
    # OpenCV maps images of less than 32768 pixels a side
    factor = max(stretch, max(original.size) / 32000)
    if factor < 1.5:
        return original, (1.0, 1.0)
    size = tuple(max(1, round(side / factor)) for side in original.size)
    shrunk = original.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
    return shrunk, (size[0] / original.width, size[1] / original.height)


def _panel_size(garment: PreparedGarment, height: int) -> tuple[int, int]:
    if not is_whole_number(height) or not 32 <= height <= 8192:
        raise InvalidInput(f"height is {height!r}: pass a whole number of pixels from 32 to 8192.")
    width, canvas_height = garment.image.size
    return max(1, round(width * height / canvas_height)), int(height)


def centres(side: int, count: int) -> np.ndarray:
    """The centres of `count` pixels over `side` cells, in cells; float32."""
    return ((np.arange(count) + 0.5) * (side / count) - 0.5).astype(np.float32)


def _canvas_at(garment: PreparedGarment, size: tuple[int, int]) -> Image.Image:
    """The prepared garment at another size."""
    return garment.image.resize(size, Image.Resampling.LANCZOS)


def _garment_on_canvas(canvas: Image.Image) -> tuple[Box, np.ndarray]:
    """Box of the garment, and where the canvas shows it, softly: float32 in [0, 1], (H, W)."""
    area = garment_area(canvas)
    if area is None:
        return (0, 0, *canvas.size), np.ones((canvas.height, canvas.width), np.float32)
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return box, cv2.GaussianBlur(area.astype(np.float32), (0, 0), max(0.8, canvas.width / 400))


def _colour_field(x: np.ndarray, y: np.ndarray, box: Box) -> np.ndarray:
    """RGB in [0, 1], (H, W, 3): for each place of the canvas its colour within the garment's box, and a dark grid."""
    left, top, right, bottom = box
    across = ((x + 0.5 - left) / (right - left)).clip(0, 1)[..., None]
    down = ((y + 0.5 - top) / (bottom - top)).clip(0, 1)[..., None]
    upper = CORNERS[0, 0] * (1 - across) + CORNERS[0, 1] * across
    lower = CORNERS[1, 0] * (1 - across) + CORNERS[1, 1] * across
    colours = _oklab_to_rgb(upper * (1 - down) + lower * down)
    spacing = (bottom - top) / GRID_LINES
    lines = np.maximum(_lines((x - left) / spacing), _lines((y - top) / spacing))
    return colours * (1 - GRID_DARK * lines[..., None])


def _lines(phase: np.ndarray) -> np.ndarray:
    """Lines where `phase` is whole, of the same width wherever it changes slowly, and none where it races: (H, W)."""
    if min(phase.shape) < 2:
        return np.zeros_like(phase)
    steepness = np.hypot(*np.gradient(phase))  # lines a pixel
    offset = np.abs(phase - np.rint(phase))
    half_width = max(phase.shape) / 640
    lines = (half_width + 0.5 - offset / np.maximum(steepness, 1e-6)).clip(0, 1)
    lines *= ((0.16 - offset) / 0.08).clip(0, 1)  # where the map stands still a line would become a blot
    return lines * (2 - 8 * steepness * half_width).clip(0, 1)


def _paint(image: Image.Image, colours: np.ndarray, opacity: np.ndarray, dimmed: float) -> Image.Image:
    """Colours over a dimmed, half grey image whose light and shadow stay visible through them."""
    values = np.asarray(image, dtype=np.float32) / 255
    light = np.asarray(image.convert("L"), dtype=np.float32)[..., None] / 255
    ground = (0.5 * values + 0.5 * light) * dimmed if dimmed < 1 else values
    weight = 0.9 * opacity[..., None]
    painted = ground * (1 - weight) + colours * (0.8 + 0.2 * light) * weight
    return Image.fromarray(np.rint(painted.clip(0, 1) * 255).astype(np.uint8))


def _paint_heat(image: Image.Image, heat: np.ndarray) -> Image.Image:
    """Heat, (H, W), over an image of the same size, from its least to its most."""
    share = heat / max(float(heat.max()), 1e-12)
    colours = cv2.applyColorMap(np.rint(share * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    # the square root keeps what is faint visible
    weight = 0.25 + 0.7 * np.sqrt(share)[..., None]
    values = np.asarray(image, dtype=np.float32) * (1 - weight) + colours * weight
    return Image.fromarray(np.rint(values).astype(np.uint8))


def _oklab_to_rgb(lab: np.ndarray) -> np.ndarray:
    """OKLab (Ottosson, 2020) to sRGB in [0, 1]."""
    to_cones = np.array(
        [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.291485548]]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.707614701],
        ]
    )
    linear = ((lab @ to_cones.T.astype(np.float32)) ** 3 @ to_linear.T.astype(np.float32)).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
