"""Encodings of prepared images, made once for the same pixels and the same weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence

import torch

from ..models.packing import version_of
from ..preprocessing.encodings import Encodings

SAMPLES = 64  # values of every tensor by which weights are told apart


def encode_kept(
    pixels: Sequence[torch.Tensor],
    kept: Sequence[Encodings],
    network: torch.nn.Module,
    encode: Callable[[torch.Tensor], torch.Tensor],
    device: torch.device,
    batch_size: int | None = None,
) -> torch.Tensor:
    """Encodings of images, each made once as long as the network stays the same.

    Args:
        pixels (`Sequence[torch.Tensor]`): One (3, height, width) for each image, on the CPU.
        kept (`Sequence[Encodings]`): Where each image's encodings are kept.
        network (`torch.nn.Module`): The encoder.
        encode (`Callable`): Takes (N, 3, height, width), returns (N, …).
        device (`torch.device`): Where the results go.
        batch_size (`int`, *optional*): How many to encode at a time; all by default.

    Returns:
        `torch.Tensor`: (N, …).
    """
    identity = identify(network)
    keys = [(identity, _digest(image)) for image in pixels]
    found = [None if identity is None else store.get(key) for store, key in zip(kept, keys, strict=True)]
    missing = [place for place, encoding in enumerate(found) if encoding is None]
    for first in range(0, len(missing), batch_size or max(len(missing), 1)):
        places = missing[first : first + (batch_size or len(missing))]
        made = encode(torch.stack([pixels[place] for place in places]))
        for place, encoding in zip(places, made, strict=True):
            found[place] = encoding
            if identity is not None:
                kept[place].keep(keys[place], encoding.to("cpu", copy=True))
    return torch.stack([encoding.to(device) for encoding in found])


def identify(network: torch.nn.Module) -> Hashable | None:
    """What tells a network's results apart from another's, or its own from before its weights changed.

    The object, the type of its numbers, its tensors' versions, and a sample of their values, since not every way to
    change a tensor counts its versions.

    Returns:
        `Hashable`, or None if it can't be told: weights are elsewhere (offloaded), quantised, or have adapters, whose
        strength is no tensor.
    """
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    plain = (torch.Tensor, torch.nn.Parameter)
    if any(type(tensor) not in plain or tensor.is_meta or "lora_" in name for name, tensor in tensors.items()):
        return None
    samples = [_sample(tensor) for tensor in tensors.values()]
    values = torch.cat(samples).cpu().numpy().tobytes() if samples else b""
    forms = tuple((name, tensor.dtype, tuple(tensor.shape), version_of(tensor)) for name, tensor in tensors.items())
    tiled = getattr(network, "use_tiling", False)
    return id(network), tiled, hash(forms), hashlib.blake2b(values, digest_size=16).digest()


def _sample(tensor: torch.Tensor) -> torch.Tensor:
    """Values spread over a tensor's memory, without a copy of it."""
    tensor = tensor.detach()
    count = min(SAMPLES, tensor.numel())
    spread = tensor.as_strided((count,), (max(1, tensor.numel() // max(count, 1)),), tensor.storage_offset())
    return spread.float()


def _digest(pixels: torch.Tensor) -> bytes:
    return hashlib.blake2b(pixels.contiguous().numpy().tobytes(), digest_size=16).digest()
