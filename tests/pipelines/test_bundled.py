"""The small model in the package: offline, from two plain images, better than what needs no model."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.bundled import UNSEEN, dress, given

import stableviton_sdk
from stableviton_sdk import TryOnPipeline
from stableviton_sdk.cli import demo
from stableviton_sdk.cli import entry as cli
from stableviton_sdk.data.synthetic import SyntheticDataset, render_pair
from stableviton_sdk.errors import InvalidInput, NoPersonFound
from stableviton_sdk.evaluation.correspondence.measure import measure_correspondence
from stableviton_sdk.evaluation.metrics import psnr

BUNDLED = Path(stableviton_sdk.__file__).parent / "bundled"
SAMPLES = BUNDLED / "samples"


def test_it_is_small_enough_for_a_package_and_holds_no_code():
    files = [path for path in BUNDLED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 25e6
    assert max(path.stat().st_size for path in files) < 16e6
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".onnx", ".png", ".md"}
    onnx = [path for path in files if path.suffix == ".onnx"]
    assert len(onnx) == 1
    assert onnx[0].stat().st_size < 8e6


def test_two_plain_images_are_enough(pipe):
    sample = render_pair(UNSEEN, 0)
    out = dress(pipe, sample)
    image = np.asarray(out.images[0])
    assert image.shape == sample.person.shape
    # the old garment is gone, the new one is on: nearer to the truth than to the photo, by far
    region = sample.mask
    assert psnr(image, sample.person_in_other, region) > psnr(image, sample.person, region) + 3
    mask = out.inputs[0].frame_mask.convert("L")  # in a resolution of its own
    derived = np.asarray(mask.resize((192, 256), Image.Resampling.BOX))
    overlap = ((derived >= 128) & region).sum() / ((derived >= 128) | region).sum()
    assert overlap > 0.85
    np.testing.assert_array_equal(image[derived == 0], sample.person[derived == 0])


def test_it_beats_a_silhouette_less_fill_and_gets_the_garments_colour_right(pipe):
    better, colours = [], []
    for index in range(4):
        sample = render_pair(UNSEEN, index)
        image = np.asarray(dress(pipe, sample, **given(sample)).images[0])
        worn, truth = sample.worn_mask_other, sample.person_in_other
        fill = truth.copy()
        fill[sample.mask] = truth[worn].mean(axis=0)
        better.append(psnr(image, truth, sample.mask) - psnr(fill, truth, sample.mask))
        colours.append(np.abs(image[worn].mean(axis=0) - truth[worn].mean(axis=0)).mean())
    assert min(better) > 1
    assert np.mean(better) > 5
    assert np.mean(colours) < 9


@pytest.mark.slow
def test_attention_looks_where_the_garment_is_worn_from(pipe):
    report = measure_correspondence(pipe, SyntheticDataset(8, seed=UNSEEN), steps=2, setting="unpaired")
    best = report.blocks[report.best_block]
    assert best.mean < 8  # pixels of the garment at 256 x 192; a constant map is at 57
    assert best.constant_mean > 4 * best.mean


def test_a_pixel_of_the_result_names_its_place_in_the_garment(pipe):
    sample = render_pair(UNSEEN, 1)
    attention = dress(pipe, sample, **given(sample), output_attention=True).attention
    rows, columns = np.nonzero(sample.worn_mask_other)
    distances = []
    for place in np.linspace(0, len(rows) - 1, 40).astype(int):
        source = attention.source_of(int(columns[place]), int(rows[place]))
        true = sample.correspondence_other[rows[place], columns[place]]
        if np.isfinite(true).all():
            distances.append(np.hypot(source.x - true[0], source.y - true[1]))
    assert np.median(distances) < 6


def test_nobody_to_dress_is_said_in_one_sentence(pipe):
    with pytest.raises(NoPersonFound):
        pipe(Image.new("RGB", (192, 256), (200, 210, 220)), Image.open(SAMPLES / "garment_1.png"))


@pytest.mark.slow
def test_the_demo_runs_offline_in_a_process_of_its_own(tmp_path):
    code = (
        "import socket\n"
        "def refuse(*args, **kwargs): raise AssertionError('the demo opened a connection')\n"
        "socket.socket.connect = refuse\n"
        "import sys; from stableviton_sdk.cli.entry import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["demo", "--output", "result.png", "--sheet", "sheet.png", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "result.png and sheet.png" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result.png", "sheet.png"]
    person = Image.open(SAMPLES / "person_1.png")
    assert Image.open(tmp_path / "result.png").size == person.size
    assert Image.open(tmp_path / "sheet.png").width > 3 * person.width


@pytest.mark.slow
@pytest.mark.parametrize("command", ["demo", "try-on"])
def test_commands_bring_the_bundled_models_detail_unless_another_is_asked_for(tmp_path, capsys, command):
    images = [str(SAMPLES / "person_1.png"), str(SAMPLES / "garment_1.png")]
    start = ["demo", "--person", images[0], "--garment", images[1]]
    if command == "try-on":
        start = ["try-on", *images, "--model", "bundled", "--dtype", "fp32"]
    drawn = {}
    for name, options in (("own", []), ("named", ["--detail", "0.85"]), ("none", ["--detail", "0"])):
        output = tmp_path / f"{name}.png"
        assert cli.main([*start, "--output", str(output), "--seed", "3", "--device", "cpu", *options]) == 0
        drawn[name] = np.asarray(Image.open(output)).astype(int)
    np.testing.assert_array_equal(drawn["own"], drawn["named"])
    assert np.abs(drawn["own"] - drawn["none"]).max() > 20


@pytest.mark.slow
def test_the_demo_takes_other_images_and_the_same_seed_gives_the_same_one(tmp_path, capsys):
    outputs = [tmp_path / f"{name}.png" for name in ("first", "again", "other")]
    images = ["--person", str(SAMPLES / "person_2.png"), "--garment", str(SAMPLES / "garment_2.png")]
    for output, seed in zip(outputs, ("3", "3", "4"), strict=True):
        assert cli.main(["demo", *images, "--output", str(output), "--seed", seed, "--device", "cpu"]) == 0
    first, again, other = (np.asarray(Image.open(output)) for output in outputs)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert cli.main(["demo", "--output", str(outputs[0]), "--sheet", str(outputs[0])]) == 1
    assert "pass two files" in capsys.readouterr().err
    assert cli.main(["demo", "--person", str(tmp_path / "none.png"), "--output", str(outputs[0])]) == 1


@pytest.mark.parametrize("option", ["--output", "--sheet"])
@pytest.mark.parametrize("taken", ["person.png", "garment.png"])
def test_the_demo_does_not_write_over_what_it_reads(tmp_path, monkeypatch, capsys, option, taken):
    monkeypatch.chdir(tmp_path)
    for name in ("person", "garment"):
        shutil.copy(SAMPLES / f"{name}_2.png", f"{name}.png")
    before = Path(taken).read_bytes()
    arguments = ["--person", "person.png", "--garment", "garment.png", option, str(tmp_path / taken)]
    assert cli.main(["demo", *arguments, "--device", "cpu"]) == 1
    assert f"{taken} is one of the images to read" in capsys.readouterr().err
    assert Path(taken).read_bytes() == before
    assert sorted(os.listdir()) == ["garment.png", "person.png"]


def test_the_demo_does_not_write_over_its_own_samples(tmp_path, monkeypatch, capsys):
    samples = shutil.copytree(SAMPLES, tmp_path / "samples")
    monkeypatch.setattr(demo, "SAMPLES", samples)
    before = (samples / "person_1.png").read_bytes()
    assert cli.main(["demo", "--output", str(samples / "person_1.png"), "--device", "cpu"]) == 1
    assert "is one of the images to read" in capsys.readouterr().err
    assert (samples / "person_1.png").read_bytes() == before


@pytest.mark.parametrize("seed", ["-1", str(2**63), "one", "1.0"])
def test_the_demo_refuses_a_seed_that_is_none(tmp_path, capsys, seed):
    with pytest.raises(SystemExit) as left:
        cli.main(["demo", "--output", str(tmp_path / "result.png"), "--seed", seed])
    assert left.value.code == 2
    assert "is not a whole number from 0" in capsys.readouterr().err


def test_try_on_takes_it_by_name(tmp_path, capsys):
    output = tmp_path / "result.png"
    arguments = [str(SAMPLES / "person_1.png"), str(SAMPLES / "garment_1.png"), "--output", str(output)]
    arguments += ["--model", "bundled", "--device", "cpu", "--seed", "1"]
    assert cli.main(["try-on", *arguments]) == 0
    assert Image.open(output).size == Image.open(SAMPLES / "person_1.png").size
    assert cli.main(["try-on", *arguments, "--checkpoint", "VITONHD"]) == 1
    assert "the bundled model is one" in capsys.readouterr().err


def test_its_own_number_of_steps_is_used_unless_another_is_asked_for(pipe):
    sample = render_pair(UNSEEN, 2)
    counts = []

    def count(pipeline, step, timestep, tensors):
        counts.append(step)
        return tensors

    dress(pipe, sample, **given(sample), callback_on_step_end=count)
    assert len(counts) == pipe.config.default_num_inference_steps
    with pytest.raises(InvalidInput, match="num_inference_steps"):
        dress(pipe, sample, **given(sample), num_inference_steps=0)


def test_it_saves_and_loads_like_any_other(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    again = TryOnPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    sample = render_pair(UNSEEN, 3)
    first, second = (np.asarray(dress(model, sample).images[0]) for model in (pipe, again))
    # to the last digit but one: how tensors lie in memory changes the order that kernels add in
    np.testing.assert_allclose(first.astype(int), second, atol=1)
    for name in ("unet", "spatial_encoder", "garment_encoder", "vae"):
        weights = getattr(again, name).state_dict()
        for key, tensor in getattr(pipe, name).state_dict().items():
            assert torch.equal(tensor, weights[key]), f"{name}.{key}"
    assert again.config.weights_licence == "Apache-2.0"
