"""Where a training starts from."""

import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from support.network_step import H, W, networks, step, tiny_batch
from support.stand_in_hub import served_hub
from support.tiny import CONTEXT, awaken, tiny_autoencoder, tiny_garment_encoder

from stableviton_sdk.errors import IncompatibleCheckpoint, InvalidInput, TryOnError, WeightsUnavailable
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.training.tryon.initialise import from_paint_by_example, from_scratch, load_autoencoder
from stableviton_sdk.training.tryon.trainable import choose_trainable

TINY_UNET = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (32, 64),
    "cross_attention_dim": CONTEXT,
    "attention_head_dim": 4,
    "norm_num_groups": 16,
}


@pytest.fixture(scope="session")
def paint_by_example(tmp_path_factory):
    """A stand-in for the diffusers folder: its own classes and names, narrow."""
    folder = tmp_path_factory.mktemp("paint-by-example")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        UNet2DConditionModel(sample_size=64, in_channels=9, **TINY_UNET).save_pretrained(folder / "unet")
        tiny_autoencoder(32, levels=2).save_pretrained(folder / "vae")
        encoder = tiny_garment_encoder(num_hidden_layers=4)
    state = {}
    for key, tensor in encoder.state_dict().items():
        state[f"model.{key}" if key.startswith("vision_model.") else key] = tensor.clone()
    state["model.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    (folder / "image_encoder").mkdir()
    torch.save(state, folder / "image_encoder" / "pytorch_model.bin")
    config = {"architectures": ["PaintByExampleImageEncoder"], "model_type": "clip_vision_model"}
    config |= {key: value for key, value in encoder.config.items() if not key.startswith(("_", "mapper", "proj"))}
    (folder / "image_encoder" / "config.json").write_text(json.dumps(config))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "PaintByExamplePipeline"}))
    return folder


@pytest.fixture(scope="session")
def started(paint_by_example):
    return from_paint_by_example(paint_by_example, size=(24, 32))


@torch.no_grad()
def test_before_training_the_prediction_is_paint_by_examples(paint_by_example, started):
    original = UNet2DConditionModel.from_pretrained(paint_by_example / "unet")
    sample, timesteps, context = tiny_batch()
    garment_latents = torch.randn(2, 4, H, W, generator=torch.Generator().manual_seed(9))
    features = started.spatial_encoder(sample, timesteps, context, garment_latents)
    ours = started.unet(sample, timesteps, context, features).sample
    theirs = original(sample[:, :9], timesteps, context).sample
    assert float(theirs.std()) > 0.05
    assert float((ours - theirs).abs().max()) <= 1e-5


@torch.no_grad()
def test_the_spatial_encoder_starts_as_the_unets_encoder(started):
    sample, timesteps, context = tiny_batch()
    unet, encoder = started.unet, started.spatial_encoder
    features = encoder(sample, timesteps, context, torch.zeros(2, 4, H, W))
    time = unet.time_embedding(unet.time_proj(timesteps))
    hidden = unet.conv_in(sample)
    _, states = unet.down_blocks[0](hidden, time, context)
    for ours, theirs in zip(features, (hidden, *states), strict=False):
        assert torch.equal(ours, theirs)
    assert torch.equal(encoder.garment_conv_in.weight, unet.conv_in.weight[:, :4])
    with_garment = encoder(sample, timesteps, context, torch.ones(2, 4, H, W))
    assert not torch.allclose(with_garment[0], features[0])


def test_new_input_channels_start_at_zero_and_copies_are_independent(started):
    assert torch.equal(started.unet.conv_in.weight[:, 9:], torch.zeros(32, 4, 3, 3))
    assert started.unet.conv_in.weight.data_ptr() != started.spatial_encoder.conv_in.weight.data_ptr()
    assert tuple(started.unet.config.sample_size) == (16, 12)
    assert started.default_size == (24, 32)


@torch.no_grad()
def test_the_garment_encoder_is_paint_by_examples_by_its_own_names(paint_by_example, started):
    stored = torch.load(paint_by_example / "image_encoder" / "pytorch_model.bin", weights_only=True)
    own = started.garment_encoder.state_dict()
    assert len(own) == len(stored) - 1  # position_ids
    for key, tensor in stored.items():
        if not key.endswith("position_ids"):
            assert torch.equal(own[key.removeprefix("model.")], tensor), key


def test_initialisation_is_reproducible_and_leaves_the_global_generator_alone(paint_by_example, started):
    state = torch.random.get_rng_state()
    again = from_paint_by_example(paint_by_example, size=(24, 32))
    assert torch.equal(torch.random.get_rng_state(), state)
    for (name, first), second in zip(started.unet.named_parameters(), again.unet.parameters(), strict=True):
        assert torch.equal(first, second), name
    other = from_paint_by_example(paint_by_example, size=(24, 32), seed=1)
    name = "up_blocks.1.zero_cross_attentions.0.transformer.proj_in.weight"
    assert not torch.equal(other.unet.state_dict()[name], started.unet.state_dict()[name])


def test_the_started_pipeline_can_be_saved_and_loaded(started, tmp_path):
    started.save_pretrained(tmp_path / "start")
    loaded = TryOnPipeline.from_pretrained(tmp_path / "start")
    for component in ("unet", "spatial_encoder", "garment_encoder", "vae"):
        pairs = zip(getattr(started, component).parameters(), getattr(loaded, component).parameters(), strict=True)
        assert all(torch.equal(first, second) for first, second in pairs), component


def copied(folder, target):
    import shutil

    shutil.copytree(folder, target)
    return target


def test_folders_that_are_not_paint_by_example_are_refused(paint_by_example, tmp_path):
    with pytest.raises(InvalidInput, match="neither a folder nor a Hub repository"):
        from_paint_by_example(tmp_path / "nowhere")
    with pytest.raises(InvalidInput, match=r"no model_index\.json"):
        from_paint_by_example(tmp_path)
    with pytest.raises(InvalidInput, match="multiples of 2"):
        from_paint_by_example(paint_by_example, size=(24, 33))

    inpainting = copied(paint_by_example, tmp_path / "inpainting")
    (inpainting / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionInpaintPipeline"}))
    with pytest.raises(IncompatibleCheckpoint, match="not a PaintByExamplePipeline"):
        from_paint_by_example(inpainting)

    linear = copied(paint_by_example, tmp_path / "linear")
    config = json.loads((linear / "unet" / "config.json").read_text())
    (linear / "unet" / "config.json").write_text(json.dumps(config | {"use_linear_projection": True}))
    with pytest.raises(IncompatibleCheckpoint, match="use_linear_projection=True"):
        from_paint_by_example(linear, size=(24, 32))
    (linear / "unet" / "config.json").write_text(json.dumps(config | {"in_channels": 4}))
    with pytest.raises(IncompatibleCheckpoint, match="4 input channels"):
        from_paint_by_example(linear, size=(24, 32))
    (linear / "unet" / "config.json").write_text(json.dumps(config | {"block_out_channels": [16, 64]}))
    with pytest.raises(IncompatibleCheckpoint, match=r"of shape .* where .* is needed"):
        from_paint_by_example(linear, size=(24, 32))

    damaged = copied(paint_by_example, tmp_path / "damaged")
    save_file({"conv_in.bias": torch.zeros(32)}, damaged / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(IncompatibleCheckpoint, match=r"the U-Net of .* lacks \d+ tensor"):
        from_paint_by_example(damaged, size=(24, 32))
    (damaged / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(WeightsUnavailable, match="download the whole folder"):
        from_paint_by_example(damaged, size=(24, 32))


@pytest.mark.parametrize("name", ["decoder.conv_out.bias", "encoder.conv_in.weight"])
def test_an_autoencoder_that_lacks_a_tensor_is_refused_by_name(paint_by_example, tmp_path, name):
    damaged = copied(paint_by_example, tmp_path / "damaged")
    file = damaged / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({key: value for key, value in load_file(file).items() if key != name}, file)
    for load in (lambda: from_paint_by_example(damaged, size=(24, 32)), lambda: load_autoencoder(damaged / "vae")):
        with pytest.raises(IncompatibleCheckpoint, match=rf"vae lacks 1 tensor.*{name}"):
            load()
    file.unlink()
    with pytest.raises(WeightsUnavailable, match="holds no diffusion_pytorch_model"):
        load_autoencoder(damaged / "vae")


def test_the_hub_gives_what_is_needed_and_nothing_else(paint_by_example, tmp_path):
    name, huge = "them/Paint-by-Example", b"never read" * 1000
    surplus = {
        "safety_checker/config.json": b"{}",
        "safety_checker/model.safetensors": huge,
        "safety_checker/pytorch_model.bin": huge,
        "feature_extractor/preprocessor_config.json": b"{}",
        "scheduler/scheduler_config.json": b"{}",
        "unet/diffusion_pytorch_model.bin": huge,
        "model.ckpt": huge,
    }
    expected = states(from_paint_by_example(paint_by_example, size=(24, 32)))
    with served_hub(tmp_path / "home") as served:
        served.commit_folder(name, paint_by_example)
        served.commit(name, surplus)
        served.take_requests()
        loaded = from_paint_by_example(name, size=(24, 32))
        assert_equal_states(states(loaded), expected)
        asked = {
            path.split("/resolve/")[1].split("/", 1)[1] for _, path in served.take_requests() if "/resolve/" in path
        }
        assert not asked & set(surplus)
        assert asked >= {"unet/diffusion_pytorch_model.safetensors", "image_encoder/pytorch_model.bin"}

        # as it was first published, without a single safetensors file
        plain = copied(paint_by_example, tmp_path / "plain")
        for component in ("unet", "vae"):
            path = plain / component / "diffusion_pytorch_model.safetensors"
            torch.save(load_file(path), path.with_suffix(".bin"))
            path.unlink()
        served.commit_folder("them/older", plain)
        assert_equal_states(states(from_paint_by_example("them/older", size=(24, 32))), expected)

        served.stop()
        for again in (name, "them/older"):
            assert_equal_states(states(from_paint_by_example(again, size=(24, 32), local_files_only=True)), expected)


def test_a_repository_that_is_not_paint_by_example_is_refused_before_its_weights_are_downloaded(tmp_path):
    with served_hub(tmp_path / "home") as served:
        index = json.dumps({"_class_name": "StableDiffusionInpaintPipeline"}).encode()
        served.commit("them/inpainting", {"model_index.json": index, "unet/diffusion_pytorch_model.safetensors": b"w"})
        with pytest.raises(IncompatibleCheckpoint, match="not a PaintByExamplePipeline"):
            from_paint_by_example("them/inpainting")
        assert not any("unet" in path for _, path in served.take_requests())
        with pytest.raises(TryOnError, match="them/nothing"):
            from_paint_by_example("them/nothing")
        served.commit(
            "them/part", {"model_index.json": json.dumps({"_class_name": "PaintByExamplePipeline"}).encode()}
        )
        with pytest.raises(WeightsUnavailable, match="vae"):
            from_paint_by_example("them/part")


def states(pipeline):
    return {
        f"{name}.{key}": value
        for name in ("vae", "unet", "spatial_encoder", "garment_encoder")
        for key, value in getattr(pipeline, name).state_dict().items()
    }


def assert_equal_states(first, second):
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


def test_from_scratch_makes_networks_that_fit_each_other():
    unet = {**TINY_UNET, "up_block_types": ("UpBlock2D", "TryOnUpBlock2D"), "num_attention_heads": 4}
    del unet["attention_head_dim"]
    architecture = {
        "unet": {**unet, "sample_size": (H, W)},
        "garment_encoder": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 8,
            "mapper_layers": 1,
        },
        "vae": {"block_out_channels": (32,), "norm_num_groups": 16},
    }
    pipeline = from_scratch(architecture, scheduler={"prediction_type": "v_prediction"})
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    made = networks(pipeline.components)
    awaken(made["unet"])
    choose_trainable(**made, what="full", train_vision_tower=True)
    assert torch.isfinite(step(made)).all()
    with pytest.raises(InvalidInput, match="no option 'widths'"):
        from_scratch({"unet": {"widths": 3}})
    with pytest.raises(InvalidInput, match="its parts are"):
        from_scratch({"spatial_encoder": {}})
    with pytest.raises(InvalidInput, match="projection_dim"):
        from_scratch({"garment_encoder": {"projection_dim": 3}})
