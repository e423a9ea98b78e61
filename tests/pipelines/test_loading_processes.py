"""Loading by several processes, which find the Hub by HF_ENDPOINT, and by one that is killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.loading_places import AUTHORS, converted_folders, leftovers
from support.loading_process import fingerprint
from support.paths import ROOT, TESTS
from support.stand_in_hub import StandInHub
from support.stand_ins import ARCHITECTURE

from stableviton_sdk import TryOnPipeline

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(content, converted, tmp_path_factory) -> Path:
    """What three processes left: see `loading_process.py`."""
    place = tmp_path_factory.mktemp("processes")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
    with StandInHub() as hub:
        hub.commit(AUTHORS, {"ckpts/VITONHD.ckpt": content})
        hub.commit_folder("me/mine", converted)
        environment = {
            **kept,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(place / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS)]),
        }
        command = [sys.executable, str(TESTS / "support" / "loading_process.py"), str(place)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    return place


def test_two_processes_at_once_load_both_layouts_and_convert_once(place, converted):
    expected = fingerprint(TryOnPipeline.from_pretrained(converted))
    results = [json.loads((place / f"{number}.json").read_text()) for number in range(2)]
    assert [result["weights"] for result in results] == [[expected, expected]] * 2
    assert sum(len(result["conversions"]) for result in results) == 1
    assert len(converted_folders(place / "home")) == 1
    assert (place / "home" / "hub" / "models--me--mine").is_dir()


def test_a_killed_conversion_leaves_nothing_that_looks_finished_and_is_cleared_away_the_next_time(place, authors):
    cache = place / "killed"
    assert len(leftovers(cache)) == 1
    assert converted_folders(cache) == []
    folder = TryOnPipeline.download(AUTHORS, architecture=ARCHITECTURE, cache_dir=cache)
    assert leftovers(cache) == []
    assert [str(path) for path in converted_folders(cache)] == [folder]
