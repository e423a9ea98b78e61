"""Antialiased drawing on a supersampled canvas: the few operations that the figures need, on 8-bit images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

from ...errors import InvalidInput

UNITS_WIDE, UNITS_HIGH = 192, 256  # geometry is stated in canvas units, whatever the image's size
SHIFT = 4  # fractional bits of OpenCV's drawing coordinates
MAX_HEIGHT = 2048

Points = np.ndarray  # (N, 2) as x, y in canvas units
Box = tuple[int, int, int, int]  # top, left, bottom, right in subpixels, on whole pixels


def shape_of(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of images of `size`, which is a width and a height.

    Raises:
        `InvalidInput`: if it isn't a width and a height with 3:4 proportions between 48 x 64 and 1536 x 2048.
    """
    try:
        width, height = (int(side) for side in size)
    except (TypeError, ValueError):
        width = height = 0
    if width * 4 != height * 3 or not 64 <= height <= MAX_HEIGHT or (width, height) != tuple(size):
        raise InvalidInput(
            f"size is {size!r}: pass (width, height) with 3:4 proportions, from (48, 64) to (1536, {MAX_HEIGHT})."
        )
    return height, width


@dataclass(frozen=True, eq=False)
class Layer:
    """A coverage map on a part of the supersampled canvas.

    Args:
        top, left (`int`): Corner of the part, in subpixels, a multiple of `supersample`.
        alpha (`np.ndarray`): uint8, 255 = covered, (h, w), h and w multiples of `supersample`.
        supersample (`int`): Subpixels per pixel and direction.
    """

    top: int
    left: int
    alpha: np.ndarray
    supersample: int

    @cached_property
    def area(self) -> tuple[slice, slice]:
        """Rows and columns of the supersampled canvas."""
        height, width = self.alpha.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    @property
    def box(self) -> Box:
        """The part of the supersampled canvas as a box."""
        return self.top, self.left, self.top + self.alpha.shape[0], self.left + self.alpha.shape[1]

    @cached_property
    def pixels(self) -> tuple[slice, slice]:
        """Rows and columns of the final image."""
        (rows, columns), step = self.area, self.supersample
        return slice(rows.start // step, rows.stop // step), slice(columns.start // step, columns.stop // step)

    @cached_property
    def coverage(self) -> np.ndarray:
        """Share of every final pixel that the layer covers, float32; exactly 0 or 1 where it covers none or all."""
        return shrink(self.alpha.astype(np.float32), self.supersample) * np.float32(1 / 255)


class Canvas:
    """Draws for images of one size.

    Args:
        shape (`tuple[int, int]`): Height and width of the final image.
        supersample (`int`, *optional*, defaults to 2): Subpixels per pixel and direction.
    """

    def __init__(self, shape: tuple[int, int], supersample: int = 2):
        self.shape = shape
        self.supersample = supersample
        self.height: int = shape[0] * supersample
        self.width: int = shape[1] * supersample
        self.scale: float = self.height / UNITS_HIGH  # subpixels per canvas unit

    def box(self, points: Points, margin: float = 0.0) -> Box:
        """The part of the canvas around the points; one pixel large where they are all outside."""
        return self._box(self._fixed(points), margin)

    def polygon(self, *outlines: Points) -> Layer:
        """Union of filled polygons, as a layer."""
        fixed = [self._fixed(points) for points in outlines]
        top, left, bottom, right = self._box(fixed[0] if len(fixed) == 1 else np.concatenate(fixed), 0.0)
        alpha = np.zeros((bottom - top, right - left), np.uint8)
        for points in fixed:
            cv2.fillPoly(alpha, [_moved(points, top, left)], 255, cv2.LINE_AA, SHIFT)
        return Layer(top, left, alpha, self.supersample)

    def fill(self, image: np.ndarray, points: Points, colour: np.ndarray, origin: tuple[int, int] = (0, 0)) -> None:
        """Paint a filled polygon on an image whose first subpixel is `origin` (top, left), in place."""
        cv2.fillPoly(image, [_moved(self._fixed(points), *origin)], _scalar(colour), cv2.LINE_AA, SHIFT)

    def line(
        self, image: np.ndarray, width: float, points: Points, colour: np.ndarray, origin: tuple[int, int] = (0, 0)
    ) -> None:
        """Paint a line of a width in canvas units, with round ends, in place."""
        thickness = max(1, round(width * self.scale))
        cv2.polylines(
            image, [_moved(self._fixed(points), *origin)], False, _scalar(colour), thickness, cv2.LINE_AA, SHIFT
        )

    def fields(self, box: Box) -> tuple[np.ndarray, np.ndarray]:
        """Canvas units x (1, w) and y (h, 1) of the subpixel centres in a box, float32, to broadcast."""
        top, left, bottom, right = box
        x = (np.arange(left, right, dtype=np.float32) + np.float32(0.5)) * np.float32(1 / self.scale)
        y = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5)) * np.float32(1 / self.scale)
        return x[None, :], y[:, None]

    def centres(self, box: Box) -> tuple[np.ndarray, np.ndarray]:
        """Canvas units x (1, w) and y (h, 1) of the final pixels' centres in a box, float32, to broadcast.

        What is smooth is computed there and `repeated`: the average over a pixel's subpixels would hardly differ.
        """
        return Canvas(self.shape, supersample=1).fields(tuple(edge // self.supersample for edge in box))

    def _box(self, fixed: np.ndarray, margin: float) -> Box:
        step = self.supersample
        x, y, width, height = cv2.boundingRect(fixed)
        one, reach = 1 << SHIFT, margin * self.scale + 2  # two subpixels for the antialiased edge

        def whole(value: float) -> int:
            return int(value // step) * step

        top, left = whole(y / one - reach), whole(x / one - reach)
        bottom, right = whole((y + height) / one + reach) + step, whole((x + width) / one + reach) + step
        top, left = min(max(top, 0), self.height - step), min(max(left, 0), self.width - step)
        return top, left, max(min(bottom, self.height), top + step), max(min(right, self.width), left + step)

    def _fixed(self, points: Points) -> np.ndarray:
        """OpenCV's drawing coordinates on the whole canvas, int32."""
        fixed = points * (self.scale * (1 << SHIFT))
        fixed -= (1 << SHIFT) / 2 - 0.5  # half a subpixel, and to round
        return fixed.astype(np.int32)


def _moved(fixed: np.ndarray, top: int, left: int) -> np.ndarray:
    """Drawing coordinates, counted from a corner in subpixels."""
    if left:
        fixed[:, 0] -= left << SHIFT
    if top:
        fixed[:, 1] -= top << SHIFT
    return fixed


@dataclass(frozen=True, eq=False)
class Overlay:
    """An image with its own coverage, to be laid over many others.

    Where it covers fully nothing of the image below survives, not even a rounding error.

    Args:
        layer (`Layer`): Coverage.
        colours (`np.ndarray`): uint8 RGB of the layer's part of the canvas, (h, w, 3).
    """

    layer: Layer
    colours: np.ndarray

    @classmethod
    def blank(cls, box: Box, colour: np.ndarray, supersample: int) -> Overlay:
        """An overlay that covers nothing yet, on a part of the canvas, in one colour."""
        top, left, bottom, right = box
        colours = np.empty((bottom - top, right - left, 3), np.uint8)
        flood(colours, colour)
        return cls(Layer(top, left, np.zeros(colours.shape[:2], np.uint8), supersample), colours)

    @property
    def origin(self) -> tuple[int, int]:
        """Top and left, in subpixels of the canvas."""
        return self.layer.top, self.layer.left

    def beneath(self, cover: Layer) -> Overlay:
        """The overlay, cut off where a layer covers it."""
        alpha = cv2.multiply(self.layer.alpha, 255 - sampled(cover, self.layer), scale=1 / 255)
        return Overlay(Layer(self.layer.top, self.layer.left, alpha, self.layer.supersample), self.colours)

    def onto(self, image: np.ndarray) -> None:
        """Lay the overlay over a supersampled image, in place."""
        blend(image[self.layer.area], self.colours, self.layer.alpha)


def blend(image: np.ndarray, colours: np.ndarray, alpha: np.ndarray) -> None:
    """Lay colours (h, w, 3) over an image (h, w, 3) in place, with an opacity alpha, uint8 (h, w)."""
    if image.dtype == np.uint8:
        opaque = cv2.merge((alpha, alpha, alpha))
        laid = cv2.multiply(colours, opaque, scale=1 / 255)
        cv2.bitwise_not(opaque, opaque)
        cv2.multiply(image, opaque, opaque, scale=1 / 255)
        cv2.add(opaque, laid, image)
        return
    share = alpha.astype(np.float32) * np.float32(1 / 255)
    share = cv2.merge((share, share, share))
    image += share * (colours - image)


def flood(image: np.ndarray, colour: np.ndarray) -> None:
    """Fill an 8-bit image (h, w, 3), in place; numpy's broadcast over three channels takes ten times as long."""
    cv2.rectangle(image, (0, 0), (image.shape[1], image.shape[0]), _scalar(colour), cv2.FILLED)


def tint(image: np.ndarray, layer: Layer, colour: np.ndarray) -> None:
    """Lay one colour over a supersampled 8-bit image, in place, through a layer."""
    colours = np.empty((*layer.alpha.shape, 3), np.uint8)
    flood(colours, colour)
    blend(image[layer.area], colours, layer.alpha)


def ramp(share: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Colours between two: share float in [0, 1], (h, w), to uint8 RGB, (h, w, 3)."""
    table = low + steps(256)[:, None] * (np.asarray(high) - low)
    table = (table + 0.5).clip(0, 255).astype(np.uint8)
    index = cv2.convertScaleAbs(np.ascontiguousarray(share, dtype=np.float32), alpha=255.0)
    return cv2.applyColorMap(index, table[:, None, :])


def shaded(light: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """One colour under light in [0, 1.25], (h, w), to uint8 RGB, (h, w, 3)."""
    return ramp(light * np.float32(0.8), np.zeros(3), np.asarray(colour) * 1.25)


def shrink(values: np.ndarray, step: int) -> np.ndarray:
    """Mean over blocks of step x step."""
    if step == 1:
        return values
    return cv2.resize(values, (values.shape[1] // step, values.shape[0] // step), interpolation=cv2.INTER_AREA)


def enlarge(values: np.ndarray, step: int) -> np.ndarray:
    """Linear interpolation to step times the resolution; linear functions stay exact."""
    if step == 1:
        return values
    return cv2.resize(values, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)


def bell(values: np.ndarray) -> np.ndarray:
    """exp(-x^2) of float32 fields; OpenCV takes a fifth of numpy's time."""
    return cv2.exp(-values * values)


def paste(image: np.ndarray, values: np.ndarray, where: np.ndarray) -> None:
    """Copy values (h, w) into an image, in place, where a bool mask is set; in a third of `np.copyto`'s time."""
    cv2.copyTo(values, where.view(np.uint8), image)


def repeated(values: np.ndarray, step: int) -> np.ndarray:
    """Every pixel of (h, w) or (h, w, 3) as a block of step x step."""
    if step == 1:
        return values
    height, width = values.shape[:2]
    wide = cv2.resize(values, (width * step, height), interpolation=cv2.INTER_NEAREST)
    return np.repeat(wide, step, axis=0)


def soften(values: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a uint8 image: two boxes, which look like a Gaussian and take a quarter of its time."""
    size = 2 * round((np.sqrt(6 * sigma**2 + 1) - 1) / 2) + 1
    return cv2.blur(cv2.blur(values, (size, size)), (size, size))


def restrict(layer: Layer, within: Layer) -> Layer:
    """Cut a layer off, in place, where the other one doesn't cover; return it."""
    cv2.multiply(layer.alpha, sampled(within, layer), layer.alpha, scale=1 / 255)
    return layer


def sampled(layer: Layer, area: Layer) -> np.ndarray:
    """A layer's alpha on another one's part of the canvas."""
    values = np.zeros_like(area.alpha)
    cut = intersect(layer, area)
    if cut is not None:
        values[cut[1]] = layer.alpha[cut[0]]
    return values


def intersect(first: Layer, second: Layer) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """The common part of two layers, as slices into each; None where they don't meet."""
    (rows, columns), (other_rows, other_columns) = first.area, second.area
    top, bottom = max(rows.start, other_rows.start), min(rows.stop, other_rows.stop)
    left, right = max(columns.start, other_columns.start), min(columns.stop, other_columns.stop)
    if top >= bottom or left >= right:
        return None
    return tuple(
        (slice(top - layer.top, bottom - layer.top), slice(left - layer.left, right - layer.left))
        for layer in (first, second)
    )


def xy(x: np.ndarray, y: np.ndarray | float) -> Points:
    """Points (N, 2) of their coordinates, in a quarter of `np.stack`'s time."""
    points = np.empty((len(x), 2))
    points[:, 0], points[:, 1] = x, y
    return points


@lru_cache(maxsize=32)
def steps(count: int) -> np.ndarray:
    """From 0 to 1 in `count` equal steps, both included."""
    values = np.linspace(0, 1, count)
    values.flags.writeable = False
    return values


def ellipse_points(centre: Points, axes: tuple[float, float], angle: float = 0.0, count: int = 32) -> Points:
    """Outline of an ellipse; `angle` in degrees, clockwise."""
    return np.asarray(centre) + rotate(_circle(count) * axes, angle)


def rotate(points: Points, angle: float) -> Points:
    """Turn points about the origin; `angle` in degrees, clockwise on the screen."""
    if angle == 0:
        return points
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return points @ np.array([[cos, sin], [-sin, cos]])


def smooth(points: Points, count: int = 6, *, closed: bool = False) -> Points:
    """Catmull-Rom curve through the points, `count` samples a span."""
    return _catmull_rom(len(points), count, closed) @ np.asarray(points, dtype=np.float64)


def mirrored(points: Points) -> Points:
    """The same outline on the other side, in the opposite order: closes a half that runs from top to bottom."""
    return points[::-1] * (-1, 1)


@lru_cache(maxsize=64)
def _catmull_rom(size: int, count: int, closed: bool) -> np.ndarray:
    """The curve's samples as weights of its points, (samples, size)."""
    points = np.eye(size)
    if closed:
        padded, spans = np.concatenate([points[-1:], points, points[:2]]), size
    else:
        ends = 2 * points[:1] - points[1:2], 2 * points[-1:] - points[-2:-1]
        padded, spans = np.concatenate([ends[0], points, ends[1]]), size - 1
    t = (np.arange(count) / count)[:, None]
    basis = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
    weights = np.concatenate([t**0, t, t**2, t**3], axis=1) @ basis
    curve = np.concatenate([weights @ padded[span : span + 4] for span in range(spans)])
    return curve if closed else np.concatenate([curve, points[-1:]])


@lru_cache(maxsize=16)
def _circle(count: int) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return xy(np.cos(turn), np.sin(turn))


def _scalar(colour: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = colour
    return min(max(int(red), 0), 255), min(max(int(green), 0), 255), min(max(int(blue), 0), 255)
