"""From the DensePose head to images: labels and surface coordinates of the photo's pixels, the parula drawing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...errors import InvalidInput
from ...images import ImageLike, load_image

if TYPE_CHECKING:
    import torch

# Colours of the labels 0 (background) to 24, RGB: the ones that StableVITON was trained with.
# fmt: off
PARULA = np.array(
    [
        (0, 0, 0), (37, 60, 163), (20, 80, 194), (4, 97, 223), (8, 110, 221), (14, 122, 216), (20, 132, 212),
        (15, 144, 208), (11, 156, 203), (6, 166, 198), (22, 173, 185), (38, 179, 172), (55, 185, 159), (86, 187, 144),
        (114, 189, 130), (145, 191, 116), (170, 189, 105), (192, 188, 96), (216, 186, 86), (228, 192, 74),
        (240, 199, 60), (252, 206, 46), (251, 220, 36), (250, 235, 25), (249, 251, 14),
    ],
    dtype=np.uint8,
)
# fmt: on
PARULA.flags.writeable = False

STRIP_PIXELS = 2**16  # rendered at a time: bounds the memory for large photos, and fits into a processor's cache
FOREIGN_DISTANCE = 48.0  # RGB; JPEG and resizing stay well below it
FOREIGN_SHARE = 0.25


def to_whole_pixels(box: Sequence[float]) -> tuple[int, int, int, int]:
    """Left, top, width and height of a box (left, top, right, bottom) as the DensePose drawing rounds them.

    Corner and sides are cut to whole numbers, each side at least one pixel.
    """
    left, top, right, bottom = (float(edge) for edge in box)
    return int(left), int(top), max(int(right - left), 1), max(int(bottom - top), 1)


def render_labels(
    coarse_segm: torch.Tensor, fine_segm: torch.Tensor, box: Sequence[float], size: tuple[int, int]
) -> np.ndarray:
    """Body part of each pixel: the best of the 25 fine classes where the coarse classes say "body".

    Both are resized bilinearly to the box first. What lies outside of the image is cut off.

    Args:
        coarse_segm (`torch.Tensor`): (2, h, w), logits of background and body.
        fine_segm (`torch.Tensor`): (25, h, w), logits of background and 24 parts.
        box (`tuple[float, float, float, float]`): Left, top, right, bottom of the person in pixels of the image.
        size (`tuple[int, int]`): Width and height of the image.

    Returns:
        `np.ndarray`: uint8 in [0, 24], (height, width), 0 = background.
    """
    labels = np.zeros((size[1], size[0]), dtype=np.uint8)
    grid = _Grid(box, size, tuple(fine_segm.shape[1:]))
    coarse, fine = grid.widen(_to_array(coarse_segm)), grid.widen(_to_array(fine_segm))
    for rows, area in grid.strips():
        part = labels[area]
        best = grid.interpolate(fine[0], rows)
        for index in range(1, len(fine)):
            logits = grid.interpolate(fine[index], rows)
            np.copyto(part, index, where=logits > best)
            np.maximum(best, logits, out=best)
        part *= grid.interpolate(coarse[1], rows) > grid.interpolate(coarse[0], rows)
    return labels


def render_uv(
    u: torch.Tensor, v: torch.Tensor, labels: np.ndarray, box: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Surface coordinates of each labelled pixel, from the maps of the part that its label names.

    Args:
        u (`torch.Tensor`): (25, h, w).
        v (`torch.Tensor`): (25, h, w).
        labels (`np.ndarray`): What `render_labels` returned for the same box.
        box (`tuple[float, float, float, float]`): Left, top, right, bottom of the person in pixels of the image.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: u and v, float32 in [0, 1], (height, width), 0 on the background.
    """
    height, width = labels.shape
    u_values, v_values = np.zeros((2, height, width), dtype=np.float32)
    grid = _Grid(box, (width, height), tuple(u.shape[1:]))
    maps = ((_to_array(u), u_values), (_to_array(v), v_values))
    for rows, area in grid.strips():
        part = labels[area]
        y, x = np.nonzero(part)  # a pixel needs one map of the 25, so only that one is interpolated
        part, row, column = part[y, x], y + rows.start, x
        for values, target in maps:
            target[area][y, x] = grid.interpolate_at(values, part, row, column).clip(0, 1)
    return u_values, v_values


def draw_labels(labels: np.ndarray) -> Image.Image:
    """Colour a label map with `PARULA`.

    Args:
        labels (`np.ndarray`): uint8 in [0, 24], (H, W).

    Returns:
        `PIL.Image.Image`: RGB.

    Raises:
        `InvalidInput`: if it is no label map.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer) or labels.size == 0:
        raise InvalidInput(f"labels is {labels.dtype} of shape {labels.shape}: pass integers in [0, 24], (H, W).")
    if labels.min() < 0 or labels.max() >= len(PARULA):
        raise InvalidInput(f"labels has values from {labels.min()} to {labels.max()}: pass DensePose's 0 to 24.")
    return Image.fromarray(PARULA[labels])


def labels_from_image(image: ImageLike) -> np.ndarray:
    """Read the labels back from a parula drawing, even one that was resized or saved as JPEG.

    Args:
        image (`PIL.Image.Image`, or anything image-like): A drawing as `draw_labels` makes it.

    Returns:
        `np.ndarray`: uint8 in [0, 24], (H, W): the label with the nearest colour.

    Raises:
        `InvalidInput`: if over a quarter of what isn't black has no colour near the palette.
    """
    pixels = np.asarray(load_image(image, name="densepose"))
    height, width = pixels.shape[:2]
    rows = max(1, STRIP_PIXELS // width)
    strips = [slice(top, top + rows) for top in range(0, height, rows)]
    # a drawing has far fewer colours than pixels: look each one up once
    seen = np.zeros(2**24, dtype=bool)
    for strip in strips:
        seen[_pack(pixels[strip])] = True
    colours = np.flatnonzero(seen)
    nearest, distance = _nearest_label(colours)
    label_of = np.zeros(2**24, dtype=np.uint8)
    label_of[colours] = nearest
    seen[colours] = distance > FOREIGN_DISTANCE
    labels = np.empty((height, width), dtype=np.uint8)
    foreign = 0
    for strip in strips:
        packed = _pack(pixels[strip])
        labels[strip] = label_of[packed]
        foreign += int(np.count_nonzero(seen[packed]))
    if foreign > FOREIGN_SHARE * max(np.count_nonzero(labels), 1):
        raise InvalidInput(
            "densepose is no DensePose drawing in the parula colours: pass an image made by `draw_labels` "
            "(black background, blue to yellow body parts, RGB)."
        )
    return labels


def _pack(pixels: np.ndarray) -> np.ndarray:
    """Each RGB triple as one number."""
    wide = pixels.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _nearest_label(colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label of the palette's nearest colour, and the distance to it, for packed colours (N,)."""
    labels = np.empty(len(colours), dtype=np.uint8)
    distances = np.empty(len(colours), dtype=np.float32)
    palette = PARULA.astype(np.float32)
    for start in range(0, len(colours), STRIP_PIXELS):
        some = slice(start, start + STRIP_PIXELS)
        rgb = np.stack([colours[some] >> shift & 255 for shift in (16, 8, 0)], axis=1).astype(np.float32)
        squared = (rgb**2).sum(axis=1)[:, None] - 2 * rgb @ palette.T + (palette**2).sum(axis=1)
        labels[some] = squared.argmin(axis=1)
        distances[some] = np.sqrt(squared.min(axis=1))
    return labels, distances


def _to_array(values: torch.Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()


class _Grid:
    """Bilinear resizing (corners not aligned) of maps to a person's box, cut at the image's edges.

    The same values as `torch.nn.functional.interpolate` of the whole box, but a map and a strip of rows at a time, so
    that a large photo doesn't need 25 floats per pixel.

    Args:
        box (`tuple[float, float, float, float]`): Left, top, right, bottom in pixels of the image.
        size (`tuple[int, int]`): Width and height of the image.
        source (`tuple[int, int]`): Height and width of the maps.
    """

    def __init__(self, box: Sequence[float], size: tuple[int, int], source: tuple[int, int]):
        left, top, width, height = to_whole_pixels(box)
        self.left, self.before, self.column_weight = self._axis(left, width, size[0], source[1])
        self.top, self.above, self.row_weight = self._axis(top, height, size[1], source[0])
        self.after = np.minimum(self.before + 1, source[1] - 1)
        self.below = np.minimum(self.above + 1, source[0] - 1)

    @staticmethod
    def _axis(start: int, length: int, limit: int, source: int) -> tuple[int, np.ndarray, np.ndarray]:
        """First pixel of a side that is in the image; for each, the sample before it and the weight of the next."""
        first = max(start, 0)
        pixels = np.arange(first, max(min(start + length, limit), first)) - start
        position = ((pixels + 0.5) * (source / length) - 0.5).clip(0, source - 1)
        before = position.astype(np.int64)
        return first, before, (position - before).astype(np.float32)

    def strips(self) -> Iterator[tuple[slice, tuple[slice, slice]]]:
        """Rows of the grid, some at a time, and where they lie in the image; none if the box lies outside of it."""
        count, columns = len(self.above), len(self.before)
        if not columns:
            return
        step = max(1, STRIP_PIXELS // columns)
        for start in range(0, count, step):
            stop = min(start + step, count)
            yield (
                slice(start, stop),
                (slice(self.top + start, self.top + stop), slice(self.left, self.left + columns)),
            )

    def widen(self, maps: np.ndarray) -> np.ndarray:
        """(C, h, w) -> (C, h, columns)."""
        return _mix(maps[:, :, self.before], maps[:, :, self.after], self.column_weight)

    def interpolate(self, wide: np.ndarray, rows: slice) -> np.ndarray:
        """(h, columns) -> (rows, columns)."""
        return _mix(wide[self.above[rows]], wide[self.below[rows]], self.row_weight[rows, None])

    def interpolate_at(self, maps: np.ndarray, index: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Values (N,) of the maps with these indices, (N,), at single pixels of the grid."""
        before, after, weight = self.before[column], self.after[column], self.column_weight[column]
        above, below = self.above[row], self.below[row]
        upper = _mix(maps[index, above, before], maps[index, above, after], weight)
        lower = _mix(maps[index, below, before], maps[index, below, after], weight)
        return _mix(upper, lower, self.row_weight[row])


def _mix(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Linear interpolation that reuses `second`, which must be the caller's to spend."""
    second -= first
    second *= weight
    second += first
    return second
