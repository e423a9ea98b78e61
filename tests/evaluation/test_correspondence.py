import json
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from support.tiny import tiny_pipeline

from stableviton_sdk.data.synthetic import SyntheticDataset, render_pair
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.evaluation.correspondence.measure import measure_correspondence, summarise
from stableviton_sdk.evaluation.correspondence.recorder import (
    CorrespondenceRecorder,
    GroundTruth,
    correspondence_distances,
    true_places,
)
from stableviton_sdk.models.attention_maps import attention_entropy, attention_map, coordinate_total_variation
from stableviton_sdk.preprocessing.frame import Frame
from stableviton_sdk.preprocessing.garment import CANVAS, prepare_garment
from stableviton_sdk.training.tryon.losses import attention_total_variation

GRID = (16, 12)  # of queries and of keys
CELL = 8  # pixels of the person, and of the garment, that a cell covers


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


@pytest.fixture(scope="module")
def sample():
    return render_pair(3, 1, size=(96, 128))


def placed(sample):
    return prepare_garment(Image.fromarray(sample.garment), size=(96, 128))


def looking_at(rows, columns, sharpness=1000.0):
    """Queries and keys whose map rests on the cell (row, column) of the key grid, (1, 1, queries, keys)."""
    keys = torch.eye(GRID[0] * GRID[1])
    return (keys[rows * GRID[1] + columns] * sharpness)[None, None], keys[None, None]


def nearest_keys(truth):
    """Row and column of the key nearest to each cell's true place."""
    x, y = truth.garment.frame.from_photo(*np.moveaxis(truth.at_cells(GRID), -1, 0), truth.garment.image.size)
    row, column = ((place + 0.5) / CELL for place in (y, x))
    clean = [
        np.nan_to_num(place).clip(0, side - 1e-3).astype(int) for place, side in zip((row, column), GRID, strict=True)
    ]
    return [torch.from_numpy(part.ravel()) for part in clean]


def recorded(truth, query, key, steps=1):
    recorder = CorrespondenceRecorder([truth])
    for step in range(steps):
        recorder.step = step
        recorder.record(4, query, key, GRID, GRID)
    return recorder.measures()[0][4]


# ---------------------------------------------------------------- known errors


def test_queries_that_look_at_the_right_key_err_by_less_than_half_a_cell(sample):
    truth = GroundTruth(sample.correspondence, sample.worn_mask, placed(sample))
    found = recorded(truth, *looking_at(*nearest_keys(truth)))
    height, width = (side / count for side, count in zip(truth.garment.frame.size, (GRID[1], GRID[0]), strict=True))
    assert found.distances.size > 20
    assert found.distances.max() <= math.hypot(height, width) / 2 + 1e-4
    assert found.distances.mean() < 0.5 * CELL
    assert found.constant.mean() > 2 * CELL
    assert found.entropy == pytest.approx(0.0, abs=1e-6)


def test_a_constant_map_errs_by_the_distance_from_the_middle(sample):
    truth = GroundTruth(sample.correspondence, sample.worn_mask, placed(sample))
    keys = torch.eye(GRID[0] * GRID[1])[None, None]
    found = recorded(truth, torch.zeros_like(keys), keys)
    places = truth.at_cells(GRID)
    known = np.isfinite(places).all(-1)
    left, top, right, bottom = truth.garment.frame.box
    middle = ((left + right) / 2 - 0.5, (top + bottom) / 2 - 0.5)
    expected = np.hypot(places[known][:, 0] - middle[0], places[known][:, 1] - middle[1])
    assert np.allclose(found.distances, expected, atol=1e-3)
    assert np.allclose(found.constant, expected, atol=1e-9)
    assert found.entropy == pytest.approx(math.log(GRID[0] * GRID[1]), abs=1e-5)
    assert found.total_variation == pytest.approx(0.0, abs=1e-4)


def test_a_shifted_map_errs_by_its_shift():
    """Person and garment are the same image, the garment cropped close: the frame must be undone."""
    flat = Image.new("RGB", (96, 128), CANVAS)
    ImageDraw.Draw(flat).rectangle((30, 40, 70, 90), fill=(30, 60, 90))
    garment = prepare_garment(flat, size=(96, 128))
    assert garment.frame != Frame((96, 128), (0, 0, 96, 128))
    width, height = garment.frame.size
    rows, columns = np.indices(GRID)
    x, y = garment.to_original((columns + 0.5) * CELL - 0.5, (rows + 0.5) * CELL - 0.5)
    coarse = np.stack([x, y], axis=-1).astype(np.float32)
    correspondence = np.repeat(np.repeat(coarse, CELL, 0), CELL, 1)
    worn = np.zeros((128, 96), bool)
    worn[32:96, 24:56] = True
    truth = GroundTruth(correspondence, worn, garment)
    row, column = (torch.from_numpy(part.ravel()) for part in np.indices(GRID))
    exact = recorded(truth, *looking_at(row, column))
    assert exact.distances.size == 8 * 4
    assert exact.distances.max() < 1e-3
    aside = recorded(truth, *looking_at(row, (column + 2).clamp(max=GRID[1] - 1)))
    assert np.allclose(aside.distances, 2 * width / GRID[1], atol=1e-3)
    below = recorded(truth, *looking_at((row + 3).clamp(max=GRID[0] - 1), column))
    assert np.allclose(below.distances, 3 * height / GRID[0], atol=1e-3)


def test_coordinates_are_averaged_over_steps_before_they_are_compared(sample):
    truth = GroundTruth(sample.correspondence, sample.worn_mask, placed(sample))
    rows, columns = nearest_keys(truth)
    recorder = CorrespondenceRecorder([truth])
    for step, offset in enumerate((1, -1)):  # errors to both sides cancel
        recorder.step = step
        query, key = looking_at(rows, (columns + offset).clamp(0, GRID[1] - 1))
        recorder.record(0, query, key, GRID, GRID)
    inner = recorder.measures()[0][0]
    alone = recorded(truth, *looking_at(rows, (columns + 1).clamp(0, GRID[1] - 1)))
    assert inner.distances.mean() < 0.5 * CELL < alone.distances.mean()


def test_the_summary_states_mean_and_ninetieth_percentile(sample):
    truth = GroundTruth(sample.correspondence, sample.worn_mask, placed(sample))
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 2, GRID[0] * GRID[1], 8, generator=generator) for _ in range(2))
    found = recorded(truth, query, key, steps=2)
    summary = summarise([found, found])
    ordered = np.sort(np.concatenate([found.distances] * 2))
    assert summary.mean == pytest.approx(ordered.mean())
    assert summary.percentile_90 == pytest.approx(np.quantile(ordered, 0.9))
    assert summary.queries == 2 * found.distances.size
    assert (summary.entropy, summary.total_variation) == (found.entropy, found.total_variation)
    worn = torch.from_numpy(sample.worn_mask)[None]
    assert found.total_variation == pytest.approx(
        float(attention_total_variation(query, key, GRID, GRID, worn)), rel=1e-5
    )
    weights = attention_map(query, key)[0][torch.from_numpy(np.isfinite(truth.at_cells(GRID)).all(-1).ravel())]
    assert found.entropy == pytest.approx(float(-(weights * weights.log()).sum(-1).mean()), rel=1e-5)


# ---------------------------------------------------------------- pure functions


def test_entropy_is_the_same_in_chunks_of_any_size():
    generator = torch.Generator().manual_seed(1)
    query, key = (torch.randn(2, 3, count, 8, generator=generator, dtype=torch.float64) for count in (10, 7))
    weights = attention_map(query, key)
    expected = -(weights * weights.log()).sum(-1)
    for chunk in (1, 14, 30, 2**22):
        assert torch.allclose(attention_entropy(query, key, chunk_elements=chunk), expected, atol=1e-12)
    some = torch.tensor([4, 9])
    assert torch.allclose(attention_entropy(query, key, some), expected[:, some], atol=1e-12)
    assert attention_entropy(query, key, some[:0]).shape == (2, 0)


def test_total_variation_counts_only_pairs_on_the_garment():
    cells = torch.zeros(1, 2, 3, 2)
    cells[0, :, 1, 0], cells[0, :, 2, 1] = 2.0, 100.0
    worn = torch.tensor([[[True, True, False], [True, True, False]]])
    assert float(coordinate_total_variation(cells, worn)) == 2.0  # two steps of 2 aside, none down
    assert float(coordinate_total_variation(cells, torch.zeros_like(worn))) == 0.0


def test_true_places_are_those_of_the_cells_centres():
    rows, columns = np.indices((64, 48)).astype(np.float32)
    straight = np.stack([columns * 2 + 3, rows * 2 - 1], axis=-1)
    worn = np.ones((64, 48), bool)
    for size in ((8, 6), (64, 48), (16, 16), (9, 7)):
        y, x = ((np.arange(count) + 0.5) * side / count - 0.5 for count, side in zip(size, (64, 48), strict=True))
        found = true_places(straight, worn, size, seam=10.0)
        assert np.allclose(found[..., 0], (x * 2 + 3)[None], atol=1e-4)
        assert np.allclose(found[..., 1], (y * 2 - 1)[:, None], atol=1e-4)


def test_true_places_do_not_mix_panels_and_leave_out_what_is_not_worn():
    rows, columns = np.indices((8, 8)).astype(np.float32)
    places = np.stack([columns, rows], axis=-1)
    places[:, :4, 0] += 100  # another panel up to the middle
    worn = np.ones((8, 8), bool)
    worn[:4] = False
    places[:3] = np.nan
    found = true_places(places, worn, (2, 1), seam=5.0)
    assert np.isnan(found[0, 0]).all()
    assert np.allclose(found[1, 0], (4.0, 5.5))  # the right panel's pixel: the centre's own
    assert correspondence_distances(np.zeros((2, 1, 2)), found).shape == (1,)


# ---------------------------------------------------------------- a whole measurement


class Samples:
    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_a_measurement_agrees_with_what_source_of_answers(pipeline, sample):
    report = measure_correspondence(pipeline, Samples(sample), steps=2, seed=4)
    noise = int(np.random.SeedSequence([4, 0]).generate_state(1)[0])
    inputs = {name: Image.fromarray(getattr(sample, name)) for name in ("mask", "agnostic", "densepose")}
    attention = pipeline(
        Image.fromarray(sample.person),
        Image.fromarray(sample.garment),
        **inputs,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(noise),
        output_attention=True,
    ).attention
    assert sorted(report.blocks) == attention.blocks
    for block, found in report.blocks.items():
        truth = true_places(sample.correspondence, sample.worn_mask, found.query_size, 128 * 0.05)
        cells = attention.coordinates(block)
        x, y = attention.garments[0].to_original(cells[..., 0], cells[..., 1])
        distances = correspondence_distances(np.stack([x, y], axis=-1), truth)
        assert found.queries == distances.size
        assert found.mean == pytest.approx(distances.mean(), abs=0.02)
        assert found.percentile_90 == pytest.approx(np.percentile(distances, 90), abs=0.05)
        assert 0 < found.entropy < math.log(math.prod(found.key_size))
    assert report.protocol["averaged_steps"] == [1, 2] == attention.steps[1:]


def test_a_measurement_is_reproducible_and_counts_every_sample(pipeline):
    data = SyntheticDataset(2, seed=5, size=(96, 128))
    done = []
    options = {"steps": 1, "setting": "unpaired", "guidance_scale": 2.0}
    report = measure_correspondence(pipeline, data, **options, progress=lambda *place: done.append(place))
    assert done == [(1, 2), (2, 2)]
    assert report.garment_size == (96, 128)
    again = measure_correspondence(
        pipeline, SyntheticDataset(2, 5, size=(96, 128), transform=lambda one: one), **options
    )
    assert again.to_dict() == report.to_dict()
    assert json.loads(json.dumps(report.to_dict()))["protocol"]["setting"] == "unpaired"
    one = report.samples[0][1], report.samples[1][1]
    whole = report.blocks[1]
    counts = [part.queries for part in one]
    assert whole.mean == pytest.approx(np.average([part.mean for part in one], weights=counts))
    assert whole.entropy == pytest.approx(np.average([part.entropy for part in one], weights=counts))
    large = report.scaled_to(512)
    assert large.garment_size == (384, 512)
    assert large.blocks[1].mean == pytest.approx(4 * whole.mean)
    assert large.samples[0][1].constant_percentile_90 == pytest.approx(4 * one[0].constant_percentile_90)
    assert large.blocks[1].entropy == whole.entropy
    assert report.to_markdown().count("\n") == 3 + len(report.blocks)
    assert f"{report.blocks[report.best_block].mean:.2f}" in report.to_markdown()
    paired = measure_correspondence(pipeline, data, **{**options, "setting": "paired"})
    assert paired.blocks[1].constant_mean != whole.constant_mean


def test_garments_are_prepared_once(pipeline, sample, monkeypatch):
    from stableviton_sdk.pipelines import pipeline_tryon

    prepared, real = [], pipeline_tryon.prepare_garment

    def counting(garment, **options):
        prepared.append(garment)
        return real(garment, **options)

    monkeypatch.setattr(pipeline_tryon, "prepare_garment", counting)
    measure_correspondence(pipeline, Samples(sample, sample), steps=1)
    assert len(prepared) == 2


def test_measuring_leaves_the_pipeline_as_it_was(pipeline, sample):
    before = dict(vars(pipeline.scheduler))
    measure_correspondence(pipeline, Samples(sample), steps=1)
    assert dict(vars(pipeline.scheduler)) == before


def nothing_worn(sample):
    return {**sample.as_dict(), "worn_mask": np.zeros((128, 96), bool)}


BAD = {
    "no samples": (lambda sample: {"samples": Samples()}, "empty"),
    "an unknown setting": (lambda sample: {"setting": "both"}, "setting"),
    "no steps": (lambda sample: {"steps": 0}, "steps"),
    "half a step": (lambda sample: {"steps": 1.5}, "steps"),
    "a negative seed": (lambda sample: {"seed": -1}, "seed"),
    "a sample without truth": (lambda sample: {"samples": Samples({"person": sample.person})}, "sample 0"),
    "a sample of another kind": (lambda sample: {"samples": Samples(3)}, "sample 0"),
    "truth of another size": (
        lambda sample: {"samples": Samples({**sample.as_dict(), "worn_mask": np.zeros((2, 2), bool)})},
        "worn_mask",
    ),
    "nothing worn": (lambda sample: {"samples": Samples(nothing_worn(sample))}, "worn garment"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_measured_is_refused(pipeline, sample, name):
    change, match = BAD[name]
    arguments = {"samples": Samples(sample), "steps": 1} | change(sample)
    with pytest.raises(InvalidInput, match=match):
        measure_correspondence(pipeline, **arguments)


def test_a_recorder_that_saw_nothing_says_so(sample):
    recorder = CorrespondenceRecorder(
        [GroundTruth(sample.correspondence, sample.worn_mask, placed(sample))], steps=[3]
    )
    assert not recorder.should_record(0)
    with pytest.raises(InvalidInput, match="nothing was measured"):
        recorder.measures()
