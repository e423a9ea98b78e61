"""The command line, in process through `main`, and as users start it where that matters."""

import json
import os
import shlex
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from support.command_line import refusal, run_python, usage_error
from support.stand_ins import ARCHITECTURE, write_checkpoint

import stableviton_sdk
from stableviton_sdk import choices
from stableviton_sdk.cli.entry import COMMANDS, build_parser, main
from stableviton_sdk.data.synthetic.style import STYLES
from stableviton_sdk.dtypes import DTYPES
from stableviton_sdk.evaluation.metric_networks import INCEPTION
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline

# start


def test_help_needs_no_heavy_import_in_any_command():
    code = (
        "import sys\nfrom stableviton_sdk.cli.entry import main\n"
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
    script += "entry = EntryPoint('stableviton', 'stableviton_sdk.cli.entry:main', 'console_scripts')\n"
    script += "sys.argv = ['stableviton', '--version']\nsys.exit(entry.load()())"
    setup = (Path(__file__).parents[2] / "setup.cfg").read_text()
    assert "stableviton = stableviton_sdk.cli.entry:main" in setup
    assert run_python("-c", script).stdout == done.stdout


def test_no_command_and_an_unknown_one_are_usage_errors(capsys):
    assert "COMMAND" in usage_error(capsys, [])
    assert "nonsense" in usage_error(capsys, ["nonsense"])


def test_the_choices_offered_are_those_of_the_library():
    assert set(choices.DTYPE_NAMES) == set(DTYPES)
    assert set(choices.FEATURE_LIBRARIES) == set(INCEPTION)
    assert tuple(STYLES) == choices.STYLES


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


def test_every_commands_help_ends_with_examples_that_its_parser_takes():
    parser = build_parser()
    for command in COMMANDS:
        for line in command.EXAMPLES:
            words = shlex.split(line)
            assert words[0] == "stableviton"
            assert parser.parse_args(words[1:]).run == command.run, line


def test_shell_completion_comes_from_the_parser():
    shtab = pytest.importorskip("shtab", reason="completion is printed by shtab")
    for shell in ("bash", "zsh"):
        script = shtab.complete(build_parser(), shell=shell)
        assert "try-on" in script
        assert "--mask-dilation" in script
