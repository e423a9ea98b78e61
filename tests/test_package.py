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
    # a process of its own: import-linter configures logging anew, which silences the loggers of everything imported
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dependencies_have_lower_bounds_and_next_major_caps():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    groups = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    requirements = [line for group in groups for line in group.split("\n") if line]
    assert len(requirements) > 10
    assert all(">=" in requirement and "<" in requirement for requirement in requirements)
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["build-backend"]
