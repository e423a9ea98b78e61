"""The examples run as they are, on a pipeline small enough for it."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from support.flat_figures import FigureAnalyzer, photo_of
from support.tiny import mask_image, random_image, tiny_pipeline

from stableviton_sdk import TryOnPipeline
from stableviton_sdk.data.synthetic import render_pair
from stableviton_sdk.pipelines.loading import BUNDLED
from stableviton_sdk.preprocessing import preprocessor as preprocessor_module
from stableviton_sdk.preprocessing.inputs import TryOnInputs
from stableviton_sdk.preprocessing.preprocessor import PersonPreprocessor

EXAMPLES = Path(__file__).parents[2] / "examples"
SIZE = (240, 320)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "model"
    pipeline = tiny_pipeline()
    pipeline.register_modules(preprocessor=PersonPreprocessor())
    pipeline.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def run(model, monkeypatch):
    """Run one example on images in the working directory."""
    photo_of(SIZE, (60, 20, 180, 300)).save("person.png")
    random_image(seed=1).save("garment.png")
    random_image(seed=4).save("other.png")
    mask_image(*SIZE).save("mask.png")
    random_image(*SIZE, seed=2).save("densepose.png")

    def start(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments, "--model", model, "--steps", "2", "--device", "cpu"])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    return start


def changed(path):
    return (np.asarray(Image.open(path)) != np.asarray(Image.open("person.png"))).any(axis=2)


def test_maps_of_ones_own_leave_everything_outside_the_mask_alone(run):
    run("try_on_with_maps.py", "person.png", "mask.png", "densepose.png", "garment.png", "--output", "out.png")
    mask = np.asarray(Image.open("mask.png")) > 0
    assert not changed("out.png")[~mask].any()
    assert changed("out.png")[mask].mean() > 0.9
    sheet = np.asarray(Image.open("out.side-by-side.png"))
    assert sheet.shape == (512, 4 * 384 + 384 + 4 * 8, 3)
    assert (sheet[:, -384:] != sheet[:, :384]).any()


def test_a_person_is_prepared_once_for_many_garments(run, monkeypatch):
    analyzers = []

    def make_analyzer(*_):
        analyzers.append(FigureAnalyzer())
        return analyzers[-1]

    monkeypatch.setattr(preprocessor_module, "PhotoAnalyzer", make_analyzer)
    arguments = ["person.png", "garment.png", "other.png", "--prepared", "ready", "--output", "results"]
    run("prepare_once_try_many.py", *arguments)
    run("prepare_once_try_many.py", *arguments)
    assert sum(len(analyzer.analysed) for analyzer in analyzers) == 1
    assert TryOnInputs.load("ready").frame_agnostic is None
    first, second = changed("results/garment.png"), changed("results/other.png")
    assert first.sum() > 1000
    assert second.sum() > 1000
    assert Path("results/garment.png").read_bytes() != Path("results/other.png").read_bytes()


def test_sources_of_pixels_are_printed_and_drawn(run, capsys):
    run(
        "attention_source.py",
        *("person.png", "mask.png", "densepose.png", "garment.png", "--output", "sources.png"),
        *("--pixel", "120,160", "--pixel", "100,200"),
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" came")[0] for line in lines] == ["(120, 160)", "(100, 200)"]
    assert Image.open("sources.png").size == (2 * SIZE[0], SIZE[1])
    assert Image.open("sources.warp.png").size == SIZE
    assert Image.open("sources.correspondence.png").size == (2 * (480 + 12) + 12, 640 + 26 + 2 * 12)
    run("attention_source.py", "person.png", "mask.png", "densepose.png", "garment.png")
    assert len(capsys.readouterr().out.splitlines()) == 12


def test_a_figures_correspondence_is_drawn_in_colour_where_it_wears_the_garment(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["draw_correspondence.py", "--output", "drawn.png"])
    runpy.run_path(str(EXAMPLES / "draw_correspondence.py"), run_name="__main__")
    sheet = Image.open("drawn.png")
    body = np.asarray(sheet.crop((504, 38, 984, 678)).resize((384, 512), Image.Resampling.BOX)).astype(int)
    sample = render_pair(0, 3, size=(384, 512))
    inside = cv2.erode(sample.worn_mask.astype(np.uint8), np.ones((25, 25), np.uint8)).astype(bool)
    x, y = sample.correspondence[inside].T
    red, green, blue = (body[inside][:, channel] for channel in range(3))
    # rose above, blue and green below; reddish to the left, greenish to the right
    assert np.corrcoef(y, red - blue)[0, 1] < -0.5
    assert np.corrcoef(x, green - blue)[0, 1] > 0.5


def test_detail_shows_a_garment_before_and_after(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["detail.py", "--output", "detail.png", "--height", "256"])
    runpy.run_path(str(EXAMPLES / "detail.py"), run_name="__main__")
    assert capsys.readouterr().out == "detail.png\n"
    garment, before, after = np.split(np.asarray(Image.open("detail.png")).astype(int), 3, axis=1)
    assert garment.shape == (256, 192, 3)
    assert 0.2 < np.abs(before - after).mean() < 10


@pytest.fixture
def start(monkeypatch):
    """Run one example with the bundled model, on two of its own sample images."""
    for name in ("person", "garment"):
        Image.open(BUNDLED / "samples" / f"{name}_1.png").convert("RGB").save(f"{name}.jpg", quality=95)
    Image.open(BUNDLED / "samples" / "garment_2.png").convert("RGB").save("other.jpg", quality=95)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        return runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    return run


def test_the_quickstart_dresses_a_photo_offline(start, capsys):
    start("quickstart.py", "person.jpg", "garment.jpg", "--output", "result.png", "--device", "cpu")
    assert capsys.readouterr().out == "result.png\n"
    before, after = (np.asarray(Image.open(name)).astype(int) for name in ("person.jpg", "result.png"))
    assert before.shape == after.shape
    assert 0.02 < (np.abs(before - after).max(axis=2) > 20).mean() < 0.6


def test_an_outfit_keeps_what_was_put_on_first(start, capsys):
    start("quickstart.py", "person.jpg", "garment.jpg", "--output", "upper.png", "--device", "cpu")
    with pytest.warns(UserWarning, match="upper"):
        functions = start(
            "outfit.py", "person.jpg", "garment.jpg", "other.jpg", "--output", "both.png", "--device", "cpu"
        )
    upper, both = (np.asarray(Image.open(name)).astype(int) for name in ("upper.png", "both.png"))
    worn = np.asarray(functions["mask_of"](TryOnPipeline.from_bundled().prepare("person.jpg"))) > 127
    assert (upper[worn] == both[worn]).all()
    assert (upper != both).any()


def test_the_ways_to_save_memory_give_one_image(start, capsys):
    start("low_memory.py", "person.jpg", "garment.jpg", "--device", "cpu")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["plain", "attention slicing", "VAE slicing", "group offload"]
    assert all(int(line.split("at most ")[1].split()[0]) <= 1 for line in lines)


def test_the_evaluation_prints_its_reports_numbers(start, capsys):
    start("evaluate.py", "--count", "2", "--output", "rendered")
    printed = dict(line.split(": ") for line in capsys.readouterr().out.splitlines()[-3:])
    assert printed.keys() == {"ssim", "psnr", "ssim_region"}
    assert 0.5 < float(printed["ssim_region"]) < float(printed["ssim"]) < 1


@pytest.mark.slow
def test_fine_tuning_trains_adapters_and_compares(start, capsys):
    start("fine_tune.py", "--steps", "2", "--rank", "2", "--output", "mine")
    assert capsys.readouterr().out.splitlines()[-1] == "mine/comparison.png"
    assert Image.open("mine/comparison.png").height >= 512
    pipe = TryOnPipeline.from_bundled()
    pipe.load_lora_weights("mine")
    assert pipe.get_active_adapters()


def test_the_notebook_runs_from_top_to_bottom():
    cells = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 6
    names = {}
    for source in code:
        exec(compile(source, "notebook.ipynb", "exec"), names)
    assert names["out"].images[0].size == names["person"].size
