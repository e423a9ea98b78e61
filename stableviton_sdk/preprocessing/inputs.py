"""`TryOnInputs`: a prepared person."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InvalidInput
from ..images import MAX_PIXELS, ImageLike, binarize, load_image, load_mask, load_photo, resize, resize_mask
from .contact_sheet import draw_contact_sheet
from .encodings import Encodings
from .frame import Frame, choose_frame, same_aspect
from .plausibility import check_densepose, check_mask, check_person
from .storage import read_folder, write_folder

MAPS = ("mask", "densepose", "agnostic")  # what a caller may pass of the whole photo


@dataclass(frozen=True, eq=False)
class TryOnInputs:
    """A person, prepared: everything that the try-on network needs to know about one photo.

    Everything named `frame_…` shows the frame, each at a resolution of its own. Correct one by hand with `replace`;
    use the same inputs with as many garments as you like.

    Args:
        photo (`PIL.Image.Image`):
            The photo as it came: RGB, or RGBA if it is cut out, upright, at its own resolution, with its own colour
            profile in `info["icc_profile"]`. See `load_photo`.
        frame (`Frame`): The part of the photo that the network sees.
        frame_person (`PIL.Image.Image`):
            The frame's part of the photo, RGB, in sRGB, at the resolution that the network works at or above.
        frame_mask (`PIL.Image.Image`): Agnostic mask, mode L, 255 = repainted, 0 = kept.
        frame_densepose (`PIL.Image.Image`): DensePose image, RGB, parula palette on black.
        frame_agnostic (`PIL.Image.Image`, *optional*):
            An agnostic image of your own, RGB. None where it is derived, as `agnostic_at` does.
        parsing (`np.ndarray`, *optional*): CIHP label map of the frame, uint8, (H, W).
        keypoints (`np.ndarray`, *optional*):
            BODY_25 joints, float, (25, 3) as x, y in [0, 1] of the frame's width and height, and confidence.

    Raises:
        `InvalidInput`: if a part has the wrong type, or not the frame's proportions.
    """

    photo: Image.Image
    frame: Frame
    frame_person: Image.Image
    frame_mask: Image.Image
    frame_densepose: Image.Image
    frame_agnostic: Image.Image | None = None
    parsing: np.ndarray | None = None
    keypoints: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("photo", "frame_person", "frame_mask", "frame_densepose", "frame_agnostic"):
            image = getattr(self, name)
            if not isinstance(image, Image.Image) and not (name == "frame_agnostic" and image is None):
                raise InvalidInput(f"{name} is a {type(image).__name__}: pass a PIL image.")
        if self.photo.size != self.frame.photo_size:
            raise InvalidInput(
                f"the frame belongs to a photo of {self.frame.photo_size}, this one is {self.photo.size}."
            )
        sizes = {
            name: getattr(self, name).size
            for name in ("frame_person", "frame_mask", "frame_densepose", "frame_agnostic")
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

        object.__setattr__(self, "_encodings", Encodings())

    @property
    def encodings(self) -> Encodings:
        """What pipelines made of the frame, for the next call; a copy begins without, and none of it is saved."""
        return self._encodings

    @classmethod
    def from_maps(
        cls,
        photo: ImageLike,
        *,
        mask: ImageLike,
        densepose: ImageLike,
        agnostic: ImageLike | None = None,
        aspect: tuple[int, int] | None = None,
        parsing: np.ndarray | None = None,
        keypoints: np.ndarray | None = None,
    ) -> TryOnInputs:
        """Inputs of a photo whose maps are known.

        A photo of the network's proportions is taken whole. Of another one the frame is chosen around the mask.

        Args:
            photo (`ImageLike`): Photo of any size and proportions.
            mask (`ImageLike`): Agnostic mask of the whole photo, bool arrays included, True or white = repainted.
            densepose (`ImageLike`): DensePose image of the whole photo, parula palette on black.
            agnostic (`ImageLike`, *optional*): Agnostic image of the whole photo; derived by default.
            aspect (`tuple[int, int]`, *optional*):
                Width to height of the frame; by default the photo's own, which is neither cropped nor padded.
            parsing (`np.ndarray`, *optional*), keypoints (`np.ndarray`, *optional*):
                Of the frame; see the class.

        Raises:
            `InvalidInput`:
                if an image can't be read, a map isn't in the photo's proportions, or is certainly wrong: `densepose`
                black, inverted, in BGR or the photo itself; `mask` covering nothing of the person. What is doubtful
                causes a warning.
        """
        photo = load_photo(photo, name="person")
        maps = {"mask": mask, "densepose": densepose} | ({} if agnostic is None else {"agnostic": agnostic})
        loaded = {name: _load_map(name, value, photo) for name, value in maps.items()}
        frame = Frame(photo.size, (0, 0, *photo.size))
        if aspect is not None:
            frame = frame_around(loaded["mask"], photo.size, aspect)
        inputs = cls(
            photo=photo,
            frame=frame,
            frame_person=load_image(frame.crop(photo), srgb=True),
            **{f"frame_{name}": _crop_map(frame, name, image) for name, image in loaded.items()},
            parsing=parsing,
            keypoints=keypoints,
        )
        check_densepose(inputs.frame_densepose, inputs.frame_person)
        check_mask(inputs.frame_mask, inputs.frame_densepose)
        check_person(inputs.frame_person, inputs.frame_densepose, parsing=inputs.parsing)
        return inputs

    def agnostic_at(self, size: tuple[int, int]) -> Image.Image:
        """The agnostic image as the network sees it: one's own, resized, or the person with the mask greyed.

        Args:
            size (`tuple[int, int]`): Width and height in pixels.

        Returns:
            `PIL.Image.Image`: RGB, of `size`.
        """
        if self.frame_agnostic is not None:
            return resize(self.frame_agnostic, size)
        return derive_agnostic(self.frame_person, self.frame_mask, size)

    def replace(self, **changes: Any) -> TryOnInputs:
        """A copy with some parts exchanged.

        `inputs.replace(mask=…)` takes a mask of the whole photo, `inputs.replace(frame_mask=…)` one of the frame; the
        same holds for `densepose` and `agnostic`. A new mask or person drops an agnostic image of one's own, which
        would contradict it, unless a new one comes along.

        Args:
            changes: Image-likes by the names above, or other fields of the class by theirs.

        Raises:
            `InvalidInput`: for an unknown name, an image that doesn't have the proportions, or a map that is
                certainly wrong, as for `from_maps`.
        """
        fields = {field.name for field in dataclasses.fields(self)}
        loaded: dict[str, Any] = {}
        for name, value in changes.items():
            if name in MAPS:
                if f"frame_{name}" in changes:
                    raise InvalidInput(
                        f"both {name} (of the photo) and frame_{name} (of the frame) are given: pass one."
                    )
                map_of_photo = None if name == "agnostic" and value is None else _load_map(name, value, self.photo)
                loaded[f"frame_{name}"] = map_of_photo and _crop_map(self.frame, name, map_of_photo)
            elif name not in fields:
                known = ", ".join([*MAPS, *sorted(fields)])
                raise InvalidInput(f"TryOnInputs has no {name!r}: its parts are {known}.")
            elif name == "frame_mask":
                loaded[name] = load_mask(value, name=name)
            elif name == "photo":
                loaded[name] = load_photo(value)
            elif name in ("frame_person", "frame_densepose") or (name == "frame_agnostic" and value is not None):
                loaded[name] = load_image(value, name=name, srgb=name != "frame_densepose")
            else:
                loaded[name] = value
        if {"frame_mask", "frame_person"} & set(loaded):
            loaded.setdefault("frame_agnostic", None)
        inputs = dataclasses.replace(self, **loaded)
        if "frame_densepose" in loaded:
            check_densepose(inputs.frame_densepose, inputs.frame_person)
        if {"frame_densepose", "frame_mask"} & set(loaded):
            check_mask(inputs.frame_mask, inputs.frame_densepose)
        if {"frame_densepose", "frame_person"} & set(loaded):
            check_person(inputs.frame_person, inputs.frame_densepose, parsing=inputs.parsing)
        return inputs

    def photo_mask(self) -> Image.Image:
        """The mask of the whole photo, mode L, 0 or 255, at the photo's size."""
        patch, corner = self.frame.uncrop(self.frame_mask, resample=Image.Resampling.BILINEAR)
        mask = Image.new("L", self.photo.size)
        mask.paste(binarize(patch), corner)
        return mask

    def to_image(self) -> Image.Image:
        """A labelled contact sheet: photo and frame, person, mask, agnostic image, DensePose, parse and joints."""
        return draw_contact_sheet(
            photo=self.photo,
            frame=self.frame,
            person=self.frame_person,
            mask=self.frame_mask,
            densepose=self.frame_densepose,
            agnostic_at=self.agnostic_at,
            parsing=self.parsing,
            keypoints=self.keypoints,
        )

    def show(self) -> None:
        """Open the contact sheet in the desktop's image viewer."""
        self.to_image().show(title="TryOnInputs")

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write everything to a folder, as PNG files and one `inputs.json`; all of it appears at once, or nothing.

        Args:
            folder (`str` or `os.PathLike`): A new or empty folder, or one that was saved this way and is replaced.

        Raises:
            `InvalidInput`: if the folder holds something else, or can't be written.
        """
        write_folder(folder, {field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> TryOnInputs:
        """Read what `save` wrote.

        Args:
            folder (`str` or `os.PathLike`): The folder.

        Raises:
            `InvalidInput`: one sentence on what is missing, damaged or of another version.
        """
        try:
            inputs = cls(**read_folder(folder))
        except InvalidInput as error:
            prefix = os.fspath(folder)
            raise error if str(error).startswith(prefix) else InvalidInput(f"{prefix}: {error}") from error
        own = inputs.frame_agnostic
        # earlier versions stored the derived image too, which is nobody's own
        if (
            own is not None
            and own.tobytes() == derive_agnostic(inputs.frame_person, inputs.frame_mask, own.size).tobytes()
        ):
            return dataclasses.replace(inputs, frame_agnostic=None)
        return inputs


def derive_agnostic(person: Image.Image, mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The agnostic image: the person at a size, with what is repainted at grey 128.

    The grey has a hard edge whatever the resolutions were, and beside it is nothing of what was below: pixels that are
    repainted take no part in resizing. Everything that needs an agnostic image without having one takes it from here:
    two rules would give the network two inputs.

    Args:
        person (`PIL.Image.Image`): RGB.
        mask (`PIL.Image.Image`): Mode L, 255 = repainted, of any resolution with the same proportions.
        size (`tuple[int, int]`): Width and height in pixels.

    Returns:
        `PIL.Image.Image`: RGB, of `size`.
    """
    agnostic = person.copy() if person.size == size else _resized_without(person, mask, size)
    agnostic.paste((128, 128, 128), (0, 0), resize_mask(mask, size))
    return agnostic


def _resized_without(person: Image.Image, mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An image resized from its pixels outside the mask alone; anything where there are none nearby."""
    kept = (np.asarray(resize_mask(mask, person.size)) < 128).astype(np.float32)
    weight = np.asarray(resize(Image.fromarray(kept), size))
    weight = np.where(np.abs(weight) > 0.05, weight, np.float32(1))
    colours = [
        np.asarray(resize(Image.fromarray(channel * kept), size)) / weight
        for channel in np.moveaxis(np.asarray(person.convert("RGB"), np.float32), -1, 0)
    ]
    return Image.fromarray(np.rint(np.stack(colours, axis=-1)).clip(0, 255).astype(np.uint8))


def frame_around(mask: Image.Image, photo_size: tuple[int, int], aspect: tuple[int, int]) -> Frame:
    """Frame that holds what a mask of the whole photo marks.

    Args:
        mask (`PIL.Image.Image`): Mode L, 255 = repainted, of any resolution in the photo's proportions.
        photo_size (`tuple[int, int]`): Width and height of the photo.
        aspect (`tuple[int, int]`): Width to height of the frame.

    Raises:
        `InvalidInput`: if the frame would be too large.
    """
    box = mask.getbbox()
    if box is not None:
        scale_x, scale_y = photo_size[0] / mask.width, photo_size[1] / mask.height
        left, top, right, bottom = box
        box = (int(left * scale_x), int(top * scale_y), math.ceil(right * scale_x), math.ceil(bottom * scale_y))
    frame = choose_frame(photo_size, aspect, box)
    if frame.size[0] * frame.size[1] > MAX_PIXELS:  # a panorama, padded
        raise InvalidInput(
            f"a frame of {aspect[0]}:{aspect[1]} around the mask of this {photo_size[0]} x {photo_size[1]} photo "
            f"would be {frame.size[0]} x {frame.size[1]}: crop the photo around the person first."
        )
    return frame


def _load_map(name: str, value: Any, photo: Image.Image) -> Image.Image:
    """A map of the whole photo."""
    image = load_mask(value) if name == "mask" else load_image(value, name=name, srgb=name == "agnostic")
    if not same_aspect(image.size, photo.size):
        raise InvalidInput(
            f"{name} is {image.width} x {image.height} for a photo of {photo.width} x {photo.height}: "
            "it must show the whole photo, in the photo's proportions."
        )
    return image


def _crop_map(frame: Frame, name: str, image: Image.Image) -> Image.Image:
    """The frame's part of a map of the whole photo, at the map's own resolution."""
    if name == "mask":
        # kept at its own resolution: the paste-back follows a hand-drawn mask to the photo's pixel
        framed = frame.crop(image, resample=Image.Resampling.BILINEAR, fill=0)
        return binarize(framed)
    if name == "densepose":
        return frame.crop(image, resample=Image.Resampling.BILINEAR, fill=(0, 0, 0))
    return frame.crop(image)
