"""The benchmark of the paper's ablations: its variants, one tiny run, and the report of stored numbers."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))  # the benchmarks aren't installed


@pytest.fixture
def pipelines():
    from benchmarks.ablation.variants import VARIANTS, architecture, build
    from stableviton_sdk.models.patch_autoencoder import PatchAutoencoder

    vae = PatchAutoencoder(block_out_channels=(4, 4, 4, 4), layers_per_block=0)
    options = architecture((48, 64), [8, 8, 16])
    return {name: build(VARIANTS[name], options, vae, seed=3) for name in ("a", "b")}


def predict(pipeline, garment_latents, recorder=None):
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(1, 49, 8, 6, generator=generator)
    context = torch.randn(1, 1, 32, generator=generator)
    features = pipeline.spatial_encoder(sample, 500, context, garment_latents)
    return pipeline.unet(sample, 500, context, features, attention_recorder=recorder).sample


def wake(pipeline):
    """Let the zero convolutions say something."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in pipeline.unet.named_parameters():
        if name.endswith("zero_conv.weight"):
            parameter.data = torch.randn(parameter.shape, generator=generator)


def garments():
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, 1, 16, 8, 6, generator=generator)


def test_added_features_are_silent_before_training_and_heard_after(pipelines):
    first, second = garments()
    with torch.no_grad():
        assert torch.equal(predict(pipelines["a"], first), predict(pipelines["a"], second))
        wake(pipelines["a"])
        assert not torch.allclose(predict(pipelines["a"], first), predict(pipelines["a"], second), atol=1e-3)


def test_added_features_attend_to_no_garment(pipelines):
    class Recorder:
        seen = 0

        def should_record(self, block):
            return True

        def record(self, *arguments):
            self.seen += 1

    seen = {}
    for name, pipeline in pipelines.items():
        recorder = Recorder()
        with torch.no_grad():
            predict(pipeline, garments()[0], recorder)
        seen[name] = recorder.seen
    assert seen == {"a": 0, "b": 4}
    names = [name for name, _ in pipelines["a"].unet.named_parameters() if ".zero_cross_attentions." in name]
    assert len(names) == 8
    assert all(name.endswith(("zero_conv.weight", "zero_conv.bias")) for name in names)


def test_a_place_of_the_garment_changes_added_features_there_and_not_elsewhere():
    from benchmarks.ablation.variants import ZeroAddition

    addition = ZeroAddition(8, 4)
    torch.nn.init.ones_(addition.zero_conv.weight)
    garment = torch.zeros(1, 4, 4, 3)
    garment[0, :, 2, 1] = 1
    changed = addition(torch.zeros(1, 8, 4, 3), garment)
    assert (changed[0, :, 2, 1] == 4).all()
    assert changed.sum() == 4 * 8


def test_zero_convolutions_of_added_features_have_a_gradient_from_the_first_step(pipelines):
    predict(pipelines["a"], garments()[0]).square().mean().backward()
    gradients = [
        parameter.grad.abs().max()
        for name, parameter in pipelines["a"].unet.named_parameters()
        if name.endswith("zero_conv.weight")
    ]
    assert len(gradients) == 4
    assert min(gradients) > 0


def test_both_networks_have_about_as_many_parameters():
    from benchmarks.ablation.variants import AddedFeaturesUNet, architecture, parameters, widened
    from stableviton_sdk.models.unet import TryOnUNet

    options = architecture((72, 96), [16, 32, 48])["unet"]
    widths = widened(options)
    assert widths[:2] == [16, 32]
    added = parameters(AddedFeaturesUNet(**{**options, "block_out_channels": widths}))
    assert added == pytest.approx(parameters(TryOnUNet(**options)), rel=0.1)


def experiment(folder, **changes):
    from benchmarks.ablation.experiment import Experiment, Protocol

    options = {
        "samples": 2, "second_stage": 0.5, "batch_size": 1, "learning_rate": 1e-3, "second_learning_rate": 1e-3,
        "figures": 3, "test_figures": 2, "height": 64, "width": 48, "widths": [8, 8, 16], "steps": 2,
        "total_variation": 0.01, "correspondence": 0.03,
    }  # fmt: skip
    protocol = Protocol(**{**options, **changes})
    lines = []
    return Experiment(protocol, folder / "work", folder / "results", cpu=True, log=lines.append), lines


@pytest.mark.slow
def test_a_run_is_measured_once_and_its_first_stage_is_shared(tmp_path):
    from benchmarks.ablation.report import write_report
    from benchmarks.ablation.variants import VARIANTS
    from stableviton_sdk.errors import InvalidInput

    runs, lines = experiment(tmp_path)
    runs.run_baselines()
    for name in ("a", "c-supervised", "d-supervised"):
        runs.run(VARIANTS[name], 0)
    told = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "results").glob("*-seed-0.json")}
    assert set(told) == {"a-seed-0", "c-supervised-seed-0", "d-supervised-seed-0"}
    first, second = (told[f"{name}-supervised-seed-0"]["training"] for name in "cd")
    assert first[0] == second[0]
    assert "total_variation" not in first[1][-1]
    assert second[1][-1]["total_variation"] > 0
    assert "blocks" not in told["a-seed-0"]["measured"]["shifted"]["unpaired"]
    assert set(told["d-supervised-seed-0"]["measured"]["studio"]["paired"]["blocks"]) == {"0", "1", "2", "3"}

    written = (tmp_path / "results" / "a-seed-0.json").read_bytes()
    lines.clear()
    runs.run(VARIANTS["a"], 0)
    assert lines == ["a-seed-0: there already"]
    assert (tmp_path / "results" / "a-seed-0.json").read_bytes() == written
    with pytest.raises(InvalidInput, match="holds a run whose"):
        experiment(tmp_path, steps=3)

    (tmp_path / "results" / "command.txt").write_text("python -m benchmarks.ablation\n")
    write_report(tmp_path / "results", tmp_path / "work")
    # person, garment, three variants, truth
    assert Image.open(tmp_path / "results" / "sheet-studio.png").width == 6 * (48 + 4) - 4


def test_scores_know_the_truth_and_the_setting(tmp_path):
    from benchmarks.ablation.measure import score
    from benchmarks.ablation.pairs import render_pairs

    pairs = render_pairs(tmp_path / "pairs.npz", 2, 5, "studio", (48, 64))
    again = render_pairs(tmp_path / "pairs.npz", 2, 5, "studio", (48, 64))
    assert all(np.array_equal(pairs.arrays[name], again.arrays[name], equal_nan=name == "correspondence")
               for name in pairs.arrays)  # fmt: skip
    truths = {setting: pairs.arrays["person"][offset::2] for offset, setting in enumerate(("paired", "unpaired"))}
    for setting, other in (("paired", "unpaired"), ("unpaired", "paired")):
        assert score(pairs, truths[setting], setting)["psnr"] == np.inf
        assert score(pairs, truths[setting], setting)["ssim"] == pytest.approx(1)
        assert score(pairs, truths[other], setting)["psnr"] < 40
    grey = np.where(pairs.arrays["mask"][..., None], np.uint8(128), truths["paired"])
    item = pairs[0]
    error = np.square(item["person"][item["mask"]] / 255 - 128 / 255).mean()
    second = pairs[2]
    others = np.square(second["person"][second["mask"]] / 255 - 128 / 255).mean()
    assert score(pairs, grey, "paired")["psnr"] == pytest.approx(-5 * np.log10(error * others))


def block(mean, constant=20.0, size=(12, 9)):
    size = list(size)
    return {
        "mean": mean, "percentile_90": 2 * mean, "constant_mean": constant, "constant_percentile_90": 30.0,
        "entropy": 4.0, "total_variation": 1.0, "query_size": size, "key_size": size, "queries": 100,
    }  # fmt: skip


def stored_run(variant, seed, psnr, error=None):
    found = {"psnr": psnr, "ssim": psnr / 50, "worn_psnr": psnr - 1}
    if error is not None:
        found["blocks"] = {"1": block(1.0, 15.0, (6, 5)), "2": block(error), "3": block(error + 3)}
    return {
        "variant": variant, "seed": seed, "device": "cpu", "parameters": {"unet": 1000, "spatial_encoder": 234},
        "optimizer_steps": [3, 1], "training": [[], []],
        "measured": {style: dict.fromkeys(("paired", "unpaired"), found) for style in ("studio", "shifted")},
    }  # fmt: skip


@pytest.fixture
def stored(tmp_path):
    scores = {setting: {"psnr": 10.0, "ssim": 0.25, "worn_psnr": 9.0} for setting in ("paired", "unpaired")}
    runs = [stored_run("a", seed, 12 + seed / 10) for seed in range(3)]
    runs += [stored_run("b", seed, 13 + seed / 10, error=10 - seed) for seed in range(3)]
    runs += [stored_run("c", seed, 13 + (seed == 1), error=10 + seed) for seed in range(3)]
    for run in runs:
        (tmp_path / f"{run['variant']}-seed-{run['seed']}.json").write_text(json.dumps(run))
    protocol = {"samples": 8, "batch_size": 2, "figures": 3, "test_figures": 2, "height": 96, "width": 72, "steps": 4}
    (tmp_path / "protocol.json").write_text(json.dumps(protocol))
    (tmp_path / "command.txt").write_text("python -m benchmarks.ablation --seeds 0 1 2\n")
    baselines = {style: {"mean colour": scores} for style in ("studio", "shifted")}
    (tmp_path / "baselines.json").write_text(json.dumps(baselines))
    return tmp_path


def test_the_table_states_mean_and_spread_of_stored_runs(stored):
    from benchmarks.ablation.report import write_report

    write_report(stored)
    text = (stored / "table.md").read_text()
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
            for line in text.split("## shifted")[0].splitlines() if line.startswith("| ")}  # fmt: skip
    a, b = (next(cells for name, cells in rows.items() if name.startswith(f"**{label}**")) for label in "ab")
    assert a[:2] == ["12.10 ± 0.10", "0.242 ± 0.002"]
    assert a[5:] == ["–"] * 4
    assert b[5:7] == ["9.0 ± 1.0", "18.0 ± 2.0"]  # of the finest blocks the better one
    assert rows["*even attention*"][5:7] == ["20.0", "30.0"]
    assert rows["*mean colour*"][:3] == ["10.00", "0.250", "10.00"]
    assert "`python -m benchmarks.ablation --seeds 0 1 2`" in text
    assert "a 1,234, b 1,234, c 1,234" in text
    for style in ("studio", "shifted"):
        image = np.asarray(Image.open(stored / f"chart-{style}.png"))
        assert (image != 255).any(axis=-1).mean() > 0.01
        assert not (stored / f"sheet-{style}.png").exists()


def test_steps_say_whether_a_difference_is_more_than_the_spread(stored):
    from benchmarks.ablation.report import differences, read_runs, steps_table, verdict

    runs = read_runs(stored)
    assert [(run["variant"], run["seed"]) for run in runs][:4] == [("a", 0), ("b", 0), ("c", 0), ("a", 1)]
    assert differences(runs, "studio", "b", "c", "unpaired PSNR") == pytest.approx([0, 0.9, -0.2])
    assert differences(runs, "studio", "a", "b", "error") == []
    table = steps_table(runs, "studio")
    assert "| a → b | +1.00, better |" in table
    assert "| b → c | +0.23, within the spread |" in table
    assert "c → d" not in table
    assert verdict([0.5], True) == "one seed"
    assert verdict([0.5, 0.51], False) == "worse"
    assert verdict([0.5, 0.6], False) == "within the spread"  # two seeds are few
    assert verdict([0.5, 0.6, 0.55], False) == "worse"
    assert verdict([0.1, 2.0, 0.1], True) == "within the spread"
    assert verdict([-1, -1.1], None) == "falls"


def test_dots_lie_at_their_values(tmp_path):
    from benchmarks.ablation.drawing import COLOURS, MARGIN, PANEL, draw_chart, value_range

    panel = {"title": "x", "dots": {"a": [1.0], "b": [3.0]}, "line": None, "digits": 1}
    draw_chart([panel], tmp_path / "chart.png", columns=1)
    image = np.asarray(Image.open(tmp_path / "chart.png"))
    low, high = value_range(panel)
    top, bottom = MARGIN[1], PANEL[1] - MARGIN[3]
    for colour, value in zip(COLOURS, (1.0, 3.0), strict=False):
        rows = np.flatnonzero((image == colour).all(-1).any(axis=1))
        assert rows.mean() == pytest.approx(bottom - (value - low) / (high - low) * (bottom - top), abs=1)


def test_what_cannot_be_reported_is_refused(stored):
    from benchmarks.ablation.__main__ import main
    from benchmarks.ablation.experiment import chosen_variants
    from benchmarks.ablation.report import read_runs
    from stableviton_sdk.errors import InvalidInput

    empty = stored / "empty"
    empty.mkdir()
    assert main(["--report-only", "--output", str(empty)]) == 1
    with pytest.raises(InvalidInput, match="no variant 'e'"):
        chosen_variants(["a", "e"])
    assert [variant.name for variant in chosen_variants(["d", "a"])] == ["a", "d"]
    run = copy.deepcopy(stored_run("a", 0, 1.0))
    (stored / "z-seed-0.json").write_text(json.dumps({**run, "variant": "z"}))
    with pytest.raises(InvalidInput, match="no run of a known variant"):
        read_runs(stored)
    for changes in (
        {"samples": 1},
        {"widths": [8, 8]},
        {"widths": [8, 8, 12]},
        {"height": 20, "width": 15},
        {"steps": 0},
    ):
        with pytest.raises(InvalidInput):
            experiment(stored / "refused", **changes)
