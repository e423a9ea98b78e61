"""Reports: intervals, tables, contact sheets, and whether two of them differ by more than chance."""

import copy
import json

import numpy as np
import pytest
from PIL import Image
from support.evaluation_runs import PLAIN, SIZE, run, without_timings
from support.tiny import random_image

from stableviton_sdk.cli.entry import main
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.evaluation.bootstrap import intervals, resampled_means
from stableviton_sdk.evaluation.comparison import NO_DIFFERENCE, TOO_FEW, compare, comparison_table
from stableviton_sdk.evaluation.data import RenderedData, load_data
from stableviton_sdk.evaluation.report import load_report, protocol_deviations, to_json, to_markdown, versions
from stableviton_sdk.evaluation.sheet import choose_pairs


def names(count):
    return [f"p{index:03d}" for index in range(count)]


def interval(values, persons, **options):
    return intervals(resampled_means(np.asarray(values)[:, None], persons, **options))[0]


def report_of(values, persons=None, metric="ssim"):
    """A report as `evaluate` writes it, of one metric's made-up values."""
    values, persons = list(values), persons or names(len(values))
    images = [
        {"name": name, "person": name, "garment": "g", metric: value}
        for name, value in zip(names(len(values)), values, strict=True)
    ]
    for image, person in zip(images, persons, strict=True):
        image["person"] = person
    entry = {"value": float(np.mean(values)), "interval": None, "higher_is_better": metric != "lpips"}
    return {
        "format": "stableviton-evaluation",
        "version": 1,
        "data": {"images_sha256": "c" * 64},
        "protocol": {"setting": "paired", "height": 512},
        "networks": {},
        "measured": len(images),
        "metrics": {metric: entry},
        "images": images,
    }


# how sure


def test_intervals_agree_with_the_formula_for_a_mean():
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = interval(values, names(400))
    error = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - error, abs=0.02)
    assert high == pytest.approx(values.mean() + error, abs=0.02)


def test_intervals_hold_what_they_promise():
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        values = generator.normal(size=40)
        low, high = interval(values, names(40), resamples=400)
        hits += low <= 0 <= high
    assert 180 <= hits <= 198  # 95 % of 200, a little less as the percentile bootstrap does


def test_pairs_of_one_person_are_drawn_together():
    values = np.repeat(np.random.default_rng(2).normal(size=50), 4)  # four equal pairs of each person
    alone = interval(values, names(200))
    together = interval(values, np.repeat(names(50), 4).tolist())
    single = interval(values[::4], names(50))
    assert together == pytest.approx(single, abs=1e-9)
    assert (together[1] - together[0]) > 1.7 * (alone[1] - alone[0])


def test_resampling_is_repeatable_and_takes_several_measures_at_once():
    values = np.random.default_rng(3).normal(size=(30, 2))
    both = resampled_means(values, names(30), resamples=300)
    assert both.shape == (300, 2)
    np.testing.assert_allclose(both[:, 1], resampled_means(values[:, 1:], names(30), resamples=300)[:, 0])


# comparing


def test_a_real_difference_is_told_from_chance():
    generator = np.random.default_rng(4)
    base = generator.normal(0.8, 0.1, 300)
    better = compare(report_of(base), report_of(base + generator.normal(0.01, 0.03, 300)))["metrics"]["ssim"]
    assert (better["real"], better["verdict"]) == (True, "second is better")
    assert better["interval"][0] < better["difference"] < better["interval"][1]
    # the same spread without pairing would hide it
    assert base.std() / np.sqrt(300) * 1.96 > better["difference"] / 2
    none = compare(report_of(base), report_of(base + generator.normal(0, 0.03, 300)))["metrics"]["ssim"]
    assert (none["real"], none["verdict"]) == (False, NO_DIFFERENCE)
    worse = compare(report_of(base, metric="lpips"), report_of(base + 0.02, metric="lpips"))["metrics"]["lpips"]
    assert worse["verdict"] == "first is better"
    assert worse["difference"] == pytest.approx(0.02)
    backwards = compare(report_of(base + 0.02, metric="lpips"), report_of(base, metric="lpips"))
    assert backwards["metrics"]["lpips"]["verdict"] == "second is better"


def test_equal_reports_show_no_difference_and_few_persons_none_either():
    values = np.linspace(0.5, 0.9, 20)
    same = compare(report_of(values), report_of(values))["metrics"]["ssim"]
    assert (same["difference"], same["interval"], same["verdict"]) == (0, [0, 0], NO_DIFFERENCE)
    few = compare(report_of(values[:5]), report_of(values[:5] + 0.1))["metrics"]["ssim"]
    assert (few["real"], few["verdict"]) == (None, TOO_FEW)
    one_person = ["p000"] * 20
    assert (
        compare(report_of(values, one_person), report_of(values + 0.1, one_person))["metrics"]["ssim"]["real"] is None
    )


def change(path, value):
    def apply(report):
        report = copy.deepcopy(report)
        place = report
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return report

    return apply


@pytest.mark.parametrize(
    "spoil, words",
    [
        (change(["protocol", "height"], 1024), "height is 512 and 1024"),
        (change(["protocol", "setting"], "unpaired"), "setting"),
        (change(["images", 3, "name"], "somebody"), "different pairs"),
        (change(["data", "images_sha256"], "d" * 64), "photos differ"),
        (change(["networks"], {"alexnet": "other"}), "alexnet weights"),
        (change(["metrics"], {}), "no metric in common"),
    ],
)
def test_reports_that_cant_be_compared_are_refused_in_one_sentence(spoil, words):
    report = report_of(np.linspace(0, 1, 8)) | {"networks": {"alexnet": "one"}}
    with pytest.raises(InvalidInput, match=words) as error:
        compare(report, spoil(report))
    assert "\n" not in str(error.value)


def test_a_comparison_of_real_reports_from_the_command_line(tmp_path, listed, results, capsys):
    data = load_data(listed, size=SIZE)
    first = run(data, tmp_path / "a", results=results)
    better = tmp_path / "better"
    better.mkdir()
    for seed in range(7):
        values = np.asarray(random_image(seed=seed)).copy()
        values[30, 20] ^= 1
        Image.fromarray(values).save(better / f"p{seed}.png")
    second = run(data, tmp_path / "b", results=better)
    assert main(["evaluate", "--compare", str(tmp_path / "a" / "report.json"), str(tmp_path / "b")]) == 0
    printed = capsys.readouterr().out
    comparison = compare(first, second)
    assert printed == comparison_table(comparison)
    assert comparison["metrics"]["psnr_region"]["verdict"] == "second is better"
    assert comparison["metrics"]["lpips"]["verdict"] == "second is better"
    assert comparison["metrics"]["fid"]["real"] is None
    expected = np.mean([b["psnr"] - a["psnr"] for a, b in zip(first["images"], second["images"], strict=True)])
    assert comparison["metrics"]["psnr"]["difference"] == pytest.approx(expected)
    assert "7 pairs of 7 persons" in printed
    assert "FID and KID belong to whole sets" in printed
    only = without_timings(second) | {"metrics": {"ssim": second["metrics"]["ssim"]}}
    assert "Only in one of them: PSNR" in comparison_table(compare(first, only))


def test_files_that_are_no_reports_are_refused(tmp_path, capsys):
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text("[1]")
    (tmp_path / "old.json").write_text(json.dumps({"format": "stableviton-evaluation", "version": 0}))
    for name, words in (
        ("broken.json", "damaged"),
        ("other.json", "no report"),
        ("old.json", "version 0"),
        ("nowhere.json", "there is no report"),
    ):
        with pytest.raises(InvalidInput, match=words):
            load_report(tmp_path / name)
        assert main(["evaluate", "--compare", str(tmp_path / name), str(tmp_path / name)]) == 1
        assert words in capsys.readouterr().err


# what is written


def test_the_table_holds_the_numbers_their_intervals_and_the_protocol(tmp_path, listed, results):
    report = run(load_data(listed, size=SIZE), tmp_path / "run", results=results)
    table = (tmp_path / "run" / "report.md").read_text()
    assert table == to_markdown(load_report(tmp_path / "run"))
    values = [entry["ssim"] for entry in report["images"]]
    low, high = interval(values, [entry["person"] for entry in report["images"]])
    assert f"| SSIM | {np.mean(values):.4f} | {low:.4f} to {high:.4f} | higher |" in table
    assert f"| FID | {report['metrics']['fid']['value']:.3f} | - | lower |" in table
    for words in ("data range 1.0", "AlexNet", "clean-fid, mode clean", "torchmetrics 1", "sha256 " + "a" * 64):
        assert words in table
    assert "Not the protocol of the published numbers: the data is pairs, not VITON-HD's test split" in table


def test_few_persons_get_no_interval(tmp_path, listed, results):
    report = run(load_data(listed, size=SIZE, limit=3), tmp_path / "run", results=results)
    assert report["metrics"]["ssim"]["interval"] is None
    assert "No intervals: 3 persons" in to_markdown(report)


def test_only_viton_hd_in_full_at_its_size_is_the_published_protocol():
    class Published:
        kind, size = "viton-hd", (384, 512)

        def __len__(self):
            return 2032

    data = Published()
    assert protocol_deviations(data, "clean-fid") == []
    assert protocol_deviations(data, "torchmetrics") == ["FID and KID by torchmetrics instead of clean-fid"]
    data.size = (768, 1024)
    assert protocol_deviations(data, "clean-fid") == ["768 x 1024 pixels instead of 384 x 512"]
    assert len(protocol_deviations(RenderedData(2, SIZE), "clean-fid")) == 2


def test_versions_are_those_that_are_installed():
    import torch
    import torchmetrics

    found = versions()
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert found["torchmetrics"] == torchmetrics.__version__
    assert "torchmetrics" not in versions(inference=True)


def test_numbers_that_json_cant_hold_are_a_defect():
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json({"metrics": {"ssim": float("nan")}})


def test_best_median_and_worst_are_chosen_by_the_metric():
    images = [
        {"name": f"n{index}", "ssim": value, "lpips": 1 - value} for index, value in enumerate(np.linspace(0, 1, 11))
    ]
    for metric in ("ssim", "lpips"):
        chosen = [(title, image["name"]) for title, image in choose_pairs(images, metric, rows=1)]
        assert chosen == [("best", "n10"), ("median", "n5"), ("worst", "n0")]
    assert len(choose_pairs(images, "ssim")) == 9
    for count in range(1, 6):
        few = [image["name"] for _, image in choose_pairs(images[:count], "ssim")]
        assert len(few) == len(set(few)) == min(count, 3)
    assert [image["name"] for _, image in choose_pairs(images, None, rows=1)] == ["n0", "n5", "n10"]


def test_the_sheet_shows_the_worst_results_own_pixels(tmp_path, listed, results):
    values = np.asarray(random_image(seed=2)).copy()
    values[:] = (255, 0, 0)
    Image.fromarray(values).save(results / "p2_g2.png")
    arguments = ["evaluate", listed, "--size", "48x64", "--results", results, "--output", tmp_path / "run"]
    assert main([*map(str, arguments), "--metrics", PLAIN]) == 0
    sheet = np.asarray(Image.open(tmp_path / "run" / "contact.png"))
    red = (sheet == (255, 0, 0)).all(axis=2)
    assert red.sum() == 256 * 192  # one tile, in full
    assert np.flatnonzero(red.any(axis=1)).min() > sheet.shape[0] * 0.6  # in the last rows
