"""What a prepared person is: `TryOnInputs`, and the `Frame` that ties it to the photo it came from."""

from __future__ import annotations

import dataclasses
import math
import operator
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InvalidInput
from ..images import ImageLike, load_image, load_mask

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

    def __post_init__(self):
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
    def inside(self) -> Box:
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
        """Cut the frame out of a picture that shows the whole photo (at any resolution).

        Args:
            image (`PIL.Image.Image`): The photo, or a map of it; sides in the photo's proportions.
            size (`tuple[int, int]`, *optional*): Width and height to scale to; by default the picture's own.
            resample (`PIL.Image.Resampling`, *optional*, defaults to Lanczos): Filter of the scaling.
            fill (*optional*): Colour of the padding; by default the photo's edge is repeated.

        Returns:
            `PIL.Image.Image`: of `size`, in the picture's mode.
        """
        scale_x, scale_y = image.width / self.photo_size[0], image.height / self.photo_size[1]
        if size is None:
            size = (max(1, round(self.size[0] * scale_x)), max(1, round(self.size[1] * scale_y)))
        left, top, right, bottom = self.inside
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
            canvas = Image.new(image.mode, size, fill)
            canvas.paste(patch, (x0, y0))
            return canvas
        pad = ((y0, size[1] - y1), (x0, size[0] - x1))
        values = np.asarray(patch)
        return Image.fromarray(np.pad(values, pad + ((0, 0),) * (values.ndim - 2), mode="edge"))

    def to_photo(self, x: Any, y: Any, size: tuple[int, int]) -> tuple[Any, Any]:
        """Photo pixel that a pixel of a frame picture shows; the inverse of `from_photo`.

        Args:
            x, y (`float` or `np.ndarray`): Pixel of the frame picture; whole numbers are pixel centres.
            size (`tuple[int, int]`): Width and height of the frame picture.

        Returns:
            `tuple`: x and y in photo pixels, unclamped: where the frame reaches out of the photo, so do they.
        """
        (left, top), (width, height) = self.box[:2], self.size
        return (x + 0.5) * (width / size[0]) - 0.5 + left, (y + 0.5) * (height / size[1]) - 0.5 + top

    def from_photo(self, x: Any, y: Any, size: tuple[int, int]) -> tuple[Any, Any]:
        """Pixel of a frame picture of `size` that shows a photo pixel; the inverse of `to_photo`."""
        (left, top), (width, height) = self.box[:2], self.size
        return (x + 0.5 - left) * (size[0] / width) - 0.5, (y + 0.5 - top) * (size[1] / height) - 0.5

    def to_frame_box(self, box: Box, size: tuple[int, int]) -> Box:
        """Convert a box from photo pixels to whole pixels of a frame picture of `size`; at least one pixel wide."""
        left, top = self.box[:2]
        scale_x, scale_y = size[0] / self.size[0], size[1] / self.size[1]
        x0 = min(max(round((box[0] - left) * scale_x), 0), size[0] - 1)
        y0 = min(max(round((box[1] - top) * scale_y), 0), size[1] - 1)
        x1 = min(max(round((box[2] - left) * scale_x), x0 + 1), size[0])
        y1 = min(max(round((box[3] - top) * scale_y), y0 + 1), size[1])
        return x0, y0, x1, y1

    def restore(
        self, image: Image.Image, *, resample: Image.Resampling = Image.Resampling.LANCZOS
    ) -> tuple[Image.Image, tuple[int, int]]:
        """Scale a frame picture back to photo pixels and drop the padding.

        Returns:
            `tuple[PIL.Image.Image, tuple[int, int]]`: the picture of `inside`, and its left, top corner in the photo.
        """
        left, top, right, bottom = self.inside
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


@dataclass(frozen=True, eq=False)
class TryOnInputs:
    """A person, prepared: everything that the try-on network needs to know about one photo.

    The maps show the frame, each at a resolution of its own. Correct one by hand with `replace`; use the same inputs
    with as many garments as you like.

    Args:
        photo (`PIL.Image.Image`): The photo as it came, RGB, upright, at its own resolution.
        frame (`Frame`): The part of the photo that the network sees.
        person (`PIL.Image.Image`): The frame's picture, RGB, at the resolution that the network works at or above.
        mask (`PIL.Image.Image`): Agnostic mask of the frame, mode L, 255 = repaint, 0 = keep.
        densepose (`PIL.Image.Image`): DensePose picture of the frame, RGB, parula palette on black.
        agnostic (`PIL.Image.Image`, *optional*):
            The person with the region to repaint greyed out (128). Derived from `person` and `mask` where it's None.
        parsing (`np.ndarray`, *optional*): CIHP label map of the frame, uint8, (H, W).
        keypoints (`np.ndarray`, *optional*):
            BODY_25 joints, float, (25, 3) as x, y in [0, 1] of the frame's width and height, and confidence.
    """

    photo: Image.Image
    frame: Frame
    person: Image.Image
    mask: Image.Image
    densepose: Image.Image
    agnostic: Image.Image | None = None
    parsing: np.ndarray | None = None
    keypoints: np.ndarray | None = None

    def __post_init__(self):
        for name in ("photo", "person", "mask", "densepose", "agnostic"):
            picture = getattr(self, name)
            if not isinstance(picture, Image.Image) and not (name == "agnostic" and picture is None):
                raise InvalidInput(f"{name} is a {type(picture).__name__}: pass a PIL picture.")
        if self.photo.size != self.frame.photo_size:
            raise InvalidInput(
                f"the frame belongs to a photo of {self.frame.photo_size}, this one is {self.photo.size}."
            )
        sizes = {
            name: getattr(self, name).size
            for name in ("person", "mask", "densepose", "agnostic")
            if getattr(self, name) is not None
        }
        if self.parsing is not None:
            if np.ndim(self.parsing) != 2 or np.asarray(self.parsing).dtype != np.uint8:
                raise InvalidInput("parsing is not a CIHP label map: pass a uint8 array (H, W).")
            sizes["parsing"] = self.parsing.shape[::-1]
        if self.keypoints is not None and np.shape(self.keypoints) != (25, 3):
            raise InvalidInput(
                f"keypoints have shape {np.shape(self.keypoints)}: pass BODY_25 joints (25, 3) as x, y in [0, 1] "
                "of the frame, and confidence."
            )
        for name, size in sizes.items():
            if not same_aspect(size, self.frame.size):
                raise InvalidInput(
                    f"{name} is {size[0]} x {size[1]}, which is not the frame's shape "
                    f"({self.frame.size[0]} x {self.frame.size[1]}): crop it to the frame first."
                )

    @classmethod
    def of_whole_photo(
        cls,
        photo: ImageLike,
        mask: ImageLike,
        densepose: ImageLike,
        agnostic: ImageLike | None = None,
        *,
        parsing: np.ndarray | None = None,
        keypoints: np.ndarray | None = None,
    ) -> TryOnInputs:
        """Inputs of a photo that the network sees as it is, neither cropped nor padded, and whose maps are known.

        Args:
            photo (`ImageLike`): In the proportions that the network works at; see `load_image`.
            mask (`ImageLike`): Agnostic mask of the photo, bool arrays included, True or white = repaint.
            densepose (`ImageLike`), agnostic (`ImageLike`, *optional*): Maps of the photo; see the class.
            parsing (`np.ndarray`, *optional*), keypoints (`np.ndarray`, *optional*): See the class.

        Raises:
            `InvalidInput`: if a picture can't be read, or isn't in the photo's proportions.
        """
        photo = load_image(photo, name="photo")
        return cls(
            photo=photo,
            frame=Frame(photo.size, (0, 0, *photo.size)),
            person=photo,
            mask=load_mask(mask),
            densepose=load_image(densepose, name="densepose"),
            agnostic=None if agnostic is None else load_image(agnostic, name="agnostic"),
            parsing=parsing,
            keypoints=keypoints,
        )

    def replace(self, **changes: Any) -> TryOnInputs:
        """Return a copy with some maps exchanged: `inputs.replace(mask=my_mask)`.

        Pictures are anything image-like, showing the frame. A new mask or person drops the old agnostic picture, which
        would contradict it, unless a new `agnostic` comes along.

        Raises:
            `InvalidInput`: for an unknown name, or a picture that doesn't have the frame's proportions.
        """
        fields = {field.name for field in dataclasses.fields(self)}
        for name in changes:
            if name not in fields:
                raise InvalidInput(f"TryOnInputs has no {name!r}: its parts are {', '.join(sorted(fields))}.")
        loaded = dict(changes)
        for name in ("photo", "person", "densepose", "agnostic"):
            if name in loaded and not (name == "agnostic" and loaded[name] is None):
                loaded[name] = load_image(loaded[name], name=name)
        if "mask" in loaded:
            loaded["mask"] = load_mask(loaded["mask"])
        if ("mask" in loaded or "person" in loaded) and "agnostic" not in loaded:
            loaded["agnostic"] = None
        return dataclasses.replace(self, **loaded)

    def to_image(self) -> Image.Image:
        """One labelled contact sheet of everything in here: photo and frame, person, mask, maps and joints."""
        from .contact_sheet import contact_sheet

        return contact_sheet(self)

    def show(self) -> None:
        """Open the contact sheet in the desktop's picture viewer."""
        self.to_image().show(title="TryOnInputs")

    def save(self, folder: str | os.PathLike) -> None:
        """Write everything to a folder, as PNG files and one `inputs.json`; all of it appears at once, or nothing.

        Args:
            folder (`str` or `os.PathLike`): A new or empty folder, or one that was saved this way and is replaced.

        Raises:
            `InvalidInput`: if the folder holds something else, or can't be written.
        """
        from .storage import save_inputs

        save_inputs(self, folder)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> TryOnInputs:
        """Read what `save` wrote.

        Raises:
            `InvalidInput`: one sentence on what is missing, damaged or of another version.
        """
        from .storage import load_inputs

        return load_inputs(folder)


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


def grey_out(person: Image.Image, mask: Image.Image) -> Image.Image:
    """The agnostic picture: the person with the region to repaint at grey 128.

    Args:
        person (`PIL.Image.Image`): RGB.
        mask (`PIL.Image.Image`): Mode L, 255 = repaint, of any resolution with the same proportions.
    """
    if mask.size != person.size:
        mask = mask.resize(person.size, Image.Resampling.BILINEAR).point(lambda value: 255 if value >= 128 else 0)
    agnostic = person.copy()
    agnostic.paste((128, 128, 128), (0, 0), mask)
    return agnostic
