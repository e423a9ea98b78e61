"""Layers by oneDNN's own functions on a CPU: weights laid out once instead of at every call, additions fused."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

PACKED_TYPES = (torch.float32, torch.bfloat16)
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
SAMPLES = 256  # values of a weight by which a change is noticed that no version counter sees


class PackedWeight:
    """A convolution's weight in oneDNN's own layout, made at the first call and again when the weight has changed.

    Copies and pickles of a network start without.
    """

    def __init__(self) -> None:
        self._made: tuple[tuple[Any, ...], torch.Tensor, torch.Tensor] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedWeight, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedWeight:
        return PackedWeight()

    def of(self, convolution: nn.Conv2d, input_shape: torch.Size) -> torch.Tensor:
        """The weight, laid out for inputs of this shape; others can be computed with it too."""
        weight = convolution.weight.detach()
        key = (weight.data_ptr(), version_of(convolution.weight), weight.dtype, weight.shape)
        step = max(1, weight.numel() // SAMPLES)
        sample = weight.as_strided((weight.numel() // step,), (step,), weight.storage_offset())
        made = self._made
        if made is None or made[0] != key or not torch.equal(made[1], sample):
            packed = torch.ops.mkldnn._reorder_convolution_weight(
                weight,
                convolution.padding,
                convolution.stride,
                convolution.dilation,
                convolution.groups,
                list(input_shape),
            )
            made = self._made = key, sample.clone(), packed
        return made[2]


def pack_convolutions(network: nn.Module) -> int:
    """Lay the weights of a network's larger convolutions out once; their results stay the same to the bit.

    They take twice their memory then.

    Args:
        network (`nn.Module`): On the CPU, in float32 or bfloat16.

    Returns:
        `int`: how many bytes it will take.
    """
    size = 0
    for module in network.modules():
        if type(module) is nn.Conv2d and module.kernel_size != (1, 1) and module.padding_mode == "zeros":
            module._packed_weight = PackedWeight()
            size += module.weight.numel() * module.weight.element_size()
    return size


def unpack_convolutions(network: nn.Module) -> None:
    """Forget what `pack_convolutions` laid out."""
    for module in network.modules():
        module.__dict__.pop("_packed_weight", None)


def convolve(
    convolution: nn.Module, hidden_states: torch.Tensor, residual: torch.Tensor | None = None
) -> torch.Tensor:
    """A convolution's result, and a residual added to it; by its packed weight where it has one."""
    packed = convolution.__dict__.get("_packed_weight")
    if packed is None or not _fits(convolution, hidden_states):
        result = convolution(hidden_states)
        return result if residual is None else result.add_(residual)
    weight = packed.of(convolution, hidden_states.shape)
    geometry = (convolution.padding, convolution.stride, convolution.dilation, convolution.groups)
    if residual is None:
        return torch.ops.mkldnn._convolution_pointwise(
            hidden_states, weight, convolution.bias, *geometry, "none", [], ""
        )
    return torch.ops.mkldnn._convolution_pointwise.binary(
        hidden_states, residual, weight, convolution.bias, *geometry, "add", None, None, [], None
    )


def project(linear: nn.Module, hidden_states: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
    """A linear layer's result, and a residual added to it.

    On a CPU by oneDNN in one pass: `F.linear` takes another library in float32, and writes the bias first.
    """
    if type(linear) is not nn.Linear or is_hooked(linear) or not _fits(linear, hidden_states):
        result = linear(hidden_states)
        return result if residual is None else result.add_(residual)
    return multiply(hidden_states, linear.weight, linear.bias, residual)


def multiply(
    hidden_states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, residual: torch.Tensor | None = None
) -> torch.Tensor:
    """`F.linear`, and a residual added to it."""
    if not (weight.device.type == "cpu" and weight.dtype in PACKED_TYPES and HAS_ONEDNN):
        result = F.linear(hidden_states, weight, bias)
        return result if residual is None else result.add_(residual)
    if residual is None:
        return torch.ops.mkldnn._linear_pointwise(hidden_states, weight, bias, "none", [], "")
    return torch.ops.mkldnn._linear_pointwise.binary(hidden_states, residual, weight, bias, "add")


def is_hooked(module: nn.Module) -> bool:
    """Whether something hangs on a module's call: hooks, offloading, casting, compilation."""
    return (
        bool(module._forward_hooks or module._forward_pre_hooks)
        or getattr(module, "_hf_hook", None) is not None
        or bool(getattr(getattr(module, "_diffusers_hook", None), "hooks", None))
        or getattr(module, "_compiled_call_impl", None) is not None
    )


def version_of(tensor: torch.Tensor) -> int:
    """How often a tensor was changed in place, as far as torch counts it: tensors of inference mode have no count."""
    return 0 if tensor.is_inference() else tensor._version


def _fits(layer: nn.Module, hidden_states: torch.Tensor) -> bool:
    """Whether oneDNN's own functions can be called with a layer's weight."""
    weight = layer.weight
    return (
        HAS_ONEDNN
        and weight.device.type == "cpu"
        and weight.dtype == hidden_states.dtype
        and weight.dtype in PACKED_TYPES
        and type(weight) is nn.Parameter  # not a quantised tensor's class
        and not torch.is_grad_enabled()
    )
