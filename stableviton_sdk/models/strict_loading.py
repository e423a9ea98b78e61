"""Loading that leaves no tensor random, and saving what can be loaded: diffusers only logs what a file lacks."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from diffusers import ModelMixin

from ..errors import IncompatibleCheckpoint, InvalidInput


class StrictLoadingMixin:
    """`from_pretrained` that refuses weights with a tensor missing, one too many, or one of another shape."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Load a saved network, as `ModelMixin.from_pretrained` does.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Folder or Hub repository.
            kwargs: See `ModelMixin.from_pretrained`.

        Raises:
            `IncompatibleCheckpoint`: naming the first tensor that is missing or too many, or diffusers' own sentence
                on one of another shape.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        owner = f"{pretrained_model_name_or_path}'s {cls.__name__}"
        try:
            model, info = super().from_pretrained(pretrained_model_name_or_path, output_loading_info=True, **kwargs)
        except (ValueError, RuntimeError) as error:
            text = " ".join(str(error).split())
            if "expected shape" not in text and "size mismatch" not in text:
                raise
            raise IncompatibleCheckpoint(
                f"{owner} has a tensor of another shape ({text[:200]}): it is damaged, or of another architecture."
            ) from error
        missing, surplus = (dict.fromkeys(info.get(f"{kind}_keys", ()), ()) for kind in ("missing", "unexpected"))
        refuse_differences(owner, missing, surplus)
        return (model, info) if wants_info else model

    # a pipeline looks at this method's signature for what to pass on: format, variant, size of the shards
    @functools.wraps(ModelMixin.save_pretrained, assigned=(), updated=())
    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save the network, as `ModelMixin.save_pretrained` does.

        Args:
            save_directory (`str` or `os.PathLike`): Folder to write.
            args, kwargs: As for `ModelMixin.save_pretrained`.

        Raises:
            `InvalidInput`: if adapters are in place, with which it couldn't be loaded.
        """
        refuse_adapters({type(self).__name__: self})
        super().save_pretrained(save_directory, *args, **kwargs)


def refuse_adapters(components: Mapping[str, Any]) -> None:
    """Refuse to save networks with adapters in place: a folder of them couldn't be loaded.

    Args:
        components (`Mapping[str, Any]`): By name; what is no network is passed over.

    Raises:
        `InvalidInput`: naming the networks, and what to do.
    """
    adapted = [
        name
        for name, component in components.items()
        if isinstance(component, torch.nn.Module)
        and any(".base_layer." in f".{key}" for key, _ in component.named_parameters())
    ]
    if adapted:
        raise InvalidInput(
            f"{' and '.join(adapted)} can't be saved with adapters in place: save those alone with save_lora_weights, "
            "then call unload_lora_weights, after fuse_lora if they are to be merged into what is saved."
        )


def refuse_differences(
    owner: str,
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
    source_of: Callable[[str], str | None] | None = None,
) -> None:
    """Refuse a network's tensors that aren't those that it needs.

    Args:
        owner (`str`): Owner of the tensors, for the message.
        expected (`Mapping[str, tuple[int, ...]]`), found (`Mapping[str, tuple[int, ...]]`): Shapes by name.
        source_of (`Callable[[str], str | None]`, *optional*):
            The name that the file itself has for a tensor, where it has another one.

    Raises:
        `IncompatibleCheckpoint`: naming the first tensor that is missing, unknown, or of another shape.
    """

    def named(key: str) -> str:
        source = source_of(key) if source_of else None
        return f"{source!r} (here {key!r})" if source else repr(key)

    missing = sorted(expected.keys() - found.keys())
    surplus = sorted(found.keys() - expected.keys())
    if missing:
        problem = f"lacks {len(missing)} tensor(s), the first is {named(missing[0])}"
    elif surplus:
        problem = f"has {len(surplus)} tensor(s) too many, the first is {named(surplus[0])}"
    else:
        wrong = next((key for key, shape in expected.items() if found[key] != shape), None)
        if wrong is None:
            return
        problem = f"has the tensor {named(wrong)} of shape {found[wrong]} where {expected[wrong]} is needed"
    raise IncompatibleCheckpoint(f"{owner} {problem}: it is damaged, or of another architecture.")
