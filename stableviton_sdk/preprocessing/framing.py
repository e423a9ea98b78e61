"""Crop or pad a photo to the network's proportions, and put the result back where it came from."""

from __future__ import annotations

import math

import cv2
import numpy as np
from PIL import Image

from .inputs import Box, Frame

MARGIN = 0.12  # room left around a person or a mask, as a share of the frame's sides


def choose_frame(
    photo_size: tuple[int, int], aspect: tuple[int, int] = (3, 4), around: Box | None = None, *, close: bool = False
) -> Frame:
    """Choose the part of a photo that the network sees, without distorting it.

    A photo that already has the proportions is taken whole. Otherwise the largest crop is taken if it holds `around`.
    If it doesn't, `around` is framed with a margin and padded; if nothing is known, the whole photo is padded.

    Args:
        photo_size (`tuple[int, int]`): Width and height of the photo in pixels.
        aspect (`tuple[int, int]`, *optional*, defaults to `(3, 4)`): Width to height of the frame.
        around (`tuple[int, int, int, int]`, *optional*): Left, top, right, bottom of what must be in the frame.
        close (`bool`, *optional*, defaults to `False`):
            Zoom in on `around` where it fills less than half of the frame's height and width, so that a small person
            isn't lost at the network's resolution.

    Returns:
        `Frame`
    """
    width, height = photo_size
    aspect_width, aspect_height = aspect
    if around is not None:
        around = _clip(around, photo_size)
    crop_width, crop_height = _largest_inside(width, height, aspect_width, aspect_height)
    pad_width, pad_height = _smallest_around(width, height, aspect_width, aspect_height)
    if around is None:
        # nothing is known to be dispensable
        frame_width, frame_height = pad_width, pad_height
        around = (0, 0, width, height)
    else:
        needed_width, needed_height = around[2] - around[0], around[3] - around[1]
        roomy = _smallest_around(
            min(needed_width * (1 + 2 * MARGIN), width),
            min(needed_height * (1 + 2 * MARGIN), height),
            aspect_width,
            aspect_height,
        )
        if close and max(needed_width / crop_width, needed_height / crop_height) < 0.5:
            frame_width, frame_height = min(roomy[0], pad_width), min(roomy[1], pad_height)
        elif needed_width <= crop_width and needed_height <= crop_height:
            frame_width, frame_height = crop_width, crop_height
        else:
            frame_width, frame_height = min(roomy[0], pad_width), min(roomy[1], pad_height)
    left = _place(frame_width, width, around[0], around[2])
    top = _place(frame_height, height, around[1], around[3])
    return Frame((width, height), (left, top, left + frame_width, top + frame_height))


def feather_mask(mask: np.ndarray, radius: float) -> np.ndarray:
    """Opacity that rises from the mask's edge inwards, so that nothing outside the mask changes at all.

    Args:
        mask (`np.ndarray`): bool or uint8, (H, W), nonzero = repaint.
        radius (`float`): Pixels from the edge to full opacity; 0 for a hard edge.

    Returns:
        `np.ndarray`: float32 in [0, 1], (H, W); exactly 0 outside the mask.
    """
    solid = (np.asarray(mask) != 0).astype(np.uint8)
    if radius <= 0:
        return solid.astype(np.float32)
    distance = cv2.distanceTransform(solid, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    distance /= radius + 1.0
    opacity = np.minimum(distance, 1.0, out=distance)
    return opacity * opacity * (3.0 - 2.0 * opacity)  # smoothstep: no visible kink at either end


def paste_back(
    photo: Image.Image, frame: Frame, result: Image.Image, mask: Image.Image | None, *, feather: float = 6.0
) -> Image.Image:
    """Put the network's picture of the frame back into the photo, at the photo's own resolution.

    Args:
        photo (`PIL.Image.Image`): RGB.
        frame (`Frame`): Where in the photo the network looked.
        result (`PIL.Image.Image`): RGB picture of the frame, of any resolution.
        mask (`PIL.Image.Image`, *optional*):
            Mode L, of the frame, 255 = repaint. Pixels outside of it stay the photo's own, byte for byte.
            None replaces the whole frame.
        feather (`float`, *optional*, defaults to 6.0):
            Width of the seam, which lies inside the mask, in pixels of `result` (scaled to the photo's).

    Returns:
        `PIL.Image.Image`: RGB, the photo's size.
    """
    output = photo.copy()
    if mask is None:
        output.paste(*frame.restore(result))
        return output
    where = mask.getbbox()
    if where is None:
        return output
    # Work on the mask's part of the photo only: a 48-megapixel photo shouldn't cost 48-megapixel float buffers.
    photo_mask, (left, top) = frame.restore(mask, resample=Image.Resampling.BILINEAR)
    solid = np.asarray(photo_mask) >= 128
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    if rows.size == 0:
        return output
    radius = feather * frame.size[0] / result.width
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    area = (left + x0, top + y0, left + x1, top + y1)
    # What surrounds the mask is kept, so its edge is feathered where the frame ends too, but not where the photo does.
    y_pad, x_pad = (int(area[1] > 0), int(area[3] < photo.height)), (int(area[0] > 0), int(area[2] < photo.width))
    opacity = feather_mask(np.pad(solid[y0:y1, x0:x1], (y_pad, x_pad)), radius)
    opacity = opacity[y_pad[0] : y_pad[0] + y1 - y0, x_pad[0] : x_pad[0] + x1 - x0]
    patch = Frame(photo.size, area)
    scale_x, scale_y = result.width / frame.size[0], result.height / frame.size[1]
    source = tuple(
        (edge - origin) * scale
        for edge, origin, scale in zip(area, frame.box[:2] * 2, (scale_x, scale_y) * 2, strict=True)
    )
    if result.size == frame.size:
        painted = result.crop(tuple(round(edge) for edge in source))
    else:
        painted = result.resize(patch.size, Image.Resampling.LANCZOS, box=source)
    kept = np.asarray(output.crop(area))
    blended = np.empty_like(kept)
    for channel in range(3):  # channel by channel: a third of the float memory
        change = np.asarray(painted.getchannel(channel), dtype=np.float32) - kept[..., channel]
        blended[..., channel] = np.rint(kept[..., channel] + opacity * change)
    output.paste(Image.fromarray(blended), area[:2])
    return output


def _largest_inside(width: int, height: int, aspect_width: int, aspect_height: int) -> tuple[int, int]:
    if width * aspect_height >= height * aspect_width:
        return max(1, round(height * aspect_width / aspect_height)), height
    return width, max(1, round(width * aspect_height / aspect_width))


def _smallest_around(width: float, height: float, aspect_width: int, aspect_height: int) -> tuple[int, int]:
    if width * aspect_height >= height * aspect_width:
        return max(1, round(width)), max(1, round(width * aspect_height / aspect_width))
    return max(1, round(height * aspect_width / aspect_height)), max(1, round(height))


def _place(size: int, available: int, start: int, stop: int) -> int:
    """Start of an interval of `size` for `start`..`stop`: inside 0..`available` if it fits, else padded.

    Padding goes to both sides, but not to the one where the photo cuts the person off: a body that runs out of the
    picture is what the networks know, one that is continued by the photo's repeated edge isn't.
    """
    if size < available:
        return int(min(max(round((start + stop - size) / 2), 0), available - size))
    cut_at_start, cut_at_stop = start <= 0.01 * available, stop >= 0.99 * available
    if cut_at_start != cut_at_stop:
        return 0 if cut_at_start else available - size
    return (available - size) // 2


def _clip(box: Box, photo_size: tuple[int, int]) -> Box:
    width, height = photo_size
    left, top = min(max(math.floor(box[0]), 0), width - 1), min(max(math.floor(box[1]), 0), height - 1)
    return left, top, min(max(math.ceil(box[2]), left + 1), width), min(max(math.ceil(box[3]), top + 1), height)
