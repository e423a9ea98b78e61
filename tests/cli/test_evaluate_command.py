"""`stableviton evaluate`: what it prints, what it downloads, and how it is used wrongly."""

import json

import pytest
import torch

from stableviton_sdk import choices
from stableviton_sdk.cli.entry import main
from stableviton_sdk.evaluation import metric_networks as network_rooms
from stableviton_sdk.evaluation.metrics import HIGHER_IS_BETTER
from stableviton_sdk.evaluation.report import DIGITS, LABELS


def test_the_command_paints_measures_and_says_what_it_could_not(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(network_rooms, "fetch_weights", lambda *_, **__: pytest.fail("downloaded without consent"))
    arguments = ["evaluate", "synthetic", "--limit", "2", "--steps", "1", "--device", "cpu", "--model", str(model)]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 0
    out, error = capsys.readouterr()
    assert "synthetic, paired, 48 x 64: all 2 pairs." in out  # the size is the model's
    assert "LPIPS: its weights aren't on this machine, and nothing is downloaded without consent" in out
    assert "alexnet-owt-7be5be79.pth" in error  # what would have been downloaded
    assert main([*arguments, "--steps", "2", "--output", str(tmp_path / "run")]) == 1
    assert "settings.steps is 1, not 2" in capsys.readouterr().err


def test_a_download_that_was_agreed_to_and_failed_is_a_reason(model, tmp_path, capsys, monkeypatch, listed, results):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def fail(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    arguments = ["evaluate", listed, "--size", "48x64", "--results", results, "--output", tmp_path / "run", "--yes"]
    assert main([*map(str, arguments)]) == 0
    reasons = json.loads((tmp_path / "run" / "report.json").read_text())["unavailable"]
    assert set(reasons) == {"lpips", "fid", "kid_x1000"}
    assert all("no route to host" in reason for reason in reasons.values())
    assert "ssim" in capsys.readouterr().out.lower()


def test_every_metric_that_the_command_offers_can_be_reported():
    assert set(choices.METRICS) == set(HIGHER_IS_BETTER) == set(LABELS) == set(DIGITS)


def test_usage_errors_of_the_command(capsys):
    for arguments, words in (
        ([], "DATA"),
        (["synthetic"], "--output"),
        (["synthetic", "--output", "x", "--results", "y", "--steps", "3"], "painted already"),
        (["synthetic", "--output", "x", "--results", "y", "--quality", "fast"], "painted already"),
        (["synthetic", "--output", "x", "--results", "y", "--dtype", "fp16"], "painted already"),
        (["--compare", "a", "b", "--output", "x"], "--compare"),
        (["--compare", "a", "b", "--limit", "5"], "--compare"),
        (["--compare", "a", "b", "--setting", "unpaired"], "--compare"),
        (["synthetic", "--output", "x", "--metrics", "beauty"], "beauty"),
        (["synthetic", "--output", "x", "--size", "large"], "384x512"),
        (["synthetic", "--output", "x", "--batch-size", "0"], "from 1"),
    ):
        with pytest.raises(SystemExit) as exit_:
            main(["evaluate", *arguments])
        assert exit_.value.code == 2
        assert words in capsys.readouterr().err


def test_what_the_pipeline_refuses_leaves_no_run_behind(model, tmp_path, capsys):
    arguments = ["evaluate", "synthetic", "--limit", "2", "--steps", "1", "--device", "cpu", "--model", str(model)]
    arguments += ["--output", str(tmp_path / "run")]
    assert main([*arguments, "--size", "75x100"]) == 1
    assert "multiple of" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_style_is_of_rendered_figures_only(listed, results, tmp_path, capsys):
    arguments = ["evaluate", listed, "--size", "48x64", "--results", results, "--output", tmp_path / "run"]
    assert main([*map(str, arguments), "--style", "shifted"]) == 1
    assert "rendered figures" in capsys.readouterr().err
