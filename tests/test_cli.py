"""The command line, in process through `main`, and as users start it where that matters."""

import io
import json
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
from safetensors.torch import load_file
from small_stand_in import small_state
from stand_in_hub import Content, served_hub
from stand_ins import ARCHITECTURE, write_checkpoint
from test_preprocessor import FigureAnalyzer, photo_of
from tiny import mask_picture, picture, tiny_pipeline

import stableviton_sdk
from stableviton_sdk import hub_downloads
from stableviton_sdk.cli import main
from stableviton_sdk.commands import common
from stableviton_sdk.conversion.convert import DTYPES
from stableviton_sdk.errors import WeightsUnavailable
from stableviton_sdk.hub_repos import KNOWN_REPOS, Checkpoint, KnownRepo
from stableviton_sdk.pipelines.arguments import STARTS
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.preprocessing import photo_body
from stableviton_sdk.preprocessing.agnostic import CATEGORIES
from stableviton_sdk.preprocessing.inputs import TryOnInputs
from stableviton_sdk.preprocessing.preprocessor import PersonPreprocessor

PHOTO = (96, 128)
FIGURE = (240, 320)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def files(tmp_path):
    """A person, a garment and maps, as files; names are relative to the working directory."""
    picture(*PHOTO).save("person.png")
    picture(seed=1).save("garment.png")
    mask_picture(*PHOTO).save("mask.png")
    picture(*PHOTO, seed=2).save("densepose.png")
    return tmp_path


@pytest.fixture
def figure_networks(monkeypatch):
    """In place of the photo networks and their weights: an analyzer that finds figures by their colours."""
    monkeypatch.setattr(photo_body, "make_analyzer", lambda *_, **__: FigureAnalyzer())
    monkeypatch.setattr(hub_downloads, "describe_file", lambda *_, **__: None)


def try_on(model, *options, person="person.png", maps=True, output="out.png"):
    given = ["--mask", "mask.png", "--densepose", "densepose.png"] if maps else []
    arguments = ["try-on", person, "garment.png", "--output", output, "--device", "cpu", "--steps", "2", *given]
    return main([*map(str, arguments), "--model", str(model), *map(str, options)])


def refusal(capsys, status, expected=1):
    """The one line on stderr that says what was wrong."""
    error = capsys.readouterr().err
    assert status == expected
    assert error.startswith("stableviton: ")
    assert error.endswith("\n")
    assert error.count("\n") == 1
    return error


def usage_error(capsys, arguments):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    return capsys.readouterr().err


# start


def test_help_needs_no_heavy_import_in_any_command():
    code = (
        "import sys\nfrom stableviton_sdk.cli import main\n"
        "for arguments in (['--help'], ['try-on', '-h'], ['prepare', '-h'], ['convert', '-h'], ['evaluate', '-h']):\n"
        "    try: main(arguments)\n"
        "    except SystemExit as exit_: assert exit_.code == 0\n"
        "heavy = {'torch', 'numpy', 'PIL', 'diffusers', 'transformers', 'huggingface_hub', 'cv2'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = run_python("-c", code)
    assert done.stderr == "[]\n"
    for word in ("try-on", "prepare", "convert", "--guidance-scale", "--person-box", "--architecture"):
        assert word in done.stdout


def test_the_module_and_the_console_script_are_the_same_program():
    done = run_python("-m", "stableviton_sdk", "--version")
    assert done.stdout == f"stableviton {stableviton_sdk.__version__}\n"
    script = "import sys\nfrom importlib.metadata import EntryPoint\n"
    script += "entry = EntryPoint('stableviton', 'stableviton_sdk.cli:main', 'console_scripts')\n"
    script += "sys.argv = ['stableviton', '--version']\nsys.exit(entry.load()())"
    setup = (Path(__file__).parents[1] / "setup.cfg").read_text()
    assert "stableviton = stableviton_sdk.cli:main" in setup
    assert run_python("-c", script).stdout == done.stdout


def test_no_command_and_an_unknown_one_are_usage_errors(capsys):
    assert "COMMAND" in usage_error(capsys, [])
    assert "nonsense" in usage_error(capsys, ["nonsense"])


def test_the_choices_offered_are_those_of_the_library():
    assert set(common.DTYPES) == set(DTYPES)
    assert tuple(CATEGORIES) == common.CATEGORIES
    assert common.POSES == photo_body.POSE_METHODS
    for start in STARTS:  # argparse would refuse one that it doesn't know
        with pytest.raises(SystemExit) as exit_:
            main(["try-on", "a", "b", "--output", "c", "--start", start, "-h"])
        assert exit_.value.code == 0


# convert


def test_convert_writes_a_folder_and_says_what_is_in_it(stand_in_checkpoint, tmp_path, capsys):
    status = main(["convert", str(stand_in_checkpoint), "out", "--architecture", json.dumps(ARCHITECTURE)])
    said = capsys.readouterr().out
    assert status == 0
    pipeline = TryOnPipeline.from_pretrained(tmp_path / "out")
    for name in ("unet", "spatial_encoder", "garment_encoder", "vae"):
        count = sum(parameter.numel() for parameter in getattr(pipeline, name).parameters())
        assert f"{count:,} parameters" in next(line for line in said.splitlines() if name in line)
    assert "84 tensors" in said
    assert "control_model.middle_block (46)" in said
    assert pipeline.garment_encoder.config.num_attention_heads == 4


def test_convert_takes_the_architecture_from_a_file_and_stores_in_the_type_asked_for(
    stand_in_checkpoint, tmp_path, capsys
):
    Path("architecture.json").write_text(json.dumps(ARCHITECTURE))
    options = ["--architecture", "architecture.json", "--dtype", "fp16"]
    assert main(["convert", str(stand_in_checkpoint), "out", *options]) == 0
    weights = load_file("out/unet/diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {DTYPES["fp16"]}
    assert json.loads(Path("out/garment_encoder/config.json").read_text())["num_attention_heads"] == 4


def test_convert_names_the_foreign_parts_that_it_left_out(stand_in_weights, tmp_path, capsys):
    foreign = {f"model_ema.{name}": value for name, value in list(stand_in_weights.items())[:50]}
    write_checkpoint(tmp_path / "more.ckpt", {**stand_in_weights, **foreign})
    assert main(["convert", "more.ckpt", "out", "--architecture", json.dumps(ARCHITECTURE)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("left out, not part of the method: ")
    assert "model_ema (" in last


@pytest.mark.parametrize(
    "architecture, expected",
    [
        ('{"garment_encoder": ', "no valid JSON"),
        ('{"garment_encoder": 4}', "by component"),
        ("nowhere.json", "neither a file nor JSON"),
        ("list.json", "by component"),
        ("binary.json", "no JSON file"),
        ("damaged.json", "no valid JSON"),
        ('{"garment_encoder": {"num_attention_hats": 4}}', "num_attention_hats"),
        ('{"wings": {}}', "wings"),
    ],
)
def test_an_architecture_that_cannot_be_read_is_refused(stand_in_checkpoint, capsys, architecture, expected):
    Path("list.json").write_text("[1]")
    Path("binary.json").write_bytes(b"\xff\xfe\x00")
    Path("damaged.json").write_text('{"unet": {}')
    status = main(["convert", str(stand_in_checkpoint), "out", "--architecture", architecture])
    assert expected in refusal(capsys, status)
    assert not Path("out").exists()


def test_convert_refuses_a_missing_source_what_is_no_checkpoint_and_a_target_in_use(tmp_path, capsys):
    assert "nowhere.ckpt" in refusal(capsys, main(["convert", "nowhere.ckpt", "out"]))
    Path("text.ckpt").write_text("no weights")
    assert "text.ckpt" in refusal(capsys, main(["convert", "text.ckpt", "out"]))
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine")
    assert "full exists already" in refusal(capsys, main(["convert", "text.ckpt", "full"]))
    assert os.listdir("full") == ["mine.txt"]


def test_a_traceback_is_shown_only_on_demand(capsys):
    assert main(["convert", "nowhere.ckpt", "out", "--traceback"]) == 1
    error = capsys.readouterr().err
    assert "Traceback (most recent call last)" in error
    assert error.splitlines()[-1].startswith("stableviton: ")


def test_progress_is_drawn_on_a_terminal_only(stand_in_checkpoint, capsys, monkeypatch):
    options = ["--architecture", json.dumps(ARCHITECTURE)]
    assert main(["convert", str(stand_in_checkpoint), "out", *options]) == 0
    assert "Converting" not in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main(["convert", str(stand_in_checkpoint), "again", *options]) == 0
    assert "Converting" in capsys.readouterr().err


# try-on


def test_try_on_keeps_every_pixel_outside_the_mask_and_repaints_inside(tiny_folder, files, capsys):
    assert try_on(tiny_folder, "--seed", 5) == 0
    assert capsys.readouterr().out == "out.png (96 x 128, seed 5)\n"
    result, photo = np.asarray(Image.open("out.png")), np.asarray(Image.open("person.png"))
    changed, mask = (result != photo).any(axis=2), np.asarray(Image.open("mask.png")) > 0
    assert not changed[~mask].any()
    assert changed[mask].mean() > 0.9


def test_the_seed_decides_the_picture_and_is_told_where_it_was_drawn(tiny_folder, files, capsys):
    assert try_on(tiny_folder, output="first.png") == 0
    seed = capsys.readouterr().out.split("seed ")[1].rstrip(")\n")
    assert try_on(tiny_folder, "--seed", seed, output="second.png") == 0
    assert try_on(tiny_folder, "--seed", int(seed) + 1, output="third.png") == 0
    first, second, third = (np.asarray(Image.open(f"{name}.png")).astype(int) for name in ("first", "second", "third"))
    assert abs(first - second).max() <= 1
    assert abs(first - third).max() > 10


def test_the_options_arrive_at_the_pipeline(tiny_folder, files, capsys):
    options = ["--seed", 7, "--guidance-scale", 3, "--start", "noise", "--no-repaint", "--steps", 3, "--dtype", "fp32"]
    picture(*PHOTO, seed=3).save("agnostic.png")
    assert try_on(tiny_folder, *options, "--agnostic", "agnostic.png") == 0
    expected = tiny_pipeline()(
        "person.png",
        "garment.png",
        mask="mask.png",
        densepose="densepose.png",
        agnostic="agnostic.png",
        num_inference_steps=3,
        guidance_scale=3.0,
        start="noise",
        repaint=False,
        generator=torch.Generator().manual_seed(7),
    ).images[0]
    difference = np.asarray(Image.open("out.png")).astype(int) - np.asarray(expected)
    assert abs(difference).max() <= 1


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
        (["--mask", "garment.png"], "--mask is a colour picture"),
        (["--device", "gpu"], "--device gpu"),
        (["--device", "meta"], "--device meta"),
        (["--device", "cuda:99"], "--device cuda:99"),
        (["--show-inputs", "sheet.abc"], "sheet.abc"),
        (["--show-inputs", "out.png"], "both name"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_loaded(files, capsys, monkeypatch, options, expected):
    Image.new("L", (50, 50)).save("small.png")
    Path("text.png").write_text("not a picture")
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
        ["--category", "hat"],
        ["--mask-grow", "7"],
        ["--person-box", "1,2,3"],
        ["--person-box", "5,5,5,9"],
        ["--person-box", "0,0,nan,9"],
        ["--inputs", "folder"],  # and a photo
        ["--mask-grow", "0.1"],  # with a mask given
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


def test_missing_pictures_are_named(files, capsys, monkeypatch):
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
        "import os, signal, sys\nos.path.isfile = lambda path: True\nfrom stableviton_sdk.cli import main\n"
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
    assert 0.05 < (np.asarray(inputs.mask) > 0).mean() < 0.6
    assert main(["prepare", "photo.png", "--output", "ready", "--device", "cpu"]) == 0  # over its own older one
    assert TryOnInputs.load("ready").mask.tobytes() == inputs.mask.tobytes()


def test_the_options_of_prepare_change_what_it_derives(figure_networks, tmp_path, capsys):
    photo_of((480, 320), (30, 20, 150, 300), (300, 60, 390, 290)).save("photo.png")

    def mask(*options):
        assert main(["prepare", "photo.png", "--output", "ready", "--device", "cpu", *options]) == 0
        inputs = TryOnInputs.load("ready")
        return inputs.frame.box, (np.asarray(inputs.mask) > 0).mean()

    box, area = mask()
    assert mask("--mask-grow", "0.3")[1] > 1.1 * area
    other_box, _ = mask("--person-box", "300,60,390,290")
    assert other_box[0] > box[0] + 50
    assert mask("--category", "lower")[1] != area
    assert "trained on upper bodies" in capsys.readouterr().err


def test_prepared_inputs_are_tried_on_and_a_corrected_mask_counts(figure_networks, tiny_folder, files, capsys):
    photo_of(FIGURE, (60, 20, 180, 300)).save("photo.png")
    assert main(["prepare", "photo.png", "--output", "ready", "--device", "cpu"]) == 0
    common_arguments = ["garment.png", "--inputs", "ready", "--model", str(tiny_folder), "--device", "cpu"]
    common_arguments += ["--steps", "2", "--seed", "1"]
    assert main(["try-on", *common_arguments, "--output", "before.png"]) == 0
    corrected = np.zeros_like(np.asarray(Image.open("ready/mask.png")))
    corrected[-200:, :300] = 255
    Image.fromarray(corrected).save("ready/mask.png")
    assert main(["try-on", *common_arguments, "--output", "after.png"]) == 0
    photo = np.asarray(Image.open("photo.png"))
    before, after = ((np.asarray(Image.open(name)) != photo).any(axis=2) for name in ("before.png", "after.png"))
    inputs = TryOnInputs.load("ready")
    allowed = np.asarray(inputs.mask.resize(FIGURE, Image.Resampling.BILINEAR)) > 0
    assert inputs.frame.box == (0, 0, *FIGURE)
    assert after.sum() > 1000
    assert not after[~allowed].any()
    assert not (before & after).all()


def test_a_raw_photo_and_a_garment_are_enough(figure_networks, tiny_folder, files, capsys):
    photo = photo_of(FIGURE, (60, 20, 180, 300))
    photo.save("photo.png")
    options = ["--show-inputs", "sheet.png", "--mask-grow", "0.1"]
    assert try_on(tiny_folder, *options, person="photo.png", maps=False) == 0
    changed = (np.asarray(Image.open("out.png")) != np.asarray(photo)).any(axis=2)
    mask = PersonPreprocessor(FigureAnalyzer())(photo, mask_grow=0.1).mask.resize(FIGURE, Image.Resampling.BILINEAR)
    assert changed.sum() > 1000
    assert not changed[np.asarray(mask) == 0].any()
    assert Image.open("sheet.png").width > 800


def test_a_mask_of_ones_own_wins_over_the_derived_one(figure_networks, tiny_folder, files, capsys):
    photo = photo_of(FIGURE, (60, 20, 180, 300))
    photo.save("photo.png")
    mask_picture(*FIGURE).save("mask.png")
    assert try_on(tiny_folder, "--mask", "mask.png", person="photo.png", maps=False) == 0
    changed = (np.asarray(Image.open("out.png")) != np.asarray(photo)).any(axis=2)
    mask = np.asarray(Image.open("mask.png")) > 0
    assert not changed[~mask].any()
    assert changed[mask].mean() > 0.9


def test_prepare_refuses_before_it_looks_at_the_photo(tmp_path, capsys, monkeypatch):
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine")
    picture(*PHOTO).save("photo.png")
    assert "mine.txt" in refusal(capsys, main(["prepare", "photo.png", "--output", "full"]))
    assert "nowhere.png" in refusal(capsys, main(["prepare", "nowhere.png", "--output", "ready"]))
    assert "--device gpu" in refusal(capsys, main(["prepare", "photo.png", "--output", "ready", "--device", "gpu"]))
    assert not Path("ready").exists()


def test_nobody_in_the_photo_is_one_line_and_writes_nothing(figure_networks, tmp_path, capsys):
    Image.new("RGB", FIGURE, (110, 110, 110)).save("photo.png")
    assert "nobody" in refusal(capsys, main(["prepare", "photo.png", "--output", "ready", "--device", "cpu"]))
    assert not Path("ready").exists()


# downloads


DOWNLOAD = hub_downloads.Download("VITONHD.ckpt of them/weights", 7_400_000_000, "CC BY-NC-SA 4.0")
NETWORK = hub_downloads.Download("parser.onnx of them/networks", 267_000_000, "MIT")


@pytest.fixture
def terminal(monkeypatch):
    """Make it look as if somebody sat there who types this."""

    class Keyboard(io.StringIO):
        def isatty(self):
            return True

    def typing(text):
        monkeypatch.setattr(sys, "stdin", Keyboard(text))
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)

    return typing


def test_on_a_terminal_size_and_licence_are_said_before_the_question(capsys, terminal):
    terminal("y\n")
    consent = common.Consent(yes=False)
    consent.ask([DOWNLOAD, NETWORK])
    lines = capsys.readouterr().err.splitlines()
    assert "VITONHD.ckpt of them/weights, 7.4 GB; licence: CC BY-NC-SA 4.0" in lines[0]
    assert "parser.onnx of them/networks, 267 MB; licence: MIT" in lines[1]
    assert lines[2].startswith("Download 7.7 GB and accept")
    consent.ask([NETWORK])  # answered already: stdin holds nothing more
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yes please\n"])
def test_anything_but_yes_downloads_nothing(terminal, answer):
    terminal(answer)
    with pytest.raises(WeightsUnavailable, match="nothing was downloaded"):
        common.Consent(yes=False).ask([DOWNLOAD])


def test_without_a_terminal_consent_comes_from_the_command_line_only(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(WeightsUnavailable, match="--yes"):
        common.Consent(yes=False).ask([DOWNLOAD])
    common.Consent(yes=True).ask([DOWNLOAD])
    assert capsys.readouterr().err.count("7.4 GB") == 2


@pytest.fixture(scope="session")
def released(tmp_path_factory):
    """A small checkpoint in the released layout."""
    path = tmp_path_factory.mktemp("released") / "VITONHD.ckpt"
    return Content(write_checkpoint(path, small_state()).read_bytes())


@pytest.fixture
def authors(tmp_path, released, monkeypatch):
    """A Hub with the authors' repositories, and with those of the photo networks."""
    name = "rlawjdghek/StableVITON"
    known = KNOWN_REPOS[name]
    entry = Checkpoint(known.checkpoints["VITONHD"].filename, (128, 128))
    monkeypatch.setitem(KNOWN_REPOS, name, KnownRepo(name, known.licence, {"VITONHD": entry}))
    with served_hub(tmp_path / "home") as served:
        served.commit(name, {entry.filename: released})
        for source in photo_body.WEIGHTS.values():
            prefix = "spaces/" if source.get("repo_type") == "space" else ""
            served.commit(prefix + source["repo_id"], {source["filename"]: b"0" * 2_000_000})
        yield served


def test_without_consent_the_default_model_is_described_and_not_a_byte_of_it_is_fetched(
    authors, files, released, capsys, monkeypatch
):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    arguments = ["try-on", "person.png", "garment.png", "--output", "out.png", "--device", "cpu"]
    status = main([*arguments, "--mask", "mask.png", "--densepose", "densepose.png"])
    first, second = capsys.readouterr().err.splitlines()
    assert status == 1
    size = f"{len(released.data) / 1e6:.0f} MB"
    assert first.startswith(f"stableviton: to download: ckpts/VITONHD.ckpt of rlawjdghek/StableVITON, {size}; ")
    assert "CC BY-NC-SA 4.0: non-commercial" in first
    assert "--yes" in second
    weights = [(method, path) for method, path in authors.take_requests() if "/api/" not in path]
    assert weights == [("HEAD", "/rlawjdghek/StableVITON/resolve/main/ckpts/VITONHD.ckpt")]
    assert not Path("out.png").exists()


def test_a_raw_photo_asks_for_the_photo_networks_in_the_same_breath(authors, files, capsys, terminal):
    terminal("n\n")
    arguments = ["try-on", "person.png", "garment.png", "--output", "out.png", "--device", "cpu", "--pose", "dwpose"]
    assert main(arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    for line, name in zip(
        lines,
        ("VITONHD.ckpt", "parsing_lip.onnx", "parsing_atr.onnx", "yolox_l.onnx", "dw-ll_ucoco_384.onnx", ".pkl"),
        strict=False,
    ):
        assert name in line
        assert "MB; licence: " in line
    assert lines[6].startswith("Download ")
    assert len(lines) == 7


def test_prepare_asks_for_the_networks_that_it_needs(authors, files, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main(["prepare", "person.png", "--output", "ready", "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert said.count("to download: ") == 4
    assert "body_pose_model.pth of lllyasviel/ControlNet, 2 MB; licence: " in said
    assert "yolox" not in said
    assert not Path("ready").exists()


def test_with_consent_the_default_model_is_converted_once_and_never_asked_for_again(
    authors, files, capsys, monkeypatch
):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    arguments = ["try-on", "person.png", "garment.png", "--device", "cpu", "--steps", "1", "--seed", "1"]
    arguments += ["--mask", "mask.png", "--densepose", "densepose.png"]
    assert main([*arguments, "--output", "out.png", "--yes"]) == 0
    assert capsys.readouterr().err.count("CC BY-NC-SA") == 1
    assert Image.open("out.png").size == PHOTO
    authors.take_requests()
    assert main([*arguments, "--output", "again.png"]) == 0
    assert capsys.readouterr().err == ""
    assert authors.take_requests() == []
    difference = np.asarray(Image.open("out.png")).astype(int) - np.asarray(Image.open("again.png"))
    assert abs(difference).max() <= 1


def test_a_repository_in_our_layout_is_described_too(authors, files, tiny_folder, capsys, terminal):
    terminal("y\n")
    authors.commit_folder("me/tiny", tiny_folder)
    assert try_on("me/tiny") == 0
    said = capsys.readouterr().err
    size = sum(path.stat().st_size for path in tiny_folder.rglob("*") if path.is_file())
    assert f"to download: me/tiny, {size / 1e6:.0f} MB; licence: not stated (https://huggingface.co/me/tiny)" in said
    assert try_on("me/tiny") == 0
    assert "to download" not in capsys.readouterr().err


def test_what_the_hub_does_not_have_is_one_line(authors, files, capsys, monkeypatch):
    assert "no such repository" in refusal(capsys, try_on("me/nothing", "--yes"))
    authors.commit("me/other", {"config.json": b"{}"})
    assert "model_index.json" in refusal(capsys, try_on("me/other", "--yes"))
    default = "rlawjdghek/StableVITON"
    assert "'HD'" in refusal(capsys, try_on(default, "--checkpoint", "HD", "--yes"))
    authors.stop()
    assert "no connection" in refusal(capsys, try_on(default, "--yes"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "downloading is off" in refusal(capsys, try_on(default, "--yes"))
    assert "downloading is off" in refusal(capsys, try_on("me/tiny", "--yes"))


def refuse_to_load(monkeypatch):
    def load(*_, **__):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(TryOnPipeline, "from_pretrained", load)
    monkeypatch.setattr(TryOnPipeline, "from_single_file", load)


def environment():
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


def run_python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
