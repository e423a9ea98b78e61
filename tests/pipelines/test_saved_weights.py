"""The formats and variants of saved weights, and folders whose weights lack or have more than they should."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.loading_places import assert_same
from support.sentences import sentence

from stableviton_sdk import IncompatibleCheckpoint, InvalidInput, TryOnPipeline, WeightsUnavailable
from stableviton_sdk.models.garment_encoder import GarmentEncoder
from stableviton_sdk.models.spatial_encoder import SpatialEncoder
from stableviton_sdk.models.unet import TryOnUNet

NETWORKS = ("vae", "garment_encoder", "spatial_encoder", "unet")
WEIGHTS = "diffusion_pytorch_model.safetensors"
NAME = "decoder.conv_in.bias"


@pytest.fixture
def folder(tiny_folder, tmp_path) -> Path:
    """A saved pipeline that may be harmed."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.fixture(scope="session")
def saved(tiny_folder) -> TryOnPipeline:
    return TryOnPipeline.from_pretrained(tiny_folder)


def change(path: Path, edit) -> None:
    """Rewrite a weights file with a changed state dict."""
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


# Formats and variants


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("shards", [None, "100kB"])
@pytest.mark.parametrize("safe", [True, False])
def test_what_is_saved_in_either_format_loads_again(saved, tmp_path, safe, variant, shards, caplog):
    saved.save_pretrained(tmp_path, safe_serialization=safe, variant=variant, max_shard_size=shards)
    ending = ".safetensors" if safe else ".bin"
    files = list((tmp_path / "unet").glob(f"*{ending}"))
    assert len(files) > 1 if shards else len(files) == 1
    assert_same(TryOnPipeline.from_pretrained(tmp_path, variant=variant), saved)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_safetensors_win_over_pickles_beside_them(saved, tmp_path):
    saved.save_pretrained(tmp_path)
    for name in NETWORKS:
        (tmp_path / name / "diffusion_pytorch_model.bin").write_bytes(b"never read")
    assert_same(TryOnPipeline.from_pretrained(tmp_path), saved)
    with pytest.raises(WeightsUnavailable, match=r"diffusion_pytorch_model\.bin can't be read"):
        TryOnPipeline.from_pretrained(tmp_path, use_safetensors=False)


def test_one_network_may_be_pickled_and_the_others_not(saved, folder):
    path = folder / "vae" / WEIGHTS
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    assert_same(TryOnPipeline.from_pretrained(folder), saved)
    with pytest.raises(WeightsUnavailable, match="lacks vae's safetensors weights; it has pickled ones"):
        TryOnPipeline.from_pretrained(folder, use_safetensors=True)


class Hostile:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_tries_to_run_code_runs_nothing(folder, tmp_path, zipped):
    path = folder / "vae" / "diffusion_pytorch_model.bin"
    (folder / "vae" / WEIGHTS).unlink()
    if zipped:
        torch.save({"weight": Hostile(tmp_path / "ran")}, path)
    else:
        path.write_bytes(pickle.dumps({"weight": Hostile(tmp_path / "ran")}))
    with pytest.raises(WeightsUnavailable) as error:
        TryOnPipeline.from_pretrained(folder)
    assert "vae/diffusion_pytorch_model.bin can't be read" in sentence(error)
    assert not (tmp_path / "ran").exists()


def test_pickles_come_from_the_hub_only_when_asked_for(hub, saved, tmp_path):
    saved.save_pretrained(tmp_path / "saved", safe_serialization=False, max_shard_size="100kB")
    hub.commit_folder("me/mine", tmp_path / "saved")
    with pytest.raises(WeightsUnavailable, match="pickled ones, which use_safetensors=False would load"):
        TryOnPipeline.from_pretrained("me/mine")
    assert not [path for _, path in hub.take_requests() if path.endswith(".bin")]
    assert_same(TryOnPipeline.from_pretrained("me/mine", use_safetensors=False), saved)
    with pytest.raises(WeightsUnavailable):  # what the cache holds now doesn't change that
        TryOnPipeline.from_pretrained("me/mine", local_files_only=True)


@pytest.mark.parametrize("place", ["folder", "hub"])
def test_a_wrong_or_missing_variant_is_one_sentence(hub, saved, tmp_path, place):
    saved.save_pretrained(tmp_path / "plain")
    saved.save_pretrained(tmp_path / "half", variant="fp16")
    names = {name: str(tmp_path / name) for name in ("plain", "half")}
    if place == "hub":
        for name in names:
            hub.commit_folder(f"me/{name}", tmp_path / name)
            names[name] = f"me/{name}"
    with pytest.raises(InvalidInput) as error:
        TryOnPipeline.from_pretrained(names["plain"], variant="bf16")
    assert "the `variant=bf16`" in sentence(error)
    with pytest.raises(InvalidInput) as error:
        TryOnPipeline.from_pretrained(names["half"])
    assert "as variant 'fp16' only: pass variant=" in sentence(error)
    assert_same(TryOnPipeline.from_pretrained(names["half"], variant="fp16"), saved)


def test_every_network_takes_its_own_type_of_a_dictionary(saved, tmp_path):
    saved.save_pretrained(tmp_path, safe_serialization=False)
    dtypes = {"vae": torch.bfloat16, "garment_encoder": "fp32", "default": torch.float16}
    loaded = TryOnPipeline.from_pretrained(tmp_path, dtype=dtypes)
    assert [getattr(loaded, name).dtype for name in NETWORKS] == [
        torch.bfloat16,
        torch.float32,
        torch.float16,
        torch.float16,
    ]


# Incomplete weights


@pytest.mark.parametrize("component", NETWORKS)
@pytest.mark.parametrize(
    "harm, expected", [("missing", "lacks 1 tensor"), ("surplus", "1 tensor(s) too many"), ("reshaped", "of shape")]
)
def test_a_tensor_that_is_missing_or_surplus_or_reshaped_is_named(folder, component, harm, expected):
    path = folder / component / WEIGHTS
    name = sorted(load_file(path))[3]

    def edit(tensors):
        if harm == "missing":
            del tensors[name]
        elif harm == "surplus":
            tensors[f"{name}_more"] = tensors[name].clone()
        else:
            tensors[name] = tensors[name][None].contiguous()

    change(path, edit)
    for options in ({}, {"low_cpu_mem_usage": False}, {"device_map": "cpu"}):
        with pytest.raises(IncompatibleCheckpoint) as error:
            TryOnPipeline.from_pretrained(folder, **options)
        assert f"{folder}'s {component} " in sentence(error)
        assert expected in str(error.value)
        assert f"'{name}" in str(error.value)


@pytest.mark.parametrize("cls", [GarmentEncoder, SpatialEncoder, TryOnUNet])
@pytest.mark.parametrize("memory", [True, False])
def test_a_network_loaded_by_itself_is_refused_as_well(saved, tmp_path, cls, memory):
    network = next(part for part in saved.components.values() if isinstance(part, cls))
    network.save_pretrained(tmp_path)
    loaded, info = cls.from_pretrained(tmp_path, low_cpu_mem_usage=memory, output_loading_info=True)
    assert info["missing_keys"] == []
    assert loaded.state_dict().keys() == network.state_dict().keys()
    name = sorted(network.state_dict())[3]
    for edit, expected in (
        (lambda tensors: tensors.pop(name), f"{cls.__name__} lacks 1 tensor(s), the first is '{name}'"),
        (lambda tensors: tensors.update(more=torch.ones(1)), "1 tensor(s) too many, the first is 'more'"),
        (lambda tensors: tensors.update({name: torch.ones(7, 7)}), f"{cls.__name__} has a tensor of another shape"),
    ):
        network.save_pretrained(tmp_path)
        change(tmp_path / WEIGHTS, edit)
        with pytest.raises(IncompatibleCheckpoint) as error:
            cls.from_pretrained(tmp_path, low_cpu_mem_usage=memory)
        assert expected in sentence(error)


@pytest.mark.parametrize("safe", [True, False])
def test_a_tensor_that_its_shard_lacks_is_named(saved, tmp_path, safe):
    saved.save_pretrained(tmp_path, safe_serialization=safe, max_shard_size="100kB")
    shard = sorted((tmp_path / "unet").glob("*-of-*"))[0]
    tensors = load_file(shard) if safe else torch.load(shard, weights_only=True)
    name = sorted(tensors)[0]
    del tensors[name]
    save_file(tensors, shard, metadata={"format": "pt"}) if safe else torch.save(tensors, shard)
    with pytest.raises(IncompatibleCheckpoint, match=f"unet lacks 1 tensor.*'{name}'"):
        TryOnPipeline.from_pretrained(tmp_path)


def test_an_index_may_name_no_file_elsewhere(saved, tmp_path):
    saved.save_pretrained(tmp_path, max_shard_size="100kB")
    index = next((tmp_path / "unet").glob("*.index.json"))
    content = json.loads(index.read_text())
    content["weight_map"] = {name: f"../vae/{file}" for name, file in content["weight_map"].items()}
    index.write_text(json.dumps(content))
    with pytest.raises(WeightsUnavailable) as error:
        TryOnPipeline.from_pretrained(tmp_path)
    assert "it isn't an index of files beside it" in sentence(error)


@pytest.mark.parametrize("component", NETWORKS)
def test_a_tensor_that_the_index_lacks_is_named_although_its_shard_has_it(saved, tmp_path, component):
    saved.save_pretrained(tmp_path, max_shard_size="20kB")
    index = next((tmp_path / component).glob("*.index.json"))
    content = json.loads(index.read_text())
    name = sorted(content["weight_map"])[0]
    del content["weight_map"][name]
    index.write_text(json.dumps(content))
    with pytest.raises(IncompatibleCheckpoint, match=f"{component} lacks 1 tensor.*'{name}'"):
        TryOnPipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize("dtype, shown", [(torch.int8, "I8"), (torch.bool, "BOOL"), (torch.complex64, "C64")])
def test_a_tensor_of_other_numbers_is_named(folder, dtype, shown):
    change(folder / "vae" / WEIGHTS, lambda tensors: tensors.update({NAME: tensors[NAME].to(dtype)}))
    with pytest.raises(IncompatibleCheckpoint) as error:
        TryOnPipeline.from_pretrained(folder)
    assert f"vae has the tensor {NAME!r} in {shown} where floating-point numbers are needed" in sentence(error)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_a_tensor_of_other_floating_point_numbers_loads(folder, dtype):
    change(folder / "vae" / WEIGHTS, lambda tensors: tensors.update({NAME: tensors[NAME].to(dtype)}))
    assert TryOnPipeline.from_pretrained(folder).vae.dtype == torch.float32


@pytest.mark.parametrize("content", [None, "{", "[]", '{"block_out_channels": "x"}'])
@pytest.mark.parametrize("component", ["unet", "vae"])
def test_a_networks_damaged_configuration_is_one_sentence(folder, component, content):
    path = folder / component / "config.json"
    path.write_text(content) if content else path.unlink()
    with pytest.raises((IncompatibleCheckpoint, WeightsUnavailable), match=f"{component}.config") as error:
        TryOnPipeline.from_pretrained(folder)
    sentence(error)


@pytest.mark.parametrize(
    "entry", [["stableviton_sdk.models.unet", "Nope"], ["os", "system"], ["nowhere", "TryOnUNet"], [None, None]]
)
def test_an_index_that_names_no_such_network_is_one_sentence(folder, entry):
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "unet": entry}))
    with pytest.raises(InvalidInput, match="can't be loaded") as error:
        TryOnPipeline.from_pretrained(folder)
    sentence(error)


def test_a_variant_with_a_tensor_missing_is_refused(saved, tmp_path):
    saved.save_pretrained(tmp_path, variant="fp16")
    change(
        tmp_path / "vae" / "diffusion_pytorch_model.fp16.safetensors", lambda tensors: tensors.pop("quant_conv.bias")
    )
    with pytest.raises(IncompatibleCheckpoint, match=r"vae lacks 1 tensor.*'quant_conv\.bias'"):
        TryOnPipeline.from_pretrained(tmp_path, variant="fp16")


def test_a_repository_with_a_tensor_missing_is_refused(hub, folder):
    change(folder / "spatial_encoder" / WEIGHTS, lambda tensors: tensors.pop("conv_in.bias"))
    hub.commit_folder("me/mine", folder)
    with pytest.raises(IncompatibleCheckpoint, match=r"spatial_encoder lacks 1 tensor.*'conv_in\.bias'"):
        TryOnPipeline.from_pretrained("me/mine")


def test_a_component_that_is_passed_along_is_not_checked(saved, folder):
    change(folder / "vae" / WEIGHTS, lambda tensors: tensors.pop("quant_conv.bias"))
    assert TryOnPipeline.from_pretrained(folder, vae=saved.vae).vae is saved.vae


def test_a_vae_with_an_older_diffusers_names_still_loads(saved, folder):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(tensors):
        for name in [name for name in tensors if ".attentions." in name]:
            for new, older in old.items():
                if f".{new}." in name:
                    tensors[name.replace(f".{new}.", f".{older}.")] = tensors.pop(name)

    change(folder / "vae" / WEIGHTS, rename)
    assert_same(TryOnPipeline.from_pretrained(folder), saved)
