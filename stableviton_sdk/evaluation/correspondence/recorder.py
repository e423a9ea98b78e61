"""Recorder that compares attention with the truth while a pipeline runs, and keeps nothing large."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...errors import InvalidInput
from ...models.attention_maps import attention_entropy, coordinate_total_variation, expected_coordinates
from ...preprocessing.garment import PreparedGarment
from ...preprocessing.resampling import neighbours

SEAM = 0.05  # of the garment's height: neighbouring pixels that differ by more lie on different panels
CHUNK_SCORES = 2**25  # as a call that captures attention


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """True correspondence of one worn garment.

    Args:
        correspondence (`np.ndarray`):
            (H, W, 2), x and y in pixels of the garment's image for every pixel of the person, whole numbers being
            pixel centres; NaN where there is none.
        worn_mask (`np.ndarray`): Pixels that count, bool, (H, W).
        garment (`PreparedGarment`): The garment as the network sees it.
    """

    correspondence: np.ndarray
    worn_mask: np.ndarray
    garment: PreparedGarment

    def at_cells(self, shape: tuple[int, int]) -> np.ndarray:
        """`true_places` at the centres of a map's cells."""
        return true_places(self.correspondence, self.worn_mask, shape, self.garment.original.height * SEAM)


def true_places(correspondence: np.ndarray, worn_mask: np.ndarray, shape: tuple[int, int], seam: float) -> np.ndarray:
    """The correspondence at the centres of a coarser map's cells.

    A cell counts if the pixel at its centre is worn. Its place is interpolated between the pixels around the centre,
    those left out that aren't worn or lie on another panel.

    Args:
        correspondence (`np.ndarray`), worn_mask (`np.ndarray`): See `GroundTruth`.
        shape (`tuple[int, int]`): Height and width of the map in cells.
        seam (`float`): Distance in garment pixels from which a neighbour's place counts as another panel's.

    Returns:
        `np.ndarray`: float64, (height, width, 2): x and y in garment pixels; NaN where the cell doesn't count.
    """
    known = np.asarray(worn_mask, bool) & np.isfinite(correspondence).all(-1)
    sides = list(zip(known.shape, shape, strict=True))
    around = [neighbours((np.arange(count) + 0.5) * length / count - 0.5, length) for length, count in sides]
    nearest = np.ix_(*((2 * np.arange(count) + 1) * length // (2 * count) for length, count in sides))
    centre = correspondence[nearest].astype(np.float64)
    total, weight = np.zeros_like(centre), np.zeros(shape)
    (above, below, row_share), (left, right, column_share) = around
    for rows, row_weight in ((above, 1.0 - row_share), (below, row_share)):
        for columns, column_weight in ((left, 1.0 - column_share), (right, column_share)):
            cell = np.ix_(rows, columns)
            place = correspondence[cell].astype(np.float64)
            share = row_weight[:, None] * column_weight * known[cell]
            share = np.where(np.linalg.norm(place - centre, axis=-1) <= seam, share, 0.0)  # NaN compares as False
            total += np.where(share[..., None] > 0, place, 0.0) * share[..., None]
            weight += share
    counts = known[nearest] & (weight > 0)
    return np.where(counts[..., None], total / np.where(counts, weight, 1.0)[..., None], np.nan)


def correspondence_distances(places: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distance of every place from its true one, where there is one.

    Args:
        places (`np.ndarray`), truth (`np.ndarray`): (height, width, 2) in the same pixels; NaN in `truth`: none.

    Returns:
        `np.ndarray`: (cells that count,), in these pixels.
    """
    known = np.isfinite(truth).all(-1)
    return np.linalg.norm(places[known] - truth[known], axis=-1)


class CorrespondenceRecorder:
    """Measures attention while a pipeline runs: `pipe(..., output_attention=recorder)`.

    It keeps sums over steps: coordinates of every cell, and a few numbers for every block and image.

    Args:
        truths (`Sequence[GroundTruth]`): One for each image of the call.
        steps (`Collection[int]`, *optional*): Steps to measure; all by default.
        blocks (`Collection[int]`, *optional*): Blocks to measure; all by default.
    """

    def __init__(
        self,
        truths: Sequence[GroundTruth],
        steps: Collection[int] | None = None,
        blocks: Collection[int] | None = None,
    ):
        self.truths = truths
        self.steps = steps
        self.blocks = blocks
        self.step = 0
        self._sums: dict[int, _Sums] = {}

    def should_record(self, block: int) -> bool:
        return (self.steps is None or self.step in self.steps) and (self.blocks is None or block in self.blocks)

    def record(
        self,
        block: int,
        query: torch.Tensor,
        key: torch.Tensor,
        query_size: tuple[int, int],
        key_size: tuple[int, int],
    ) -> None:
        if block not in self._sums:
            self._sums[block] = _Sums(self.truths, query_size, key_size)
        sums = self._sums[block]
        coordinates, _ = expected_coordinates(query, key, key_size, CHUNK_SCORES)
        cells = (coordinates * coordinates.new_tensor(key_size)).unflatten(1, query_size)
        sums.coordinates += coordinates.double().cpu().unflatten(1, query_size).numpy()
        for index, (known, worn) in enumerate(zip(sums.known, sums.worn, strict=True)):
            one = slice(index, index + 1)
            if known.any():
                places = torch.from_numpy(np.flatnonzero(known)).to(query.device)
                sums.entropy[index] += float(attention_entropy(query[one], key[one], places).mean())
            mask = torch.from_numpy(worn).to(cells.device)[None]
            sums.total_variation[index] += float(coordinate_total_variation(cells[one], mask))
        sums.steps += 1

    def measures(self) -> list[dict[int, Measured]]:
        """Measures of each image, by block."""
        if not self._sums:
            raise InvalidInput("nothing was measured: no step or block that the recorder wants was run.")
        return [
            {block: self._sums[block].measured(truth, index) for block in sorted(self._sums)}
            for index, truth in enumerate(self.truths)
        ]


@dataclass(frozen=True, eq=False)
class Measured:
    """One block's attention to one garment.

    Args:
        distances (`np.ndarray`): Error of every cell that counts, in pixels of the garment's image, (cells,).
        constant (`np.ndarray`): The same for attention spread evenly.
        entropy (`float`), total_variation (`float`), query_size (`tuple[int, int]`), key_size (`tuple[int, int]`):
            See `BlockCorrespondence`.
    """

    distances: np.ndarray
    constant: np.ndarray
    entropy: float
    total_variation: float
    query_size: tuple[int, int]
    key_size: tuple[int, int]


class _Sums:
    """One block's sums over steps."""

    def __init__(self, truths: Sequence[GroundTruth], query_size: tuple[int, int], key_size: tuple[int, int]):
        self.query_size, self.key_size = query_size, key_size
        self.true_places = [truth.at_cells(query_size) for truth in truths]
        self.known = [np.isfinite(places).all(-1) for places in self.true_places]
        self.worn = [_as_the_loss_sees(truth.worn_mask, query_size) for truth in truths]
        self.coordinates = np.zeros((len(truths), *query_size, 2))
        self.entropy, self.total_variation = np.zeros(len(truths)), np.zeros(len(truths))
        self.steps = 0

    def measured(self, truth: GroundTruth, index: int) -> Measured:
        true = self.true_places[index]
        expected = _to_garment(self.coordinates[index] / self.steps, truth.garment)
        middle = _to_garment(np.full((*self.query_size, 2), 0.5), truth.garment)
        return Measured(
            correspondence_distances(expected, true),
            correspondence_distances(middle, true),
            float(self.entropy[index] / self.steps),
            float(self.total_variation[index] / self.steps),
            self.query_size,
            self.key_size,
        )


def _to_garment(coordinates: np.ndarray, garment: PreparedGarment) -> np.ndarray:
    """y and x in [0, 1] of the prepared garment to x and y in pixels of its own image."""
    width, height = garment.image.size
    x, y = garment.to_original(coordinates[..., 1] * width - 0.5, coordinates[..., 0] * height - 0.5)
    return np.stack([x, y], axis=-1)


def _as_the_loss_sees(worn_mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The worn cells of the attention total variation loss: by nearest, which takes a cell's first pixel."""
    rows, columns = (np.arange(count) * length // count for length, count in zip(worn_mask.shape, size, strict=True))
    return np.asarray(worn_mask, bool)[np.ix_(rows, columns)]
