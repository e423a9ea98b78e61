"""The networks' lean forward: the same numbers as diffusers' layers, shared branches, and the step cache's layers."""

import copy
import pickle

import pytest
import torch
from support.tiny import CONTEXT, LATENT_HEIGHT, LATENT_WIDTH, tiny_components

from stableviton_sdk.models.lean import attend, runs_lean
from stableviton_sdk.models.packing import pack_convolutions, unpack_convolutions
from stableviton_sdk.models.step_cache import StepCache
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline

SEED = 0


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm())


@pytest.fixture
def networks():
    components = tiny_components()
    return components["unet"], components["spatial_encoder"]


def random_inputs(batch: int, branches: int = 1, size=(LATENT_HEIGHT, LATENT_WIDTH)):
    """Sample, tokens and garment latents."""
    generator = torch.Generator().manual_seed(SEED)
    return (
        torch.randn(batch, 13, *size, generator=generator),
        torch.randn(batch * branches, 1, CONTEXT, generator=generator),
        torch.randn(batch, 4, *size, generator=generator),
    )


def predict(networks, sample, tokens, latents, **options):
    unet, spatial_encoder = networks
    features = spatial_encoder(sample, 301, tokens, latents, **options)
    return unet(sample, 301, tokens, features, **options).sample


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", [(LATENT_HEIGHT, LATENT_WIDTH), (11, 7)])
def test_lean_steps_equal_diffusers_own(networks, batch, size):
    inputs = random_inputs(batch, size=size)
    assert relative(predict(networks, *inputs, lean=True), predict(networks, *inputs)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 2])
def test_branches_that_share_a_sample_equal_branches_that_repeat_it(networks, batch):
    sample, tokens, latents = random_inputs(batch, branches=2)
    repeated = predict(networks, sample.repeat(2, 1, 1, 1), tokens, latents.repeat(2, 1, 1, 1))
    assert relative(predict(networks, sample, tokens, latents, lean=True), repeated) < 1e-5


@torch.no_grad()
def test_the_bundled_networks_have_lean_steps_too():
    pipe = TryOnPipeline.from_bundled()
    generator = torch.Generator().manual_seed(SEED)
    shapes = (1, 49, 32, 24), (2, 1, 64), (1, 16, 32, 24)
    sample, tokens, latents = (torch.randn(*shape, generator=generator) for shape in shapes)
    networks = pipe.unet, pipe.spatial_encoder
    repeated = predict(networks, sample.repeat(2, 1, 1, 1), tokens, latents.repeat(2, 1, 1, 1))
    assert relative(predict(networks, sample, tokens, latents, lean=True), repeated) < 1e-5


@torch.no_grad()
def test_bfloat16_steps_stay_within_their_precision(networks):
    inputs = random_inputs(1)
    exact = predict(networks, *inputs)
    half = [network.to(torch.bfloat16) for network in networks]
    inputs = [tensor.to(torch.bfloat16) for tensor in inputs]
    plain, lean = predict(half, *inputs), predict(half, *inputs, lean=True)
    assert relative(lean, exact) < 1.5 * relative(plain, exact)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_convolutions_are_as_exact_as_plain_ones(networks, dtype):
    inputs = random_inputs(2)
    exact = predict([copy.deepcopy(network).double() for network in networks], *(part.double() for part in inputs))
    inputs = [tensor.to(dtype) for tensor in inputs]
    networks = [network.to(dtype).to(memory_format=torch.channels_last) for network in networks]
    plain = predict(networks, *inputs, lean=True)
    assert all(pack_convolutions(network) > 0 for network in networks)
    packed = predict(networks, *inputs, lean=True)
    # they differ: a residual is added before rounding where it is fused into the convolution
    assert relative(packed, exact) < 1.5 * relative(plain, exact)
    for network in networks:
        unpack_convolutions(network)
    assert torch.equal(predict(networks, *inputs, lean=True), plain)


@torch.no_grad()
@pytest.mark.parametrize("tracked", [True, False])
def test_a_changed_weight_is_packed_anew(networks, tracked):
    inputs = random_inputs(1)
    for network in networks:
        pack_convolutions(network)
    before = predict(networks, *inputs, lean=True)
    weight = networks[0].down_blocks[0].resnets[0].conv1.weight
    if tracked:
        weight.mul_(2)
    else:  # as merging an adapter does, which no version counter sees
        weight.data += 0.1
    after = predict(networks, *inputs, lean=True)
    assert relative(after, predict(networks, *inputs)) < 1e-5
    assert relative(after, before) > 1e-3


@torch.no_grad()
def test_packed_networks_are_copied_pickled_and_moved(networks):
    inputs = random_inputs(1)
    for network in networks:
        pack_convolutions(network)
    expected = predict(networks, *inputs, lean=True)
    copied = [copy.deepcopy(network) for network in networks]
    pickled = [pickle.loads(pickle.dumps(network)) for network in networks]
    for others in (copied, pickled, [network.double().float() for network in networks]):
        assert relative(predict(others, *inputs, lean=True), expected) < 1e-6


@torch.no_grad()
def test_a_full_step_with_a_cache_has_the_same_bits(networks):
    inputs = random_inputs(2)
    features = networks[1](inputs[0], 301, inputs[1], inputs[2], lean=True)
    plain = networks[0](inputs[0], 301, inputs[1], features, lean=True).sample
    cache = StepCache(interval=2, depth=2)
    cached = networks[0](inputs[0], 301, inputs[1], features, lean=True, step_cache=cache).sample
    assert torch.equal(plain, cached)
    assert cache.garment_features is features


@torch.no_grad()
@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_a_cached_step_of_the_same_inputs_has_the_full_steps_result(networks, depth):
    inputs = random_inputs(1)
    features = networks[1](inputs[0], 301, inputs[1], inputs[2], lean=True)
    cache = StepCache(interval=2, depth=depth)
    full = networks[0](inputs[0], 301, inputs[1], features, lean=True, step_cache=cache).sample
    kept = cache.hidden_states.clone()
    cached = networks[0](inputs[0], 301, inputs[1], None, lean=True, step_cache=cache).sample
    assert relative(cached, full) < 1e-6
    assert torch.equal(cache.hidden_states, kept)
    moved = networks[0](inputs[0] + 0.1, 250, inputs[1], None, lean=True, step_cache=cache).sample
    assert relative(moved, full) > 1e-3


def test_hooks_on_inner_blocks_and_training_rule_lean_steps_out(networks):
    unet, _ = networks
    assert runs_lean(unet)
    hook = unet.down_blocks[0].register_forward_hook(lambda *_: None)
    assert not runs_lean(unet)
    hook.remove()
    assert not runs_lean(unet.train())


def test_attention_head_by_head_is_the_fused_one():
    generator = torch.Generator().manual_seed(SEED)
    query, key, value = (torch.randn(2, 3, 600, 8, generator=generator) for _ in range(3))
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    half = attend(*(tensor.to(torch.bfloat16) for tensor in (query, key, value)))
    assert half.dtype == torch.bfloat16
    assert relative(half, expected) < 1e-2
