"""The clients of the HTTP service, run as they are against the real one."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.service import SAMPLES, running_service

from stableviton_sdk import TryOnPipeline
from stableviton_sdk.provenance import read_settings
from stableviton_sdk.serving.guard import Access

EXAMPLES = Path(__file__).parents[2] / "examples"
TOKEN = "correct-horse-battery-staple"
PERSON, GARMENT = str(SAMPLES / "person_1.png"), str(SAMPLES / "garment_1.png")


@pytest.fixture(scope="module")
def client():
    pipeline = TryOnPipeline.from_bundled()
    pipeline.set_progress_bar_config(disable=True)
    with running_service(pipeline, access=Access(token=TOKEN)) as made:
        yield made


def run_python(client, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["service_client.py", *arguments, "--url", str(client.base_url)])
    runpy.run_path(str(EXAMPLES / "service_client.py"), run_name="__main__")


def test_the_python_client_brings_a_result_home_and_leaves_nothing_there(client, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setenv("STABLEVITON_TOKEN", TOKEN)
        run_python(client, patch, PERSON, GARMENT, "--seed", "5")
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "result.png"
    assert "step 1 of 1" in printed
    assert read_settings("result.png")["seed"] == 5
    assert sum(client.engine.counts().values()) == 0


def test_the_python_client_repeats_what_the_server_says_against_it(client, monkeypatch):
    Path("text.jpg").write_text("no image")
    with monkeypatch.context() as patch:
        with pytest.raises(SystemExit, match="the token is missing or wrong"):
            run_python(client, patch, PERSON, GARMENT)
        patch.setenv("STABLEVITON_TOKEN", TOKEN)
        with pytest.raises(SystemExit, match="the photo is no image of a known kind"):
            run_python(client, patch, "text.jpg", GARMENT)
        Image.new("RGB", (192, 256), (90, 90, 90)).save("nobody.png")
        with pytest.raises(SystemExit, match="nobody"):
            run_python(client, patch, "nobody.png", GARMENT)


@pytest.mark.skipif(
    shutil.which("curl") is None or shutil.which("jq") is None, reason="curl or jq isn't installed here"
)
def test_the_curl_client_does_the_same(client):
    environment = {**os.environ, "URL": str(client.base_url).rstrip("/"), "TOKEN": TOKEN}
    command = ["bash", str(EXAMPLES / "service.sh"), PERSON, GARMENT]
    done = subprocess.run([*command, "result.png"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["event: done", "result.png"]
    assert read_settings("result.png")["model"] == "bundled"
    assert sum(client.engine.counts().values()) == 0
    refused = subprocess.run(
        [*command, "other.png"], env={**environment, "TOKEN": ""}, capture_output=True, text=True, timeout=60
    )
    assert refused.returncode != 0
    assert not Path("other.png").exists()
