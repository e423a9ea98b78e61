"""What the command line asks before it downloads, against a Hub on loopback."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.command_line import PHOTO, refusal, try_on
from support.small_stand_in import small_state
from support.stand_in_hub import Content, served_hub
from support.stand_ins import write_checkpoint

from stableviton_sdk.cli.consent import Consent
from stableviton_sdk.cli.entry import main
from stableviton_sdk.errors import WeightsUnavailable
from stableviton_sdk.files import format_bytes
from stableviton_sdk.hub import pending as hub_downloads
from stableviton_sdk.hub.known_repos import KNOWN_REPOS, Checkpoint, KnownRepo
from stableviton_sdk.preprocessing.analyzers import photo as photo_body

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
    consent = Consent(yes=False)
    consent.ask([DOWNLOAD, NETWORK])
    lines = capsys.readouterr().err.splitlines()
    assert "VITONHD.ckpt of them/weights, 7.4 GB; licence: CC BY-NC-SA 4.0" in lines[0]
    assert "parser.onnx of them/networks, 267 MB; licence: MIT" in lines[1]
    assert "kept in " in lines[2]
    assert "HF_HOME" in lines[2]
    assert lines[3].startswith("Download 7.7 GB and accept")
    consent.ask([NETWORK])  # answered already: stdin holds nothing more
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yes please\n"])
def test_anything_but_yes_downloads_nothing(terminal, answer):
    terminal(answer)
    with pytest.raises(WeightsUnavailable, match="declined"):
        Consent(yes=False).ask([DOWNLOAD])


def test_without_a_terminal_consent_comes_from_the_command_line_only(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(WeightsUnavailable, match="--yes"):
        Consent(yes=False).ask([DOWNLOAD])
    Consent(yes=True).ask([DOWNLOAD])
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
    first, place, second = capsys.readouterr().err.splitlines()
    assert status == 1
    size = format_bytes(len(released.data))
    assert first.startswith(f"stableviton: to download: ckpts/VITONHD.ckpt of rlawjdghek/StableVITON, {size}; ")
    assert "CC BY-NC-SA 4.0: non-commercial" in first
    assert "kept in " in place
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
    assert lines[7].startswith("Download ")
    assert len(lines) == 8


def test_prepare_asks_for_the_networks_that_it_needs(authors, files, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main(["prepare", "person.png", "--output", "ready", "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert said.count("to download: ") == 4
    assert "body_pose_model.pth of lllyasviel/ControlNet, 2.0 MB; licence: " in said
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
    assert f"to download: me/tiny, {format_bytes(size)}; licence: not stated (https://huggingface.co/me/tiny)" in said
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
