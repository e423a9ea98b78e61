"""The garment's own fine detail, carried along the attention's correspondence into the result."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from ..images import resize_mask
from ..preprocessing.frame import feather_mask
from ..preprocessing.garment import PreparedGarment, garment_area
from ..preprocessing.inputs import TryOnInputs
from .drawing import STRIP, centres, matching_resolution, places_between, upsample
from .recorder import AttentionRequest, CoordinateRecorder
from .result import TryOnAttention

# Measured on rendered figures, whose true correspondence is known: `benchmarks/detail_transfer.py`.
FINE = 0.5  # standard deviation, in cells, of the blur that parts fine detail from what stays the network's
SAMPLES = 6  # a cell, where what is coarser than that is compared
FAINT, SURE = 0.6, 0.9  # certainties that detail fades in between
NEARBY = 0.5  # cells: how far from its place a colour of the fabric may be found
COLOUR_TOLERANCE = 20 / 255  # where garment and result differ by more in colour, detail fades
SHADE = 10 / 255  # keeps the ratio of two dark colours' light finite
DARKEST, LIGHTEST = 0.6, 1.5  # what the light on the body may make of the flat garment's contrast
OUTLINE_SIDE = 512  # pixels of the longer side that the garment's outline is looked for in
EDGE = 0.004  # of the garment image's width: detail fades towards the garment's outline over so much


def transfer_detail(
    result: np.ndarray, cells: np.ndarray, garment: PreparedGarment, mask: Image.Image, strength: float = 1.0
) -> np.ndarray:
    """A try-on result with the garment's own fine detail at the places that the attention names.

    The garment's image is sampled where the attention looked, and its blurred colours are exchanged for the result's:
    light, shade and colour stay the network's. Detail fades where the attention is uncertain, where the blurred
    colours disagree, and where the network looked beside the garment, so canvas is never shown.

    Args:
        result (`np.ndarray`):
            What the network painted, RGB, (H, W, 3), uint8 or float32 in [0, 1]: of the frame, at the resolution to
            draw at.
        cells (`np.ndarray`):
            Of the frame, as from `TryOnAttention.coordinates`: x and y in pixels of the prepared garment, and
            certainty in [0, 1], (height, width, 3).
        garment (`PreparedGarment`): Garment whose `original` the detail comes from.
        mask (`PIL.Image.Image`): Agnostic mask of the frame, mode L, 255 = repaint: nothing changes outside of it.
        strength (`float`, *optional*, defaults to 1.0): Opacity of the detail, in [0, 1].

    Returns:
        `np.ndarray`: a new array, of the result's shape and type.
    """
    height, width = result.shape[:2]
    drawn = result.copy()
    painted = np.asarray(resize_mask(mask, (width, height))) >= 128
    left, top, columns, rows = cv2.boundingRect(painted.astype(np.uint8))
    if strength <= 0 or rows == 0:
        return drawn
    fabric = _Fabric.of(garment, cells, (width, height))
    tones = _match_tones(result, fabric, cells)
    x = centres(cells.shape[1], width)[left : left + columns]
    at_once = max(1, STRIP // columns)
    for start in range(top, top + rows, at_once):
        stop = min(start + at_once, top + rows)
        y = centres(cells.shape[0], height)[start:stop]
        colours, opacity = fabric.sample(places_between(cells, y, x))
        tone = upsample(tones, (y + 0.5) * SAMPLES - 0.5, (x + 0.5) * SAMPLES - 0.5)
        part = _as_floats(result[start:stop, left : left + columns])
        opacity *= tone[..., 4]
        opacity *= painted[start:stop, left : left + columns] * np.float32(strength)
        colours *= tone[..., :1]
        colours += tone[..., 1:4]
        np.clip(colours, 0, 1, out=colours)
        colours -= part
        colours *= opacity[..., None]
        colours += part
        if drawn.dtype == np.uint8:
            colours = np.rint(colours * 255)
        kept = opacity == 0  # to the bit
        np.copyto(drawn[start:stop, left : left + columns], colours, where=~kept[..., None], casting="unsafe")
    return drawn


def detail_transfers(
    recorder: CoordinateRecorder,
    inputs: Sequence[TryOnInputs],
    garments: Sequence[PreparedGarment],
    block: int | None,
    strength: float,
) -> list[Callable[[np.ndarray], np.ndarray]]:
    """`transfer_detail` of every image of a call, as functions of what the network painted.

    Args:
        recorder (`CoordinateRecorder`): Recorder of the call.
        inputs (`Sequence[TryOnInputs]`), garments (`Sequence[PreparedGarment]`): One of each for every image.
        block (`int`, *optional*): See `TryOnAttention`.
        strength (`float`): See `transfer_detail`.

    Returns:
        `list[Callable]`: empty if the call was interrupted before anything was recorded.
    """
    if not recorder.records:
        return []
    attention = TryOnAttention.of_call(recorder, AttentionRequest(), list(inputs), list(garments), (), block)

    def transfer(result: np.ndarray, *, image: int) -> np.ndarray:
        places = attention.coordinates(image=image)
        return transfer_detail(result, places, garments[image], inputs[image].frame_mask, strength)

    return [functools.partial(transfer, image=image) for image in range(len(inputs))]


def _as_floats(image: np.ndarray) -> np.ndarray:
    """uint8 or float32 in [0, 1] as float32 in [0, 1]; a copy."""
    return image * np.float32(1 / 255 if image.dtype == np.uint8 else 1)


@dataclass(frozen=True, eq=False)
class _Fabric:
    """A garment's image without its canvas, to be sampled at places of the prepared garment.

    Args:
        garment (`PreparedGarment`): Garment of the image.
        values (`np.ndarray`):
            float32 in [0, 1], (h, w, 4): colours multiplied by opacity, so that canvas never bleeds in, and opacity.
    """

    garment: PreparedGarment
    values: np.ndarray

    @classmethod
    def of(cls, garment: PreparedGarment, cells: np.ndarray, size: tuple[int, int]) -> _Fabric:
        """The fabric at the resolution that suits a frame drawn at `size` (width, height)."""
        image, _ = matching_resolution(cells, garment, size)
        opacity = _garment_opacity(garment, image)
        colours = np.asarray(image, dtype=np.float32)
        colours *= opacity[..., None] * np.float32(1 / 255)
        return cls(garment, np.dstack([colours, opacity]))

    def shrunk(self, factor: float) -> _Fabric:
        """The same at a lower resolution."""
        if factor <= 1:
            return self
        size = [max(1, round(side / factor)) for side in self.values.shape[1::-1]]
        return _Fabric(self.garment, cv2.resize(self.values, size, interpolation=cv2.INTER_AREA))

    def sample(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Colours, (h, w, 3), and opacity, (h, w), at x, y and certainty, (h, w, 3)."""
        height, width = self.values.shape[:2]
        x, y = self.garment.to_original(places[..., 0], places[..., 1])
        x = (x + 0.5) * (width / self.garment.original.width) - 0.5
        y = (y + 0.5) * (height / self.garment.original.height) - 0.5
        found = cv2.remap(
            self.values, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
        share = ((places[..., 2] - FAINT) / (SURE - FAINT)).clip(0, 1)
        opacity = found[..., 3]
        return found[..., :3] / np.maximum(opacity, 1e-3)[..., None], opacity * share * share * (3 - 2 * share)


def _match_tones(result: np.ndarray, fabric: _Fabric, cells: np.ndarray) -> np.ndarray:
    """What makes the fabric's blurred colours the result's, at `SAMPLES` a cell.

    Returns:
        `np.ndarray`: float32, (h, w, 5): a factor, three colours to add, and how well both agreed before, in [0, 1].
    """
    height, width = (side * SAMPLES for side in cells.shape[:2])
    places = places_between(cells, centres(cells.shape[0], height), centres(cells.shape[1], width))
    # as fine as it's looked at here: a coarse look at a fine weave would see moiré
    colours, opacity = fabric.shrunk(max(result.shape[0] / height, result.shape[1] / width)).sample(places)
    seen = _as_floats(cv2.resize(result, (width, height), interpolation=cv2.INTER_AREA))
    blurred = np.dstack([colours * opacity[..., None], seen * opacity[..., None], opacity])
    blurred = cv2.GaussianBlur(blurred, (0, 0), FINE * SAMPLES)
    blurred[..., :6] /= np.maximum(blurred[..., 6:], 1e-3)
    flat, worn = blurred[..., :3], blurred[..., 3:6]
    light = (worn.mean(axis=-1) + SHADE) / (flat.mean(axis=-1) + SHADE)
    light = light.clip(DARKEST, LIGHTEST)[..., None]
    # half of what sets their light apart may be shade; more of it, and it's another colour
    difference = _colour_difference(flat * np.sqrt(light), worn, blurred[..., 6]) / COLOUR_TOLERANCE
    return np.dstack([light, worn - light * flat, np.exp(-difference * difference)])


def _colour_difference(flat: np.ndarray, worn: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """How far blurred colours of the result lie from the fabric's: half of it from those of the same place, half from
    the range of those around it, for a print a little beside its place is the same print; (h, w)."""
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(NEARBY * SAMPLES) + 1,) * 2)
    known = opacity[..., None] > 0.05
    highest = cv2.dilate(np.where(known, flat, np.float32(-1)), around)
    lowest = cv2.erode(np.where(known, flat, np.float32(2)), around)
    beyond = np.maximum(np.maximum(worn - highest, lowest - worn), 0)
    return (np.linalg.norm(flat - worn, axis=-1) + np.linalg.norm(beyond, axis=-1)) / 2


def _garment_opacity(garment: PreparedGarment, image: Image.Image) -> np.ndarray:
    """Where an image of the whole `original` shows the garment: float32 in [0, 1], (h, w), soft along the outline.

    The canvas knows what was cut out of a photo, the original has the sharper outline: what both call garment counts.
    """
    width, height = image.size
    x, y = (
        (np.arange(side, dtype=np.float32) + 0.5) * np.float32(whole / side) - 0.5
        for side, whole in zip(image.size, garment.original.size, strict=True)
    )
    x, y = garment.frame.from_photo(x, y, garment.image.size)
    on_canvas = _soft_area(garment.image)
    rows, columns = (place.astype(np.float32) for place in (y, x))
    opacity = cv2.remap(on_canvas, *np.meshgrid(columns, rows), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    small = image.copy()
    small.thumbnail((OUTLINE_SIDE, OUTLINE_SIDE), Image.Resampling.BOX)
    on_original = _soft_area(small)
    return np.minimum(opacity, cv2.resize(on_original, (width, height), interpolation=cv2.INTER_LINEAR))


def _soft_area(image: Image.Image) -> np.ndarray:
    """`garment_area`, falling to 0 at the outline from the inside; all of the image where no outline is found."""
    area = garment_area(image)
    if area is None:
        return np.ones((image.height, image.width), np.float32)
    return feather_mask(area, max(1.0, EDGE * image.width))
