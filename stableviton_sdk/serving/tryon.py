"""The service's works: a try-on, and a mask for a photo; and what a finished try-on answers."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ..attention.drawing import draw_heat
from ..attention.recorder import CoordinateRecorder, cells_of, point_in_frame
from ..attention.result import TryOnAttention
from ..errors import InvalidInput
from ..models.attention_maps import attention_map
from ..pipelines.identity import result_settings
from ..preprocessing.garment import PreparedGarment
from ..preprocessing.inputs import TryOnInputs
from ..provenance import save_image
from .previews import ProgressReporter
from .warned import collect_warnings

if TYPE_CHECKING:
    from ..pipelines.pipeline_tryon import TryOnPipeline
    from .job import Running

OVERLAY_SIDE = 1024  # pixels of a drawing's longer side


@dataclass(frozen=True, eq=False)
class TryOnWork:
    """One person in one garment.

    Args:
        person (`PIL.Image.Image`), garment (`PIL.Image.Image`): Decoded.
        mask (`PIL.Image.Image`, *optional*): Of the whole photo.
        category (`str`), garment_photo (`str`), seed (`int`): As for the pipeline's call.
        options (`Mapping[str, Any]`): Of the pipeline's call: `quality`, `detail`, …
        identity (`Mapping[str, str]`): Of the model, from `model_identity`.
    """

    person: Image.Image
    garment: Image.Image
    mask: Image.Image | None
    category: str
    garment_photo: str
    seed: int
    options: Mapping[str, Any]
    identity: Mapping[str, str]

    @property
    def nbytes(self) -> int:
        return sum(map(image_bytes, (self.person, self.garment, self.mask)))

    def run(self, pipeline: TryOnPipeline, running: Running) -> TryOnResult:
        with collect_warnings() as warnings:
            return self._run(pipeline, running, warnings)

    def _run(self, pipeline: TryOnPipeline, running: Running, warnings: list[str]) -> TryOnResult:
        inputs = pipeline.prepare_persons(self.person, mask=self.mask, category=self.category)[0]
        running.check()
        garment = pipeline.prepare_garment(self.garment, garment_photo=self.garment_photo, category=self.category)
        running.check()
        recorder = LastStep(pipeline)
        image = pipeline(
            inputs,
            garment,
            **self.options,
            generator=torch.Generator().manual_seed(self.seed),  # on the CPU: the same noise on every device
            output_attention=recorder,
            cancel_event=running.cancel_event,
            callback_on_step_end=ProgressReporter(running),
        ).images[0]
        settings = result_settings(
            pipeline,
            self.identity,
            seed=self.seed,
            category=self.category,
            garment_photo=self.garment_photo,
            own_mask=self.mask is not None,
            **self.options,
        )
        attention = recorder.attention(inputs, garment, pipeline.config.correspondence_block)
        block = attention.answering_block()
        return TryOnResult(image, settings, warnings, attention, block, *recorder.tokens[block])


@dataclass(frozen=True, eq=False)
class TryOnResult:
    """What a try-on leaves.

    Args:
        image (`PIL.Image.Image`): The result.
        settings (`Mapping[str, Any]`): What it follows from.
        warnings (`list[str]`): A sentence each on what is doubtful.
        attention (`TryOnAttention`): The last step's coordinates.
        block (`int`): The block that answers.
        query (`torch.Tensor`), key (`torch.Tensor`): Of that block: half precision, (1, heads, cells, head width).
        query_size (`tuple[int, int]`), key_size (`tuple[int, int]`): Heights and widths in cells.
    """

    image: Image.Image
    settings: Mapping[str, Any]
    warnings: list[str]
    attention: TryOnAttention
    block: int
    query: torch.Tensor
    key: torch.Tensor
    query_size: tuple[int, int]
    key_size: tuple[int, int]

    @property
    def nbytes(self) -> int:
        inputs, garment = self.inputs, self.garment
        images = (self.image, inputs.photo, inputs.frame_person, inputs.frame_mask, inputs.frame_densepose)
        records = sum(record.nbytes for steps in self.attention.records.values() for record in steps.values())
        return sum(map(image_bytes, (*images, garment.original, garment.image))) + records + 2 * self.query.nbytes

    @property
    def inputs(self) -> TryOnInputs:
        return self.attention.inputs[0]

    @property
    def garment(self) -> PreparedGarment:
        return self.attention.garments[0]

    def encode(self, format: str, metadata: bool) -> bytes:
        """The image's file; `format` is PNG or WEBP, both exact."""
        file = io.BytesIO()
        save_image(self.image, file, self.settings, format=format, metadata=metadata)
        return file.getvalue()

    def source(self, x: int, y: int) -> dict[str, Any]:
        """Where in the garment's own image a pixel of the result came from; x and y are None where none can say.

        Raises:
            `InvalidInput`: if the image has no such pixel.
        """
        if not self._is_seen(x, y):
            return {"x": None, "y": None, "confidence": 0.0, "painted": False}
        source = self.attention.source_of(x, y, block=self.block)
        mask = self.inputs.frame_mask
        place = np.rint(self.inputs.frame.from_photo(x, y, mask.size)).astype(int)
        place = np.clip(place, 0, np.array(mask.size) - 1)
        painted = mask.getpixel((int(place[0]), int(place[1]))) >= 128
        return {"x": source.x, "y": source.y, "confidence": source.certainty, "painted": painted}

    def attended(self, x: int, y: int) -> bytes:
        """PNG of the garment's own image, with how much a pixel of the result looked at each of its places.

        Raises:
            `InvalidInput`: if the network didn't see the pixel.
        """
        if not self._is_seen(x, y):
            raise InvalidInput(f"({x}, {y}) lies outside what the network saw of the photo: choose a repainted pixel.")
        row, column = cells_of(np.array(point_in_frame(self.inputs.frame, x, y)), self.query_size)
        query = torch.tensor([int(row) * self.query_size[1] + int(column)])
        heat = attention_map(self.query, self.key, query)[0, 0].unflatten(0, self.key_size).numpy()
        file = io.BytesIO()
        draw_heat(heat, self.garment, OVERLAY_SIDE).save(file, "PNG", compress_level=1)
        return file.getvalue()

    def _is_seen(self, x: int, y: int) -> bool:
        width, height = self.image.size
        if not (0 <= x < width and 0 <= y < height):
            raise InvalidInput(f"the result is {width} x {height} and has no pixel ({x}, {y}).")
        left, top, right, bottom = self.inputs.frame.visible_box
        return left <= x < right and top <= y < bottom


class LastStep:
    """Records a call's last step: coordinates of all blocks that may answer, and their queries and keys.

    Args:
        pipeline (`TryOnPipeline`): Whose running call, in this thread, is recorded.
    """

    def __init__(self, pipeline: TryOnPipeline):
        block = pipeline.config.correspondence_block
        self.pipeline = pipeline
        self.step = 0
        self.tokens: dict[int, tuple[torch.Tensor, torch.Tensor, tuple[int, int], tuple[int, int]]] = {}
        self._coordinates = CoordinateRecorder(blocks=None if block is None else {block})

    def should_record(self, block: int) -> bool:
        return self.step == self.pipeline.num_timesteps - 1 and self._coordinates.should_record(block)

    def record(
        self,
        block: int,
        query: torch.Tensor,
        key: torch.Tensor,
        query_size: tuple[int, int],
        key_size: tuple[int, int],
    ) -> None:
        self._coordinates.step = self.step
        self._coordinates.record(block, query, key, query_size, key_size)
        query, key = (tokens.detach().half().cpu() for tokens in (query, key))
        self.tokens[block] = (query, key, query_size, key_size)

    def attention(self, inputs: TryOnInputs, garment: PreparedGarment, default_block: int | None) -> TryOnAttention:
        """What was recorded of a call with one person and one garment."""
        return TryOnAttention(self._coordinates.records, [inputs], [garment], default_block=default_block)


@dataclass(frozen=True, eq=False)
class PrepareWork:
    """A photo's mask.

    Args:
        person (`PIL.Image.Image`): Decoded.
        mask (`PIL.Image.Image`, *optional*): Of the whole photo, to be checked instead of derived.
        category (`str`): What is to be repainted.
    """

    person: Image.Image
    mask: Image.Image | None
    category: str

    @property
    def nbytes(self) -> int:
        return image_bytes(self.person) + image_bytes(self.mask)

    def run(self, pipeline: TryOnPipeline, running: Running) -> PrepareResult:
        with collect_warnings() as warnings:
            inputs = pipeline.prepare_persons(self.person, mask=self.mask, category=self.category)[0]
        running.check()
        return PrepareResult(inputs.photo_mask(), warnings)


@dataclass(frozen=True, eq=False)
class PrepareResult:
    """
    Args:
        mask (`PIL.Image.Image`): Of the whole photo, mode L, 255 = repainted.
        warnings (`list[str]`): A sentence each on what is doubtful.
    """

    mask: Image.Image
    warnings: list[str]

    @property
    def nbytes(self) -> int:
        return image_bytes(self.mask)


def image_bytes(image: Image.Image | None) -> int:
    """Memory that a decoded image takes; PIL keeps four bytes of every colour pixel."""
    return 0 if image is None else image.width * image.height * (1 if image.mode in ("L", "1") else 4)
