"""Anything image-like to RGB images and masks, lists of them, and images to files."""

from __future__ import annotations

import functools
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from . import colour
from .decoding import MAX_PIXELS, ImageLike, decode
from .errors import InvalidInput
from .files import check_writable, replacing

if TYPE_CHECKING:
    import torch

__all__ = [
    "MAX_PIXELS",
    "ImageLike",
    "as_image_list",
    "as_mask_list",
    "check_image_path",
    "load_image",
    "load_mask",
    "load_photo",
    "resize",
    "resize_mask",
    "save_atomically",
    "to_tensor",
]

WHITE = (255, 255, 255)
MAX_NAME_BYTES = 220  # file systems take 255, and the name under which it is written first has some more
ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
GREY_MODES = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def load_image(
    image: ImageLike, *, name: str = "image", background: tuple[int, int, int] = WHITE, srgb: bool = False
) -> Image.Image:
    """An RGB image of anything image-like.

    Args:
        image (`str`, `os.PathLike`, `bytes`, binary file, `PIL.Image.Image`, `np.ndarray` or `torch.Tensor`):
            A path (`~` is the home folder), an http(s), file or data URL, an encoded file's bytes, a file opened for
            reading, a PIL image of any mode, an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or a tensor
            (3, H, W), (1, H, W) or (4, H, W). Arrays and tensors are uint8 in [0, 255], uint16 in [0, 65535], or
            float in [0, 1].
        name (`str`, *optional*, defaults to `"image"`): The argument's name in error messages.
        background (`tuple[int, int, int]`, *optional*, defaults to white): Colour behind transparent pixels.
        srgb (`bool`, *optional*, defaults to `False`):
            Convert the colours to sRGB, which networks expect, if the image has another colour profile. Otherwise the
            values stay as they decode, and the profile goes along in `info["icc_profile"]`.

    Returns:
        `PIL.Image.Image`: mode RGB, turned upright by its EXIF orientation. A PIL image that is all this already is
        returned itself, not copied.

    Raises:
        `InvalidInput`: if it is no image, is damaged, has values out of range, or has more than 120 megapixels.
        `MissingDependency`: if it is an HEIC file, and the package that reads it isn't installed.
    """
    loaded = load_photo(image, name=name)
    if srgb:
        loaded = colour.to_srgb(loaded)
    if loaded.mode == "RGBA":
        flat = Image.alpha_composite(Image.new("RGBA", loaded.size, (*background, 255)), loaded).convert("RGB")
        flat.info = loaded.info
        loaded = flat
    return loaded


def load_photo(image: ImageLike, *, name: str = "photo") -> Image.Image:
    """A photo with the values it decodes to, its transparency and its colour profile.

    Args:
        image, name: See `load_image`.

    Returns:
        `PIL.Image.Image`: mode RGB, or RGBA if parts are transparent; upright. Its colour profile, if it has a usable
        one, is in `info["icc_profile"]`. Only inks (CMYK) are converted, to sRGB.

    Raises:
        `InvalidInput`, `MissingDependency`: see `load_image`.
    """
    loaded = decode(image, name)
    profile = loaded.info.get("icc_profile")
    if loaded.mode == "CMYK":
        loaded = colour.to_srgb(loaded)
        profile = None
    elif profile and colour.is_grey(profile):
        profile = colour.rgb_profile_of_grey(profile) if loaded.mode in GREY_MODES else None
    if profile and not colour.is_usable(profile):
        profile = None
    if loaded.mode in ALPHA_MODES or "transparency" in loaded.info:
        loaded = loaded if loaded.mode == "RGBA" else loaded.convert("RGBA")
        if loaded.getchannel("A").getextrema() == (255, 255):
            loaded = loaded.convert("RGB")
    elif loaded.mode != "RGB":
        loaded = _to_eight_bit(loaded).convert("RGB")
    if profile != loaded.info.get("icc_profile"):
        if loaded is image:
            loaded = loaded.copy()
        loaded.info = {key: value for key, value in loaded.info.items() if key != "icc_profile"}
        if profile:
            loaded.info["icc_profile"] = profile
    return loaded


def load_mask(mask: ImageLike, *, name: str = "mask") -> Image.Image:
    """A mask of anything image-like, boolean arrays and arrays (1, H, W) included.

    Images are thresholded at 128. An alpha channel counts only where it is all that varies (a mask drawn into it).

    Args:
        mask (`ImageLike`): White = repaint; see `load_image`.
        name (`str`, *optional*, defaults to `"mask"`): The argument's name in error messages.

    Returns:
        `PIL.Image.Image`: mode L, exactly 0 or 255, 255 = repaint.

    Raises:
        `InvalidInput`: if it is no mask: a colour image, a grey agnostic image, or an unreadable file.
    """
    image = decode(_squeeze(mask), name)
    if image.mode in ("RGBA", "LA", "PA"):
        flat = image.convert("RGBA")
        colour_varies = any(low != high for low, high in flat.getextrema()[:3])
        image = flat.convert("RGB") if colour_varies else flat.getchannel("A")
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "RGB"):
        image = _to_eight_bit(image).convert("RGB")
    values = np.asarray(image)
    if values.ndim == 3:
        spread = values.max(axis=2).astype(np.int16) - values.min(axis=2)
        if float((spread > 32).mean()) > 0.01:
            raise InvalidInput(
                f"{name} is a colour image, not a mask: pass an image that is white where the person is to be "
                "repainted and black elsewhere (the grey agnostic image belongs in `agnostic`)."
            )
        values = values[..., 1]
    if values.max(initial=0) == 1:
        raise InvalidInput(f"{name} holds only 0 and 1 of 255: pass 0 and 255, floats, or a boolean array.")
    middling = float(((values > 48) & (values < 208)).mean())
    if middling > 0.25:
        raise InvalidInput(
            f"{name} is grey on {middling:.0%} of its area, so what to repaint isn't clear: "
            "pass white = repaint, black = keep (the grey agnostic image belongs in `agnostic`)."
        )
    return Image.fromarray(np.where(values >= 128, np.uint8(255), np.uint8(0)))


def as_image_list(images: Any, *, name: str = "image") -> tuple[list[Any], bool]:
    """Split a batch into single images without decoding them.

    Returns:
        `tuple[list, bool]`: the images, and whether `images` was a batch (list, tuple, or 4-dimensional array).

    Raises:
        `InvalidInput`: if it is None or an empty batch.
    """
    if images is None:
        raise InvalidInput(f"{name} is None: pass an image, a path, an array, a tensor, or a list of them.")
    if isinstance(images, (list, tuple)) or getattr(images, "ndim", None) == 4:
        items, batched = list(images), True
    else:
        items, batched = [images], False
    if not items:
        raise InvalidInput(f"{name} is an empty list: pass at least one image.")
    return items, batched


def as_mask_list(masks: Any, *, name: str = "mask") -> tuple[list[Any], bool]:
    """Split a batch into single masks without decoding them; as `as_image_list`, for arrays (N, H, W) too.

    Three or four planes of a tensor (C, H, W) are masks of their own if they are boolean or differ; otherwise the
    tensor is one mask, stored as a colour image.

    Returns:
        `tuple[list, bool]`: the masks, and whether `masks` was a batch.

    Raises:
        `InvalidInput`: if it is None or an empty batch, or might be one mask as well as four.
    """
    if getattr(masks, "ndim", None) == 3 and _is_mask_stack(masks, name):
        masks = list(masks)
    return as_image_list(masks, name=name)


def check_image_path(path: str | os.PathLike[str]) -> Path:
    """Make sure that an RGB image can be saved under a name; call it before long work.

    Raises:
        `InvalidInput`: if the ending is of no format that holds RGB, or the path can't be a file.
    """
    path = Path(path)
    image_format = Image.registered_extensions().get(path.suffix.lower())
    if image_format in ("ICO", "ICNS") or not _can_hold(image_format, "RGB"):  # icons come in sizes of their own
        raise InvalidInput(f"{path} has no known image ending: use .png, .jpg or .webp.")
    if len(os.fsencode(path.name)) > MAX_NAME_BYTES:
        raise InvalidInput(f"the file name {path.name[:60]}… is too long: use one of at most {MAX_NAME_BYTES} bytes.")
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder: pass the name of an image file.")
    check_writable(path.parent, path)
    return path


def save_atomically(image: Image.Image, path: str | os.PathLike[str], **options: Any) -> None:
    """Save an image under a temporary name, then rename: an interrupted run leaves no half-written file.

    A colour profile in the image's `info` is saved along. Transparency becomes white where the format has none.

    Args:
        image (`PIL.Image.Image`): RGB, RGBA, or another mode that the format holds.
        path (`str` or `os.PathLike`): The file; its ending says the format. Its folder is made.
        options: For PIL's `save`.

    Raises:
        `InvalidInput`: as from `check_image_path`.
    """
    path = check_image_path(path)
    if image.mode == "RGBA" and not _can_hold(Image.registered_extensions()[path.suffix.lower()], "RGBA"):
        image = load_image(image)
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = image.info.get("icc_profile")
    if profile and "icc_profile" not in options:  # not every format's writer takes it from the image
        options["icc_profile"] = profile
    with replacing(path) as partial:
        image.save(partial, **options)


def to_tensor(image: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """An RGB image, scaled to a size (width, height), as a tensor (3, H, W) in [-1, 1].

    Contiguous: in channels-last order group norm on the CPU loses three digits on flat regions such as the grey one.
    """
    import torch

    array = np.asarray(resize(image, size), dtype=np.float32)
    return torch.from_numpy(array / 127.5 - 1.0).permute(2, 0, 1).contiguous()


def resize(
    image: Image.Image, size: tuple[int, int], resample: Image.Resampling = Image.Resampling.LANCZOS
) -> Image.Image:
    """An image scaled to a size (width, height); the same image if it has that size."""
    return image if image.size == size else image.resize(size, resample)


def resize_mask(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A mask (mode L) scaled to a size (width, height), exactly 0 or 255; the same mask if it has that size."""
    if mask.size == size:
        return mask
    return binarize(mask.resize(size, Image.Resampling.BILINEAR))


def binarize(mask: Image.Image) -> Image.Image:
    """A mask (mode L) that is exactly 0 or 255: 255 from 128."""
    return mask.point([0] * 128 + [255] * 128)


@functools.cache
def _can_hold(image_format: str | None, mode: str) -> bool:
    if image_format is None:
        return False
    try:
        Image.new(mode, (16, 16)).save(io.BytesIO(), image_format)
    except (KeyError, OSError, ValueError):  # some formats can only be read, some don't know the mode
        return False
    return True


def _is_mask_stack(masks: np.ndarray | torch.Tensor, name: str) -> bool:
    """Whether a three-dimensional array is (N, H, W), and not one image (H, W, C), or of a tensor (C, H, W)."""
    if isinstance(masks, np.ndarray):
        return masks.shape[2] not in (1, 3, 4)
    if masks.shape[0] not in (3, 4):
        return masks.shape[0] != 1
    if str(masks.dtype) == "torch.bool":
        return True
    if not all(bool((masks[plane] == masks[0]).all()) for plane in (1, 2)):
        return True
    if masks.shape[0] == 4 and bool((masks[3] != masks[3].max()).any()):
        raise InvalidInput(
            f"{name} is a tensor of shape {tuple(masks.shape)} that may be four masks, or one with an alpha channel: "
            "pass a list."
        )
    return False


def _squeeze(mask: Any) -> Any:
    """The only mask of an array (1, H, W)."""
    if isinstance(mask, np.ndarray) and mask.ndim == 3 and mask.shape[0] == 1 and mask.shape[2] not in (1, 3, 4):
        return mask[0]
    return mask


def _to_eight_bit(image: Image.Image) -> Image.Image:
    """PIL's own conversion clips 16-bit grey at 255; scale it instead."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image).astype(np.float64))
        high = values.max(initial=0.0)
        if image.mode == "F" and high <= 1.0:
            values = values * 255
        elif image.mode.startswith("I;16") or high > 255:
            values = values / 257
        return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
    return image
