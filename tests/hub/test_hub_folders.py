"""Whole folders from a Hub on loopback: which of their files come, and which must."""

import shutil
from pathlib import Path

import pytest
from support.hub_contents import LARGE
from support.sentences import sentence

from stableviton_sdk.errors import TryOnError, WeightsUnavailable
from stableviton_sdk.hub import download as sdk_hub
from stableviton_sdk.hub.download import fetch_folder, select_files

INDEX = (
    b'{"_class_name": "TryOnPipeline", "unet": ["stableviton_sdk.models.unet", "TryOnUNet"], "extra": [null, null]}'
)
FOLDER = {
    "model_index.json": INDEX,
    "README.md": b"card",
    "evil.py": b"raise SystemExit",
    "unet/config.json": b"{}",
    "unet/unet.py": b"raise SystemExit",
    "unet/diffusion_pytorch_model.safetensors": LARGE,
    "unet/diffusion_pytorch_model.fp16.safetensors": LARGE[::2],
    "unet/diffusion_pytorch_model.bin": LARGE,
    "unet/onnx/model.safetensors": LARGE,
}


@pytest.fixture
def folder(hub):
    hub.commit("me/mine", FOLDER)
    return hub


def names_in(path: Path) -> set[str]:
    return {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}


def test_a_folder_comes_with_configurations_and_one_variant_of_the_weights_and_never_with_code(folder):
    path = fetch_folder("me/mine")
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert names_in(path) == {"model_index.json", "README.md", "unet/config.json", weights}
    assert (path / weights).read_bytes() == LARGE
    assert not [name for _, name in folder.take_requests() if name.endswith((".py", ".bin"))]
    assert names_in(fetch_folder("me/mine", variant="fp16")) == names_in(path)
    assert (path / "unet/diffusion_pytorch_model.fp16.safetensors").read_bytes() == LARGE[::2]


def test_a_cached_folder_costs_two_requests_and_none_offline(folder):
    path = fetch_folder("me/mine")
    folder.take_requests()
    assert fetch_folder("me/mine") == path
    assert folder.take_requests() == [
        ("GET", "/api/models/me/mine"),
        ("HEAD", "/me/mine/resolve/main/model_index.json"),
    ]
    assert fetch_folder("me/mine", local_files_only=True) == path
    assert folder.take_requests() == []
    folder.stop()
    assert fetch_folder("me/mine") == path


def test_a_folder_that_was_downloaded_in_part_is_not_taken_for_whole(folder, no_waiting):
    old = fetch_folder("me/mine")
    folder.commit("me/mine", {"unet/diffusion_pytorch_model.safetensors": LARGE[::-1], "README.md": b"new"})
    folder.fail("/cdn/", "break")
    with pytest.raises(WeightsUnavailable, match="the connection broke off"):
        fetch_folder("me/mine")
    assert fetch_folder("me/mine", local_files_only=True) == old, "offline the last whole one serves"
    commit = folder.repositories["me/mine"].branches["main"]
    with pytest.raises(WeightsUnavailable) as error:
        fetch_folder("me/mine", local_files_only=True, revision=commit, require_complete=True)
    assert "only in part in the cache (unet's weights" in sentence(error)
    folder.heal()
    new = fetch_folder("me/mine")
    assert (new / "unet/diffusion_pytorch_model.safetensors").read_bytes() == LARGE[::-1]
    assert fetch_folder("me/mine", local_files_only=True) == new


def test_damaged_weights_in_a_folder_are_deleted(folder):
    folder.fail("/cdn/", "corrupt")
    with pytest.raises(WeightsUnavailable) as error:
        fetch_folder("me/mine")
    assert "unet/diffusion_pytorch_model.safetensors of me/mine arrived damaged" in sentence(error)
    folder.heal()
    assert (fetch_folder("me/mine") / "unet/diffusion_pytorch_model.safetensors").read_bytes() == LARGE


def test_a_folders_whole_size_must_fit_on_the_disk(folder, monkeypatch):
    folder.commit("me/mine", {"unet/more-00001-of-00001.safetensors": LARGE[1:]})
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(sdk_hub.shutil, "disk_usage", lambda path: usage._replace(free=int(len(LARGE) * 1.5)))
    with pytest.raises(WeightsUnavailable) as error:
        fetch_folder("me/mine")
    assert "the repository me/mine needs" in sentence(error)
    assert not [name for _, name in folder.take_requests() if "/cdn/" in name]


@pytest.mark.parametrize(
    "change, options, expected",
    [
        ({"remove": ("model_index.json",)}, {}, "holds no model_index.json"),
        ({"files": {"model_index.json": b"{"}}, {}, "can't be read"),
        ({"files": {"model_index.json": b"[]"}}, {}, "describes no pipeline"),
        ({}, {"variant": "bf16"}, "no weights of the variant 'bf16'"),
        ({"remove": ("unet/diffusion_pytorch_model.safetensors",)}, {}, "as variant 'fp16' only: pass variant="),
        (
            {
                "remove": (
                    "unet/diffusion_pytorch_model.safetensors",
                    "unet/diffusion_pytorch_model.fp16.safetensors",
                )
            },
            {},
            "lacks unet's safetensors weights; it has pickled ones",
        ),
        ({"files": {"model_index.json": INDEX.replace(b"unet", b"vae")}}, {}, "lacks vae's files"),
        ({}, {"revision": "v9"}, "no such revision"),
    ],
)
def test_a_repository_that_is_no_whole_pipeline_is_refused_before_its_weights_are_downloaded(
    folder, change, options, expected
):
    folder.commit("me/mine", change.get("files", {}), remove=change.get("remove", ()))
    with pytest.raises(TryOnError) as error:
        fetch_folder("me/mine", require_complete=True, **options)
    assert expected in sentence(error)
    assert not [name for _, name in folder.take_requests() if "/cdn/" in name]


def test_a_pipeline_of_another_kind_may_lack_what_we_would_not_read(folder):
    folder.commit("me/mine", {}, remove=tuple(name for name in FOLDER if name.endswith(".safetensors")))
    assert names_in(fetch_folder("me/mine")) == {"model_index.json", "README.md", "unet/config.json"}
    assert fetch_folder("me/mine", local_files_only=True).is_dir()


@pytest.mark.parametrize("access, expected", [("private", "or it is private"), ("gated", "accept its terms")])
def test_closed_folders_need_the_right_token(folder, access, expected):
    folder.repositories["me/mine"].access = access
    with pytest.raises(WeightsUnavailable) as error:
        fetch_folder("me/mine")
    assert expected in sentence(error)
    path = fetch_folder("me/mine", token="hf_right")
    folder.take_requests()
    assert fetch_folder("me/mine") == path


def test_shards_and_variants_are_told_apart():
    shards = [f"unet/diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    half = [f"unet/diffusion_pytorch_model.fp16-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = "unet/diffusion_pytorch_model.safetensors.index.json"
    half_index = "unet/diffusion_pytorch_model.safetensors.index.fp16.json"
    both = ["model_index.json", "vae/diffusion_pytorch_model.safetensors", "preprocessor/parsing.onnx"]
    never = ["unet/unet.py", "pytorch_model.bin", "unet/model.onnx", "preprocessor/pose.pth"]
    files = [*both, *never, *shards, *half, index, half_index]
    assert sorted(select_files(files, None)) == sorted([*both, *shards, index])
    assert sorted(select_files(files, "fp16")) == sorted([*both, *half, half_index])


def test_names_that_lead_out_of_the_folder_are_not_fetched():
    safe = ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"]
    bad = [
        "../a.json",
        "/a.json",
        "unet/../b.json",
        "..",
        "unet/.hidden.json",
        "a/b/c.json",
        "C:\\a.json",
        "../a.safetensors",
    ]
    assert sorted(select_files(safe + bad, None)) == sorted(safe)
