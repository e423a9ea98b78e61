"""`stableviton doctor`: every trap that it knows, provoked."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from support.command_line import environment
from support.stand_in_hub import served_hub

from stableviton_sdk.cli.entry import main
from stableviton_sdk.diagnostics import diagnose
from stableviton_sdk.diagnostics.machine import check_machine, gpu_advice, memory_advice
from stableviton_sdk.diagnostics.packages import check_packages
from stableviton_sdk.diagnostics.weights import check_weights

SPACE = "rlawjdghek/StableVITON"


def find(findings, name):
    [found] = [finding for finding in findings if finding.name == name]
    return found


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a package's metadata, and perhaps a module, before what is installed."""

    def put(name, version, module=None, source=""):
        folder = tmp_path / "site" / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        if module:
            (tmp_path / "site" / f"{module}.py").write_text(source)
        return tmp_path / "site"

    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return put


def doctor_of(site):
    """The findings of a process of its own, which imports what stands in `site` first."""
    env = environment()
    env["PYTHONPATH"] = f"{site}:{env['PYTHONPATH']}"
    command = [sys.executable, "-m", "stableviton_sdk", "doctor", "--json"]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    content = json.loads(ran.stdout)
    assert ran.returncode == (1 if content["broken"] else 0)
    return [SimpleNamespace(**finding) for finding in content["findings"]]


def test_this_installation_has_nothing_broken():
    assert [finding for finding in diagnose() if finding.status == "broken"] == []


def test_a_version_outside_of_what_was_tested_is_named_with_the_command(install):
    install("controlnet_aux", "0.0.7")
    finding = find(check_packages(), "controlnet_aux")
    assert (finding.status, finding.value.split(",")[0]) == ("broken", "0.0.7")
    assert finding.cure.startswith("pip install --upgrade 'controlnet_aux")
    assert ">=0.0.10" in finding.cure


def test_two_opencvs_over_each_other_are_named(install):
    install("opencv-contrib-python", "4.9.0.80")
    finding = find(check_packages(), "OpenCV")
    assert finding.status == "warning"
    assert "opencv-contrib-python 4.9.0.80" in finding.value
    assert "opencv-python-headless" in finding.value
    assert finding.cure.startswith("pip uninstall -y opencv-python-headless opencv-contrib-python && pip install")


def test_a_mediapipe_without_solutions_is_named(install):
    install("mediapipe", "0.10.31")
    assert find(check_packages(), "mediapipe").cure == "pip uninstall -y mediapipe"


def test_a_missing_package_and_a_missing_extra_are_named(monkeypatch):
    from importlib import metadata

    version = metadata.version

    def without(name):
        if name in ("tqdm", "peft"):
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without)
    findings = check_packages()
    assert find(findings, "tqdm").status == "broken"
    assert find(findings, "tqdm").cure.startswith("pip install --upgrade 'tqdm")
    assert find(findings, "extra [train]").status == "note"
    assert find(findings, "extra [train]").cure == "pip install 'stableviton-sdk[train]'"


@pytest.mark.slow
def test_a_torchvision_of_another_build_is_named(install):
    source = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    site = install("torchvision", "0.29.1", "torchvision", source)
    finding = find(doctor_of(site), "import torchvision")
    assert finding.status == "broken"
    assert "torchvision::nms" in finding.value
    assert finding.cure == "pip install --force-reinstall torch torchvision"


@pytest.mark.slow
def test_a_mediapipe_that_breaks_controlnet_aux_is_named(install):
    finding = find(doctor_of(install("mediapipe", "0.10.31", "mediapipe")), "import controlnet_aux")
    assert finding.status == "broken"
    assert "mediapipe" in finding.value
    assert finding.cure == "pip uninstall mediapipe"


def test_little_memory_warns_and_says_what_fits(monkeypatch):
    memory = SimpleNamespace(total=2 * 10**9, available=10**9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    finding = find(check_machine(can_import_torch=False), "memory")
    assert finding.status == "warning"
    assert "1.0 GB of 2.0 GB" in finding.value
    assert "bundled" in memory_advice(3 * 10**9)
    assert "authors' weights on a CPU" in memory_advice(16 * 10**9)


def test_a_gpu_is_named_with_what_fits_it(monkeypatch):
    properties = SimpleNamespace(name="Small GPU", total_memory=4 * 10**9, major=8, minor=6)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 6))
    value = find(check_machine(), "cuda:0").value
    assert "Small GPU, 4.0 GB" in value
    assert "float16" in value
    assert "sequential_cpu_offload" in value
    assert "model_cpu_offload" in gpu_advice(8e9)
    assert ".to(" in gpu_advice(24e9)


def test_caches_hub_and_weights_are_looked_for_without_a_download(tmp_path, monkeypatch):
    from huggingface_hub import constants, hf_hub_download

    with served_hub(tmp_path / "home") as hub:
        hub.commit(f"spaces/{SPACE}", {"checkpoints/humanparsing/parsing_lip.onnx": b"1"})
        hf_hub_download(SPACE, "checkpoints/humanparsing/parsing_lip.onnx", repo_type="space")
        (tmp_path / "home/stableviton_sdk/converted/model--rlawjdghek--StableVITON/VITONHD-fp16").mkdir(parents=True)
        hub.take_requests()
        findings = check_weights()
        assert [method for method, _ in hub.take_requests()] == ["HEAD"]
        assert find(findings, "Hub").status == "ok"
        assert find(findings, "human_parsing_lip").value == "in the cache"
        assert find(findings, "human_parsing_atr").status == "note"
        assert find(findings, "rlawjdghek/StableVITON VITONHD").value.startswith(
            "converted to fp16; licence: CC BY-NC"
        )
        assert "Apache-2.0" in find(findings, "bundled").value
        hub.stop()
        assert "can't be reached" in find(check_weights(can_import_torch=False), "Hub").value
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert find(check_weights(can_import_torch=False), "Hub").cure == "unset HF_HUB_OFFLINE"


def test_a_full_disk_and_a_cache_that_cannot_be_written_are_named(tmp_path, monkeypatch):
    with served_hub(tmp_path / "home"):
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**9))
        assert "HF_HOME" in find(check_weights(can_import_torch=False), "cache").cure
        monkeypatch.setattr("os.access", lambda *_: False)
        assert find(check_weights(can_import_torch=False), "cache").status == "broken"


def test_a_damaged_bundled_model_is_broken(tmp_path, monkeypatch):
    monkeypatch.setattr("stableviton_sdk.pipelines.loading.BUNDLED", tmp_path)
    assert find(check_weights(), "bundled").status == "broken"


def test_the_command_prints_a_block_to_paste_and_its_status_says_if_something_is_broken(capsys, install):
    install("opencv-python", "4.9.0.80")
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("```\npackages\n")
    assert "!! OpenCV" in printed
    assert str(Path.home()) not in printed
    install("controlnet_aux", "0.0.7")
    assert main(["doctor"]) == 1
    assert "XX controlnet_aux" in capsys.readouterr().out
