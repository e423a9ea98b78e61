"""The choice of trained parameters: the authors', low-rank adapters, or everything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ...choices import TRAINABLE, Trainable
from ...errors import InvalidInput, MissingDependency
from ...models.garment_encoder import GarmentEncoder
from ...models.spatial_encoder import SpatialEncoder
from ...models.unet import TryOnUNet
from ...validation import check_choice

LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
COMPONENTS = ("unet", "spatial_encoder", "garment_encoder")


def choose_trainable(
    unet: TryOnUNet,
    spatial_encoder: SpatialEncoder,
    garment_encoder: GarmentEncoder,
    what: Trainable = "authors",
    *,
    train_vision_tower: bool = False,
    lora_rank: int = 16,
) -> dict[str, nn.Parameter]:
    """Set `requires_grad` throughout the networks.

    `"authors"`: the spatial encoder, the zero cross-attentions with their zero convolutions, the garment embedding's
    projection and the unconditional embedding. The rest of the U-Net is frozen, and no gradient is computed in its
    encoder and middle block. `"lora"`: low-rank adapters, which are added here, on the attention projections of the
    U-Net and the spatial encoder; for weights that are already trained. `"full"`: the U-Net, the spatial encoder, the
    projection and the unconditional embedding.

    Args:
        unet (`TryOnUNet`), spatial_encoder (`SpatialEncoder`), garment_encoder (`GarmentEncoder`): The networks.
        what (`str`, *optional*, defaults to `"authors"`): The choice, `"authors"`, `"lora"` or `"full"`.
        train_vision_tower (`bool`, *optional*, defaults to `False`):
            With `"full"`, train the garment encoder's tower and mapper too, as is needed from scratch.
        lora_rank (`int`, *optional*, defaults to 16): Rank of the adapters.

    Returns:
        `dict[str, nn.Parameter]`: the trained parameters, by component and name, in a fixed order.

    Raises:
        `InvalidInput`: for an unknown choice.
        `MissingDependency`: if `"lora"` is chosen without peft.
    """
    check_choice("trainable", what, TRAINABLE)
    if train_vision_tower and what != "full":
        raise InvalidInput(f"the vision tower is trained with trainable='full' only, not {what!r}.")
    networks = dict(zip(COMPONENTS, (unet, spatial_encoder, garment_encoder), strict=True))
    for network in networks.values():
        network.requires_grad_(False)
    for handle in getattr(unet, "_gradient_stops", ()):
        handle.remove()
    unet._gradient_stops = []

    if what == "lora":
        for network in (unet, spatial_encoder):
            add_lora(network, lora_rank)
    else:
        garment_encoder.requires_grad_(train_vision_tower)
        garment_encoder.proj_out.requires_grad_(True)
        garment_encoder.uncond_vector.requires_grad_(True)
        spatial_encoder.requires_grad_(True)
        if what == "full":
            unet.requires_grad_(True)
        else:
            for block in unet.up_blocks:
                if hasattr(block, "zero_cross_attentions"):
                    block.zero_cross_attentions.requires_grad_(True)
            unet._gradient_stops = stop_gradients_in_encoder(unet)
    return dict(named_trainable(**networks))


def named_trainable(**networks: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """All parameters that require a gradient, as `component.name`."""
    for component, network in networks.items():
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                yield f"{component}.{name}", parameter


def stop_gradients_in_encoder(unet: TryOnUNet) -> list[Any]:
    """Run the U-Net's encoder and middle block outside of the gradient, as the authors do.

    Nothing in there is trained, but the garment embedding passes through; its gradient comes from the decoder and the
    spatial encoder alone, and the encoder keeps no activations.

    Returns:
        `list`: handles; `remove()` each to undo.
    """

    def detach(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        return tuple(_detached(value) for value in args), {key: _detached(value) for key, value in kwargs.items()}

    return [block.register_forward_pre_hook(detach, with_kwargs=True) for block in (*unet.down_blocks, unet.mid_block)]


def add_lora(network: nn.Module, rank: int, name: str = "tryon", seed: int = 0) -> None:
    """Add low-rank adapters to a network's attention projections; they are all that is trained in it.

    Args:
        network (`nn.Module`): A `TryOnUNet` or `SpatialEncoder`.
        rank (`int`): Rank of the adapters.
        name (`str`, *optional*, defaults to `"tryon"`): Name of the adapters.
        seed (`int`, *optional*, defaults to 0): Seed of their weights; the global generator stays as it is.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise MissingDependency("training adapters needs the package peft: pip install peft.") from error
    if not isinstance(rank, int) or rank < 1:
        raise InvalidInput(f"the adapters' rank is {rank!r}: pass a whole number from 1.")
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(LORA_TARGETS), init_lora_weights=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network.add_adapter(config, name)


def merge_lora(network: nn.Module) -> None:
    """Add the adapters to the weights that they adapt, and remove them: an ordinary network again."""
    network.fuse_lora()
    network.unload_lora()


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value
