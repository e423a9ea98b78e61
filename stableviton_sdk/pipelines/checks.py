"""The door: whatever a caller passes becomes lists of prepared persons and of garments, or one clear sentence."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import InvalidInput
from ..images import MAX_PIXELS, ImageLike, as_image_list, load_image, load_mask
from ..preprocessing.frame import Frame, choose_frame, same_aspect
from ..preprocessing.inputs import TryOnInputs

STARTS = ("agnostic", "person", "noise")
OUTPUT_TYPES = ("pil", "np", "pt", "latent")


def check_numbers(
    *,
    height: int,
    width: int,
    multiple: int,
    num_inference_steps: int,
    guidance_scale: float,
    num_images_per_prompt: int,
    start: str,
    output_type: str,
    feather: float,
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
        raise InvalidInput(f"guidance_scale is {guidance_scale!r}: pass a number from 0 (1 turns guidance off).")
    if start not in STARTS:
        raise InvalidInput(f"start is {start!r}: pass one of {', '.join(map(repr, STARTS))}.")
    if output_type not in OUTPUT_TYPES:
        raise InvalidInput(f"output_type is {output_type!r}: pass one of {', '.join(map(repr, OUTPUT_TYPES))}.")
    if not isinstance(feather, numbers.Real) or not math.isfinite(feather) or feather < 0:
        raise InvalidInput(f"feather is {feather!r}: pass a number of pixels from 0.")


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


def collect_inputs(
    person: Any,
    *,
    mask: Any,
    agnostic: Any,
    densepose: Any,
    aspect: tuple[int, int],
    prepare: Callable[[ImageLike], TryOnInputs],
) -> list[TryOnInputs]:
    """Make a `TryOnInputs` of every person.

    Args:
        person: One photo or `TryOnInputs`, or a list of them.
        mask, agnostic, densepose: Maps of the whole photo, one for each person, or None to derive them.
        aspect (`tuple[int, int]`): Width and height that the network works at.
        prepare (`Callable`): Derives what isn't given from a photo.

    Returns:
        `list[TryOnInputs]`: one for each person.

    Raises:
        `InvalidInput`: naming the argument that doesn't fit.
    """
    persons, _ = ([person], False) if isinstance(person, TryOnInputs) else as_image_list(person, name="person")
    given = {"mask": mask, "agnostic": agnostic, "densepose": densepose}
    maps = {name: _spread(value, len(persons), name) for name, value in given.items()}
    collected = []
    for index, entry in enumerate(persons):
        label = "person" if len(persons) == 1 else f"person[{index}]"
        explicit = {name: values[index] for name, values in maps.items() if values[index] is not None}
        if isinstance(entry, TryOnInputs):
            inputs = _override(entry, explicit)
        elif "mask" in explicit and "densepose" in explicit:
            inputs = _from_maps(load_image(entry, name=label), explicit, aspect)
        else:
            inputs = _override(prepare(load_image(entry, name=label)), explicit)
        if not same_aspect(inputs.frame.size, aspect):
            raise InvalidInput(
                f"{label} was prepared for a frame of {inputs.frame.size[0]} x {inputs.frame.size[1]}, which isn't "
                f"{aspect[0]}:{aspect[1]}: prepare it again for this width and height."
            )
        low, high = inputs.mask.getextrema()
        if high < 128:
            raise InvalidInput(f"the mask of {label} is all black, so nothing would be repainted: white = repaint.")
        if low >= 128:
            raise InvalidInput(f"the mask of {label} is all white, so nothing of the person would be kept.")
        collected.append(inputs)
    return collected


def pair_up(persons: int, garments: int) -> list[tuple[int, int]]:
    """Which person wears which garment: one with N, N with one, or N with N pairwise."""
    if persons == garments:
        return list(zip(range(persons), range(garments), strict=True))
    if persons == 1:
        return [(0, garment) for garment in range(garments)]
    if garments == 1:
        return [(person, 0) for person in range(persons)]
    raise InvalidInput(
        f"{persons} persons and {garments} garments can't be paired: pass one of either, or equal numbers."
    )


def _from_maps(photo: Image.Image, explicit: dict[str, Any], aspect: tuple[int, int]) -> TryOnInputs:
    """Frame a photo whose maps are given."""
    images = {name: _load_map(name, value, photo) for name, value in explicit.items()}
    box = images["mask"].getbbox()
    if box is not None:
        scale_x, scale_y = photo.width / images["mask"].width, photo.height / images["mask"].height
        box = (
            int(box[0] * scale_x),
            int(box[1] * scale_y),
            math.ceil(box[2] * scale_x),
            math.ceil(box[3] * scale_y),
        )
    frame = choose_frame(photo.size, aspect, box)
    if frame.size[0] * frame.size[1] > MAX_PIXELS:  # a panorama, padded
        raise InvalidInput(
            f"a frame of {aspect[0]}:{aspect[1]} around the mask of this {photo.width} x {photo.height} photo would "
            f"be {frame.size[0]} x {frame.size[1]}: crop the photo around the person first."
        )
    inputs = TryOnInputs(
        photo=photo,
        frame=frame,
        person=_crop(frame, "person", photo),
        mask=_crop(frame, "mask", images["mask"]),
        densepose=_crop(frame, "densepose", images["densepose"]),
    )
    if "agnostic" in images:
        return inputs.replace(agnostic=_crop(frame, "agnostic", images["agnostic"]))
    return inputs


def _override(inputs: TryOnInputs, explicit: dict[str, Any]) -> TryOnInputs:
    """Explicit maps, which show the whole photo, win over the prepared ones."""
    if not explicit:
        return inputs
    return inputs.replace(
        **{name: _crop(inputs.frame, name, _load_map(name, value, inputs.photo)) for name, value in explicit.items()}
    )


def _load_map(name: str, value: Any, photo: Image.Image) -> Image.Image:
    image = load_mask(value) if name == "mask" else load_image(value, name=name)
    if not same_aspect(image.size, photo.size):
        raise InvalidInput(
            f"{name} is {image.width} x {image.height} for a photo of {photo.width} x {photo.height}: "
            "it must show the whole photo, in the photo's proportions."
        )
    return image


def _crop(frame: Frame, name: str, image: Image.Image) -> Image.Image:
    if name == "mask":
        # kept at its own resolution: the paste-back follows a hand-drawn mask to the photo's pixel
        framed = frame.crop(image, resample=Image.Resampling.BILINEAR, fill=0)
        return framed.point(lambda value: 255 if value >= 128 else 0)
    if name == "densepose":
        return frame.crop(image, resample=Image.Resampling.BILINEAR, fill=(0, 0, 0))
    return frame.crop(image)


def _spread(value: Any, count: int, name: str) -> list[Any]:
    if value is None:
        return [None] * count
    items, _ = as_image_list(value, name=name)
    if len(items) != count:
        raise InvalidInput(f"{name} holds {len(items)} images for {count} persons: pass one for each.")
    return items


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
