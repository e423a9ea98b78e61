"""`stableviton try-on` and `prepare`, in process through `main`, and as users start them where that matters."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.colour_profiles import rgb_profile
from support.command_line import FIGURE, PHOTO, environment, refusal, refuse_to_load, try_on, usage_error
from support.flat_figures import FigureAnalyzer, photo_of
from support.private_photos import SECRETS, private_photo
from support.tiny import mask_image, random_image, tiny_pipeline

from stableviton_sdk.cli.entry import main
from stableviton_sdk.dtypes import DTYPES
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.preprocessing.inputs import TryOnInputs
from stableviton_sdk.preprocessing.preprocessor import PersonPreprocessor
from stableviton_sdk.provenance import read_settings

# try-on


def test_try_on_keeps_every_pixel_outside_the_mask_and_repaints_inside(tiny_folder, files, capsys):
    assert try_on(tiny_folder, "--seed", 5) == 0
    assert capsys.readouterr().out == "out.png (96 x 128, seed 5)\n"
    result, photo = np.asarray(Image.open("out.png")), np.asarray(Image.open("person.png"))
    changed, mask = (result != photo).any(axis=2), np.asarray(Image.open("mask.png")) > 0
    assert not changed[~mask].any()
    assert changed[mask].mean() > 0.9


def test_the_seed_decides_the_image_and_is_told_where_it_was_drawn(tiny_folder, files, capsys):
    assert try_on(tiny_folder, output="first.png") == 0
    seed = capsys.readouterr().out.split("seed ")[1].rstrip(")\n")
    assert try_on(tiny_folder, "--seed", seed, output="second.png") == 0
    assert try_on(tiny_folder, "--seed", int(seed) + 1, output="third.png") == 0
    first, second, third = (np.asarray(Image.open(f"{name}.png")).astype(int) for name in ("first", "second", "third"))
    assert abs(first - second).max() <= 1
    assert abs(first - third).max() > 10


def test_the_options_arrive_at_the_pipeline(tiny_folder, files, capsys):
    options = [
        "--seed",
        7,
        "--guidance-scale",
        3,
        "--init-from",
        "noise",
        "--no-paste-back",
        "--steps",
        3,
        "--dtype",
        "fp32",
    ]
    random_image(*PHOTO, seed=3).save("agnostic.png")
    assert try_on(tiny_folder, *options, "--agnostic", "agnostic.png") == 0
    expected = tiny_pipeline()(
        "person.png",
        "garment.png",
        mask="mask.png",
        densepose="densepose.png",
        agnostic="agnostic.png",
        num_inference_steps=3,
        guidance_scale=3.0,
        init_from="noise",
        paste_back=False,
        generator=torch.Generator().manual_seed(7),
    ).images[0]
    difference = np.asarray(Image.open("out.png")).astype(int) - np.asarray(expected)
    assert abs(difference).max() <= 1


def test_a_quality_arrives_at_the_pipeline(tiny_folder, files):
    arguments = ["try-on", "person.png", "garment.png", "--output", "fast.png", "--device", "cpu", "--seed", "7"]
    arguments += ["--mask", "mask.png", "--densepose", "densepose.png", "--model", str(tiny_folder)]
    assert main([*arguments, "--dtype", "fp32", "--quality", "fast"]) == 0
    expected = tiny_pipeline()(
        "person.png",
        "garment.png",
        mask="mask.png",
        densepose="densepose.png",
        quality="fast",
        generator=torch.Generator().manual_seed(7),
    ).images[0]
    assert abs(np.asarray(Image.open("fast.png")).astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.slow
def test_half_precision_works_on_a_cpu_without_being_called_impossible(tiny_folder, files, capsys):
    heard = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logging.getLogger("diffusers").addHandler(handler)
    try:
        for name in ("fp16", "fp32"):
            assert try_on(tiny_folder, "--seed", 1, "--dtype", name, output=f"{name}.png") == 0
    finally:
        logging.getLogger("diffusers").removeHandler(handler)
    assert heard == []
    assert capsys.readouterr().err == ""
    half, full = (np.asarray(Image.open(f"{name}.png")).astype(int) for name in ("fp16", "fp32"))
    assert abs(half - full).mean() < 1


def test_a_photo_keeps_its_colour_profile_and_its_transparency(tiny_folder, files, capsys):
    photo = random_image(*PHOTO)
    photo.putalpha(Image.new("L", PHOTO, 255).point(lambda _: 120))
    photo.save("person.png", icc_profile=rgb_profile("Display P3"))
    assert try_on(tiny_folder, "--show-inputs", "sheet.png") == 0
    result = Image.open("out.png")
    assert result.mode == "RGBA"
    assert result.info["icc_profile"] == rgb_profile("Display P3")
    mask = np.asarray(Image.open("mask.png")) > 0
    assert np.array_equal(np.asarray(result)[~mask], np.asarray(photo)[~mask])
    assert (np.asarray(result)[..., 3] == 120).all()
    assert try_on(tiny_folder, output="out.jpg") == 0
    assert Image.open("out.jpg").mode == "RGB"


@pytest.fixture
def opened(monkeypatch):
    """Names of the image files that PIL opens."""
    names, open_image = [], Image.open

    def counting(source, *arguments, **options):
        if isinstance(source, (str, os.PathLike)):
            names.append(Path(source).name)
        return open_image(source, *arguments, **options)

    monkeypatch.setattr(Image, "open", counting)
    return names


def test_every_image_is_decoded_once(figure_networks, tiny_folder, files, opened, capsys):
    assert try_on(tiny_folder) == 0
    assert sorted(opened) == ["densepose.png", "garment.png", "mask.png", "person.png"]
    photo_of(FIGURE, (60, 20, 180, 300)).save("photo.png")
    opened.clear()
    assert try_on(tiny_folder, "--show-inputs", "sheet.png", person="photo.png", maps=False) == 0
    assert sorted(opened) == ["garment.png", "photo.png"]
    opened.clear()
    assert main(["prepare", "photo.png", "--output", "ready", "--device", "cpu"]) == 0
    assert opened == ["photo.png"]
    opened.clear()
    arguments = ["garment.png", "--inputs", "ready", "--model", str(tiny_folder), "--device", "cpu", "--steps", "1"]
    assert main(["try-on", *arguments, "--output", "out.png"]) == 0
    saved = [name for name in os.listdir("ready") if name.endswith(".png") and name != "contact_sheet.png"]
    assert sorted(opened) == sorted(["garment.png", *saved])


def test_show_inputs_writes_what_the_network_was_given(tiny_folder, files, capsys):
    assert try_on(tiny_folder, "--show-inputs", "sheet.png") == 0
    sheet = Image.open("sheet.png")
    assert sheet.width > 800
    assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 1000


def test_a_released_checkpoint_file_is_a_model_too(stand_in_weights, files, monkeypatch, capsys):
    loaded = []

    def from_single_file(path, **options):
        loaded.append((path, options))
        return tiny_pipeline()

    monkeypatch.setattr(TryOnPipeline, "from_single_file", from_single_file)
    Path("VITONHD.ckpt").write_bytes(b"")
    assert try_on("VITONHD.ckpt", "--dtype", "bf16") == 0
    assert loaded == [("VITONHD.ckpt", {"dtype": DTYPES["bf16"]})]
    assert "leave it out" in refusal(capsys, try_on("VITONHD.ckpt", "--checkpoint", "VITONHD"))


def test_an_older_output_is_replaced_and_new_folders_are_made(tiny_folder, files, capsys):
    Path("out.png").write_text("old")
    assert try_on(tiny_folder) == 0
    assert Image.open("out.png").size == PHOTO
    assert try_on(tiny_folder, output="deep/down/out.jpg") == 0
    assert Image.open("deep/down/out.jpg").format == "JPEG"
    assert os.listdir("deep/down") == ["out.jpg"]


@pytest.mark.parametrize("output", ["out.xyz", "out", "out.psd", "model.png", "mask.png/out.png", "person.png"])
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_loaded(files, capsys, monkeypatch, output):
    Path("model.png").mkdir()
    before = Path("person.png").read_bytes()
    refuse_to_load(monkeypatch)
    assert output in refusal(capsys, try_on("model", output=output))
    assert Path("person.png").read_bytes() == before


@pytest.mark.parametrize(
    "options, expected",
    [
        (["--mask", "nowhere.png"], "nowhere.png"),
        (["--mask", "small.png"], "50 x 50"),
        (["--densepose", "small.png"], "50 x 50"),
        (["--mask", "text.png"], "text.png"),
        (["--densepose", "half.png"], "damaged"),
        (["--mask", "garment.png"], "--mask is a colour image"),
        (["--device", "gpu"], "--device gpu"),
        (["--device", "meta"], "--device meta"),
        (["--device", "cuda:99"], "--device cuda:99"),
        (["--show-inputs", "sheet.abc"], "sheet.abc"),
        (["--show-inputs", "out.png"], "both name"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_loaded(files, capsys, monkeypatch, options, expected):
    Image.new("L", (50, 50)).save("small.png")
    Path("text.png").write_text("not an image")
    content = Path("densepose.png").read_bytes()
    Path("half.png").write_bytes(content[: len(content) // 2])
    refuse_to_load(monkeypatch)
    assert expected in refusal(capsys, try_on("model", *options))
    assert not Path("out.png").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--steps", "0"],
        ["--steps", "many"],
        ["--guidance-scale", "nan"],
        ["--guidance-scale", "-1"],
        ["--detail", "1.2"],
        ["--category", "hat"],
        ["--mask-dilation", "7"],
        ["--person-box", "1,2,3"],
        ["--person-box", "5,5,5,9"],
        ["--person-box", "0,0,nan,9"],
        ["--inputs", "folder"],  # and a photo
        ["--mask-dilation", "0.1"],  # with a mask given
        ["--zoom-to-person"],  # the same
        ["--seed", "x"],
        ["--seed", "-1"],
        ["--seed", "9223372036854775808"],
    ],
)
def test_senseless_arguments_are_usage_errors(files, capsys, monkeypatch, options):
    refuse_to_load(monkeypatch)
    arguments = ["try-on", "person.png", "garment.png", "--output", "out.png"]
    maps = ["--mask", "mask.png", "--densepose", "densepose.png"]
    assert "usage: " in usage_error(capsys, [*arguments, *maps, *options])


def test_missing_images_are_named(files, capsys, monkeypatch):
    refuse_to_load(monkeypatch)
    assert "nobody.png" in refusal(capsys, try_on("model", person="nobody.png"))
    Path("garment.png").unlink()
    assert "garment.png" in refusal(capsys, try_on("model"))
    assert "GARMENT" in usage_error(capsys, ["try-on", "person.png", "--output", "out.png"])


@pytest.mark.parametrize("model", ["nowhere", "./nowhere", "/nowhere/at/all", "nowhere.ckpt", "person.png"])
def test_a_model_that_is_none_is_refused(files, capsys, model):
    assert Path(model).name in refusal(capsys, try_on(model))


def test_memory_that_runs_out_is_one_line_and_a_defect_keeps_its_traceback(tiny_folder, files, capsys, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")

    monkeypatch.setattr(TryOnPipeline, "__call__", fail)
    assert "--dtype fp16" in refusal(capsys, try_on(tiny_folder))

    def fail_on_cpu(*_, **__):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(TryOnPipeline, "__call__", fail_on_cpu)
    assert "not enough memory" in refusal(capsys, try_on(tiny_folder))

    def crash(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(TryOnPipeline, "__call__", crash)
    with pytest.raises(ZeroDivisionError):
        try_on(tiny_folder)


def test_ctrl_c_is_one_line_and_leaves_no_output(tiny_folder, files, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(TryOnPipeline, "__call__", interrupt)
    assert refusal(capsys, try_on(tiny_folder), expected=130) == "stableviton: interrupted\n"
    assert not Path("out.png").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals work differently there")
def test_a_real_ctrl_c_in_the_middle_of_a_command_ends_it_with_130(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")  # reading from it blocks as long as a writer has it open
    code = (
        "import os, signal, sys\nos.path.isfile = lambda path: True\nfrom stableviton_sdk.cli.entry import main\n"
        # where the tests run in a shell's background, it has told them to ignore it
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.exit(main(['convert', 'a.ckpt', 'out', '--architecture', 'pipe.json']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment(), stderr=-1, text=True)
    writer = None
    while writer is None and process.poll() is None:
        try:
            writer = os.open(tmp_path / "pipe.json", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # not opened for reading yet
            time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    os.close(writer)
    assert process.returncode == 130
    assert error == "stableviton: interrupted\n"


# prepare, and maps that are derived


def test_prepare_writes_inputs_to_look_at_and_to_use_again(figure_networks, tmp_path, capsys):
    photo_of(FIGURE, (60, 20, 180, 300)).save("photo.png")
    assert main(["prepare", "photo.png", "--output", "ready", "--device", "cpu"]) == 0
    assert "ready/contact_sheet.png" in capsys.readouterr().out
    assert Image.open("ready/contact_sheet.png").width > 800
    inputs = TryOnInputs.load("ready")
    assert inputs.photo.size == FIGURE
    assert 0.05 < (np.asarray(inputs.frame_mask) > 0).mean() < 0.6
    assert main(["prepare", "photo.png", "--output", "ready", "--device", "cpu"]) == 0  # over its own older one
    assert TryOnInputs.load("ready").frame_mask.tobytes() == inputs.frame_mask.tobytes()


def test_the_options_of_prepare_change_what_it_derives(figure_networks, tmp_path, capsys):
    photo_of((480, 320), (30, 20, 150, 300), (300, 60, 390, 290)).save("photo.png")

    def mask(*options):
        assert main(["prepare", "photo.png", "--output", "ready", "--device", "cpu", *options]) == 0
        inputs = TryOnInputs.load("ready")
        return inputs.frame.box, (np.asarray(inputs.frame_mask) > 0).mean()

    box, area = mask()
    assert mask("--mask-dilation", "0.3")[1] > 1.1 * area
    other_box, _ = mask("--person-box", "300,60,390,290")
    assert other_box[0] > box[0] + 50
    assert mask("--category", "lower")[1] != area
    photo_of((480, 640), (200, 300, 280, 520)).save("photo.png")
    assert mask()[0] == (0, 0, 480, 640)
    left, top, right, bottom = mask("--zoom-to-person")[0]
    assert (right - left, bottom - top) < (400, 560)
    assert "trained on upper bodies" in capsys.readouterr().err


def test_prepared_inputs_are_tried_on_and_a_corrected_mask_counts(figure_networks, tiny_folder, files, capsys):
    photo_of(FIGURE, (60, 20, 180, 300)).save("photo.png")
    assert main(["prepare", "photo.png", "--output", "ready", "--device", "cpu"]) == 0
    common_arguments = ["garment.png", "--inputs", "ready", "--model", str(tiny_folder), "--device", "cpu"]
    common_arguments += ["--steps", "2", "--seed", "1"]
    assert main(["try-on", *common_arguments, "--output", "before.png"]) == 0
    arguments = ["try-on", *common_arguments, "--output", "ready/photo.png"]
    assert "one of the images to read" in refusal(capsys, main(arguments))
    corrected = np.zeros_like(np.asarray(Image.open("ready/mask.png")))
    corrected[-200:, :300] = 255
    Image.fromarray(corrected).save("ready/mask.png")
    assert main(["try-on", *common_arguments, "--output", "after.png"]) == 0
    photo = np.asarray(Image.open("photo.png"))
    before, after = ((np.asarray(Image.open(name)) != photo).any(axis=2) for name in ("before.png", "after.png"))
    inputs = TryOnInputs.load("ready")
    allowed = np.asarray(inputs.frame_mask.resize(FIGURE, Image.Resampling.BILINEAR)) > 0
    assert inputs.frame.box == (0, 0, *FIGURE)
    assert after.sum() > 1000
    assert not after[~allowed].any()
    assert not (before & after).all()


def test_a_raw_photo_and_a_garment_are_enough(figure_networks, tiny_folder, files, capsys):
    photo = photo_of(FIGURE, (60, 20, 180, 300))
    photo.save("photo.png")
    options = ["--show-inputs", "sheet.png", "--mask-dilation", "0.1"]
    assert try_on(tiny_folder, *options, person="photo.png", maps=False) == 0
    changed = (np.asarray(Image.open("out.png")) != np.asarray(photo)).any(axis=2)
    mask = PersonPreprocessor(FigureAnalyzer())(photo, mask_dilation=0.1).frame_mask.resize(
        FIGURE, Image.Resampling.BILINEAR
    )
    assert changed.sum() > 1000
    assert not changed[np.asarray(mask) == 0].any()
    assert Image.open("sheet.png").width > 800


def test_a_mask_of_ones_own_wins_over_the_derived_one(figure_networks, tiny_folder, files, capsys):
    photo = photo_of(FIGURE, (60, 20, 180, 300))
    photo.save("photo.png")
    mask_image(*FIGURE).save("mask.png")
    assert try_on(tiny_folder, "--mask", "mask.png", person="photo.png", maps=False) == 0
    changed = (np.asarray(Image.open("out.png")) != np.asarray(photo)).any(axis=2)
    mask = np.asarray(Image.open("mask.png")) > 0
    assert not changed[~mask].any()
    assert changed[mask].mean() > 0.9


def test_prepare_refuses_before_it_looks_at_the_photo(tmp_path, capsys, monkeypatch):
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine")
    random_image(*PHOTO).save("photo.png")
    assert "mine.txt" in refusal(capsys, main(["prepare", "photo.png", "--output", "full"]))
    assert "nowhere.png" in refusal(capsys, main(["prepare", "nowhere.png", "--output", "ready"]))
    assert "--device gpu" in refusal(capsys, main(["prepare", "photo.png", "--output", "ready", "--device", "gpu"]))
    assert not Path("ready").exists()


def test_nobody_in_the_photo_is_one_line_and_writes_nothing(figure_networks, tmp_path, capsys):
    Image.new("RGB", FIGURE, (110, 110, 110)).save("photo.png")
    assert "nobody" in refusal(capsys, main(["prepare", "photo.png", "--output", "ready", "--device", "cpu"]))
    assert not Path("ready").exists()


def test_the_result_says_how_it_was_made_and_nothing_of_the_photo_or_this_machine(tiny_folder, files):
    private_photo("person.jpg", PHOTO)
    for output in ("out.png", "out.jpg", "out.webp"):
        assert try_on(tiny_folder, "--seed", "5", "--detail", "0.5", person="person.jpg", output=output) == 0
        settings = read_settings(output)
        assert settings.pop("revision").startswith("sha256:")
        assert settings == {
            "model": "checkpoint",
            "seed": 5,
            "width": 48,
            "height": 64,
            "category": "upper",
            "garment_photo": "flat-lay",
            "quality": "exact",
            "num_inference_steps": 2,
            "guidance_scale": 1.0,
            "init_from": "agnostic",
            "paste_back": True,
            "detail": 0.5,
        }
        content = Path(output).read_bytes()
        for secret in (*SECRETS, str(tiny_folder), str(files)):
            assert secret.encode() not in content


def test_metadata_can_be_left_out(tiny_folder, files):
    private_photo("person.jpg", PHOTO)
    assert try_on(tiny_folder, "--no-metadata", person="person.jpg", output="out.jpg") == 0
    assert read_settings("out.jpg") is None
    content = Path("out.jpg").read_bytes()
    for secret in (*SECRETS, "stableviton", "trainedAlgorithmicMedia"):
        assert secret.encode() not in content


def test_the_demo_says_that_it_is_the_bundled_models(tmp_path):
    assert main(["demo", "--seed", "3", "--device", "cpu"]) == 0
    settings = read_settings("demo.png")
    assert settings["model"] == "bundled"
    assert settings["seed"] == 3
    assert main(["demo", "--no-metadata", "--device", "cpu", "--output", "plain.png"]) == 0
    assert read_settings("plain.png") is None
