"""Where in the garment did each pixel come from? The record of one call's zero cross-attentions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..errors import InvalidInput
from ..images import load_image
from ..preprocessing.frame import Frame
from ..preprocessing.garment import PreparedGarment
from ..preprocessing.inputs import TryOnInputs
from .drawing import draw_correspondence, draw_map, places_between, warp_garment
from .recorder import AttentionRequest, CoordinateRecorder, cells_of, check_pixel, point_in_frame

# the root of the variances' sum of an even spread over the unit square
EVEN_SPREAD = float(np.sqrt(2.0 / 12.0))


class Source(NamedTuple):
    """
    Args:
        x (`float`), y (`float`):
            Pixel of the garment's image as it was passed in, turned upright by its EXIF orientation; whole numbers
            are pixel centres.
        certainty (`float`): 1 where all attention rests on one spot, 0 where it is spread evenly over the garment.
    """

    x: float
    y: float
    certainty: float


@dataclass(frozen=True, eq=False)
class TryOnAttention:
    """Garment places that every zero cross-attention block attended to, by recorded step and image.

    Args:
        records (`dict[int, dict[int, np.ndarray]]`):
            By block and step: float16, (images, height, width, 3): expected y and x in [0, 1] of the prepared
            garment's height and width, and the standard deviation in the same unit.
        inputs (`list[TryOnInputs]`): Each image's person.
        garments (`list[PreparedGarment]`): Each image's garment: as passed in, as prepared, and the way between them.
        results (`Sequence`, *optional*):
            The call's images, for `to_image`; none where it returned latents: the photos then stand in for them.
        request (`AttentionRequest`, *optional*): The call's `output_attention`, resolved.
        maps (`dict[int, np.ndarray]`, *optional*):
            By step: float32, (images, queries, height, width): the full maps of the request; each sums to 1.
        map_cells (`np.ndarray`, *optional*): Row and column of each query in its block, (images, queries, 2).
        map_size (`tuple[int, int]`, *optional*): Height and width of that block.
        default_block (`int`, *optional*): The block that answers by default, where the weights name one.
    """

    records: dict[int, dict[int, np.ndarray]]
    inputs: list[TryOnInputs] = field(default_factory=list)
    garments: list[PreparedGarment] = field(default_factory=list)
    results: Sequence[Any] = ()
    request: AttentionRequest = field(default_factory=AttentionRequest)
    maps: dict[int, np.ndarray] = field(default_factory=dict)
    map_cells: np.ndarray | None = None
    map_size: tuple[int, int] | None = None
    default_block: int | None = None

    @classmethod
    def of_call(
        cls,
        recorder: CoordinateRecorder,
        request: AttentionRequest,
        inputs: list[TryOnInputs],
        garments: list[PreparedGarment],
        results: Sequence[Any],
        default_block: int | None = None,
    ) -> TryOnAttention:
        """A recorder's results of one call, with the images that belong to them.

        Args:
            recorder (`CoordinateRecorder`): The call's recorder, after its last step.
            request (`AttentionRequest`): What it was to keep.
            inputs (`list[TryOnInputs]`), garments (`list[PreparedGarment]`): Those of each image.
            results (`Sequence`): The images, or nothing where the call returned latents.
            default_block (`int`, *optional*): The block that answers; each image's sharpest by default.
        """
        maps = recorder.maps, recorder.map_cells, recorder.map_size
        return cls(recorder.records, inputs, garments, results, request, *maps, default_block)

    def spread(self, kept: Sequence[int], total: int) -> TryOnAttention:
        """The same record where only some of a call's images were made, numbered as all of them.

        Args:
            kept (`Sequence[int]`): Places of the images that were made.
            total (`int`): How many places there are.
        """

        def in_places(values: Sequence[Any]) -> list[Any]:
            placed: list[Any] = [None] * total
            for place, value in zip(kept, values, strict=True):
                placed[place] = value
            return placed

        def by_image(values: np.ndarray) -> np.ndarray:
            placed = np.zeros((total, *values.shape[1:]), values.dtype)
            placed[list(kept)] = values
            return placed

        return dataclasses.replace(
            self,
            records={
                block: {step: by_image(record) for step, record in records.items()}
                for block, records in self.records.items()
            },
            inputs=in_places(self.inputs),
            garments=in_places(self.garments),
            results=in_places(self.results) if len(self.results) else (),
            maps={step: by_image(record) for step, record in self.maps.items()},
            map_cells=None if self.map_cells is None else by_image(self.map_cells),
        )

    @property
    def blocks(self) -> list[int]:
        """The recorded blocks; 0 is the decoder's lowest resolution."""
        return sorted(self.records)

    @property
    def steps(self) -> list[int]:
        """The recorded denoising steps."""
        return sorted({step for records in self.records.values() for step in records})

    @property
    def frames(self) -> list[Frame]:
        """The frame of each image's photo."""
        return [entry.frame for entry in self.inputs]

    def sharpest_block(self, *, step: int | None = None, image: int = 0) -> int:
        """The block whose attention is the least spread out on average.

        Args:
            step (`int`, *optional*), image (`int`, *optional*, defaults to 0): See `source_of`.
        """
        self._check_image(image)
        if not self.blocks:
            raise InvalidInput("no step was recorded, for the call was interrupted before: let it run longer.")
        return min(self.blocks, key=lambda block: float(self._record(block, step, image)[..., 2].mean()))

    def answering_block(self, *, step: int | None = None, image: int = 0) -> int:
        """What `block=None` stands for: the block that the weights name, if it was recorded, else the sharpest.

        Args:
            step (`int`, *optional*), image (`int`, *optional*, defaults to 0): See `source_of`.
        """
        return (
            self.default_block if self.default_block in self.records else self.sharpest_block(step=step, image=image)
        )

    def coordinates(self, block: int | None = None, *, step: int | None = None, image: int = 0) -> np.ndarray:
        """Garment place that every cell of a block's map expects, in pixels of the prepared garment.

        The prepared garment is the canvas that the network sees, `garments[image].image`;
        `garments[image].to_original(x, y)` leads on to the image that was passed in, as `source_of` does.

        Args:
            block (`int`, *optional*): One of `blocks`; by default `answering_block`.
            step (`int`, *optional*): One of `steps`; by default the mean over the last half of them.
            image (`int`, *optional*, defaults to 0): Which image.

        Returns:
            `np.ndarray`: float32, (height, width, 3): x and y in pixels of the prepared garment, whole numbers being
            pixel centres, and certainty in [0, 1].

        Raises:
            `InvalidInput`: for a block, step or image that wasn't recorded.
        """
        self._check_image(image)
        block = self.answering_block(step=step, image=image) if block is None else block
        record = self._record(block, step, image)
        width, height = self.garments[image].image.size
        certainty = (1.0 - record[..., 2] / EVEN_SPREAD).clip(0.0, 1.0)
        return np.stack([record[..., 1] * width - 0.5, record[..., 0] * height - 0.5, certainty], axis=-1)

    def source_of(
        self, x: float, y: float, *, image: int = 0, block: int | None = None, step: int | None = None
    ) -> Source:
        """Where in the garment a pixel of the result came from, in pixels of the garment's image as passed in.

        Preparing a garment adds canvas around a narrow image. A pixel that looks at added canvas is given the
        nearest pixel of the image, so x and y can always be looked up there; `coordinates` tells them apart.

        Args:
            x (`float`), y (`float`): Pixel of the result, which has the photo's size; whole numbers are pixel centres.
            image (`int`, *optional*, defaults to 0): Which image.
            block (`int`, *optional*), step (`int`, *optional*): See `coordinates`.

        Returns:
            `Source`: pixel of the garment's image (upright, where EXIF says that it's turned), and how certain.

        Raises:
            `InvalidInput`: if the pixel lies outside the part of the photo that the network saw.
        """
        cells = self.coordinates(block, step=step, image=image)
        frame, garment = self.inputs[image].frame, self.garments[image]
        check_pixel(frame, x, y)
        row, column = np.multiply(point_in_frame(frame, x, y), cells.shape[:2]) - 0.5
        canvas_x, canvas_y, certainty = places_between(cells, np.array([row]), np.array([column]))[0, 0]
        width, height = garment.original.size
        garment_x, garment_y = garment.to_original(float(canvas_x), float(canvas_y))
        return Source(min(max(garment_x, 0.0), width - 1.0), min(max(garment_y, 0.0), height - 1.0), float(certainty))

    def warp(self, block: int | None = None, step: int | None = None, image: int = 0) -> Image.Image:
        """The garment, warped by the attention to where it was painted: `result.paste(warped, (0, 0), warped)`.

        Every pixel shows the garment's own pixel that `source_of` names, taken from the image as passed in. Opacity
        is 0 outside the mask and where the network looked at added canvas. Elsewhere it follows the certainty: 0 up
        to a certainty of 0.25, 1 from 0.65, smooth in between.

        Args:
            block (`int`, *optional*), step (`int`, *optional*): See `coordinates`.
            image (`int`, *optional*, defaults to 0): Which image.

        Returns:
            `PIL.Image.Image`: RGBA, of the result's size and in its colour space.
        """
        cells = self.coordinates(block, step=step, image=image)
        return warp_garment(cells, self.inputs[image], self.garments[image])

    def to_image(
        self, block: int | None = None, step: int | None = None, image: int = 0, *, height: int = 640
    ) -> Image.Image:
        """An image of the correspondence: colours and a grid on the garment, and where they landed on the body.

        A point of the body has the colour of the garment's point that it came from. Where the attention is uncertain
        the colour fades (as `warp`'s opacity does), and so it does where the network looked beside the garment.

        Args:
            block (`int`, *optional*), step (`int`, *optional*): See `coordinates`.
            image (`int`, *optional*, defaults to 0): Which image.
            height (`int`, *optional*, defaults to 640): Height of each of the two images, in pixels.

        Returns:
            `PIL.Image.Image`: RGB: the garment on the left, the result on the right.
        """
        cells = self.coordinates(block, step=step, image=image)
        return draw_correspondence(cells, self._result(image), self.inputs[image], self.garments[image], height)

    def map_of(self, x: float, y: float, *, step: int | None = None, image: int = 0) -> np.ndarray:
        """Attention of one pixel of the result to every cell of the garment, averaged over the heads.

        Args:
            x (`float`), y (`float`): A pixel of the request's `queries`, or another one of the same cell.
            step (`int`, *optional*): One of `steps`; by default the mean over the last half of them.
            image (`int`, *optional*, defaults to 0): Which image.

        Returns:
            `np.ndarray`: float32, (height, width) cells over the prepared garment, which sum to 1.

        Raises:
            `InvalidInput`: if no map was recorded of this pixel or step.
        """
        self._check_image(image)
        check_pixel(self.inputs[image].frame, x, y)
        if not self.maps:
            raise InvalidInput(
                f"no full maps were recorded: call with output_attention=AttentionRequest(queries=[({x:g}, {y:g})])."
            )
        cell = cells_of(np.array(point_in_frame(self.inputs[image].frame, x, y)), self.map_size)
        matches = np.flatnonzero((self.map_cells[image] == cell).all(axis=1))
        if matches.size == 0:
            raise InvalidInput(f"no map was recorded at ({x:g}, {y:g}): the queries were {self.request.queries}.")
        return self._mean({number: maps[image, matches[0]] for number, maps in self.maps.items()}, step)

    def draw_map(
        self, x: float, y: float, *, step: int | None = None, image: int = 0, height: int = 640
    ) -> Image.Image:
        """An image of `map_of`: its heat on the garment, and the pixel marked on the result.

        Args:
            x, y, step, image: See `map_of`.
            height (`int`, *optional*, defaults to 640): Height of each of the two images, in pixels.

        Returns:
            `PIL.Image.Image`: RGB: the garment on the left, the result on the right.
        """
        heat = self.map_of(x, y, step=step, image=image)
        return draw_map(heat, (x, y), self._result(image), self.inputs[image], self.garments[image], height)

    def _result(self, image: int) -> Image.Image:
        if len(self.results) == 0:
            return load_image(self.inputs[image].photo, srgb=True)
        return load_image(self.results[image], name="result", srgb=True)

    def _check_image(self, image: int) -> None:
        if not 0 <= image < len(self.garments):
            raise InvalidInput(f"there is no image {image}: the call made {len(self.garments)}.")
        if self.garments[image] is None:
            raise InvalidInput(f"image {image} was skipped, since its person or garment couldn't be used.")

    def _record(self, block: int, step: int | None, image: int) -> np.ndarray:
        if block not in self.records:
            raise InvalidInput(f"block {block} was not recorded: the call recorded {self.blocks}.")
        return self._mean({number: records[image] for number, records in self.records[block].items()}, step)

    @staticmethod
    def _mean(records: dict[int, np.ndarray], step: int | None) -> np.ndarray:
        if step is None:
            steps = sorted(records)
            return np.mean([records[number] for number in steps[len(steps) // 2 :]], axis=0, dtype=np.float32)
        if step not in records:
            raise InvalidInput(f"step {step} was not recorded: the call recorded {sorted(records)}.")
        return records[step].astype(np.float32)
