"""Measuring that leaves nothing out in silence: results, pairs and arguments with flaws are named."""

import json

import numpy as np
import pytest
from PIL import Image
from support.evaluation_runs import PLAIN, SIZE, Anywhere, run
from support.tiny import HEIGHT, WIDTH, random_image, tiny_pipeline

from stableviton_sdk.cli.entry import main
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.evaluation.data import ImageData, load_data
from stableviton_sdk.evaluation.inference import InferenceSettings
from stableviton_sdk.evaluation.metrics import psnr
from stableviton_sdk.evaluation.runner import IncompleteResults
from stableviton_sdk.preprocessing.preprocessor import PersonPreprocessor


@pytest.fixture
def flawed(results):
    (results / "p1_g1.png").unlink()
    (results / "p3_g3.png").write_bytes((results / "p3_g3.png").read_bytes()[:500])
    random_image(50, 64, seed=5).save(results / "p5_g5.png")
    return results


def test_every_flaw_is_named_and_nothing_is_averaged(tmp_path, listed, flawed):
    with pytest.raises(IncompleteResults) as error:
        run(load_data(listed, size=SIZE), tmp_path / "run", results=flawed)
    assert set(error.value.problems) == {"p1_g1", "p3_g3", "p5_g5"}
    message = str(error.value)
    assert "3 of 7" in message
    assert "nothing was averaged" in message
    assert "there is no result" in error.value.problems["p1_g1"]
    assert "damaged" in error.value.problems["p3_g3"]
    assert "50 x 64, not 48 x 64" in error.value.problems["p5_g5"]
    assert not (tmp_path / "run" / "report.json").exists()


def test_on_the_command_line_flaws_are_named_and_the_status_is_1(tmp_path, listed, flawed, capsys):
    arguments = ["evaluate", listed, "--size", "48x64", "--results", flawed, "--output", tmp_path / "run"]
    arguments = [*map(str, arguments), "--metrics", PLAIN]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert all(name in error for name in ("p1_g1", "p3_g3", "p5_g5", "nothing was averaged"))
    assert not (tmp_path / "run" / "report.json").exists()

    assert main([*arguments, "--incomplete"]) == 1
    captured = capsys.readouterr()
    assert all(name in captured.err for name in ("p1_g1", "p3_g3", "p5_g5", "about the others only"))
    assert "incomplete: 3 of 7 pairs have no usable result" in captured.out
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert not report["complete"]
    assert (report["measured"], set(report["problems"])) == (4, {"p1_g1", "p3_g3", "p5_g5"})
    kept = [
        psnr(np.asarray(Image.open(flawed / f"p{i}_g{i}.png")), np.asarray(random_image(seed=i))) for i in (0, 2, 4, 6)
    ]
    assert report["metrics"]["psnr"]["value"] == pytest.approx(np.mean(kept), abs=1e-9)

    # mended, the same command reports
    for seed in (1, 3, 5):
        random_image(seed=seed + 1).save(flawed / f"p{seed}_g{seed}.png")
    assert main(arguments) == 0
    assert json.loads((tmp_path / "run" / "report.json").read_text())["complete"]


def test_a_stale_report_doesnt_outlive_its_images(tmp_path, listed, results):
    data = load_data(listed, size=SIZE)
    run(data, tmp_path / "run", results=results)
    (results / "p1_g1.png").unlink()
    with pytest.raises(IncompleteResults):
        run(data, tmp_path / "run", results=results)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["manifest.json"]


def test_persons_that_cant_be_prepared_are_named(tmp_path, listed):
    Image.new("RGB", (WIDTH, HEIGHT)).save(listed.parent / "p1.png")
    listed.write_text("person,garment\np0.png,g0.png\np1.png,g1.png\n")
    painter = tiny_pipeline()
    painter.register_modules(preprocessor=PersonPreprocessor(analyzer=Anywhere()))
    with pytest.raises(IncompleteResults) as error:
        run(load_data(listed, size=SIZE), tmp_path / "run", pipeline=painter)
    assert set(error.value.problems) == {"p1_g1"}
    report = run(load_data(listed, size=SIZE), tmp_path / "run", pipeline=painter, incomplete=True)
    assert report["measured"] == 1
    with pytest.raises(InvalidInput, match="no mask or DensePose"):
        run(load_data(listed, size=SIZE), tmp_path / "other", pipeline=tiny_pipeline())


def test_a_mask_of_one_value_is_named(tmp_path, listed, pipeline):
    Image.new("L", (WIDTH, HEIGHT)).save(listed.parent / "black.png")
    listed.write_text(listed.read_text().replace("p2.png,g2.png,mask.png", "p2.png,g2.png,black.png"))
    with pytest.raises(IncompleteResults) as error:
        run(load_data(listed, size=SIZE, limit=3), tmp_path / "run", pipeline=pipeline)
    assert set(error.value.problems) == {"p2_g2"}
    assert "nothing to repaint" in error.value.problems["p2_g2"]


def test_images_that_belong_to_no_pair_are_counted(tmp_path, listed, results):
    random_image().save(results / "stray.png")
    report = run(load_data(listed, size=SIZE), tmp_path / "run", results=results)
    assert report["unused_images"] == 1
    assert "1 images in the folder of results belong to no pair" in (tmp_path / "run" / "report.md").read_text()
    random_image().save(results / "p0_g0.jpg")
    with pytest.raises(InvalidInput, match=r"have one name \(p0_g0\.jpg and p0_g0\.png\)"):
        run(load_data(listed, size=SIZE), tmp_path / "other", results=results)


def test_files_beside_results_that_are_no_images_change_nothing(tmp_path, listed, results):
    before = run(load_data(listed, size=SIZE), tmp_path / "run", results=results)
    for name in ("p0_g0.txt", "p0_g0.json", "._p0_g0.jpg", ".DS_Store", "Thumbs.db"):
        (results / name).write_bytes(b"not an image")
    for ending in ("jpg", "png"):
        random_image().save(results / f"stray.{ending}")
    after = run(load_data(listed, size=SIZE), tmp_path / "again", results=results)
    assert after["images"] == before["images"]
    assert after["unused_images"] == 1


def test_a_message_stays_readable_however_many_results_are_missing(tmp_path, listed, capsys):
    for number in range(2000):
        link = listed.parent / f"copy{number}.png"
        link.symlink_to("p0.png")
    listed.write_text("\n".join(["person,garment", *(f"copy{number}.png,g0.png" for number in range(2000))]))
    (tmp_path / "results").mkdir()
    with pytest.raises(IncompleteResults) as error:
        run(load_data(listed, size=SIZE, for_inference=False), tmp_path / "run", results=tmp_path / "results")
    assert len(error.value.problems) == 2000
    message = str(error.value)
    assert "2000 of 2000 pairs" in message
    assert "1990 more" in message
    assert len(message) < 5000


def test_arguments_that_make_no_sense_are_refused(tmp_path, listed, results, pipeline):
    data = load_data(listed, size=SIZE)
    for options, words in (
        ({}, "either"),
        ({"pipeline": pipeline, "results": results}, "either"),
        ({"results": results, "metrics": ("beauty",)}, "beauty"),
        ({"results": results, "metrics": ()}, "none"),
        ({"results": results, "feature_library": "mine"}, "clean-fid"),
        ({"results": tmp_path / "nowhere"}, "no folder of results"),
    ):
        with pytest.raises(InvalidInput, match=words):
            run(data, tmp_path / "run", **options)
    with pytest.raises(InvalidInput, match="another folder"):
        run(data, results, results=results)
    with pytest.raises(InvalidInput, match="batch_size"):
        InferenceSettings(batch_size=0)
    assert isinstance(data, ImageData)
