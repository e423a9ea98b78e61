"""`stableviton app`: what it refuses, and the process from its first line to Ctrl-C."""

import argparse
import os
import signal
import socket
import sys

import httpx
import pytest
import torch
from support.command_line import refusal, refuse_to_load, usage_error
from support.service import SAMPLES, images, wait_until

from benchmarks.app_process import running_app
from stableviton_sdk.cli.app import load_pipelines
from stableviton_sdk.cli.entry import main


def app(*options):
    return main(["app", "--port", "0", "--device", "cpu", *map(str, options)])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_it_listens_beyond_this_machine_with_a_token_alone(monkeypatch, capsys, host):
    refuse_to_load(monkeypatch)
    assert "pass --token new as well" in refusal(capsys, app("--host", host))


@pytest.mark.parametrize("token", ["short", "x" * 15, "with spaces in it, which is long", "é" * 20, ""])
def test_a_weak_token_is_refused(monkeypatch, capsys, token):
    refuse_to_load(monkeypatch)
    assert "16 or more ASCII characters" in refusal(capsys, app("--token", token))
    monkeypatch.setenv("STABLEVITON_TOKEN", token)
    assert "16 or more ASCII characters" in refusal(capsys, app())
    monkeypatch.undo()


def test_a_port_that_is_taken_and_a_host_that_there_is_not_are_refused_before_anything_is_loaded(monkeypatch, capsys):
    refuse_to_load(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port} can't be listened on" in refusal(capsys, app("--port", port))
    assert "can't be resolved" in refusal(capsys, app("--host", "no.such.host.invalid"))


@pytest.mark.parametrize(
    "options", [["--port", "70000"], ["--port", "http"], ["--workers", "0"], ["--time-limit", "-1"], ["--rate", "nan"]]
)
def test_unusable_bounds_are_refused(capsys, options):
    assert f"argument {options[0]}" in usage_error(capsys, ["app", *options])


def test_without_its_packages_it_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "stableviton_sdk.serving.server", raising=False)
    monkeypatch.delattr("stableviton_sdk.serving.server", raising=False)
    assert "pip install 'stableviton-sdk[app]'" in refusal(capsys, app())


def test_every_device_gets_a_pipeline_of_its_own_and_its_workers_share_it():
    arguments = argparse.Namespace(model="bundled", checkpoint=None, dtype=None, yes=False)
    first, second = torch.device("cpu"), torch.device("cpu", 0)
    pipelines = load_pipelines(arguments, [first, second, first])
    assert pipelines[0] is pipelines[2] is not pipelines[1]
    assert pipelines[0].unet is not pipelines[1].unet
    sources = SAMPLES / "person_1.png", SAMPLES / "garment_1.png"
    images = [made(*sources, generator=torch.Generator().manual_seed(0)).images[0] for made in pipelines[:2]]
    assert images[0].tobytes() == images[1].tobytes()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there")
def test_the_process_serves_with_its_token_and_ends_well_on_ctrl_c(tmp_path):
    with running_app(tmp_path, "--token", "new", "--workers", "2") as process:
        assert len(process.token) == 43
        with httpx.Client(base_url=process.url, trust_env=False) as client:
            assert client.get("/v1/info").json()["has_token"] is True
            assert client.post("/v1/try-on", files=images()).status_code == 401
            client.headers.update(process.headers)
            job = client.post("/v1/try-on", files=images(), data={"steps": "100"}).json()["id"]
            wait_until(lambda: client.get(f"/v1/jobs/{job}").json()["step"] >= 1)
        process.process.send_signal(signal.SIGINT)
        assert process.process.wait(60) == 0
        assert process.log == "stableviton: stopped; nothing is left of what was uploaded"
        assert [path for path in process.left_behind() if not path.endswith(".ses")] == []  # onnxruntime's own


def test_help_is_there_at_once_and_names_the_bounds(capsys):
    with pytest.raises(SystemExit):
        main(["app", "--help"])
    text = capsys.readouterr().out
    for option in ("--host", "--port", "--token", "--workers", "--max-queue", "--model", "--open"):
        assert option in text
    assert os.linesep in text
