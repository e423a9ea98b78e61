"""The authors' augmentations: with them, the attention can't learn that garments always lie where they're worn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from .loop.config import Config, Field, NotNegative, Number, Probability

GREY = 128  # of the agnostic image
FOLD = 2.0  # garment pixels that half a pixel of the person may span within one surface
PERSON_SIDE = ("person", "agnostic", "densepose")
COLOURED = ("person", "agnostic", "garment")

Item = dict[str, Any]


@dataclass(frozen=True)
class Transform:
    """A shift and a scaling about the centre, in pixels: what lay at `p` comes to lie at `p * scale + offset`.

    Args:
        scale (`float`): 1 keeps the size.
        offset (`tuple[float, float]`): Along x and y; pixel centres are whole numbers.
    """

    scale: float = 1.0
    offset: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def about_centre(cls, scale: float, shift: tuple[float, float], size: tuple[int, int]) -> Transform:
        """Scale about the centre of an image of `size` (height, width), then shift by fractions of width, height."""
        height, width = size
        centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
        return cls(scale, (centre_x * (1 - scale) + shift[0] * width, centre_y * (1 - scale) + shift[1] * height))

    def image(self, image: np.ndarray, border: Any, nearest: bool = False) -> np.ndarray:
        """Move an image, (H, W) or (H, W, C); what comes from outside gets the constant `border`."""
        import cv2

        height, width = image.shape[:2]
        matrix = np.array([[self.scale, 0, self.offset[0]], [0, self.scale, self.offset[1]]])
        return cv2.warpAffine(
            image,
            matrix,
            (width, height),
            flags=cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=border,
        )

    def points(self, points: np.ndarray) -> np.ndarray:
        """Move x, y along the last axis."""
        return points * np.float32(self.scale) + np.float32(self.offset)


Fraction = Annotated[Number, Field(ge=0, lt=1)]
GreyValue = Annotated[int, Field(ge=0, le=255)]


class Augmentation(Config):
    """Makes a different item of the same try-on of an item of any of the data sets. The defaults are the authors'."""

    flip: Probability = 0.5
    """Probability of mirroring everything."""
    move: Probability = 0.5
    """Probability of a shift and a scaling of the person side, and again, independently, of the garment."""
    shift: Fraction = 0.2
    """Largest shift, as a part of the width and of the height."""
    scale: Fraction = 0.2
    """Largest change of size, as a part of it."""
    person_border: GreyValue = 0
    """Grey value around a person that was shifted. There the photo is to be kept, not repainted."""
    garment_border: GreyValue = 0
    """Grey value around a garment that was shifted."""
    hue_saturation_value: Probability = 0.5
    """Probability of a shift of colour."""
    hue_saturation_value_limit: NotNegative = 5.0
    """Largest shift, of saturation and value in 0..255, of hue in steps of two degrees."""
    brightness_contrast: Probability = 0.5
    """Probability of a change of brightness and contrast."""
    brightness: tuple[Number, Number] = (-0.1, 0.02)
    """Least and largest value added, as a part of white."""
    contrast: Fraction = 0.3
    """Largest change of contrast, as a part of it."""

    def __call__(self, item: Mapping[str, Any], generator: np.random.Generator) -> Item:
        """An augmented copy of an item.

        Args:
            item (`Mapping[str, Any]`):
                `person`, `garment`, `agnostic`, `densepose` (uint8, (H, W, 3)), `mask` (bool, (H, W), True =
                repaint), and where there are any `worn_mask` (bool, (H, W)) and `correspondence` (float32, (H, W, 2):
                x, y in pixels of the garment, NaN where unknown). Whatever else it holds is passed on as it is.
            generator (`np.random.Generator`): Called equally often whatever it returns.

        Returns:
            `dict[str, Any]`: a new item; the given one stays as it is.
        """
        # all random numbers at once, so that switching one augmentation off doesn't change the others
        chance = generator.random(5)
        shifts = generator.uniform(-self.shift, self.shift, (2, 2))
        scales = 1 + generator.uniform(-self.scale, self.scale, 2)
        colour = generator.uniform(-1, 1, 3) * self.hue_saturation_value_limit
        brightness = generator.uniform(*self.brightness)
        contrast = 1 + generator.uniform(-self.contrast, self.contrast)

        item = dict(item)
        if chance[0] < self.flip:
            mirror(item)
        if chance[1] < self.move:
            size = item["person"].shape[:2]
            move_person(item, Transform.about_centre(scales[0], tuple(shifts[0]), size), self.person_border)
        if chance[2] < self.move:
            size = item["garment"].shape[:2]
            move_garment(item, Transform.about_centre(scales[1], tuple(shifts[1]), size), self.garment_border)
        if chance[3] < self.hue_saturation_value:
            for name in COLOURED:
                item[name] = shift_colour(item[name], colour)
        if chance[4] < self.brightness_contrast:
            table = (np.arange(256) * contrast + brightness * 255).round().clip(0, 255).astype(np.uint8)
            for name in COLOURED:
                item[name] = table[item[name]]
        # bilinear edges and new colours have reached the grey region: it is grey again
        item["agnostic"] = np.where(item["mask"][..., None], np.uint8(GREY), item["agnostic"])
        return item


def mirror(item: Item) -> None:
    """Flip an item left to right, in place: all images, and the correspondence."""
    for name in (*PERSON_SIDE, "garment", "mask", "worn_mask"):
        if item.get(name) is not None:
            item[name] = np.ascontiguousarray(item[name][:, ::-1])
    if item.get("correspondence") is not None:
        places = np.ascontiguousarray(item["correspondence"][:, ::-1])
        places[..., 0] = item["garment"].shape[1] - 1 - places[..., 0]
        item["correspondence"] = places


def move_person(item: Item, transform: Transform, border: int = 0) -> None:
    """Move the person, and every map of the person, in place. What comes in from outside is kept, not repainted."""
    for name in PERSON_SIDE:
        item[name] = transform.image(item[name], (0 if name == "densepose" else border,) * 3)
    for name in ("mask", "worn_mask"):
        if item.get(name) is not None:
            item[name] = transform.image(item[name].astype(np.uint8), 0, nearest=True).astype(bool)
    if item.get("correspondence") is not None:
        nearest, blend = (
            transform.image(item["correspondence"], (np.nan, np.nan), nearest=choice) for choice in (True, False)
        )
        # a blend is more exact within a surface, but across a fold it lies on neither side
        close = np.abs(blend - nearest).max(-1, keepdims=True) <= FOLD  # False for NaN
        item["correspondence"] = np.where(close, blend, nearest)


def move_garment(item: Item, transform: Transform, border: int = 0) -> None:
    """Move the garment, and with it the places that the correspondence points to, in place."""
    item["garment"] = transform.image(item["garment"], (border,) * 3)
    if item.get("correspondence") is not None:
        places = transform.points(item["correspondence"])
        limits = np.float32([item["garment"].shape[1] - 0.5, item["garment"].shape[0] - 0.5])
        inside = ((places >= -0.5) & (places <= limits)).all(-1, keepdims=True)
        item["correspondence"] = np.where(inside, places, np.float32(np.nan))


def shift_colour(image: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Add to hue (in steps of two degrees), saturation and value (0..255) of an RGB image."""
    import cv2

    levels = np.arange(256)
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    hue = ((levels + shift[0]).round() % 180).astype(np.uint8)[hue]
    saturation = (levels + shift[1]).round().clip(0, 255).astype(np.uint8)[saturation]
    value = (levels + shift[2]).round().clip(0, 255).astype(np.uint8)[value]
    return cv2.cvtColor(cv2.merge([hue, saturation, value]), cv2.COLOR_HSV2RGB)
