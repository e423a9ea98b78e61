"""`Frame`: the crop of a photo that the network sees; how it is chosen, and the way back into the photo."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

from .. import colour
from ..errors import InvalidInput

MARGIN = 0.12  # room left around a person or a mask, as a share of the frame's sides

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Frame:
    """The part of a photo that the network sees, and the way back.

    Args:
        photo_size (`tuple[int, int]`): Width and height of the photo in pixels.
        box (`tuple[int, int, int, int]`):
            Left, top, right, bottom in photo pixels, right and bottom exclusive. What lies outside the photo is
            padding.
    """

    photo_size: tuple[int, int]
    box: Box

    def __post_init__(self) -> None:
        for name, count in (("photo_size", 2), ("box", 4)):
            try:
                edges = tuple(operator.index(edge) for edge in getattr(self, name))
            except TypeError:
                edges = ()
            if len(edges) != count:
                raise InvalidInput(
                    f"the frame's {name} is {getattr(self, name)!r}: pass {count} whole numbers of pixels."
                )
            object.__setattr__(self, name, edges)
        left, top, right, bottom = self.box
        width, height = self.photo_size
        if right <= left or bottom <= top or width < 1 or height < 1:
            raise InvalidInput(
                f"the frame {self.box} of a {width} x {height} photo is empty: pass left < right, top < bottom."
            )
        if right <= 0 or bottom <= 0 or left >= width or top >= height:
            raise InvalidInput(f"the frame {self.box} lies outside the {width} x {height} photo.")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frame in photo pixels."""
        left, top, right, bottom = self.box
        return right - left, bottom - top

    @property
    def visible_box(self) -> Box:
        """The part of `box` that lies on the photo."""
        left, top, right, bottom = self.box
        return max(left, 0), max(top, 0), min(right, self.photo_size[0]), min(bottom, self.photo_size[1])

    def crop(
        self,
        image: Image.Image,
        size: tuple[int, int] | None = None,
        *,
        resample: Image.Resampling = Image.Resampling.LANCZOS,
        fill: Any = None,
    ) -> Image.Image:
        """Cut the frame out of an image that shows the whole photo (at any resolution).

        Args:
            image (`PIL.Image.Image`): The photo, or a map of it; sides in the photo's proportions.
            size (`tuple[int, int]`, *optional*): Width and height to scale to; by default the image's own.
            resample (`PIL.Image.Resampling`, *optional*, defaults to Lanczos): Filter of the scaling.
            fill (*optional*): Colour of the padding; by default the photo's edge is repeated.

        Returns:
            `PIL.Image.Image`: of `size`, in the image's mode and colour space.
        """
        scale_x, scale_y = image.width / self.photo_size[0], image.height / self.photo_size[1]
        if size is None:
            size = (max(1, round(self.size[0] * scale_x)), max(1, round(self.size[1] * scale_y)))
        left, top, right, bottom = self.visible_box
        x0, x1 = _whole_pixels(left - self.box[0], right - self.box[0], self.size[0], size[0])
        y0, y1 = _whole_pixels(top - self.box[1], bottom - self.box[1], self.size[1], size[1])
        frame_x, frame_y = self.size[0] / size[0], self.size[1] / size[1]
        source = (
            max(self.box[0] + x0 * frame_x, left) * scale_x,
            max(self.box[1] + y0 * frame_y, top) * scale_y,
            min(self.box[0] + x1 * frame_x, right) * scale_x,
            min(self.box[1] + y1 * frame_y, bottom) * scale_y,
        )
        patch_size = (x1 - x0, y1 - y0)
        whole = tuple(round(edge) for edge in source)
        if source == whole and patch_size == (whole[2] - whole[0], whole[3] - whole[1]):
            patch = image.crop(whole)  # nothing to resample
        else:
            patch = image.resize(patch_size, resample, box=source)
        if patch_size == tuple(size):
            return patch
        if fill is not None:
            padded = Image.new(image.mode, size, fill)
            padded.paste(patch, (x0, y0))
        else:
            pad = ((y0, size[1] - y1), (x0, size[0] - x1))
            values = np.asarray(patch)
            padded = Image.fromarray(np.pad(values, pad + ((0, 0),) * (values.ndim - 2), mode="edge"))
        padded.info = patch.info  # its colour profile
        return padded

    def to_photo(self, x: Any, y: Any, size: tuple[int, int]) -> tuple[Any, Any]:
        """Photo pixel that a pixel of a frame image shows; the inverse of `from_photo`.

        Args:
            x, y (`float` or `np.ndarray`): Pixel of the frame image; whole numbers are pixel centres.
            size (`tuple[int, int]`): Width and height of the frame image.

        Returns:
            `tuple`: x and y in photo pixels, unclamped: where the frame reaches out of the photo, so do they.
        """
        (left, top), (width, height) = self.box[:2], self.size
        return (x + 0.5) * (width / size[0]) - 0.5 + left, (y + 0.5) * (height / size[1]) - 0.5 + top

    def from_photo(self, x: Any, y: Any, size: tuple[int, int]) -> tuple[Any, Any]:
        """Pixel of a frame image that shows a photo pixel; the inverse of `to_photo`.

        Args:
            x, y (`float` or `np.ndarray`): Pixel of the photo; whole numbers are pixel centres.
            size (`tuple[int, int]`): Width and height of the frame image.

        Returns:
            `tuple`: x and y in pixels of the frame image, unclamped.
        """
        (left, top), (width, height) = self.box[:2], self.size
        return (x + 0.5 - left) * (size[0] / width) - 0.5, (y + 0.5 - top) * (size[1] / height) - 0.5

    def uncrop(
        self, image: Image.Image, *, resample: Image.Resampling = Image.Resampling.LANCZOS
    ) -> tuple[Image.Image, tuple[int, int]]:
        """Scale a frame image back to photo pixels and drop the padding.

        Args:
            image (`PIL.Image.Image`): What the network works on or has painted, of any size.
            resample (`PIL.Image.Resampling`, *optional*, defaults to Lanczos): Filter of the scaling.

        Returns:
            `tuple[PIL.Image.Image, tuple[int, int]]`: the image of `visible_box`, and its left, top corner.
        """
        left, top, right, bottom = self.visible_box
        scale_x, scale_y = image.width / self.size[0], image.height / self.size[1]
        source = (
            (left - self.box[0]) * scale_x,
            (top - self.box[1]) * scale_y,
            (right - self.box[0]) * scale_x,
            (bottom - self.box[1]) * scale_y,
        )
        if image.size == self.size:
            return image.crop(tuple(round(edge) for edge in source)), (left, top)
        return image.resize((right - left, bottom - top), resample, box=source), (left, top)


def choose_frame(
    photo_size: tuple[int, int],
    aspect: tuple[int, int] = (3, 4),
    around: Box | None = None,
    *,
    zoom_to_person: bool = False,
) -> Frame:
    """Choose the part of a photo that the network sees, without distorting it.

    A photo that already has the proportions is taken whole. Otherwise the largest crop is taken if it holds `around`.
    If it doesn't, `around` is framed with a margin and padded; if nothing is known, the whole photo is padded.

    Args:
        photo_size (`tuple[int, int]`): Width and height of the photo in pixels.
        aspect (`tuple[int, int]`, *optional*, defaults to `(3, 4)`): Width to height of the frame.
        around (`tuple[int, int, int, int]`, *optional*): Left, top, right, bottom of what must be in the frame.
        zoom_to_person (`bool`, *optional*, defaults to `False`):
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
        if zoom_to_person and max(needed_width / crop_width, needed_height / crop_height) < 0.5:
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
    """Put the network's image of the frame back into the photo, at the photo's own resolution.

    Args:
        photo (`PIL.Image.Image`): RGB or RGBA, of any colour profile; see `load_photo`.
        frame (`Frame`): Part of the photo that the network saw.
        result (`PIL.Image.Image`): RGB image of the frame, sRGB, of any resolution.
        mask (`PIL.Image.Image`, *optional*):
            Mode L, of the frame, 255 = repaint. Pixels outside of it stay the photo's own, byte for byte.
            None replaces the whole frame.
        feather (`float`, *optional*, defaults to 6.0):
            Width of the seam, which lies inside the mask, in pixels of `result` (scaled to the photo's).

    Returns:
        `PIL.Image.Image`: the photo's size, mode and colour profile; its transparency stays as it is.
    """
    output = photo.copy()
    profile = photo.info.get("icc_profile")
    if mask is None:
        painted, corner = frame.uncrop(result)
        output.paste(colour.from_srgb(painted, profile), corner)
        if photo.mode == "RGBA":
            output.putalpha(photo.getchannel("A"))
        return output
    where = mask.getbbox()
    if where is None:
        return output
    # Work on the mask's part of the photo only: a 48-megapixel photo shouldn't cost 48-megapixel float buffers.
    photo_mask, (left, top) = frame.uncrop(mask, resample=Image.Resampling.BILINEAR)
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
    painted = colour.from_srgb(painted, profile)
    kept = np.asarray(output.crop(area))
    blended = kept.copy()
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
    image is what the networks know, one that is continued by the photo's repeated edge isn't.
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


def _whole_pixels(start: float, stop: float, length: int, count: int) -> tuple[int, int]:
    """First and last (exclusive) of `count` pixels over `length` that lie inside `start`..`stop`; at least one."""
    first, last = math.ceil(start * count / length - 1e-6), math.floor(stop * count / length + 1e-6)
    if last <= first:
        first = min(int((start + stop) / 2 * count / length), count - 1)
        last = first + 1
    return first, last


def same_aspect(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes have the same proportions, up to rounding to whole pixels (and 1 %)."""
    (width, height), (other_width, other_height) = size, other
    tolerance = max(0.01, 1.0 / min(width, height, other_width, other_height))
    first, second = width * other_height, height * other_width
    return abs(first - second) <= tolerance * max(first, second)
