"""Checks of the pipeline's arguments."""

from __future__ import annotations

import math
import numbers
import threading
from typing import Any

import numpy as np
import torch

from ..errors import CallCancelled, InvalidInput
from ..preprocessing.frame import same_aspect
from ..preprocessing.garment import PreparedGarment
from ..preprocessing.inputs import TryOnInputs

INITS = ("agnostic", "person", "noise")
ON_ERROR = ("raise", "skip")
OUTPUT_TYPES = ("pil", "np", "pt", "latent")


def check_choices(
    *,
    height: int,
    width: int,
    multiple: int,
    num_inference_steps: int,
    guidance_scale: float,
    num_images_per_prompt: int,
    init_from: str,
    feather: float,
    detail: float,
    output_type: str,
    on_error: str,
    cancel_event: threading.Event | None,
) -> None:
    """Refuse sizes, counts and choices that can't work."""
    for name, value in (("height", height), ("width", width)):
        if not _is_count(value) or value < multiple or value % multiple or value > 4096:
            raise InvalidInput(f"{name} is {value!r}: pass a multiple of {multiple} up to 4096.")
    if not _is_count(num_inference_steps) or not 1 <= num_inference_steps <= 1000:
        raise InvalidInput(f"num_inference_steps is {num_inference_steps!r}: pass a whole number from 1 to 1000.")
    if not _is_count(num_images_per_prompt) or num_images_per_prompt < 1:
        raise InvalidInput(f"num_images_per_prompt is {num_images_per_prompt!r}: pass a whole number from 1.")
    if not isinstance(guidance_scale, numbers.Real) or not math.isfinite(guidance_scale) or guidance_scale < 0:
        raise InvalidInput(f"guidance_scale is {guidance_scale!r}: pass a number from 0 (up to 1 it is off).")
    if init_from not in INITS:
        raise InvalidInput(f"init_from is {init_from!r}: pass one of {', '.join(map(repr, INITS))}.")
    if output_type not in OUTPUT_TYPES:
        raise InvalidInput(f"output_type is {output_type!r}: pass one of {', '.join(map(repr, OUTPUT_TYPES))}.")
    if not isinstance(feather, numbers.Real) or not math.isfinite(feather) or feather < 0:
        raise InvalidInput(f"feather is {feather!r}: pass a number of pixels from 0.")
    if not isinstance(detail, numbers.Real) or not 0 <= detail <= 1:
        raise InvalidInput(f"detail is {detail!r}: pass a number from 0 (off) to 1.")
    if on_error not in ON_ERROR:
        raise InvalidInput(f"on_error is {on_error!r}: pass one of {', '.join(map(repr, ON_ERROR))}.")
    if cancel_event is not None and not callable(getattr(cancel_event, "is_set", None)):
        raise InvalidInput(f"cancel_event is a {type(cancel_event).__name__}: pass a threading.Event.")


def check_tensors(
    *,
    generator: torch.Generator | list[torch.Generator] | None,
    latents: torch.Tensor | None,
    batch_size: int,
    latent_shape: tuple[int, int, int],
) -> None:
    """Refuse generators and latents that don't fit the number of images."""
    if isinstance(generator, (list, tuple)):
        if len(generator) != batch_size:
            raise InvalidInput(
                f"generator is a list of {len(generator)} for {batch_size} images: pass one for each, or just one."
            )
        if not all(isinstance(entry, torch.Generator) for entry in generator):
            raise InvalidInput("generator holds something that is no torch.Generator.")
    elif generator is not None and not isinstance(generator, torch.Generator):
        raise InvalidInput(f"generator is a {type(generator).__name__}: pass a torch.Generator or a list of them.")
    if latents is not None:
        expected = (batch_size, *latent_shape)
        if not isinstance(latents, torch.Tensor) or tuple(latents.shape) != expected:
            shape = tuple(getattr(latents, "shape", ())) or type(latents).__name__
            raise InvalidInput(f"latents is {shape}: pass a tensor of shape {expected}.")
        if not torch.isfinite(latents).all():
            raise InvalidInput("latents holds NaN or infinite values: pass finite ones.")


def check_person(inputs: TryOnInputs, size: tuple[int, int]) -> TryOnInputs:
    """A prepared person that fits the network's size and has something to repaint and something to keep.

    Args:
        inputs (`TryOnInputs`): The person.
        size (`tuple[int, int]`): Width and height that the network works at.
    """
    if not same_aspect(inputs.frame.size, size):
        raise InvalidInput(
            f"it was prepared for a frame of {inputs.frame.size[0]} x {inputs.frame.size[1]}, which isn't "
            f"{size[0]}:{size[1]}: prepare it again for this width and height."
        )
    low, high = inputs.frame_mask.getextrema()
    if high < 128:
        raise InvalidInput("the mask is all black, so nothing would be repainted: white = repaint.")
    if low >= 128:
        raise InvalidInput("the mask is all white, so nothing of the person would be kept.")
    return inputs


def check_garment(garment: PreparedGarment, size: tuple[int, int]) -> PreparedGarment:
    """A prepared garment whose canvas fits the network's size.

    Args:
        garment (`PreparedGarment`): The garment.
        size (`tuple[int, int]`): Width and height that the network works at.
    """
    if not same_aspect(garment.image.size, size):
        raise InvalidInput(
            f"it was prepared on a canvas of {garment.image.width} x {garment.image.height}, which isn't "
            f"{size[0]}:{size[1]}: prepare it again for this width and height."
        )
    return garment


def raise_if_set(cancel_event: threading.Event | None) -> None:
    """Leave a call that was cancelled.

    Raises:
        `CallCancelled`: if the event is set.
    """
    if cancel_event is not None and cancel_event.is_set():
        raise CallCancelled("the call was cancelled: its cancel_event is set.")


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
