"""Where tests load weights from (a checkpoint, its folder, a Hub on loopback), and what they loaded, compared."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from stableviton_sdk import TryOnPipeline
from stableviton_sdk.conversion import convert_checkpoint
from stableviton_sdk.hub.known_repos import KNOWN_REPOS, Checkpoint, KnownRepo
from support.small_stand_in import small_state
from support.stand_in_hub import Content, served_hub
from support.stand_ins import ARCHITECTURE, write_checkpoint

MODELS = ("vae", "garment_encoder", "spatial_encoder", "unet")
AUTHORS, SPACE = "rlawjdghek/StableVITON", "spaces/rlawjdghek/StableVITON"


@pytest.fixture(scope="session")
def released(tmp_path_factory) -> Path:
    """A checkpoint in the released layout."""
    return write_checkpoint(tmp_path_factory.mktemp("released") / "VITONHD.ckpt", small_state())


@pytest.fixture(scope="session")
def converted(released, tmp_path_factory) -> Path:
    """Its folder in this package's layout."""
    folder = tmp_path_factory.mktemp("converted") / "pipeline"
    convert_checkpoint(released, folder, architecture=ARCHITECTURE, licence="for tests only", progress=False)
    return folder


@pytest.fixture
def hub(tmp_path):
    with served_hub(tmp_path / "home") as served:
        yield served


@pytest.fixture(scope="session")
def content(released) -> Content:
    return Content(released.read_bytes())


@pytest.fixture
def authors(hub, content, monkeypatch):
    """The authors' repositories, with the stand-in checkpoint in their places."""
    # the registry's checksums are those of the real files
    for name, repo in list(KNOWN_REPOS.items()):
        files = {key: Checkpoint(entry.filename, entry.size) for key, entry in repo.checkpoints.items()}
        monkeypatch.setitem(KNOWN_REPOS, name, KnownRepo(repo.repo_id, repo.licence, files, repo_type=repo.repo_type))
        hub.commit(name, {entry.filename: content for entry in files.values()})
    return hub


@pytest.fixture(scope="session")
def home_with_weights(content, tmp_path_factory) -> Path:
    """A cache after the first loading of the authors' repository."""
    home = tmp_path_factory.mktemp("loaded") / "home"
    with served_hub(home) as served:
        served.commit(AUTHORS, {"ckpts/VITONHD.ckpt": content})
        TryOnPipeline.download(AUTHORS, architecture=ARCHITECTURE)
    return home


@pytest.fixture
def loaded_authors(authors, home_with_weights, tmp_path):
    """The same, with such a cache (of hard links: nothing in it may be written to in place)."""
    shutil.copytree(home_with_weights, tmp_path / "home", symlinks=True, copy_function=link)
    return authors


def link(source: str, target: str, **_: object) -> None:
    os.link(source, target, follow_symlinks=False)


@pytest.fixture
def warnings(caplog):
    """What is told to the user, line by line."""
    return lambda: [record.getMessage() for record in caplog.records if record.name.startswith("stableviton_sdk")]


def state(pipe: TryOnPipeline) -> dict[str, torch.Tensor]:
    return {f"{name}.{key}": value for name in MODELS for key, value in getattr(pipe, name).state_dict().items()}


def assert_same(pipe: TryOnPipeline, other: TryOnPipeline, dtype: torch.dtype = torch.float32) -> None:
    """Bit for bit the same weights, and the same configurations."""
    ours, theirs = state(pipe), state(other)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        expected = theirs[key].to(dtype) if theirs[key].is_floating_point() else theirs[key]
        assert value.dtype == expected.dtype, key
        assert torch.equal(value, expected), key
    for name in (*MODELS, "scheduler"):
        config, expected = (dict(getattr(entry, name).config) for entry in (pipe, other))
        assert public(config) == public(expected), name


def public(config: dict) -> dict:
    """A configuration without where it came from; read from JSON, tuples are lists."""
    return json.loads(json.dumps({key: value for key, value in config.items() if not key.startswith("_")}))


def converted_folders(home: Path) -> list[Path]:
    return [path.parent for path in home.glob("stableviton_sdk/converted/**/model_index.json")]


def leftovers(home: Path) -> list[Path]:
    return list(home.rglob(".*.partial"))
