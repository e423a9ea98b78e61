"""Checks of the pipeline's arguments."""

from __future__ import annotations

import threading

import torch

from ..choices import INIT_FROM, ON_ERROR, OUTPUT_TYPES
from ..errors import CallCancelled, InvalidInput, TryOnError
from ..preprocessing.frame import same_aspect
from ..preprocessing.garment import PreparedGarment
from ..preprocessing.inputs import TryOnInputs
from ..validation import check_choice, is_number, is_whole_number


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
    batch_size: int | None,
    cancel_event: threading.Event | None,
) -> None:
    """Refuse sizes, counts and choices that can't work."""
    for name, value in (("height", height), ("width", width)):
        if not is_whole_number(value) or value < multiple or value % multiple or value > 4096:
            raise InvalidInput(f"{name} is {value!r}: pass a multiple of {multiple} up to 4096.")
    if not is_whole_number(num_inference_steps) or not 1 <= num_inference_steps <= 1000:
        raise InvalidInput(f"num_inference_steps is {num_inference_steps!r}: pass a whole number from 1 to 1000.")
    if not is_whole_number(num_images_per_prompt) or num_images_per_prompt < 1:
        raise InvalidInput(f"num_images_per_prompt is {num_images_per_prompt!r}: pass a whole number from 1.")
    if not is_number(guidance_scale, 0):
        raise InvalidInput(f"guidance_scale is {guidance_scale!r}: pass a number from 0 (up to 1 it is off).")
    check_choice("init_from", init_from, INIT_FROM)
    check_choice("output_type", output_type, OUTPUT_TYPES)
    check_choice("on_error", on_error, ON_ERROR)
    if not is_number(feather, 0):
        raise InvalidInput(f"feather is {feather!r}: pass a number of pixels from 0.")
    if not is_number(detail, 0, 1):
        raise InvalidInput(f"detail is {detail!r}: pass a number from 0 (off) to 1.")
    if batch_size is not None and (not is_whole_number(batch_size) or batch_size < 1):
        raise InvalidInput(f"batch_size is {batch_size!r}: pass a whole number from 1, or None for all at once.")
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
    _check_aspect("for a frame", inputs.frame.size, size)
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
    _check_aspect("on a canvas", garment.image.size, size)
    return garment


def check_finite(values: torch.Tensor, dtype: torch.dtype) -> None:
    """Refuse what a network computed if it is no numbers: an image of it would be black.

    Args:
        values (`torch.Tensor`): Latents or pixels.
        dtype (`torch.dtype`): Number type that the network computes in.

    Raises:
        `TryOnError`: if any is NaN or infinite.
    """
    if not bool(torch.isfinite(values).all()):
        cure = "load them in bfloat16 or float32" if dtype == torch.float16 else "fetch or convert them again"
        raise TryOnError(f"the networks computed NaN or infinite values in {dtype}, so there is no image: {cure}.")


def raise_if_set(cancel_event: threading.Event | None) -> None:
    """Leave a call that was cancelled.

    Raises:
        `CallCancelled`: if the event is set.
    """
    if cancel_event is not None and cancel_event.is_set():
        raise CallCancelled("the call was cancelled: its cancel_event is set.")


def _check_aspect(prepared: str, found: tuple[int, int], size: tuple[int, int]) -> None:
    if not same_aspect(found, size):
        raise InvalidInput(
            f"it was prepared {prepared} of {found[0]} x {found[1]}, which isn't {size[0]}:{size[1]}: "
            "prepare it again for this width and height."
        )
