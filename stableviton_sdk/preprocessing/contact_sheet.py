"""One image of everything that was prepared, to look at before (or after) trying on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from ..grids import labelled_grid
from ..images import load_image
from .drawing import colour_parsing, draw_pose, tint
from .frame import Frame

TILE = 384  # pixels, the height of a tile's image
FRAME_COLOUR = (255, 120, 0)


def draw_contact_sheet(
    *,
    photo: Image.Image,
    frame: Frame,
    person: Image.Image,
    mask: Image.Image,
    densepose: Image.Image,
    agnostic_at: Callable[[tuple[int, int]], Image.Image],
    parsing: np.ndarray | None,
    keypoints: np.ndarray | None,
) -> Image.Image:
    """Photo and frame, person, mask, agnostic image, DensePose, parse and joints of a prepared person, each labelled.

    Args:
        photo, frame, person, mask, densepose, parsing, keypoints:
            See `TryOnInputs`; all but the photo of the frame. A part that is None has no tile.
        agnostic_at (`Callable`): Returns the agnostic image at a size.

    Returns:
        `PIL.Image.Image`: RGB, about 1,250 x 860.
    """
    frame_width, frame_height = frame.size
    size = (max(1, round(TILE * frame_width / frame_height)), TILE)
    if size[0] > 2 * TILE:
        size = (2 * TILE, max(1, round(2 * TILE * frame_height / frame_width)))
    small = person.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    tiles = [
        ("photo and frame", _photo_with_frame(photo, frame, size)),
        ("person", small),
        ("mask: red is repainted", tint(small, mask.resize(size, Image.Resampling.BILINEAR))),
        ("agnostic", agnostic_at(size)),
        ("DensePose", densepose.resize(size, Image.Resampling.BILINEAR)),
    ]
    if parsing is not None:
        labels = Image.fromarray(np.asarray(parsing)).resize(size, Image.Resampling.NEAREST)
        tiles.append(("parse", colour_parsing(np.asarray(labels))))
    if keypoints is not None:
        tiles.append(("joints", draw_pose(small, np.asarray(keypoints) * (*size, 1.0))))
    return labelled_grid(tiles, size)


def _photo_with_frame(photo: Image.Image, frame: Frame, size: tuple[int, int]) -> Image.Image:
    """The photo, and around it the frame where it reaches outside, fitted into a tile."""
    (width, height), (left, top, right, bottom) = photo.size, frame.box
    x0, y0, x1, y1 = min(left, 0), min(top, 0), max(right, width), max(bottom, height)
    scale = min(size[0] / (x1 - x0), size[1] / (y1 - y0))
    margin_x, margin_y = (size[0] - (x1 - x0) * scale) / 2, (size[1] - (y1 - y0) * scale) / 2

    def place(x: int, y: int) -> tuple[int, int]:
        return round(margin_x + (x - x0) * scale), round(margin_y + (y - y0) * scale)

    tile = Image.new("RGB", size, (225, 225, 225))
    start, stop = place(0, 0), place(width, height)
    small_size = (max(1, stop[0] - start[0]), max(1, stop[1] - start[1]))
    small = photo.resize(small_size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    tile.paste(load_image(small, srgb=True), start)
    start, stop = place(left, top), place(right, bottom)
    corner = (max(start[0], stop[0] - 1), max(start[1], stop[1] - 1))
    ImageDraw.Draw(tile).rectangle((*start, *corner), outline=FRAME_COLOUR, width=2)
    return tile
