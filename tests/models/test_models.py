import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0, SlicedAttnProcessor
from support.tiny import CONTEXT, awaken, tiny_components, tiny_unet

from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.models.attention_maps import attention_map, expected_coordinates
from stableviton_sdk.models.garment_encoder import GarmentEncoder
from stableviton_sdk.models.spatial_encoder import SpatialEncoder
from stableviton_sdk.models.unet import TryOnUNet
from stableviton_sdk.models.zero_cross_attention import ZeroCrossAttention, sinusoidal_positions


@pytest.fixture(scope="module")
def components():
    return tiny_components()


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(1)
    return {
        "sample": torch.randn(2, 13, 16, 12, generator=generator),
        "timestep": torch.tensor([7, 900]),
        "encoder_hidden_states": torch.randn(2, 1, CONTEXT, generator=generator),
        "garment_latents": torch.randn(2, 4, 16, 12, generator=generator),
    }


@torch.no_grad()
def predict(unet, spatial_encoder, batch, **options):
    features = spatial_encoder(**batch)
    return unet(
        batch["sample"], batch["timestep"], batch["encoder_hidden_states"], features, return_dict=False, **options
    )[0]


class Recorder:
    def __init__(self, blocks=None):
        self.blocks, self.seen = blocks, {}

    def should_record(self, block):
        return self.blocks is None or block in self.blocks

    def record(self, block, query, key, query_size, key_size):
        self.seen[block] = (query, key, query_size, key_size)


def test_released_sizes_are_the_default_configuration():
    with torch.device("meta"):
        unet, spatial, garment = TryOnUNet(), SpatialEncoder(), GarmentEncoder()
    millions = {
        name: round(sum(parameter.numel() for parameter in parameters) / 1e6)
        for name, parameters in {
            "unet": unet.parameters(),
            "zero cross-attention": [p for key, p in unet.named_parameters() if "zero_cross_attentions" in key],
            "spatial": spatial.parameters(),
            "garment": garment.parameters(),
        }.items()
    }
    assert millions == {"unet": 1039, "zero cross-attention": 180, "spatial": 175, "garment": 367}
    assert unet.num_zero_cross_attentions == 9


def test_unet_keys_are_stable_diffusions_plus_zero_cross_attention():
    with torch.device("meta"):
        ours, theirs = TryOnUNet(), UNet2DConditionModel(in_channels=13, cross_attention_dim=768)
    shapes = {key: value.shape for key, value in ours.state_dict().items() if "zero_cross_attentions" not in key}
    assert shapes == {key: value.shape for key, value in theirs.state_dict().items()}


@torch.no_grad()
def test_at_zero_initialisation_the_unet_equals_stable_diffusions_bit_for_bit(components, batch):
    torch.manual_seed(0)
    theirs = UNet2DConditionModel(
        in_channels=13,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(32, 64),
        cross_attention_dim=CONTEXT,
        attention_head_dim=4,
        norm_num_groups=16,
    ).eval()
    ours = tiny_unet().eval()
    result = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert all("zero_cross_attentions" in key for key in result.missing_keys)
    expected = theirs(batch["sample"], batch["timestep"], batch["encoder_hidden_states"]).sample
    assert torch.equal(predict(ours, components["spatial_encoder"], batch), expected)


def test_the_garment_reaches_the_output_only_through_zero_cross_attention(components, batch):
    other = {**batch, "garment_latents": -batch["garment_latents"]}
    awake, silent = components["unet"], tiny_unet().eval()
    spatial = components["spatial_encoder"]
    assert not torch.allclose(predict(awake, spatial, batch), predict(awake, spatial, other))
    assert torch.equal(predict(silent, spatial, batch), predict(silent, spatial, other))


@torch.no_grad()
def test_odd_latent_sizes_work(components):
    sample = torch.randn(1, 13, 15, 11)
    context, garment = torch.randn(1, 1, CONTEXT), torch.randn(1, 4, 15, 11)
    features = components["spatial_encoder"](sample, 5, context, garment)
    assert components["unet"](sample, 5, context, features).sample.shape == (1, 4, 15, 11)


def test_recording_changes_no_bit_and_shows_every_block(components, batch):
    recorder = Recorder()
    plain = predict(components["unet"], components["spatial_encoder"], batch)
    recorded = predict(components["unet"], components["spatial_encoder"], batch, attention_recorder=recorder)
    assert torch.equal(plain, recorded)
    assert sorted(recorder.seen) == list(range(components["unet"].num_zero_cross_attentions))


def test_a_recorder_is_shown_only_the_blocks_it_wants(components, batch):
    recorder = Recorder({1})
    predict(components["unet"], components["spatial_encoder"], batch, attention_recorder=recorder)
    assert list(recorder.seen) == [1]


def test_recorded_queries_and_keys_are_those_of_the_attention_itself(components, batch):
    """Computes the attention's output from the recorded map and compares it with what the module puts out."""
    block = components["unet"].up_blocks[1].zero_cross_attentions[1]
    attention = block.transformer.transformer_blocks[0].attn2
    captured = {}
    hook = attention.register_forward_hook(
        lambda module, args, kwargs, output: captured.update(tokens=kwargs["encoder_hidden_states"], output=output),
        with_kwargs=True,
    )
    recorder = Recorder({1})
    try:
        predict(components["unet"], components["spatial_encoder"], batch, attention_recorder=recorder)
    finally:
        hook.remove()
    query, key, _, _ = recorder.seen[1]
    with torch.no_grad():
        weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
        value = attention.to_v(captured["tokens"]).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
        output = attention.to_out[0]((weights @ value).transpose(1, 2).flatten(2))
        assert torch.allclose(output, captured["output"], atol=1e-5)
        assert torch.allclose(attention_map(query, key), weights.mean(1), atol=1e-6)


def test_expected_coordinates_are_the_mean_and_spread_of_the_map():
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, 4, count, 2, generator=generator) * 3 for count in (10, 6))
    mean, spread = expected_coordinates(query, key, (2, 3))
    weights = attention_map(query, key)
    y = torch.tensor([0.25, 0.75]).repeat_interleave(3)
    x = torch.tensor([1 / 6, 0.5, 5 / 6]).repeat(2)
    assert torch.allclose(mean, torch.stack([weights @ y, weights @ x], -1), atol=1e-6)
    variance = weights @ (y**2 + x**2) - (weights @ y) ** 2 - (weights @ x) ** 2
    assert torch.allclose(spread, variance.clamp_min(0).sqrt(), atol=1e-3)
    assert torch.allclose(attention_map(query, key, torch.tensor([3, 1])), weights[:, [3, 1]])


def test_a_sharp_query_expects_its_key():
    key = torch.eye(6)[None, None] * 100
    mean, spread = expected_coordinates(key[:, :, 4:5], key, (2, 3))
    assert torch.allclose(mean, torch.tensor([[[0.75, 0.5]]]), atol=1e-6)
    assert float(spread) < 1e-3


def test_positions_agree_between_maps_of_different_resolution():
    coarse = sinusoidal_positions(2, 2, 8, torch.zeros(1))
    assert coarse.shape == (1, 4, 8)
    assert len({tuple(row.tolist()) for row in coarse[0].round(decimals=4)}) == 4
    block = ZeroCrossAttention(32, 16, num_attention_heads=4, norm_num_groups=8, positions=True)
    awaken(block)
    hidden, garment = torch.ones(1, 32, 4, 3), torch.ones(1, 16, 4, 3)
    output = block(hidden, garment)
    assert output.shape == hidden.shape
    # flat maps look the same everywhere, so only positions can tell the places apart
    assert float(output.detach().std(dim=(2, 3)).max()) > 1e-6


@pytest.mark.parametrize("size", ["auto", "max", 2])
def test_attention_slicing_gives_the_same_result(batch, size):
    components = tiny_components()
    plain = predict(components["unet"], components["spatial_encoder"], batch)
    components["unet"].set_attention_slice(size)
    assert any(isinstance(p, SlicedAttnProcessor) for p in components["unet"].attn_processors.values())
    assert torch.allclose(predict(components["unet"], components["spatial_encoder"], batch), plain, atol=1e-5)
    components["unet"].set_attention_slice(None)
    assert all(isinstance(p, AttnProcessor2_0) for p in components["unet"].attn_processors.values())


@pytest.mark.parametrize("size", [0, 99, "most", [1]])
def test_impossible_attention_slices_are_refused(components, size):
    with pytest.raises(InvalidInput, match="slice_size"):
        components["unet"].set_attention_slice(size)


def test_attention_processors_can_be_exchanged(batch):
    components = tiny_components()
    plain = predict(components["unet"], components["spatial_encoder"], batch)
    for name in ("unet", "spatial_encoder"):
        components[name].set_attn_processor(AttnProcessor())
    assert torch.allclose(predict(components["unet"], components["spatial_encoder"], batch), plain, atol=1e-5)


def test_fused_projections_give_the_same_result_and_the_same_record(batch):
    components = tiny_components()
    recorder, fused = Recorder(), Recorder()
    plain = predict(components["unet"], components["spatial_encoder"], batch, attention_recorder=recorder)
    for name in ("unet", "spatial_encoder"):
        components[name].fuse_qkv_projections()
    again = predict(components["unet"], components["spatial_encoder"], batch, attention_recorder=fused)
    assert torch.allclose(again, plain, atol=1e-5)
    assert torch.allclose(recorder.seen[2][0], fused.seen[2][0], atol=1e-5)


def test_gradient_checkpointing_gives_the_same_gradients(batch):
    def gradients(checkpointing):
        components = tiny_components()
        unet, spatial = components["unet"].train(), components["spatial_encoder"].train()
        if checkpointing:
            unet.enable_gradient_checkpointing()
            spatial.enable_gradient_checkpointing()
            assert unet.is_gradient_checkpointing
        features = spatial(**batch)
        prediction = unet(batch["sample"], batch["timestep"], batch["encoder_hidden_states"], features).sample
        prediction.square().mean().backward()
        return [
            unet.up_blocks[1].zero_cross_attentions[0].zero_conv.weight.grad,
            spatial.garment_conv_in.weight.grad,
        ]

    for plain, checkpointed in zip(gradients(False), gradients(True), strict=True):
        assert float(plain.abs().max()) > 0
        assert torch.allclose(plain, checkpointed, atol=1e-6)


def test_lora_adapters_can_be_added_and_start_silent(batch):
    from peft import LoraConfig

    components = tiny_components()
    plain = predict(components["unet"], components["spatial_encoder"], batch)
    for name in ("unet", "spatial_encoder"):
        components[name].add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    assert torch.allclose(predict(components["unet"], components["spatial_encoder"], batch), plain, atol=1e-6)
    for key, parameter in components["unet"].named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter)
    assert not torch.allclose(predict(components["unet"], components["spatial_encoder"], batch), plain, atol=1e-3)


@pytest.mark.parametrize("level", ["block_level", "leaf_level"])
def test_group_offloading_gives_the_same_result(batch, level):
    components = tiny_components()
    plain = predict(components["unet"], components["spatial_encoder"], batch)
    options = {"num_blocks_per_group": 1} if level == "block_level" else {}
    for name in ("unet", "spatial_encoder"):
        components[name].enable_group_offload(
            onload_device=torch.device("cpu"), offload_device=torch.device("cpu"), offload_type=level, **options
        )
    assert torch.allclose(predict(components["unet"], components["spatial_encoder"], batch), plain, atol=1e-6)


def test_layerwise_casting_runs_and_stays_close(batch):
    components = tiny_components()
    plain = predict(components["unet"], components["spatial_encoder"], batch)
    for name in ("unet", "spatial_encoder"):
        components[name].enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    cast = predict(components["unet"], components["spatial_encoder"], batch)
    assert torch.isfinite(cast).all()
    assert float((cast - plain).norm() / plain.norm()) < 0.3


@torch.no_grad()
def test_the_garment_encoder_keeps_its_names_whatever_transformers_calls_them(components):
    keys = components["garment_encoder"].state_dict().keys()
    assert "vision_model.embeddings.class_embedding" in keys
    assert "vision_model.encoder.layers.0.self_attn.q_proj.weight" in keys
    assert "mapper.blocks.0.attn1.to_q.weight" in keys
    assert not any("position_ids" in key for key in keys)


@torch.no_grad()
def test_the_garment_encoder_sees_a_square_of_any_image(components):
    encoder = components["garment_encoder"]
    flat = torch.full((1, 3, 30, 90), 0.5)
    pixels = encoder.pixel_values(flat)
    assert pixels.shape == (1, 3, 32, 32)
    assert torch.allclose(pixels[0, 0], torch.tensor((0.75 - 0.48145466) / 0.26862954))
    output = encoder(flat)
    assert output.embedding.shape == output.unconditional.shape == (1, 1, CONTEXT)


def test_uneven_block_lists_are_refused():
    with pytest.raises(InvalidInput, match="up blocks"):
        tiny_unet(up_block_types=("UpBlock2D",))
