"""From the DensePose head to pictures: labels and surface coordinates of the photo's pixels, the parula drawing."""

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

STRIP_PIXELS = 2**18  # rendered at a time, which bounds the memory for large photos
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

    Both are resized bilinearly to the box first. What lies outside of the picture is cut off.

    Args:
        coarse_segm (`torch.Tensor`): (2, h, w), logits of background and body.
        fine_segm (`torch.Tensor`): (25, h, w), logits of background and 24 parts.
        box (`tuple[float, float, float, float]`): Left, top, right, bottom of the person in pixels of the picture.
        size (`tuple[int, int]`): Width and height of the picture.

    Returns:
        `np.ndarray`: uint8 in [0, 24], (height, width), 0 = background.
    """
    import torch

    labels = np.zeros((size[1], size[0]), dtype=np.uint8)
    for area, coarse, fine in _strips(box, size, coarse_segm, fine_segm):
        body = coarse[1] > coarse[0]
        labels[area] = (fine.argmax(dim=0) * body).to(device="cpu", dtype=torch.uint8).numpy()
    return labels


def render_uv(
    u: torch.Tensor, v: torch.Tensor, labels: np.ndarray, box: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Surface coordinates of each labelled pixel, from the maps of the part that its label names.

    Args:
        u (`torch.Tensor`): (25, h, w).
        v (`torch.Tensor`): (25, h, w).
        labels (`np.ndarray`): What `render_labels` returned for the same box.
        box (`tuple[float, float, float, float]`): Left, top, right, bottom of the person in pixels of the picture.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: u and v, float32 in [0, 1], (height, width), 0 on the background.
    """
    import torch

    height, width = labels.shape
    coordinates = np.zeros((2, height, width), dtype=np.float32)
    for area, *maps in _strips(box, (width, height), u, v):
        part = torch.from_numpy(labels[area]).to(device=u.device, dtype=torch.int64)[None]
        for target, values in zip(coordinates, maps, strict=True):
            chosen = values.gather(0, part)[0].clamp_(0, 1)
            target[area] = (chosen * (part[0] > 0)).cpu().numpy()
    return coordinates[0], coordinates[1]


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


def labels_from_picture(picture: ImageLike) -> np.ndarray:
    """Read the labels back from a parula drawing, even one that was resized or saved as JPEG.

    Args:
        picture (`PIL.Image.Image`, or anything image-like): A drawing as `draw_labels` makes it.

    Returns:
        `np.ndarray`: uint8 in [0, 24], (H, W): the label with the nearest colour.

    Raises:
        `InvalidInput`: if over a quarter of what isn't black has no colour near the palette.
    """
    pixels = np.asarray(load_image(picture, name="densepose"))
    height, width = pixels.shape[:2]
    labels = np.empty((height, width), dtype=np.uint8)
    palette = PARULA.astype(np.float32)
    half_norms = (palette**2).sum(axis=1) / 2
    drawn = foreign = 0
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = pixels[top : top + rows].reshape(-1, 3).astype(np.float32)
        nearness = strip @ palette.T - half_norms  # (|pixel|^2 - |pixel - colour|^2) / 2: greatest at the nearest
        nearest = nearness.argmax(axis=1)
        labels[top : top + rows] = nearest.reshape(-1, width)
        distance = (strip**2).sum(axis=1) - 2 * np.take_along_axis(nearness, nearest[:, None], axis=1)[:, 0]
        drawn += int(np.count_nonzero(nearest))
        foreign += int(np.count_nonzero(distance > FOREIGN_DISTANCE**2))
    if foreign > FOREIGN_SHARE * max(drawn, 1):
        raise InvalidInput(
            "densepose is no DensePose drawing in the parula colours: pass a picture made by `draw_labels` "
            "(black background, blue to yellow body parts, RGB)."
        )
    return labels


def _strips(box: Sequence[float], size: tuple[int, int], *maps: torch.Tensor) -> Iterator[tuple]:
    """Resize maps (C, h, w) to the box, some rows at a time, and cut them at the picture's edges.

    Bilinear, corners not aligned: the same values as `torch.nn.functional.interpolate` of the whole box, without
    holding 25 floats for each pixel of a large photo.

    Yields:
        `tuple`: where the rows lie in the picture (a pair of slices), then each map's (C, rows, columns), float32.
    """
    import torch
    import torch.nn.functional as F

    left, top, width, height = to_whole_pixels(box)
    columns = slice(max(left, 0), min(left + width, size[0]))
    rows = slice(max(top, 0), min(top + height, size[1]))
    if columns.start >= columns.stop or rows.start >= rows.stop:
        return
    inside = slice(columns.start - left, columns.stop - left)
    # columns first: at unchanged height the interpolation leaves the rows exactly as they are
    wide = [
        F.interpolate(values[None].float(), size=(values.shape[1], width), mode="bilinear")[0, :, :, inside]
        for values in maps
    ]
    step = max(1, STRIP_PIXELS // (inside.stop - inside.start))
    for start in range(rows.start, rows.stop, step):
        stop = min(start + step, rows.stop)
        strip = []
        for values in wide:
            source_height = values.shape[1]
            row = torch.arange(start - top, stop - top, device=values.device, dtype=torch.float32)
            position = ((row + 0.5) * (source_height / height) - 0.5).clamp_(0, source_height - 1)
            upper = position.floor().long()
            lower = (upper + 1).clamp_(max=source_height - 1)
            weight = (position - upper)[:, None]
            strip.append(torch.lerp(values[:, upper], values[:, lower], weight))
        yield ((slice(start, stop), columns), *strip)
