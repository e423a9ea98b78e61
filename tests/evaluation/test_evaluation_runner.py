"""Painting that goes on where it stopped, and measuring that leaves nothing out in silence."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from support.evaluation_runs import (
    PLAIN,
    PLAIN_METRICS,
    QUICK,
    SIZE,
    Anywhere,
    Pooled,
    images,
    run,
    snapshot,
    without_timings,
)
from support.tiny import random_image, tiny_pipeline

from stableviton_sdk.choices import METRICS
from stableviton_sdk.cli.entry import main
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.evaluation.data import RenderedData, load_data
from stableviton_sdk.evaluation.inference import InferenceSettings, begin_or_resume
from stableviton_sdk.evaluation.metric_networks import FeatureExtractor
from stableviton_sdk.evaluation.metrics import psnr, similarity_map
from stableviton_sdk.evaluation.report import format_value
from stableviton_sdk.pipelines.identity import weights_sha256
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.pipelines.seeds import pair_generator
from stableviton_sdk.preprocessing.preprocessor import PersonPreprocessor


def test_a_run_measures_what_the_functions_measure(pipeline, tmp_path):
    data = RenderedData(4, SIZE, "unpaired")
    report = run(data, tmp_path / "run", pipeline=pipeline)
    assert report["complete"]
    assert report["unavailable"] == {}
    assert set(report["metrics"]) == set(METRICS)
    for index, entry in enumerate(report["images"]):
        case, result = data[index], np.asarray(Image.open(tmp_path / "run" / "images" / f"{entry['name']}.png"))
        assert entry["psnr_region"] == pytest.approx(psnr(result, case.truth, case.mask), abs=1e-9)
        assert entry["ssim_region"] == pytest.approx(similarity_map(result, case.truth).over(case.mask), abs=1e-9)
        assert entry["ssim"] == pytest.approx(similarity_map(result, case.truth).mean, abs=1e-9)
        # outside the mask the photo is kept, byte for byte
        np.testing.assert_array_equal(result[~case.mask], case.person[~case.mask])
    mean = np.mean([entry["ssim"] for entry in report["images"]])
    assert report["metrics"]["ssim"]["value"] == pytest.approx(mean, abs=1e-12)
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == report


def test_fid_and_kid_are_of_results_against_each_persons_photo_once(pipeline, tmp_path, listed):
    rows = listed.read_text().splitlines()
    listed.write_text("\n".join([*rows, rows[1].replace("g0", "g3")]) + "\n")  # p0 a second time
    data = load_data(listed, size=SIZE)
    report = run(data, tmp_path / "run", pipeline=pipeline, metrics=("fid", "kid_x1000"))
    from cleanfid import fid

    extract = FeatureExtractor(Pooled())
    made = np.stack([extract(values) for values in images(tmp_path / "run").values()])
    photos = np.stack([extract(np.asarray(random_image(seed=seed))) for seed in range(7)])
    assert len(made) == 8
    assert report["metrics"]["fid"]["value"] == pytest.approx(float(fid.fid_from_feats(made, photos)), rel=1e-6)
    assert "ssim" not in report["metrics"]
    assert report["images"][0].keys() == {"name", "person", "garment"}


def test_without_a_truth_nothing_is_compared_and_the_report_says_why(pipeline, tmp_path, listed):
    data = load_data(listed, size=SIZE, setting="unpaired", limit=3)
    report = run(data, tmp_path / "run", pipeline=pipeline)
    assert set(report["metrics"]) == {"fid", "kid_x1000"}
    assert set(report["unavailable"]) == {"ssim", "psnr", "lpips", "ssim_region", "psnr_region"}
    assert "what the results should look like" in report["unavailable"]["lpips"]
    assert "SSIM | not measured" in (tmp_path / "run" / "report.md").read_text()


def test_a_metric_that_only_some_pairs_have_is_dropped_with_the_reason(tmp_path, listed, results):
    text = listed.read_text().replace("p3.png,g3.png,mask.png", "p3.png,g3.png,")
    listed.write_text(text)
    report = run(load_data(listed, size=SIZE), tmp_path / "run", results=results)
    assert "1 of 7 pairs (such as p3_g3)" in report["unavailable"]["ssim_region"]
    assert "ssim_region" not in report["metrics"]
    assert not any("psnr_region" in entry for entry in report["images"])
    assert report["metrics"]["ssim"]["value"] < 1


def test_networks_that_are_missing_are_reasons_and_the_rest_is_computed(tmp_path, listed, results, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    data = load_data(listed, size=SIZE)
    report = run(data, tmp_path / "run", results=results, networks=None)
    assert set(report["unavailable"]) == {"lpips", "fid", "kid_x1000"}
    assert "aren't on this machine" in report["unavailable"]["fid"]
    assert set(report["metrics"]) == set(PLAIN_METRICS)
    table = (tmp_path / "run" / "report.md").read_text()
    assert "| LPIPS | not measured |" in table
    assert not (tmp_path / "hub").exists()


def test_identical_images_are_reported_as_a_hundred_decibels(tmp_path, listed):
    folder = tmp_path / "results"
    folder.mkdir()
    for seed in range(7):
        random_image(seed=seed).save(folder / f"p{seed}.png")  # called like the persons
    report = run(load_data(listed, size=SIZE), tmp_path / "run", results=folder)
    assert report["metrics"]["psnr"]["value"] == 100
    assert report["metrics"]["ssim"]["value"] == pytest.approx(1, abs=1e-6)
    assert report["metrics"]["kid_x1000"]["value"] < 0.1


def test_derived_masks_are_kept_for_measuring(tmp_path, listed):
    root = listed.parent
    random_image(seed=1).save(root / "g.png")
    random_image(seed=2).save(root / "figure.png")
    listed.write_text("person,garment\nfigure.png,g.png\n")
    painter = tiny_pipeline()
    painter.register_modules(preprocessor=PersonPreprocessor(analyzer=Anywhere()))
    report = run(load_data(listed, size=SIZE), tmp_path / "run", pipeline=painter)
    mask = np.asarray(Image.open(tmp_path / "run" / "masks" / "figure_g.png")) >= 128
    assert 0.01 < mask.mean() < 0.9
    assert "psnr_region" in report["metrics"]


# the same again


def test_noise_follows_from_seed_and_name():
    first, again = (torch.randn(4, generator=pair_generator(3, "a_b")) for _ in range(2))
    assert torch.equal(first, again)
    for other in (pair_generator(4, "a_b"), pair_generator(3, "a_c")):
        assert not torch.equal(first, torch.randn(4, generator=other))


class Noted:
    """Notes the noise that a pipeline begins with, by pair."""

    def __init__(self, pipeline, monkeypatch):
        self.noise = {}
        from stableviton_sdk.pipelines import pipeline_tryon

        original = pipeline_tryon.randn_tensor

        def randn_tensor(shape, generator=None, **options):
            seeds = [each.initial_seed() for each in generator]
            values = original(shape, generator=generator, **options)
            self.noise |= dict(zip(seeds, values.clone(), strict=True))
            return values

        monkeypatch.setattr(pipeline_tryon, "randn_tensor", randn_tensor)


def test_batches_and_order_change_nothing(pipeline, tmp_path, listed, monkeypatch):
    rows = listed.read_text().splitlines()
    shuffled = listed.with_name("shuffled.csv")
    shuffled.write_text("\n".join([rows[0], *(rows[1:][i] for i in (4, 1, 6, 0, 3, 5, 2))]) + "\n")
    noted, painted, reports = [], [], []
    for number, (path, batch) in enumerate(((listed, 1), (listed, 2), (listed, 5), (shuffled, 2))):
        with monkeypatch.context() as patch:
            noise = Noted(pipeline, patch)
            data = load_data(path, size=SIZE)
            output = tmp_path / f"run{number}"
            reports.append(run(data, output, pipeline=pipeline, settings=InferenceSettings(steps=1, batch_size=batch)))
        noted.append(noise.noise)
        painted.append(images(output))
    for noise, outputs, report in zip(noted[1:], painted[1:], reports[1:], strict=True):
        assert noise.keys() == noted[0].keys()
        assert all(torch.equal(noise[seed], noted[0][seed]) for seed in noise)
        assert outputs.keys() == painted[0].keys()
        assert all(np.abs(outputs[name].astype(int) - painted[0][name]).max() <= 1 for name in outputs)
        assert [entry["name"] for entry in report["images"]] == [f"p{seed}_g{seed}" for seed in range(7)]
        for name in METRICS:
            values = [format_value(name, each["metrics"][name]["value"]) for each in (report, reports[0])]
            assert values[0] == values[1]
    assert len({tuple(values.flatten().tolist()) for values in noted[0].values()}) == 7


def test_a_run_that_lacks_images_paints_their_batches_and_reports_the_same(pipeline, tmp_path, listed):
    data, settings = load_data(listed, size=SIZE), InferenceSettings(steps=1, batch_size=3)
    whole = run(data, tmp_path / "run", pipeline=pipeline, settings=settings)
    before = snapshot(tmp_path / "run")
    old = (tmp_path / "run" / "images" / "p0_g0.png").stat().st_mtime_ns
    for name in ("p4_g4", "p6_g6"):
        (tmp_path / "run" / "images" / f"{name}.png").unlink()
    (tmp_path / "run" / "report.json").unlink()
    again = run(data, tmp_path / "run", pipeline=pipeline, settings=settings)
    assert without_timings(again) == without_timings(whole)
    assert snapshot(tmp_path / "run") == before
    assert (tmp_path / "run" / "images" / "p0_g0.png").stat().st_mtime_ns == old


@pytest.mark.slow
def test_a_killed_run_goes_on_and_reports_what_an_uninterrupted_one_does(model, tmp_path):
    def arguments(output):
        options = ["--limit", "8", "--setting", "unpaired", "--steps", "3", "--batch-size", "2", "--device", "cpu"]
        place = ["--output", str(tmp_path / output), "--model", str(model), "--metrics", PLAIN, "--quiet"]
        return ["evaluate", "synthetic", *options, *place]

    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        [sys.executable, "-m", "stableviton_sdk", *arguments("killed")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    folder, deadline = tmp_path / "killed" / "images", time.monotonic() + 300
    try:
        while len(list(folder.glob("[!.]*.png")) if folder.is_dir() else []) < 3:
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert 3 <= len(list(folder.glob("[!.]*.png"))) < 8
    (folder / ".studio-0-00007_other.1.partial.png").write_bytes(
        b"half"
    )  # what a kill leaves if it strikes while writing
    assert not (tmp_path / "killed" / "report.json").exists()
    assert main(arguments("killed")) == 0
    assert main(arguments("whole")) == 0
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("killed", "whole")]
    assert without_timings(reports[0]) == without_timings(reports[1])
    painted = [images(tmp_path / name) for name in ("killed", "whole")]
    assert painted[0].keys() == painted[1].keys()
    for name, values in painted[1].items():
        np.testing.assert_array_equal(painted[0][name], values)


def test_a_quality_is_reported_with_what_it_means(pipeline, tmp_path, listed):
    data, settings = load_data(listed, size=SIZE, limit=1), InferenceSettings(quality="turbo")
    report = run(data, tmp_path / "run", pipeline=pipeline, settings=settings, metrics=("psnr",))
    assert report["settings"]["quality"] == "turbo"
    assert report["preset"]["timesteps"] == pipeline.config.quality_presets["turbo"]["timesteps"]


def test_exact_results_state_their_steps(pipeline):
    assert InferenceSettings().resolved_for(pipeline).steps == pipeline.config.default_num_inference_steps


def test_results_state_their_detail_and_older_runs_had_the_weights_own(listed, tmp_path):
    pipeline = TryOnPipeline(**tiny_pipeline().components, default_detail=0.5)
    data, folder = load_data(listed, size=SIZE, limit=1), tmp_path / "run"
    path = folder / "manifest.json"
    settings = InferenceSettings(steps=1)
    report = run(data, folder, pipeline=pipeline, settings=settings, metrics=("psnr",))
    assert report["settings"]["detail"] == 0.5
    before = json.loads(path.read_text())
    del before["settings"]["detail"]  # as if it had come later
    path.write_text(json.dumps(before))
    for detail, words in ((0.0, "detail is 0.5, not 0.0"), (1.5, "detail is 1.5: pass a number from 0")):
        with pytest.raises(InvalidInput, match=words):
            run(data, folder, pipeline=pipeline, settings=replace(settings, detail=detail), metrics=("psnr",))
    again = run(data, folder, pipeline=pipeline, settings=replace(settings, detail=0.5), metrics=("psnr",))
    assert without_timings(again) == without_timings(report)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"settings": InferenceSettings(steps=3)}, "settings.steps is 1, not 3"),
        ({"settings": InferenceSettings(steps=1, quality="fast")}, "settings.quality is exact, not fast"),
        ({"settings": InferenceSettings(steps=1, seed=1)}, "settings.seed is 0, not 1"),
        ({"settings": InferenceSettings(steps=1, guidance_scale=2.0)}, "guidance_scale is 1.0, not 2.0"),
        ({"limit": 3}, "data.pairs is 2, not 3"),
        ({"setting": "unpaired"}, "data.setting is paired, not unpaired"),
        ({"weights": 1e-3}, "model.weights_sha256"),
    ],
)
def test_two_runs_dont_mix_in_one_folder(pipeline, tmp_path, listed, changes, words):
    data = load_data(listed, size=SIZE, limit=2)
    run(data, tmp_path / "run", pipeline=pipeline, metrics=("psnr",))
    painter, before = pipeline, snapshot(tmp_path / "run")
    if "weights" in changes:
        painter = tiny_pipeline()
        with torch.no_grad():
            next(painter.vae.parameters()).add_(changes["weights"])
    data = load_data(listed, size=SIZE, limit=changes.get("limit", 2), setting=changes.get("setting", "paired"))
    with pytest.raises(InvalidInput, match=words) as error:
        run(data, tmp_path / "run", pipeline=painter, settings=changes.get("settings", QUICK), metrics=("psnr",))
    assert "\n" not in str(error.value)
    assert snapshot(tmp_path / "run") == before


def test_results_and_painting_dont_share_a_folder(pipeline, tmp_path, listed):
    data = load_data(listed, size=SIZE, limit=2)
    run(data, tmp_path / "run", pipeline=pipeline, metrics=("psnr",))
    with pytest.raises(InvalidInput, match="another sort"):
        run(data, tmp_path / "run", results=tmp_path / "run" / "images", metrics=("psnr",))
    again = run(data, tmp_path / "scored", results=tmp_path / "run" / "images", metrics=("psnr",))
    assert again["images"] == json.loads((tmp_path / "run" / "report.json").read_text())["images"]


def test_a_folder_of_something_else_is_left_alone(pipeline, tmp_path, listed):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidInput, match="something else"):
        run(load_data(listed, size=SIZE), tmp_path / "mine", pipeline=pipeline)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_run_that_was_killed_at_its_very_first_file_can_begin_again(tmp_path):
    (tmp_path / ".manifest.4711.partial.json").write_text("{")
    begin_or_resume(tmp_path, {"kind": "model"})
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_the_weights_hash_tells_weights_apart_and_not_their_storage(pipeline, model):
    loaded = TryOnPipeline.from_pretrained(model)
    assert weights_sha256(loaded) == weights_sha256(pipeline)
    assert weights_sha256(loaded.to(torch.float16)) != weights_sha256(pipeline)


def test_a_run_begun_under_the_names_of_before_goes_on(tmp_path, listed, pipeline):
    data = load_data(listed, size=SIZE, limit=1)
    first = run(data, tmp_path / "run", pipeline=pipeline, metrics=("psnr",))
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text())
    before = json.loads(path.read_text())
    for part, old, new in (("data", "size", ""), ("model", "trained_size", "trained_")):
        before[part][old] = [before[part].pop(f"{new}height"), before[part].pop(f"{new}width")]
    for old, new in (("start", "init_from"), ("repaint", "paste_back")):
        before["settings"][old] = before["settings"].pop(new)
    del before["settings"]["batch_size"]  # as if it had come later
    path.write_text(json.dumps(before))
    again = run(data, tmp_path / "run", pipeline=pipeline, metrics=("psnr",))
    assert without_timings(again) == without_timings(first)
    assert json.loads(path.read_text()) == manifest
    path.write_text(json.dumps(before))
    with pytest.raises(InvalidInput, match=r"settings\.paste_back is True, not False"):
        run(
            data,
            tmp_path / "run",
            pipeline=pipeline,
            settings=InferenceSettings(steps=1, paste_back=False),
            metrics=("psnr",),
        )
