import subprocess
import sys
import tomllib
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import pytest

import stableviton_sdk

ROOT = Path(__file__).parents[1]


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_importing_the_package_imports_no_heavy_library():
    heavy = "{'torch', 'diffusers', 'transformers', 'numpy', 'PIL', 'cv2', 'onnxruntime', 'controlnet_aux'}"
    assert run(f"import sys, stableviton_sdk; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_public_names_load_on_first_use_and_are_listed():
    for name in stableviton_sdk.__all__:
        assert getattr(stableviton_sdk, name) is not None
        assert name in dir(stableviton_sdk)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = stableviton_sdk.no_such_name


def test_module_paths_that_saved_pipelines_name_stay_where_they_are():
    for module, name in (
        ("stableviton_sdk.models.unet", "TryOnUNet"),
        ("stableviton_sdk.models.spatial_encoder", "SpatialEncoder"),
        ("stableviton_sdk.models.garment_encoder", "GarmentEncoder"),
        ("stableviton_sdk.pipelines.pipeline_tryon", "TryOnPipeline"),
    ):
        assert getattr(import_module(module), name).__module__ == module


def test_imports_go_one_way():
    order = ["errors", "images", "hub_errors", "hub_layout", "hub_repos", "hub", "hub_downloads"]
    order += ["preprocessing", "models", "conversion", "pipelines", "data", "training", "evaluation"]
    order += ["commands", "cli"]
    allowed = {name: set(order[: order.index(name) + 1]) for name in order} | {"images": {"errors", "images"}}
    allowed["models"] -= {"preprocessing"}
    package = ROOT / "stableviton_sdk"
    for path in package.rglob("*.py"):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if room not in allowed:
            continue
        depth = len(path.relative_to(package).parts)
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if words[:1] != ["from"] or not words[1].startswith("." * depth) or words[1].startswith("." * (depth + 1)):
                continue
            target = words[1][depth:].split(".")[0] or words[3]
            assert target.startswith("_") or target in allowed[room], f"{path}: {line}"


def test_dependencies_have_lower_bounds_and_next_major_caps():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    groups = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    requirements = [line for group in groups for line in group.split("\n") if line]
    assert len(requirements) > 10
    assert all(">=" in requirement and "<" in requirement for requirement in requirements)
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["build-backend"]
