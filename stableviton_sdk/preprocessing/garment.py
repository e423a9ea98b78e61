"""A garment on the canvas that the network was trained with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ..choices import CATEGORIES, GARMENT_PHOTOS, Category, GarmentPhoto
from ..errors import InvalidInput, NoPersonFound
from ..images import ImageLike, load_image
from ..validation import check_choice
from .encodings import Encodings
from .frame import Box, Frame, choose_frame, same_aspect
from .labels import CIHP, UPPER_GARMENTS
from .plausibility import check_garment

CANVAS = (246, 246, 246)  # the background of VITON-HD's garments
SIDE_MARGIN, END_MARGIN = 0.09, 0.058  # and their margins, as shares of width and height
LIGHT = 225  # a background at least this light in every channel needs no exchanging
EVEN_SHARE = 0.85  # of the border's pixels must look alike for the background to count as even
FADE = 0.02  # of the width: how far from the background its shadows are taken for background
ANALYSIS_SIDE = 1024  # pixels of the longer side that garments are looked for in
GARMENT_LABELS = {
    "upper": UPPER_GARMENTS,
    "lower": (CIHP.TROUSERS, CIHP.SKIRT),
    "dress": (*UPPER_GARMENTS, CIHP.TROUSERS, CIHP.SKIRT),
}


@dataclass(frozen=True, eq=False)
class PreparedGarment:
    """A garment, prepared: on the canvas that the network was trained with, with the way back to its own pixels.

    Make it once with `TryOnPipeline.prepare_garment`, look at `image`, use it with as many persons as you like.

    Args:
        original (`PIL.Image.Image`): The garment's image, RGB, in sRGB, upright, at its own resolution.
        image (`PIL.Image.Image`): The canvas that the network sees, RGB.
        frame (`Frame`): The part of `original` that `image` shows; what lies outside of `original` is added canvas.

    Raises:
        `InvalidInput`: if a part has the wrong type or size.
    """

    original: Image.Image
    image: Image.Image
    frame: Frame

    def __post_init__(self) -> None:
        for name in ("original", "image"):
            if not isinstance(getattr(self, name), Image.Image):
                raise InvalidInput(f"{name} is a {type(getattr(self, name)).__name__}: pass a PIL image.")
        if self.original.size != self.frame.photo_size:
            raise InvalidInput(
                f"the frame belongs to an image of {self.frame.photo_size}, this garment's is {self.original.size}."
            )
        object.__setattr__(self, "_encodings", Encodings())

    @property
    def encodings(self) -> Encodings:
        """What pipelines made of `image`, for the next call; a copy begins without, and none of it is saved."""
        return self._encodings

    def to_original(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Pixel of `original` that a pixel of `image` shows.

        Args:
            x (`float` or `np.ndarray`), y (`float` or `np.ndarray`):
                Pixel of `image`; whole numbers are pixel centres.

        Returns:
            `tuple`: x and y in pixels of `original`, outside of it where `image` shows added canvas.
        """
        return self.frame.to_photo(x, y, self.image.size)


def prepare_garment(
    garment: ImageLike,
    *,
    size: tuple[int, int] = (384, 512),
    garment_photo: GarmentPhoto = "flat-lay",
    parser: Callable[[Image.Image], np.ndarray] | None = None,
    category: Category = "upper",
) -> PreparedGarment:
    """Show a garment as the network's training images do: alone, centred with a margin, on (246, 246, 246).

    An image that already looks like this (its proportions, a light even background, the garment centred with a usual
    margin) is only resized. On another even background the garment is found, centred, and the background exchanged.
    Where the background isn't even, nothing is guessed: the image is padded to the proportions. Nothing is
    stretched, and nothing of the garment is cut off.

    Args:
        garment (`ImageLike`): The garment's image. Transparent parts show the canvas.
        size (`tuple[int, int]`, *optional*, defaults to `(384, 512)`): Width and height of the canvas in pixels.
        garment_photo (`str`, *optional*, defaults to `"flat-lay"`):
            `"flat-lay"`: an image of the garment alone; a person in it causes a warning. `"model"`: a photo of a
            person who wears it; it is cut out.
        parser (`Callable`, *optional*):
            For `"model"`: takes an RGB image and returns its CIHP label map, uint8, (H, W).
        category (`str`, *optional*, defaults to `"upper"`):
            For `"model"`, which of the worn garments: `"upper"`, `"lower"` or `"dress"`.

    Returns:
        `PreparedGarment`

    Raises:
        `InvalidInput`: if an argument can't be used, or the photo shows a person without such a garment.
        `NoPersonFound`: for `"model"`, if the photo shows nobody.
    """
    check_choice("garment_photo", garment_photo, GARMENT_PHOTOS)
    check_choice("category", category, CATEGORIES)
    if len(size) != 2 or not all(isinstance(side, (int, np.integer)) and side > 0 for side in size):
        raise InvalidInput(f"size is {size!r}: pass width and height in pixels.")
    size = (int(size[0]), int(size[1]))
    image = load_image(garment, name="garment", background=CANVAS, srgb=True)
    if image.getextrema() == tuple((value, value) for value in CANVAS):
        raise InvalidInput("garment is empty (fully transparent, or nothing but canvas): pass an image of a garment.")
    if garment_photo == "model":
        if parser is None:
            raise InvalidInput('garment_photo="model" needs a parser to cut the garment out: pass one, or a flat-lay.')
        return _cut_out(image, parser, GARMENT_LABELS[category], size)
    check_garment(image)
    background = _even_background(image)
    found = None if background is None else _find_garment(image, *background)
    if found is None:
        frame = choose_frame(image.size, size)
        return PreparedGarment(image, frame.crop(image, size, fill=CANVAS), frame)
    colour, tolerance = background
    frame = _centred(image.size, found, size)
    if min(colour) >= LIGHT and same_aspect(image.size, size) and _is_usual(frame):
        whole = Frame(image.size, (0, 0, *image.size))
        resized = image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
        return PreparedGarment(image, resized, whole)
    exchanged = _exchange_background(frame.crop(image, size, fill=colour), colour, tolerance)
    return PreparedGarment(image, exchanged, frame)


def garment_area(image: Image.Image) -> np.ndarray | None:
    """Where a prepared image shows the garment and not its background.

    Args:
        image (`PIL.Image.Image`): RGB, as from `prepare_garment`.

    Returns:
        `np.ndarray`: bool, (H, W), holes filled: a garment's pale middle is still the garment. None where the
        background isn't even, or hardly anything stands out from it.
    """
    background = _even_background(image)
    if background is None:
        return None
    colour, tolerance = background
    stands_out = (_distance(np.asarray(image), colour) > tolerance).astype(np.uint8)
    reach = max(3, round(0.02 * image.width)) | 1
    closed = cv2.morphologyEx(stands_out, cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8))
    main = _main_parts(closed).astype(np.uint8)
    if main.mean() < 0.005:
        return None
    outlines, _ = cv2.findContours(main, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(main, outlines, -1, 1, thickness=cv2.FILLED).astype(bool)


def _even_background(image: Image.Image) -> tuple[tuple[int, int, int], float] | None:
    """Colour along the image's border and how far from it a pixel may be to belong to it; None if it's cluttered."""
    values = np.asarray(_small(image)).astype(np.int16)
    ring = max(1, round(0.015 * max(values.shape[:2])))
    border = np.concatenate(
        [part.reshape(-1, 3) for part in (values[:ring], values[-ring:], values[:, :ring], values[:, -ring:])]
    )
    colour = np.median(border, axis=0)
    distances = np.abs(border - colour).max(axis=1)
    if float((distances <= 14).mean()) < EVEN_SHARE:
        return None
    # a clean background tells pale garments apart; noise, or a gradient, asks for more room
    tolerance = float(np.clip(2 * np.quantile(distances, EVEN_SHARE), 6, 24))
    return tuple(int(value) for value in colour), tolerance


def _find_garment(image: Image.Image, colour: tuple[int, int, int], tolerance: float) -> Box | None:
    """Box around what stands out from an even background, in pixels of the image; None if hardly anything does."""
    small = _small(image)
    stands_out = _distance(np.asarray(small), colour) > tolerance
    return _box_of_parts(stands_out, image.size)


def _box_of_parts(mask: np.ndarray, size: tuple[int, int]) -> Box | None:
    """Box of a mask's main parts (dust and crumbs left out), scaled to pixels of `size`."""
    main = _main_parts(mask)
    if main.mean() < 0.005:
        return None
    rows, columns = np.flatnonzero(main.any(axis=1)), np.flatnonzero(main.any(axis=0))
    scale_x, scale_y = size[0] / mask.shape[1], size[1] / mask.shape[0]
    return (
        int(columns[0] * scale_x),
        int(rows[0] * scale_y),
        min(int(np.ceil((columns[-1] + 1) * scale_x)), size[0]),
        min(int(np.ceil((rows[-1] + 1) * scale_y)), size[1]),
    )


def _main_parts(mask: np.ndarray) -> np.ndarray:
    """The connected parts of a mask that are at least a twentieth of the largest one."""
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = statistics[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0  # the background
    return ((areas > 0) & (areas * 20 >= areas.max()))[parts]


def _centred(photo_size: tuple[int, int], box: Box, size: tuple[int, int]) -> Frame:
    """The frame of `size`'s proportions in which the box is centred with the usual margin."""
    width, height = box[2] - box[0], box[3] - box[1]
    scale = max(width / (size[0] * (1 - 2 * SIDE_MARGIN)), height / (size[1] * (1 - 2 * END_MARGIN)))
    frame_width, frame_height = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    left = round((box[0] + box[2] - frame_width) / 2)
    top = round((box[1] + box[3] - frame_height) / 2)
    return Frame(photo_size, (left, top, left + frame_width, top + frame_height))


def _is_usual(frame: Frame) -> bool:
    """Whether the whole photo is about what the centred frame would be: margins of some 5 to 10 %, centred."""
    width, height = frame.photo_size
    left, top, right, bottom = frame.box
    zoom = frame.size[1] / height
    off_x, off_y = (left + right - width) / 2 / width, (top + bottom - height) / 2 / height
    return 0.88 <= zoom <= 1.12 and abs(off_x) <= 0.04 and abs(off_y) <= 0.04


def _exchange_background(image: Image.Image, colour: tuple[int, int, int], tolerance: float) -> Image.Image:
    """Paint an even background in the canvas's colour, softly towards the garment."""
    values = np.asarray(image)
    distance = _distance(values, colour)
    alike = (distance <= tolerance).astype(np.uint8)
    count, regions, statistics, _ = cv2.connectedComponentsWithStats(alike, connectivity=4)
    background = np.zeros(count, bool)
    for edge in (regions[0], regions[-1], regions[:, 0], regions[:, -1]):
        background[edge] = True
    # what shines through between sleeve and body
    background |= statistics[:, cv2.CC_STAT_AREA] > 0.0005 * distance.size
    background[0] = False  # what isn't alike
    away = cv2.distanceTransform((~background[regions]).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    # soft shadows and blended edges fade out, but no further into a garment of nearly the same colour
    weight = np.clip((2.5 * tolerance - distance) / (1.5 * tolerance), 0, 1)
    weight[away > FADE * image.width] = 0
    painted = values + weight[..., None] * (np.array(CANVAS, np.float32) - values)
    return Image.fromarray(np.rint(painted).astype(np.uint8))


def _cut_out(
    image: Image.Image,
    parser: Callable[[Image.Image], np.ndarray],
    labels: tuple[int, ...],
    size: tuple[int, int],
) -> PreparedGarment:
    small = _small(image)
    parsing = np.asarray(parser(small))
    if parsing.shape != (small.height, small.width):
        raise InvalidInput(
            f"the parser returned shape {parsing.shape} for a {small.width} x {small.height} image: "
            "it must return one label for each pixel, (H, W)."
        )
    if not parsing.any():
        raise NoPersonFound(
            "the garment photo shows nobody who could wear a garment: "
            'pass garment_photo="flat-lay" for an image of a garment alone.'
        )
    worn = _main_parts(np.isin(parsing, labels))
    box = _box_of_parts(worn, image.size)
    if box is None:
        raise InvalidInput(
            "the garment photo shows a person, but no such garment on them: pass a photo that shows it, or a flat-lay."
        )
    frame = _centred(image.size, box, size)
    shape = Image.fromarray(worn.astype(np.uint8) * np.uint8(255))
    opacity = frame.crop(shape, size, resample=Image.Resampling.BILINEAR, fill=0)
    canvas = Image.new("RGB", size, CANVAS)
    canvas.paste(frame.crop(image, size, fill=CANVAS), (0, 0), opacity)
    return PreparedGarment(image, canvas, frame)


def _distance(values: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Largest difference of any channel from a colour, float32, (H, W)."""
    return np.abs(values.astype(np.int16) - np.array(colour, np.int16)).max(axis=2).astype(np.float32)


def _small(image: Image.Image) -> Image.Image:
    scale = ANALYSIS_SIDE / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
