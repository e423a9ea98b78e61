"""Adapters on a pipeline: trained, loaded, weighed, merged, removed and saved; and what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from support.loading_places import assert_same, state
from support.sentences import sentence
from support.tiny import call_arguments, close, tiny_pipeline
from support.tiny_training import config_of, run
from support.tiny_training import tiny_components as training_components

from stableviton_sdk import IncompatibleCheckpoint, InvalidInput, TryOnPipeline, WeightsUnavailable
from stableviton_sdk.errors import MissingDependency

NETWORKS = ("unet", "spatial_encoder")
FILE = "pytorch_lora_weights.safetensors"
SIZE = {"height": 32, "width": 24}


def quiet(pipeline: TryOnPipeline) -> TryOnPipeline:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def image(pipeline: TryOnPipeline, **changes) -> torch.Tensor:
    return pipeline(**call_arguments(**changes)).images


def adapted_pipeline(name: str = "mine", networks: tuple[str, ...] = NETWORKS) -> TryOnPipeline:
    """A pipeline with random adapters in place."""
    pipeline = tiny_pipeline()
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"], init_lora_weights=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for network in networks:
            getattr(pipeline, network).add_adapter(config, name)
    return pipeline


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """The folder of a training of two steps, and the pipeline that it began with."""
    place = tmp_path_factory.mktemp("trained")
    TryOnPipeline(**training_components()).save_pretrained(place / "base")
    run(config_of(place / "run", trainable="lora", lora_rank=2, steps=2, learning_rate=0.1, ema_decay=None))
    return place / "run", place / "base"


FRESH = """
import sys, torch
from pathlib import Path
from stableviton_sdk import TryOnPipeline
from support.tiny import call_arguments
run, base, target = map(Path, sys.argv[1:])
pipeline = TryOnPipeline.from_pretrained(base)
pipeline.load_lora_weights(run)
torch.save(pipeline(**call_arguments(height=32, width=24)).images, target)
"""


@pytest.mark.slow
def test_adapters_that_a_training_wrote_give_its_image_in_a_fresh_process(trained, tmp_path):
    folder, base = trained
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}
    command = [sys.executable, "-c", FRESH, str(folder), str(base), str(tmp_path / "image.pt")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    loaded = torch.load(tmp_path / "image.pt", weights_only=True)
    plain = image(quiet(TryOnPipeline.from_pretrained(base)), **SIZE)
    merged = image(quiet(TryOnPipeline.from_pretrained(folder / "pipeline")), **SIZE)
    assert not close(loaded, plain, 1e-3)
    assert close(loaded, merged, 1e-4)


def test_a_training_loads_by_its_folder_or_adapters_or_one_networks_own(trained):
    folder, base = trained
    whole = TryOnPipeline.lora_state_dict(folder)
    assert {key.split(".")[0] for key in whole} == set(NETWORKS)
    assert TryOnPipeline.lora_state_dict(folder / "adapters").keys() == whole.keys()
    one = TryOnPipeline.lora_state_dict(folder / "adapters" / "SpatialEncoder")
    assert set(one) == {key for key in whole if key.startswith("spatial_encoder.")}
    file = next((folder / "adapters" / "TryOnUNet").iterdir())
    assert set(TryOnPipeline.lora_state_dict(file)) == whole.keys() - one.keys()
    pipeline = TryOnPipeline.from_pretrained(base)
    pipeline.load_lora_weights(folder / "adapters" / "SpatialEncoder")
    assert pipeline.get_list_adapters() == {"spatial_encoder": ["default_0"]}


def test_saved_and_loaded_adapters_give_the_same_image_and_unloaded_none(tmp_path):
    pipeline = adapted_pipeline()
    expected = image(pipeline)
    pipeline.save_lora_weights(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    other = tiny_pipeline()
    before = image(other)
    assert not close(expected, before, 1e-3)
    for source in (tmp_path, tmp_path / FILE, str(tmp_path), load_file(tmp_path / FILE)):
        other.load_lora_weights(source, adapter_name="mine")
        if not isinstance(source, dict):  # a state dict alone doesn't tell the adapters' scale
            assert torch.equal(image(other), expected)
        other.unload_lora_weights()
        assert torch.equal(image(other), before)


def test_adapters_come_from_the_hub(hub, tmp_path):
    pipeline = adapted_pipeline()
    pipeline.save_lora_weights(tmp_path / "saved")
    hub.commit("me/lora", {FILE: (tmp_path / "saved" / FILE).read_bytes()})
    other = tiny_pipeline()
    other.load_lora_weights("me/lora")
    assert torch.equal(image(other), image(pipeline))
    with pytest.raises(WeightsUnavailable, match="no such file"):
        tiny_pipeline().load_lora_weights("me/lora", weight_name="other.safetensors")


@pytest.mark.slow
def test_fused_and_unfused_adapters_give_the_same_image():
    pipeline = adapted_pipeline()
    expected = image(pipeline)
    pipeline.fuse_lora()
    assert pipeline.num_fused_loras == 1
    assert close(image(pipeline), expected, 1e-4)
    pipeline.unfuse_lora()
    assert close(image(pipeline), expected, 1e-4)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    assert pipeline.num_fused_loras == 0
    assert close(image(pipeline), expected, 1e-4)


def test_adapters_that_were_fused_with_a_scale_are_unfused_to_what_they_were():
    pipeline = adapted_pipeline()
    whole = image(pipeline)
    pipeline.set_adapters("mine", 0.5)
    half = image(pipeline)
    pipeline.set_adapters("mine", 1.0)
    pipeline.fuse_lora(lora_scale=0.5)
    assert close(image(pipeline), half, 1e-4)
    with pytest.raises(InvalidInput, match="fused already: call unfuse_lora"):
        pipeline.fuse_lora(lora_scale=0.5)
    pipeline.fuse_lora()  # nothing is added twice
    assert close(image(pipeline), half, 1e-4)
    pipeline.unfuse_lora()
    assert close(image(pipeline), whole, 1e-4)
    pipeline.fuse_lora()
    pipeline.set_adapters("mine", 0.5)  # for later: what is fused stays
    pipeline.unfuse_lora()
    assert close(image(pipeline), half, 1e-4)
    pipeline.unload_lora_weights()
    assert close(image(pipeline), image(tiny_pipeline()), 1e-4)


def test_one_network_is_fused_by_its_name_and_others_are_refused():
    pipeline = adapted_pipeline()
    expected = image(pipeline)
    pipeline.fuse_lora("unet")
    assert close(image(pipeline), expected, 1e-4)
    pipeline.unfuse_lora(["unet"])
    for components in ("vae", [], ["unet", "vae"]):
        with pytest.raises(InvalidInput, match=r"components is .*: pass some of 'unet', 'spatial_encoder'"):
            pipeline.fuse_lora(components)


def test_a_pickle_is_written_only_of_adapters_whose_scale_it_can_hold(tmp_path):
    with pytest.raises(InvalidInput) as error:
        adapted_pipeline().save_lora_weights(tmp_path, safe_serialization=False)
    assert "a pickle can't hold the scale of these adapters" in sentence(error)
    pipeline = tiny_pipeline()
    pipeline.unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q"], init_lora_weights=False))
    pipeline.save_lora_weights(tmp_path, safe_serialization=False)
    other = tiny_pipeline()
    other.load_lora_weights(tmp_path / "pytorch_lora_weights.bin")
    assert torch.equal(image(other), image(pipeline))


@pytest.mark.slow
def test_several_adapters_are_weighed_and_chosen(tmp_path):
    both, unet_only = adapted_pipeline(), adapted_pipeline("other", networks=("unet",))
    both.save_lora_weights(tmp_path / "both")
    unet_only.save_lora_weights(tmp_path / "unet")
    pipeline = tiny_pipeline()
    plain = image(pipeline)
    pipeline.load_lora_weights(tmp_path / "both")
    pipeline.load_lora_weights(tmp_path / "unet")
    assert pipeline.get_list_adapters() == {"unet": ["default_0", "default_1"], "spatial_encoder": ["default_0"]}
    pipeline.set_adapters("default_1")
    assert close(image(pipeline), image(unet_only))
    pipeline.set_adapters(["default_0", "default_1"], [1.0, 0.0])
    assert close(image(pipeline), image(both))
    pipeline.set_adapters(["default_0", "default_1"], [0.0, 0.0])
    assert close(image(pipeline), plain)
    with pytest.raises(InvalidInput) as error:
        pipeline.save_lora_weights(tmp_path / "again")
    assert "several adapters (default_0, default_1): pass adapter_name=" in sentence(error)
    pipeline.save_lora_weights(tmp_path / "again", adapter_name="default_1")
    assert load_file(tmp_path / "again" / FILE).keys() == load_file(tmp_path / "unet" / FILE).keys()


@pytest.mark.parametrize("how", ["active", "disabled", "fused", "on the vae"])
def test_a_pipeline_with_adapters_in_place_is_not_saved_and_merged_it_is(tmp_path, how):
    pipeline = tiny_pipeline() if how == "on the vae" else adapted_pipeline()
    if how == "on the vae":
        pipeline.vae.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    elif how == "disabled":
        pipeline.disable_lora()
    elif how == "fused":
        pipeline.fuse_lora()
    with pytest.raises(InvalidInput) as error:
        pipeline.save_pretrained(tmp_path / "saved")
    assert "can't be saved with adapters in place" in sentence(error)
    assert not (tmp_path / "saved").exists()
    if how == "fused":
        expected = image(pipeline)
        pipeline.unload_lora_weights()
        pipeline.save_pretrained(tmp_path / "saved")
        assert close(image(quiet(TryOnPipeline.from_pretrained(tmp_path / "saved"))), expected, 1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_with_adapters_in_place_is_not_saved_alone_either(tmp_path, name):
    network = getattr(adapted_pipeline(), name)
    with pytest.raises(InvalidInput) as error:
        network.save_pretrained(tmp_path / "saved")
    assert f"{type(network).__name__} can't be saved with adapters in place" in sentence(error)
    assert not (tmp_path / "saved").exists()


def harmed(change) -> dict[str, torch.Tensor]:
    pipeline = adapted_pipeline()
    layers = {
        f"{name}.{key}": value
        for name in NETWORKS
        for key, value in get_peft_model_state_dict(getattr(pipeline, name), adapter_name="mine").items()
    }
    key = next(key for key in layers if ".lora_A." in key)
    change(layers, key)
    return layers


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda layers, key: layers.pop(key), "lack unet.down_blocks"),
        (lambda layers, key: layers.update({key: layers[key][:, 1:]}), "doesn't fit the unet's layer"),
        (lambda layers, key: layers.update({"unet.text.to_q.lora_A.weight": torch.ones(1, 1)}), "has no place"),
        (lambda layers, key: layers.update({"unet.conv_in.alpha": torch.ones(1)}), "has no place"),
        (lambda layers, key: layers.update({"text_encoder.q.lora_A.weight": torch.ones(1, 1)}), "which network"),
        (lambda layers, key: layers.clear(), "no adapters in it"),
    ],
)
def test_adapters_that_do_not_fit_are_refused_and_leave_nothing(change, expected):
    pipeline = tiny_pipeline()
    with pytest.raises(IncompatibleCheckpoint) as error:
        pipeline.load_lora_weights(harmed(change))
    assert expected in sentence(error)
    assert_same(pipeline, tiny_pipeline())
    assert state(pipeline).keys() == state(tiny_pipeline()).keys()


def test_places_without_adapters_are_one_sentence_each(tmp_path):
    pipeline = adapted_pipeline()
    pipeline.save_lora_weights(tmp_path / "saved")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "saved" / FILE).read_bytes()[:100])
    (tmp_path / "cut.bin").write_bytes(b"no pickle")
    (tmp_path / "empty").mkdir()
    (tmp_path / "two").mkdir()
    for name in ("a", "b"):
        save_file({"x": torch.ones(1)}, tmp_path / "two" / f"{name}.safetensors")
    for source, options, kind, expected in (
        (tmp_path / "none", {}, InvalidInput, "is no file, folder or Hub repository"),
        (tmp_path / "empty", {}, InvalidInput, "holds no adapters"),
        (tmp_path / "two", {}, InvalidInput, "several weight files: pass weight_name="),
        (tmp_path / "cut.safetensors", {}, WeightsUnavailable, "can't be read"),
        (tmp_path / "cut.bin", {}, WeightsUnavailable, "can't be read"),
        (tmp_path / "saved", {"adapter_name": "mine"}, InvalidInput, "there is an adapter 'mine' already"),
        (tmp_path / "saved", {"proxies": {}}, InvalidInput, "has no argument 'proxies'"),
        (tmp_path / "saved", {"adapter_name": "a.b"}, InvalidInput, "adapter_name is 'a.b': pass a name without dots"),
        (tmp_path / "saved", {"adapter_name": ""}, InvalidInput, "adapter_name is ''"),
        (None, {}, InvalidInput, "NoneType is no place to load adapters from"),
    ):
        with pytest.raises(kind) as error:
            pipeline.load_lora_weights(source, **options)
        assert expected in sentence(error)
    with pytest.raises(InvalidInput, match="no adapter in place to save"):
        tiny_pipeline().save_lora_weights(tmp_path)


def test_without_peft_its_extra_is_named(monkeypatch, tmp_path):
    pipeline = tiny_pipeline()
    monkeypatch.setitem(sys.modules, "peft", None)
    for call in (pipeline.load_lora_weights, pipeline.save_lora_weights):
        with pytest.raises(MissingDependency, match=r"pip install 'stableviton-sdk\[lora\]'"):
            call(tmp_path)
