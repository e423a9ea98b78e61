"""Which of a call's zero cross-attentions to record, and the recorder of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from ..errors import InvalidInput
from ..models.attention_maps import AttentionRecorder, attention_map, expected_coordinates
from ..preprocessing.frame import Frame
from ..validation import is_whole_number

MAX_QUERIES = 32  # full maps kept of every image and step: at 512 x 384 at most 12 kB each
CHUNK_SCORES = 2**25  # scores of all heads at once, where no fused kernel keeps them out of memory: 128 MiB


@dataclass(frozen=True)
class AttentionRequest:
    """Parts of its zero cross-attentions that a call records: `pipe(..., output_attention=AttentionRequest(...))`.

    Expected coordinates and certainty are recorded for every cell of the blocks. The full map of a pixel's attention
    to every cell of the garment is kept of the pixels in `queries` alone, of one block.

    Args:
        steps (`Collection[int]`, *optional*): Denoising steps, negative ones from the end; all by default.
        blocks (`Collection[int]`, *optional*):
            Blocks whose coordinates are recorded, 0 being the decoder's lowest resolution; all by default.
        queries (`Sequence[tuple[float, float]]`, *optional*):
            Pixels x, y of the result whose full maps are kept, at most 32; of every image of the call.
        query_block (`int`, *optional*): The block of the full maps; by default the middle one.

    Raises:
        `InvalidInput`: naming what can't be recorded.
    """

    steps: Collection[int] | None = None
    blocks: Collection[int] | None = None
    queries: Sequence[tuple[float, float]] = ()
    query_block: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "blocks"):
            value = getattr(self, name)
            if value is None:
                continue
            if (
                not isinstance(value, Collection)
                or isinstance(value, str)
                or not value
                or not all(map(is_whole_number, value))
            ):
                raise InvalidInput(
                    f"output_attention's {name} are {value!r}: pass some whole numbers, or None for all."
                )
            object.__setattr__(self, name, tuple(int(number) for number in value))
        if self.query_block is not None and not is_whole_number(self.query_block):
            raise InvalidInput(f"output_attention's query_block is {self.query_block!r}: pass the number of a block.")
        try:
            queries = tuple((float(x), float(y)) for x, y in self.queries)
        except (TypeError, ValueError):
            queries = ((math.nan, math.nan),)
        if not all(math.isfinite(x) and math.isfinite(y) for x, y in queries):
            raise InvalidInput(f"output_attention's queries are {self.queries!r}: pass pixels of the result, (x, y).")
        if len(queries) > MAX_QUERIES:
            raise InvalidInput(
                f"output_attention asks for {len(queries)} full maps: pass at most {MAX_QUERIES} queries; coordinates "
                "and certainty are recorded for every pixel without them."
            )
        object.__setattr__(self, "queries", queries)

    def resolve(self, block_count: int, frames: Sequence[Frame]) -> AttentionRequest:
        """This request, with the block of the full maps settled.

        Args:
            block_count (`int`): How many zero cross-attention blocks the network has.
            frames (`Sequence[Frame]`): The frames of the call's photos.

        Raises:
            `InvalidInput`: if the network has no such block, or a query lies outside of what it sees of a photo.
        """
        query_block = block_count // 2 if self.query_block is None else int(self.query_block)
        for block in (*(self.blocks or ()), query_block):
            if not 0 <= block < block_count:
                raise InvalidInput(f"output_attention names block {block}: the network's are 0 to {block_count - 1}.")
        for frame in frames:
            for x, y in self.queries:
                check_pixel(frame, x, y)
        return AttentionRequest(self.steps, self.blocks, self.queries, query_block)


class CallRecorder(AttentionRecorder, Protocol):
    """An `AttentionRecorder` for a whole call, whose `step` the pipeline sets to the denoising step.

    It receives the images' own part of the network's batch: not guidance's unconditional branch.
    """

    step: int


class CoordinateRecorder:
    """Records, at chosen steps, the garment place that every query expects and how far its attention spreads.

    Args:
        steps (`Collection[int]`, *optional*): Steps to record; all by default.
        blocks (`Collection[int]`, *optional*): Blocks to record; all by default.
        queries (`np.ndarray`, *optional*):
            Where full maps are kept: y and x in [0, 1] of the frame's height and width, (images, queries, 2).
        query_block (`int`, *optional*): The block that they are kept of.
    """

    def __init__(
        self,
        steps: Collection[int] | None = None,
        blocks: Collection[int] | None = None,
        queries: np.ndarray | None = None,
        query_block: int | None = None,
    ):
        self.steps = steps
        self.blocks = blocks
        self.queries = queries
        self.query_block: int | None = query_block if queries is not None and queries.size else None
        self.step = 0
        self.records: dict[int, dict[int, np.ndarray]] = {}
        self.maps: dict[int, np.ndarray] = {}
        self.map_cells: np.ndarray | None = None
        self.map_size: tuple[int, int] | None = None

    def should_record(self, block: int) -> bool:
        if self.steps is not None and self.step not in self.steps:
            return False
        return self._keeps(block) or block == self.query_block

    def record(
        self,
        block: int,
        query: torch.Tensor,
        key: torch.Tensor,
        query_size: tuple[int, int],
        key_size: tuple[int, int],
    ) -> None:
        if self._keeps(block):
            mean, spread = expected_coordinates(query, key, key_size, CHUNK_SCORES)
            note = torch.cat([mean, spread[..., None]], dim=-1).unflatten(1, query_size)  # (images, h, w, 3)
            # half precision resolves 1/2000 of the garment's sides and halves what a long run keeps
            self.records.setdefault(block, {})[self.step] = note.half().cpu().numpy()
        if block == self.query_block:
            self.map_size = query_size
            self.map_cells = cells_of(self.queries, query_size)
            maps = []
            for index, cells in enumerate(self.map_cells):
                places = torch.from_numpy(cells[:, 0] * query_size[1] + cells[:, 1]).to(query.device)
                one = slice(index, index + 1)
                maps.append(attention_map(query[one], key[one], places).unflatten(2, key_size).float().cpu().numpy())
            self.maps[self.step] = np.concatenate(maps)  # (images, queries, h', w')

    @classmethod
    def joined(cls, recorders: Sequence[CoordinateRecorder]) -> CoordinateRecorder:
        """One recorder with the notes of several, whose images stand one after another."""
        first = recorders[0]
        if len(recorders) == 1:
            return first
        joined = cls(first.steps, first.blocks, None, None)
        joined.query_block, joined.map_size = first.query_block, first.map_size
        # an interrupted call's last images lack steps
        for block, notes in first.records.items():
            for step in notes:
                if all(step in one.records.get(block, ()) for one in recorders):
                    together = np.concatenate([one.records[block][step] for one in recorders])
                    joined.records.setdefault(block, {})[step] = together
        for step in first.maps:
            if all(step in one.maps for one in recorders):
                joined.maps[step] = np.concatenate([one.maps[step] for one in recorders])
        if joined.maps:
            joined.map_cells = np.concatenate([one.map_cells for one in recorders])
        return joined

    def _keeps(self, block: int) -> bool:
        return self.blocks is None or block in self.blocks


class ConditionalBranch:
    """Passes recorders the last part of the network's batch, where guidance has the branch with the garment.

    Args:
        recorders (`Sequence[CallRecorder]`): Receive `step`, and the conditional part of each batch.
        count (`int`): How many images the call makes.
    """

    def __init__(self, recorders: Sequence[CallRecorder], count: int):
        self.recorders: Sequence[CallRecorder] = recorders
        self.count: int = count

    def start_step(self, step: int) -> None:
        for recorder in self.recorders:
            recorder.step = step

    def should_record(self, block: int) -> bool:
        return any(recorder.should_record(block) for recorder in self.recorders)

    def records_any(self, block_count: int) -> bool:
        """Whether the step under way is recorded in any block."""
        return any(map(self.should_record, range(block_count)))

    def record(self, block: int, query: torch.Tensor, key: torch.Tensor, *sizes: tuple[int, int]) -> None:
        for recorder in self.recorders:
            if recorder.should_record(block):
                recorder.record(block, query[-self.count :], key[-self.count :], *sizes)


def parse_attention_request(
    value: Any, block_count: int, frames: Sequence[Frame]
) -> AttentionRequest | CallRecorder | None:
    """The request or recorder that `output_attention` stands for; None for none.

    Args:
        value (`bool`, `Collection[int]`, `AttentionRequest` or `CallRecorder`): As passed to the call.
        block_count (`int`), frames (`Sequence[Frame]`): See `AttentionRequest.resolve`.

    Raises:
        `InvalidInput`: if it is none of these, or names a block or pixel that isn't there.
    """
    if value is False or value is None:
        return None
    if callable(getattr(value, "record", None)) and callable(getattr(value, "should_record", None)):
        return value
    if not isinstance(value, AttentionRequest):
        if value is not True and (not isinstance(value, Collection) or isinstance(value, str)):
            raise InvalidInput(f"output_attention is {value!r}: pass True, some steps, or an AttentionRequest.")
        value = AttentionRequest(steps=None if value is True else value)
    return value.resolve(block_count, frames)


def make_recorder(
    request: AttentionRequest | CallRecorder | None, frames: Sequence[Frame], step_count: int
) -> CallRecorder | None:
    """The recorder of a request.

    Args:
        request (`AttentionRequest`, `CallRecorder` or None): From `parse_attention_request`; a recorder is its own.
        frames (`Sequence[Frame]`): One for each image of the call.
        step_count (`int`): How many times the network runs.

    Raises:
        `InvalidInput`: if the request names a step that never comes.
    """
    if not isinstance(request, AttentionRequest):
        return request
    steps = request.steps
    if steps is not None:
        if not all(-step_count <= step < step_count for step in steps):
            raise InvalidInput(f"output_attention names steps {steps}: pass some between 0 and {step_count - 1}.")
        steps = {step % step_count for step in steps}
    places = [[point_in_frame(frame, x, y) for x, y in request.queries] for frame in frames]
    queries = np.array(places, dtype=np.float64).reshape(len(frames), -1, 2)
    return CoordinateRecorder(steps, request.blocks, queries, request.query_block)


def check_pixel(frame: Frame, x: float, y: float) -> None:
    """Refuse a pixel of the result that the network didn't see."""
    left, top, right, bottom = frame.visible_box
    if not (left <= x < right and top <= y < bottom):
        raise InvalidInput(
            f"({x:g}, {y:g}) lies outside what the network saw of the photo: "
            f"x from {left} to {right - 1}, y from {top} to {bottom - 1}."
        )


def point_in_frame(frame: Frame, x: float, y: float) -> tuple[float, float]:
    """y and x of a photo pixel's centre, in [0, 1] of the frame's height and width."""
    return (y + 0.5 - frame.box[1]) / frame.size[1], (x + 0.5 - frame.box[0]) / frame.size[0]


def cells_of(places: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Row and column of the cell that holds each place, y and x in [0, 1], of a map of `size`: int, (..., 2)."""
    return np.minimum((places * size).astype(int), np.array(size) - 1)
