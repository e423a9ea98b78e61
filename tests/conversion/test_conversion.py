import json
import os
import pickle
import subprocess
import sys
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.paths import ROOT
from support.sentences import sentence
from support.stand_ins import ARCHITECTURE, FIXTURES, write_checkpoint

from stableviton_sdk.conversion import convert_checkpoint, map_state_dict
from stableviton_sdk.conversion.key_mapping import KeyPlan, plan_keys
from stableviton_sdk.conversion.reading import read_checkpoint
from stableviton_sdk.errors import IncompatibleCheckpoint, InvalidInput, WeightsUnavailable
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline


@pytest.fixture(scope="module")
def released():
    """Every name and shape of the released checkpoint, without its memory."""
    manifest = json.loads((FIXTURES / "manifest_full.json").read_text())
    return {key: torch.empty(shape, device="meta") for key, shape in manifest.items()}


class Evil:
    """Writes a file when it's unpickled the careless way."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class ForeignCallback:
    """Stands for Lightning's and OmegaConf's objects: importable here, unknown where the checkpoint is read."""

    def __init__(self):
        self.state = {"best": 0.5, "nested": [1, 2]}


def test_every_released_key_is_mapped_or_known_to_be_unused(released):
    plan = plan_keys(released)
    assert not plan.foreign
    assert {rename.source for rename in plan.renames} | set(plan.unused) == set(released)
    assert not {rename.source for rename in plan.renames} & set(plan.unused)
    assert len({(rename.component, rename.target) for rename in plan.renames}) == len(plan.renames)


def test_released_parameter_counts_are_the_papers(released):
    mapped = map_state_dict(released)
    millions = {
        component: round(sum(tensor.numel() for tensor in state.values()) / 1e6) for component, state in mapped.items()
    }
    assert millions == {"unet": 1039, "spatial_encoder": 175, "garment_encoder": 367, "vae": 84}
    unused = sum(released[key].numel() for key in plan_keys(released).unused if key.startswith("control_model."))
    assert round(unused / 1e6) == 174  # of the spatial encoder's 349


def test_the_mapping_agrees_with_diffusers_own_converters(stand_in_weights):
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

    mapped = map_state_dict(stand_in_weights)
    own = {key: value for key, value in stand_in_weights.items() if "warp_" not in key}
    unet = convert_ldm_unet_checkpoint(dict(own), {"layers_per_block": 2, "class_embed_type": None})
    ours = {key: value for key, value in mapped["unet"].items() if "zero_cross" not in key}
    assert set(unet) == set(ours)
    assert all(torch.equal(unet[key], ours[key]) for key in ours)
    vae = convert_ldm_vae_checkpoint(dict(own), {"down_block_types": ["x"] * 4, "up_block_types": ["x"] * 4})
    assert set(vae) == set(mapped["vae"])
    assert all(torch.equal(vae[key], mapped["vae"][key]) for key in vae)


def test_the_fused_projection_of_the_mapper_is_split_in_order(stand_in_weights):
    fused = stand_in_weights["cond_stage_model.mapper.resblocks.2.attn.c_qkv.weight"]
    mapped = map_state_dict(stand_in_weights)["garment_encoder"]
    parts = [mapped[f"mapper.blocks.2.attn1.{name}.weight"] for name in ("to_q", "to_k", "to_v")]
    assert torch.equal(torch.cat(parts), fused)


@pytest.mark.parametrize(
    "key",
    [
        "model.diffusion_model.input_blocks.1.0.in_layers.9.weight",
        "model.diffusion_model.mystery.weight",
        "control_model.input_blocks.1.7.weight",
        "first_stage_model.encoder.down.0.strange.weight",
        "cond_stage_model.mapper.resblocks.0.attn.other.weight",
        "lastzc.other",
    ],
)
def test_an_unknown_key_among_our_own_is_named(released, key):
    with pytest.raises(IncompatibleCheckpoint, match=key.replace(".", r"\.")):
        map_state_dict({**released, key: torch.empty(3, device="meta")})


@pytest.mark.parametrize(
    "removed, named",
    [
        ("model.diffusion_model.warp_zero_convs.3.bias", "up_blocks.2.zero_cross_attentions.0.zero_conv.bias"),
        ("control_model.cond_first_block.0.weight", "garment_conv_in.weight"),
        ("cond_stage_model.final_ln.bias", "final_layer_norm.bias"),
        ("learnable_vector", "uncond_vector"),
        ("control_model.input_blocks.1.0.in_layers.2.weight", "down_blocks.0.resnets.0.conv1.weight"),
        ("model.diffusion_model.input_blocks.3.0.op.weight", "down_blocks.0.downsamplers.0.conv.weight"),
        ("model.diffusion_model.output_blocks.5.2.conv.bias", "up_blocks.1.upsamplers.0.conv.bias"),
        ("model.diffusion_model.input_blocks.0.0.weight", "conv_in.weight"),
        ("first_stage_model.post_quant_conv.weight", "post_quant_conv.weight"),
    ],
)
def test_a_missing_key_is_named(released, removed, named):
    state = {key: value for key, value in released.items() if key != removed}
    with pytest.raises(IncompatibleCheckpoint) as error:
        map_state_dict(state)
    assert f"{removed!r} (here {named!r})" in sentence(error)


def test_missing_tensors_are_named_as_the_checkpoint_names_it(released):
    plan = plan_keys(released)
    for rename in plan.renames[::20]:  # of every part of every network
        rest = [other for other in plan.renames if other.source != rename.source]
        assert KeyPlan(plan.layout, rest).source_of(rename.component, rename.target) == rename.source


def test_a_wrong_shape_is_named_by_the_checkpoints_own_name(released):
    key = "control_model.time_embed.2.weight"
    with pytest.raises(IncompatibleCheckpoint, match=r"control_model\.time_embed\.2\.weight.*\(7, 7\)"):
        map_state_dict({**released, key: torch.empty(7, 7, device="meta")})


def test_a_plain_stable_diffusion_checkpoint_is_refused(released):
    state = {key: value for key, value in released.items() if not key.startswith("control_model.")}
    with pytest.raises(IncompatibleCheckpoint, match="spatial_encoder"):
        map_state_dict(state)
    with pytest.raises(IncompatibleCheckpoint, match="no StableVITON checkpoint"):
        map_state_dict({"weight": torch.empty(3)})


def test_the_architecture_can_be_overridden_and_nonsense_is_refused(stand_in_checkpoint, tmp_path):
    for override, match in (
        ({"garment_encoder": {"no_such": 4}}, "no_such"),
        ({"decoder": {"heads": 4}}, "decoder"),
        ({"unet": 8}, "unet"),
        ({"unet": {"sample_size": 64}}, "sample_size"),
        ({"vae": {"scaling_factor": "x"}}, "scaling_factor"),
    ):
        with pytest.raises(InvalidInput, match=match):
            convert_checkpoint(stand_in_checkpoint, tmp_path / "out", architecture=override, progress=False)
    with pytest.raises(IncompatibleCheckpoint, match="garment_encoder"):
        convert_checkpoint(
            stand_in_checkpoint,
            tmp_path / "out",
            architecture={"garment_encoder": {"num_attention_heads": 7}},
            progress=False,
        )
    assert not list(tmp_path.iterdir())


def test_the_folder_holds_the_released_configuration(stand_in_folder):
    config = {name: json.loads((stand_in_folder / name / "config.json").read_text()) for name in ("unet", "vae")}
    assert config["unet"]["num_attention_heads"] == 8
    assert config["unet"]["in_channels"] == 13
    assert config["vae"]["scaling_factor"] == 0.18215
    scheduler = json.loads((stand_in_folder / "scheduler" / "scheduler_config.json").read_text())
    assert (scheduler["skip_prk_steps"], scheduler["steps_offset"], scheduler["beta_end"]) == (True, 1, 0.012)
    assert not list(stand_in_folder.rglob("*.bin"))


def test_dtype_and_safetensors_sources_give_the_same_weights(stand_in_weights, tmp_path):
    source = tmp_path / "VITONHD.safetensors"
    save_file({key: value.contiguous() for key, value in stand_in_weights.items()}, source)
    report = convert_checkpoint(source, tmp_path / "half", dtype="fp16", architecture=ARCHITECTURE, progress=False)
    name = "up_blocks.1.zero_cross_attentions.0.zero_conv.weight"
    half = load_file(tmp_path / "half" / "unet" / "diffusion_pytorch_model.safetensors")
    assert half[name].dtype == torch.float16
    assert torch.equal(half[name], stand_in_weights["model.diffusion_model.warp_zero_convs.0.weight"].half())
    assert report.parameters["unet"] == sum(value.numel() for value in half.values())
    with pytest.raises(InvalidInput, match="dtype"):
        convert_checkpoint(source, tmp_path / "other", dtype="int8", progress=False)


def test_shards_are_written_and_loaded(stand_in_checkpoint, stand_in_folder, tmp_path, monkeypatch):
    from stableviton_sdk.conversion import convert
    from stableviton_sdk.models.unet import TryOnUNet

    monkeypatch.setattr(convert, "MAX_SHARD_BYTES", 15_000_000)
    convert_checkpoint(stand_in_checkpoint, tmp_path / "sharded", architecture=ARCHITECTURE, progress=False)
    assert len(list((tmp_path / "sharded" / "unet").glob("*-of-*.safetensors"))) > 1
    sharded = TryOnUNet.from_pretrained(tmp_path / "sharded" / "unet").state_dict()
    whole = TryOnUNet.from_pretrained(stand_in_folder / "unet").state_dict()
    assert all(torch.equal(sharded[key], whole[key]) for key in whole)


def test_foreign_prefixes_and_objects_are_left_out_and_named(stand_in_weights, stand_in_folder, tmp_path):
    state = {
        **stand_in_weights,
        "model_ema.decay": torch.zeros(250),
        "first_stage_model.loss.discriminator.weight": torch.zeros(500),
        "something.else": torch.zeros(10),
    }
    path = tmp_path / "whole.ckpt"
    content = {
        "state_dict": state,
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(1000)}}}],
        "callbacks": {"checkpoint": ForeignCallback()},
        "hyper_parameters": ForeignCallback(),
    }
    torch.save(content, path)
    # what the file names can't be imported by whoever reads it
    rewrite_pickle(path, b"test_conversion", b"omegaconf_gone_")
    report = convert_checkpoint(path, tmp_path / "out", architecture=ARCHITECTURE, progress=False)
    assert report.foreign == {
        "model_ema": 1000,
        "first_stage_model.loss.": 2000,
        "something": 40,
        "optimizer_states": 4000,
    }
    line = report.foreign_line()
    assert "\n" not in line
    assert "model_ema (1 kB)" in line
    converted = load_file(tmp_path / "out" / "unet" / "diffusion_pytorch_model.safetensors")
    expected = load_file(stand_in_folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[key], expected[key]) for key in expected)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_tries_to_run_code_runs_nothing(stand_in_weights, tmp_path, zipped):
    marker = tmp_path / "executed"
    path = tmp_path / "evil.ckpt"
    small = {key: stand_in_weights[key] for key in ("learnable_vector", "proj_out.bias")}
    torch.save({"state_dict": small, "callbacks": Evil(marker)}, path, _use_new_zipfile_serialization=zipped)
    tensors, _ = read_checkpoint(path)
    assert torch.equal(tensors["proj_out.bias"], small["proj_out.bias"])
    assert not marker.exists()
    # the same file does run code when it's read the careless way: the test would notice
    torch.load(path, weights_only=False)
    assert marker.exists()


def test_code_hidden_in_a_tensors_place_is_not_run_either(stand_in_weights, tmp_path):
    marker = tmp_path / "executed"
    path = write_checkpoint(tmp_path / "evil.ckpt", {**stand_in_weights, "proj_out.bias": Evil(marker)})
    with pytest.raises(IncompatibleCheckpoint, match=r"proj_out\.bias"):
        convert_checkpoint(path, tmp_path / "out", architecture=ARCHITECTURE, progress=False)
    assert not marker.exists()


def test_torchscript_programs_are_refused(tmp_path):
    path = tmp_path / "program.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("program/constants.pkl", pickle.dumps(()))
        archive.writestr("program/data.pkl", pickle.dumps({}))
    with pytest.raises(IncompatibleCheckpoint, match="TorchScript"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04garbage", pickle.dumps({"a": 1}), pickle.dumps([1])])
def test_files_that_are_no_checkpoint_are_refused_with_one_sentence(tmp_path, content):
    path = tmp_path / "broken.ckpt"
    path.write_bytes(content)
    with pytest.raises(IncompatibleCheckpoint) as caught:
        convert_checkpoint(path, tmp_path / "out", progress=False)
    assert str(path) in str(caught.value)
    (tmp_path / "broken.safetensors").write_bytes(content)
    with pytest.raises(IncompatibleCheckpoint):
        convert_checkpoint(tmp_path / "broken.safetensors", tmp_path / "out", progress=False)
    with pytest.raises(InvalidInput, match="no checkpoint"):
        convert_checkpoint(tmp_path / "missing.ckpt", tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_cut_off_file_is_refused(stand_in_checkpoint, tmp_path):
    path = tmp_path / "half.ckpt"
    path.write_bytes(stand_in_checkpoint.read_bytes()[: stand_in_checkpoint.stat().st_size // 2])
    with pytest.raises(IncompatibleCheckpoint, match="download it again"):
        convert_checkpoint(path, tmp_path / "out", progress=False)


def test_nothing_is_overwritten_and_nothing_half_written_stays(stand_in_checkpoint, tmp_path, monkeypatch):
    from stableviton_sdk.conversion import convert

    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "precious.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="exists already"):
        convert_checkpoint(stand_in_checkpoint, taken, architecture=ARCHITECTURE, progress=False)
    assert (taken / "precious.txt").read_text() == "mine"

    def interrupted(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(convert, "_write_scheduler", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert_checkpoint(stand_in_checkpoint, tmp_path / "out", architecture=ARCHITECTURE, progress=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


@pytest.mark.slow
def test_a_killed_conversion_leaves_nothing_that_looks_finished(stand_in_checkpoint, tmp_path):
    code = (
        "import os, signal, sys\n"
        "from stableviton_sdk.conversion import convert\n"
        "convert._write_scheduler = lambda folder: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"convert.convert_checkpoint(sys.argv[1], sys.argv[2], architecture={ARCHITECTURE!r}, progress=False)\n"
    )
    target = tmp_path / "out"
    command = [sys.executable, "-c", code, str(stand_in_checkpoint), str(target)]
    process = subprocess.run(command, cwd=ROOT, check=False)  # the package of this tree
    assert process.returncode < 0
    assert not target.exists()
    assert not list(tmp_path.rglob("model_index.json"))
    convert_checkpoint(stand_in_checkpoint, target, architecture=ARCHITECTURE, progress=False)
    assert (target / "model_index.json").is_file()


def test_too_little_disk_is_said_before_anything_is_written(stand_in_checkpoint, tmp_path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(WeightsUnavailable, match="free"):
        convert_checkpoint(stand_in_checkpoint, tmp_path / "out", architecture=ARCHITECTURE, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_is_one_sentence_and_leaves_nothing(stand_in_checkpoint, tmp_path, monkeypatch):
    import safetensors.torch

    def full(*args, **kwargs):
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(WeightsUnavailable, match="disk is full"):
        convert_checkpoint(stand_in_checkpoint, tmp_path / "out", architecture=ARCHITECTURE, progress=False)
    assert not list(tmp_path.iterdir())


def test_two_names_for_one_tensor_are_refused(released):
    # layer 1 of level 0, once more under an index that counts the same block
    key = "model.diffusion_model.input_blocks.1.0.in_layers.0.weight"
    with pytest.raises(IncompatibleCheckpoint, match="are one tensor"):
        plan_keys([*released, key.replace("blocks.1.", "blocks.01.")])


def test_from_single_file_equals_the_converted_folder(stand_in_checkpoint, stand_in_pipeline):
    loaded = TryOnPipeline.from_single_file(stand_in_checkpoint, architecture=ARCHITECTURE)
    for name in ("unet", "spatial_encoder", "garment_encoder", "vae"):
        ours, theirs = getattr(loaded, name), getattr(stand_in_pipeline, name)
        assert not ours.training
        assert plain_config(ours) == plain_config(theirs)
        weights = theirs.state_dict()
        assert all(torch.equal(value, weights[key]) for key, value in ours.state_dict().items())
        assert not any(buffer.is_meta for buffer in ours.buffers())
    half = TryOnPipeline.from_single_file(stand_in_checkpoint, architecture=ARCHITECTURE, dtype=torch.float16)
    assert half.unet.dtype == torch.float16


def plain_config(model):
    """A configuration as it is in a file: lists for tuples, no private entries."""
    return json.loads(json.dumps({key: value for key, value in model.config.items() if not key.startswith("_")}))


def rewrite_pickle(path, old, new):
    """Exchange a module's name inside a zipped checkpoint's pickle for another of the same length."""
    assert len(old) == len(new)
    with zipfile.ZipFile(path) as archive:
        parts = {info: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for info, data in parts.items():
            if info.filename.endswith("data.pkl"):
                assert old in data
                data = data.replace(old, new)
            archive.writestr(info.filename, data)


@pytest.mark.parametrize("ending", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.bool])
def test_a_tensor_of_other_numbers_is_named(stand_in_weights, tmp_path, ending, dtype):
    name = next(key for key in sorted(stand_in_weights) if key.startswith("model.diffusion_model.input_blocks.1."))
    path = tmp_path / f"weights{ending}"
    state = {**stand_in_weights, name: stand_in_weights[name].to(dtype)}
    save_file(state, path) if ending == ".safetensors" else write_checkpoint(path, state)
    with pytest.raises(IncompatibleCheckpoint) as error:
        TryOnPipeline.from_single_file(path, architecture=ARCHITECTURE)
    assert f"{name!r} holds no floating-point numbers" in sentence(error)


@pytest.mark.parametrize("path", [None, 3, b"weights.ckpt"])
def test_what_is_no_path_is_no_checkpoint(path):
    with pytest.raises(InvalidInput, match="is no checkpoint: pass the path"):
        TryOnPipeline.from_single_file(path)
