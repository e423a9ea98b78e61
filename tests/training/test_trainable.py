"""What of the networks is trained: the authors' set, adapters, or everything."""

import pytest
import torch
from support.network_step import networks, step
from support.tiny import awaken, tiny_components

from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.training.tryon.trainable import choose_trainable, merge_lora


def with_gradient(components):
    return {
        f"{component}.{name}"
        for component, network in networks(components).items()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }


@pytest.fixture
def components():
    made = tiny_components()
    awaken(made["unet"])
    return made


def test_exactly_the_authors_set_is_trained(components):
    chosen = choose_trainable(**networks(components))
    step(components)
    expected = {f"spatial_encoder.{name}" for name, _ in components["spatial_encoder"].named_parameters()}
    expected |= {
        f"unet.{name}" for name, _ in components["unet"].named_parameters() if ".zero_cross_attentions." in name
    }
    expected |= {f"garment_encoder.{name}" for name in ("proj_out.weight", "proj_out.bias", "uncond_vector")}
    assert set(chosen) == expected == with_gradient(components)
    assert all(bool((parameter.grad != 0).any()) for name, parameter in chosen.items() if "to_k.bias" not in name)


def test_the_authors_set_of_the_stand_in_has_the_names_of_the_checkpoint(stand_in_weights, stand_in_pipeline):
    """Counted on the released layout: everything under these prefixes, and nothing else."""
    import copy

    from stableviton_sdk.conversion.key_mapping import plan_keys

    prefixes = ("control_model.", "model.diffusion_model.warp_", "proj_out.", "learnable_vector")
    expected = {
        f"{rename.component}.{rename.target}"
        for rename in plan_keys(stand_in_weights).renames
        if rename.source.startswith(prefixes)
    }
    made = {name: copy.deepcopy(network) for name, network in networks(stand_in_pipeline.components).items()}
    assert set(choose_trainable(**made)) == expected


def test_no_gradient_is_computed_in_the_frozen_encoder(components):
    """The projection's gradient comes from the decoder and the spatial encoder alone."""
    choose_trainable(**networks(components))
    inside = []
    for block in (*components["unet"].down_blocks, components["unet"].mid_block):
        block.register_forward_hook(lambda module, args, output: inside.append(output))
    prediction = step(components)
    stopped = components["garment_encoder"].proj_out.weight.grad.clone()

    def tensors(value):
        return [value] if torch.is_tensor(value) else [tensor for part in value for tensor in tensors(part)]

    assert len(inside) == 3
    assert not any(tensor.requires_grad for output in inside for tensor in tensors(output))
    for handle in components["unet"]._gradient_stops:
        handle.remove()
    for network in networks(components).values():
        network.zero_grad()
    assert torch.equal(step(components), prediction)
    assert not torch.allclose(components["garment_encoder"].proj_out.weight.grad, stopped)


def test_full_fine_tuning_leaves_the_vision_tower_unless_asked(components):
    chosen = choose_trainable(**networks(components), what="full")
    assert {name.split(".")[1] for name in chosen if name.startswith("garment_encoder.")} == {
        "proj_out",
        "uncond_vector",
    }
    step(components)
    assert with_gradient(components) == set(chosen)
    assert len([name for name in chosen if name.startswith("unet.")]) == len(list(components["unet"].parameters()))
    assert any(
        "vision_model" in name
        for name in choose_trainable(**networks(components), what="full", train_vision_tower=True)
    )


def test_lora_starts_silent_trains_its_adapters_only_and_can_be_merged(components):
    before = step(components).detach()
    for network in networks(components).values():
        network.zero_grad()
    chosen = choose_trainable(**networks(components), what="lora", lora_rank=2)
    assert chosen
    assert all(".lora_" in name for name in chosen)
    assert torch.allclose(step(components), before, atol=1e-6)
    assert with_gradient(components) == set(chosen)
    with torch.no_grad():
        for name, parameter in chosen.items():
            if ".lora_B." in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0), std=0.1)
    adapted = step(components).detach()
    assert not torch.allclose(adapted, before, atol=1e-3)
    for name in ("unet", "spatial_encoder"):
        merge_lora(components[name])
        assert not any("lora" in key for key in components[name].state_dict())
        components[name].requires_grad_(True)
    assert torch.allclose(step(components), adapted, atol=1e-4)


def test_unknown_choices_are_refused(components):
    with pytest.raises(InvalidInput, match="'decoder'"):
        choose_trainable(**networks(components), what="decoder")
    with pytest.raises(InvalidInput, match="vision tower"):
        choose_trainable(**networks(components), train_vision_tower=True)
    with pytest.raises(InvalidInput, match="rank"):
        choose_trainable(**networks(components), what="lora", lora_rank=0)
