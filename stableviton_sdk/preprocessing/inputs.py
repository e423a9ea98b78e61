"""`TryOnInputs`: a prepared person."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InvalidInput
from ..images import ImageLike, load_image, load_mask
from .frame import Frame, same_aspect


@dataclass(frozen=True, eq=False)
class TryOnInputs:
    """A person, prepared: everything that the try-on network needs to know about one photo.

    The maps show the frame, each at a resolution of its own. Correct one by hand with `replace`; use the same inputs
    with as many garments as you like.

    Args:
        photo (`PIL.Image.Image`): The photo as it came, RGB, upright, at its own resolution.
        frame (`Frame`): The part of the photo that the network sees.
        person (`PIL.Image.Image`): The frame's image, RGB, at the resolution that the network works at or above.
        mask (`PIL.Image.Image`): Agnostic mask of the frame, mode L, 255 = repaint, 0 = keep.
        densepose (`PIL.Image.Image`): DensePose image of the frame, RGB, parula palette on black.
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
            image = getattr(self, name)
            if not isinstance(image, Image.Image) and not (name == "agnostic" and image is None):
                raise InvalidInput(f"{name} is a {type(image).__name__}: pass a PIL image.")
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
            `InvalidInput`: if an image can't be read, or isn't in the photo's proportions.
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

        Images are anything image-like, showing the frame. A new mask or person drops the old agnostic image, which
        would contradict it, unless a new `agnostic` comes along.

        Raises:
            `InvalidInput`: for an unknown name, or an image that doesn't have the frame's proportions.
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
        """Open the contact sheet in the desktop's image viewer."""
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


def grey_out(person: Image.Image, mask: Image.Image) -> Image.Image:
    """The agnostic image: the person with the region to repaint at grey 128.

    Args:
        person (`PIL.Image.Image`): RGB.
        mask (`PIL.Image.Image`): Mode L, 255 = repaint, of any resolution with the same proportions.
    """
    if mask.size != person.size:
        mask = mask.resize(person.size, Image.Resampling.BILINEAR).point(lambda value: 255 if value >= 128 else 0)
    agnostic = person.copy()
    agnostic.paste((128, 128, 128), (0, 0), mask)
    return agnostic
