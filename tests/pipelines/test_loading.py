"""`TryOnPipeline` from folders, files and a Hub on loopback, in this package's layout."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from support.loading_places import assert_same
from support.sentences import sentence
from support.stand_ins import ARCHITECTURE

from stableviton_sdk import IncompatibleCheckpoint, InvalidInput, TryOnPipeline, WeightsUnavailable

# Files and folders


def test_a_single_file_equals_its_converted_folder_bit_for_bit(released, converted):
    single = TryOnPipeline.from_single_file(released, architecture=ARCHITECTURE)
    assert_same(single, TryOnPipeline.from_pretrained(converted))
    assert not single.unet.training
    assert not single.vae.training


def test_a_single_file_loads_in_half_precision(released, converted):
    for dtype in (torch.float16, "fp16"):
        single = TryOnPipeline.from_single_file(released, dtype=dtype, architecture=ARCHITECTURE)
        assert_same(single, TryOnPipeline.from_pretrained(converted), dtype=torch.float16)


def test_a_single_file_takes_another_scheduler(released, converted):
    from diffusers import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler()
    pipe = TryOnPipeline.from_single_file(released, architecture=ARCHITECTURE, scheduler=scheduler)
    assert pipe.scheduler is scheduler


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("text.ckpt", b"version https://git-lfs.github.com/spec/v1\noid sha256:d4e44bc5\n", "can't be read"),
        ("page.ckpt", b"<html>404</html>", "can't be read"),
        ("empty.ckpt", b"", "can't be read"),
        ("half.ckpt", 2, "can't be read"),
        ("tail.ckpt", 100, "can't be read"),
        ("text.safetensors", b"hello", "no readable safetensors file"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_one_sentence(released, tmp_path, name, content, expected):
    path = tmp_path / name
    whole = released.read_bytes()
    path.write_bytes(whole[: len(whole) // content] if isinstance(content, int) else content)
    with pytest.raises(IncompatibleCheckpoint) as error:
        TryOnPipeline.from_single_file(path, architecture=ARCHITECTURE)
    assert expected in sentence(error)
    assert name in str(error.value)


def test_wrong_arguments_of_a_single_file_are_refused_before_it_is_read(released, tmp_path):
    for options, expected in (
        ({"path": tmp_path / "none.ckpt"}, "there is no checkpoint"),
        ({"path": tmp_path}, "there is no checkpoint"),
        ({"path": released, "dtype": torch.int8}, "dtype is"),
        ({"path": released, "dtype": {"unet": torch.float16}}, "dtype is"),
        ({"path": released, "text_encoder": None}, "no argument 'text_encoder'"),
        ({"path": released, "architecture": {"text_encoder": {}}}, "architecture has an entry"),
    ):
        with pytest.raises(InvalidInput) as error:
            TryOnPipeline.from_single_file(**options)
        assert expected in sentence(error)


def test_a_place_that_is_no_pipeline_is_one_sentence_each(released, converted, tmp_path, hub):
    other = tmp_path / "other"
    other.mkdir()
    (other / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "X"]}')
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model_index.json").write_text('{"_class_name": ')
    for place, options, expected in (
        (tmp_path, {}, "holds no model_index.json"),
        (tmp_path / "nowhere", {}, "neither a folder nor a Hub repository"),
        ("./me/mine", {}, "neither a folder nor a Hub repository"),
        ("mine", {}, "neither a folder nor a Hub repository"),
        ("spaces/me/mine", {}, "neither a folder nor a Hub repository"),
        (released, {}, "from_single_file"),
        (None, {}, "NoneType is no place"),
        (other, {}, "holds a StableDiffusionPipeline without vae, garment_encoder, spatial_encoder, scheduler"),
        (broken, {}, "can't be read"),
        (converted, {"checkpoint": "VITONHD"}, "authors' layout"),
        ("me/mine", {"architecture": ARCHITECTURE}, "authors' layout"),
        (converted, {"dtype": "half"}, "dtype is 'half'"),
        ("me/a name", {}, "owner/name"),
    ):
        with pytest.raises(InvalidInput) as error:
            TryOnPipeline.from_pretrained(place, **options)
        assert expected in sentence(error)
    assert [path for _, path in hub.requests if "a name" in path] == []


def test_weights_load_in_one_type_or_in_several(converted):
    whole = TryOnPipeline.from_pretrained(converted)
    assert_same(TryOnPipeline.from_pretrained(converted, dtype="bf16"), whole, dtype=torch.bfloat16)
    mixed = TryOnPipeline.from_pretrained(converted, dtype={"vae": torch.float32, "default": torch.float16})
    assert (mixed.vae.dtype, mixed.unet.dtype, mixed.spatial_encoder.dtype) == (
        torch.float32,
        torch.float16,
        torch.float16,
    )


def test_a_pipeline_survives_saving_in_shards_and_as_a_variant(converted, tmp_path):
    pipe = TryOnPipeline.from_pretrained(converted)
    pipe.save_pretrained(tmp_path, max_shard_size="1MB")
    assert len(list((tmp_path / "unet").glob("*-of-*.safetensors"))) > 1
    assert_same(TryOnPipeline.from_pretrained(tmp_path), pipe)
    pipe.to(torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    assert not list((tmp_path / "half").glob("*/diffusion_pytorch_model.safetensors"))
    half = TryOnPipeline.from_pretrained(tmp_path / "half", variant="fp16", dtype=torch.float16)
    assert_same(half, pipe, dtype=torch.float16)


def test_loading_without_the_memory_saving_path_gives_the_same_weights(converted):
    slow = TryOnPipeline.from_pretrained(converted, low_cpu_mem_usage=False)
    assert_same(slow, TryOnPipeline.from_pretrained(converted, low_cpu_mem_usage=True))


def test_a_saved_folder_carries_the_licence_on_and_keeps_a_card_that_is_there(converted, tmp_path):
    pipe = TryOnPipeline.from_pretrained(converted)
    pipe.save_pretrained(tmp_path)
    assert "for tests only" in (tmp_path / "README.md").read_text()
    assert TryOnPipeline.from_pretrained(tmp_path).config.weights_licence == "for tests only"
    pipe.register_to_config(weights_licence="Apache-2.0")
    pipe.save_pretrained(tmp_path)  # over weights of another licence
    assert "license: apache-2.0" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("my own card")
    pipe.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "my own card"


@pytest.mark.parametrize(
    "harm, kind, expected",
    [
        ("cut short", WeightsUnavailable, "unet/diffusion_pytorch_model.safetensors can't be read"),
        ("missing", WeightsUnavailable, "lacks unet's safetensors or bin weights"),
        ("of a variant", InvalidInput, "holds the weights of unet as variant 'fp16' only: pass variant="),
    ],
)
def test_weights_of_a_folder_that_cannot_be_read_are_one_sentence(converted, tmp_path, harm, kind, expected):
    folder = Path(shutil.copytree(converted, tmp_path / "model"))
    path = next((folder / "unet").glob("*.safetensors"))
    if harm == "cut short":
        path.write_bytes(path.read_bytes()[:1000])
    elif harm == "missing":
        path.unlink()
    else:
        path.rename(path.with_suffix(".fp16.safetensors"))
    with pytest.raises(kind) as caught:
        TryOnPipeline.from_pretrained(folder)
    assert expected in sentence(caught)


# The Hub, in our layout


def test_our_layout_loads_from_the_hub_and_again_without_a_network(hub, converted):
    hub.commit_folder("me/mine", converted, **{"unet/unet.py": b"raise SystemExit", "tryon.py": b"raise SystemExit"})
    local = TryOnPipeline.from_pretrained(converted)
    assert_same(TryOnPipeline.from_pretrained("me/mine"), local)
    assert not [path for _, path in hub.take_requests() if path.endswith(".py")]
    assert_same(
        TryOnPipeline.from_pretrained("me/mine", local_files_only=True, dtype=torch.float16), local, torch.float16
    )
    assert hub.take_requests() == []
    hub.stop()
    assert_same(TryOnPipeline.from_pretrained("me/mine"), local)


def test_a_variant_comes_from_the_hub_alone(hub, converted, tmp_path):
    pipe = TryOnPipeline.from_pretrained(converted, dtype=torch.float16)
    pipe.save_pretrained(tmp_path / "half", variant="fp16", max_shard_size="1MB")
    hub.commit_folder("me/mine", converted)
    hub.commit_folder("me/mine", tmp_path / "half")
    assert_same(TryOnPipeline.from_pretrained("me/mine", variant="fp16", dtype=torch.float16), pipe, torch.float16)
    wanted = [path for _, path in hub.requests if path.endswith(".safetensors")]
    assert wanted
    assert all(".fp16" in path for path in wanted)


def test_a_component_that_is_passed_along_is_not_downloaded(hub, converted):
    hub.commit_folder("me/mine", converted)
    vae = TryOnPipeline.from_pretrained(converted).vae
    assert TryOnPipeline.from_pretrained("me/mine", vae=vae).vae is vae
    assert not [path for _, path in hub.requests if "/vae/" in path]


def test_classes_of_others_are_not_loaded_from_the_hub(hub, converted, tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    (tmp_path / "evil_package.py").write_text(f"open({str(ran)!r}, 'w')\nclass Evil: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    index = json.loads((converted / "model_index.json").read_text())
    index["unet"] = ["evil_package", "Evil"]
    hub.commit_folder("me/mine", converted, **{"model_index.json": json.dumps(index).encode()})
    with pytest.raises(InvalidInput) as error:
        TryOnPipeline.from_pretrained("me/mine")
    assert "evil_package.Evil" in sentence(error)
    assert not ran.exists()
    assert not [path for _, path in hub.requests if "/cdn/" in path]


def test_another_kind_of_pipeline_is_refused_before_its_weights_are_downloaded(hub):
    index = b'{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}'
    weights = {"unet/config.json": b"{}", "unet/diffusion_pytorch_model.safetensors": b"x" * 1000}
    hub.commit("them/sd", {"model_index.json": index, **weights})
    with pytest.raises(InvalidInput) as error:
        TryOnPipeline.from_pretrained("them/sd")
    assert "them/sd holds a StableDiffusionPipeline" in sentence(error)
    assert not [path for _, path in hub.requests if "/cdn/" in path]


def test_a_pipeline_that_was_pushed_loads_back_with_equal_weights_and_its_licence(hub, converted):
    pipe = TryOnPipeline.from_pretrained(converted)
    with pytest.raises(WeightsUnavailable) as error:
        pipe.push_to_hub("me/mine")
    assert "log in" in sentence(error)
    address = pipe.push_to_hub("me/mine", token="hf_right", private=True, max_shard_size="1MB")
    assert address.startswith(f"{hub.url}/me/mine/commit/")
    with pytest.raises(WeightsUnavailable, match="or it is private"):
        TryOnPipeline.from_pretrained("me/mine")
    again = TryOnPipeline.from_pretrained("me/mine", token="hf_right")
    assert_same(again, pipe)
    assert again.config.weights_licence == "for tests only"
    card = hub.read("me/mine", "README.md").decode()
    assert "\nlibrary_name: stableviton_sdk\n" in card
    assert "Licence of the weights: for tests only." in card


def test_a_card_on_the_hub_is_not_overwritten(hub, converted, tmp_path):
    pipe = TryOnPipeline.from_pretrained(converted)
    pipe.push_to_hub("me/mine", "first", token="hf_right")
    hub.commit("me/mine", {"README.md": b"---\n{}\n---\nmy own card"})
    pipe.push_to_hub("me/mine", "second", token="hf_right")
    assert hub.read("me/mine", "README.md").endswith(b"my own card")
    pipe.save_pretrained(tmp_path / "other", push_to_hub=True, repo_id="me/other", token="hf_right")
    assert b"for tests only" in hub.read("me/other", "README.md")
    (tmp_path / "other" / "README.md").write_text("---\n{}\n---\nmy other card")
    pipe.save_pretrained(tmp_path / "other", push_to_hub=True, repo_id="me/other", token="hf_right")
    assert hub.read("me/other", "README.md").endswith(b"my other card")


def test_an_upload_without_rights_or_network_is_one_sentence(hub, converted):
    pipe = TryOnPipeline.from_pretrained(converted)
    hub.commit("them/theirs", {"README.md": b"card"})
    with pytest.raises(WeightsUnavailable) as error:
        pipe.push_to_hub("them/theirs", token="hf_wrong")
    assert "access is denied" in sentence(error)
    hub.stop()
    with pytest.raises(WeightsUnavailable) as error:
        pipe.push_to_hub("me/mine", token="hf_right")
    assert "me/mine can't be uploaded: there is no connection" in sentence(error)
