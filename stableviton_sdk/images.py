"""Anything image-like to PIL images: paths, URLs, bytes, arrays, tensors; EXIF, alpha, 16 bit, bombs."""

from __future__ import annotations

import functools
import io
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import InvalidInput
from .files import check_writable, replacing

if TYPE_CHECKING:
    import torch

ImageLike = Union[str, os.PathLike, bytes, Image.Image, np.ndarray, "torch.Tensor"]

WHITE = (255, 255, 255)
MAX_PIXELS = 120_000_000  # a 100-megapixel camera passes, a decompression bomb doesn't
MAX_DOWNLOAD_BYTES = 200 * 2**20
MAX_NAME_BYTES = 220  # file systems take 255, and the name under which it is written first has some more
DOWNLOAD_TIMEOUT = 30.0  # seconds
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, RuntimeError)  # what PIL raises; the last one for AVIF


def load_image(image: ImageLike, *, name: str = "image", background: tuple[int, int, int] = WHITE) -> Image.Image:
    """Make an RGB image of anything image-like.

    Args:
        image (`str`, `os.PathLike`, `bytes`, `PIL.Image.Image`, `np.ndarray` or `torch.Tensor`):
            A path, an http(s) URL, an encoded file's bytes, a PIL image of any mode, an array (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4), or a tensor (3, H, W), (1, H, W) or (4, H, W). Arrays and tensors are uint8 in
            [0, 255], uint16 in [0, 65535], or float in [0, 1].
        name (`str`, *optional*, defaults to `"image"`): What the error messages call it.
        background (`tuple[int, int, int]`, *optional*, defaults to white): Colour behind transparent pixels.

    Returns:
        `PIL.Image.Image`: mode RGB, turned upright by its EXIF orientation.

    Raises:
        `InvalidInput`: if it is no image, is damaged, has values out of range, or has more than 120 megapixels.
    """
    loaded = _open(image, name)
    profile = loaded.info.get("icc_profile")
    if loaded.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in loaded.info:
        canvas = Image.new("RGBA", loaded.size, (*background, 255))
        loaded = Image.alpha_composite(canvas, loaded.convert("RGBA")).convert("RGB")
        if profile:
            loaded.info["icc_profile"] = profile
    elif loaded.mode != "RGB":
        loaded = _to_eight_bit(loaded).convert("RGB")
    if profile and profile[16:20] != b"RGB ":  # it tells how to read inks or greys, which these values are no longer
        loaded.info.pop("icc_profile", None)
    return loaded


def load_mask(mask: ImageLike, *, name: str = "mask") -> Image.Image:
    """Make a mask (mode L, exactly 0 or 255, 255 = repaint) of anything image-like, boolean arrays included.

    Images are thresholded at 128. An alpha channel counts only where it is all that varies (a mask drawn into it).

    Raises:
        `InvalidInput`: if it is no mask: a colour image, a grey agnostic image, or an unreadable file.
    """
    image = _open(mask, name)
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
            f"{name} is grey on {middling:.0%} of its area, so it can't be told what to repaint: "
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


def check_image_path(path: str | os.PathLike) -> Path:
    """Make sure that an RGB image can be saved under a name; call it before long work.

    Raises:
        `InvalidInput`: if the ending is of no format that holds RGB, or the path can't be a file.
    """
    path = Path(path)
    image_format = Image.registered_extensions().get(path.suffix.lower())
    if image_format in ("ICO", "ICNS") or not _holds_rgb(image_format):  # icons come in sizes of their own
        raise InvalidInput(f"{path} has no known image ending: use .png, .jpg or .webp.")
    if len(os.fsencode(path.name)) > MAX_NAME_BYTES:
        raise InvalidInput(f"the file name {path.name[:60]}… is too long: use one of at most {MAX_NAME_BYTES} bytes.")
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder: pass the name of an image file.")
    check_writable(path.parent, path)
    return path


def save_atomically(image: Image.Image, path: str | os.PathLike, **options: Any) -> None:
    """Save an image under a temporary name, then rename: an interrupted run leaves no half-written file."""
    path = check_image_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = image.info.get("icc_profile")
    if profile and "icc_profile" not in options:  # not every format's writer takes it from the image
        options["icc_profile"] = profile
    with replacing(path) as partial:
        image.save(partial, **options)


def to_tensor(image: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """RGB image to (3, H, W) in [-1, 1].

    Contiguous: in channels-last order group norm on the CPU loses three digits on flat regions such as the grey one.
    """
    import torch

    array = np.asarray(resize(image, size), dtype=np.float32)
    return torch.from_numpy(array / 127.5 - 1.0).permute(2, 0, 1).contiguous()


def resize(
    image: Image.Image, size: tuple[int, int], resample: Image.Resampling = Image.Resampling.LANCZOS
) -> Image.Image:
    return image if image.size == size else image.resize(size, resample)


def resize_mask(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    if mask.size == size:
        return mask
    return mask.resize(size, Image.Resampling.BILINEAR).point(lambda value: 255 if value >= 128 else 0)


@functools.cache
def _holds_rgb(image_format: str | None) -> bool:
    if image_format is None:
        return False
    try:
        Image.new("RGB", (16, 16)).save(io.BytesIO(), image_format)
    except (KeyError, OSError, ValueError):  # some formats can only be read, some don't know RGB
        return False
    return True


def _open(image: ImageLike, name: str) -> Image.Image:
    if isinstance(image, Image.Image):
        return _decode(image, name)
    if isinstance(image, (bytes, bytearray)):
        return _decode_stream(io.BytesIO(image), name)
    if isinstance(image, (str, os.PathLike)):
        text = os.fspath(image)
        if text.startswith(("http://", "https://")):
            return _decode_stream(io.BytesIO(_download(text, name)), text)
        path = Path(text)
        if text.startswith("data:"):
            raise InvalidInput(f"{name} is a data URL: pass the bytes that base64.b64decode makes of its last part.")
        try:
            found = path.is_file()
        except (OSError, ValueError):  # a name that is too long, or has a null in it
            found = False
        if not found:
            shown = text if len(text) <= 200 else f"{text[:200]}…"
            raise InvalidInput(f"{name}: there is no file {shown}.")
        return _decode_stream(path, str(path))
    if isinstance(image, np.ndarray):
        return _from_array(image, name)
    if type(image).__module__.split(".")[0] == "torch" and hasattr(image, "detach"):
        tensor = image.detach().cpu()
        if tensor.ndim == 4 and tensor.shape[0] == 1:
            tensor = tensor[0]
        if tensor.ndim not in (2, 3) or (tensor.ndim == 3 and tensor.shape[0] not in (1, 3, 4)):
            shape = tuple(tensor.shape)
            raise InvalidInput(f"{name} is a tensor of shape {shape}: pass (3, H, W) with values in [0, 1].")
        if tensor.ndim == 3:
            tensor = tensor.permute(1, 2, 0)
        if tensor.is_floating_point():
            tensor = tensor.float()
        return _from_array(tensor.numpy(), name)
    raise InvalidInput(
        f"{name} is a {type(image).__name__}: pass a PIL image, a path, a URL, an array or a tensor instead."
    )


def _decode_stream(source: Path | io.BytesIO, name: str) -> Image.Image:
    try:
        with Image.open(source) as image:
            return _decode(image, name)
    except UnidentifiedImageError:
        raise InvalidInput(f"{name} is not an image in a known format: convert it to PNG or JPEG first.") from None
    except Image.DecompressionBombError:
        raise InvalidInput(f"{name} has more than {MAX_PIXELS // 10**6} megapixels: shrink it first.") from None
    except InvalidInput:
        raise
    except DAMAGED as error:
        raise InvalidInput(f"{name} could not be read as an image ({error}): the file is damaged.") from error


def _decode(image: Image.Image, name: str) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        raise InvalidInput(
            f"{name} is {image.width} x {image.height}, over {MAX_PIXELS // 10**6} megapixels: shrink it first."
        )
    try:
        image.load()
        return ImageOps.exif_transpose(image)
    except DAMAGED as error:
        raise InvalidInput(f"{name} could not be read as an image ({error}): the file is damaged.") from error


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise InvalidInput(f"{name} is an array of shape {array.shape}: pass (H, W, 3), values 0..255 or 0.0..1.0.")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise InvalidInput(f"{name} has more than {MAX_PIXELS // 10**6} megapixels: shrink it first.")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype == np.uint16:
        array = (array // 257).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not (low >= -1e-3 and high <= 1 + 1e-3):  # also catches NaN
            raise InvalidInput(
                f"{name} has float values from {low:.3g} to {high:.3g}: pass floats in [0, 1], or uint8 in [0, 255]."
            )
        array = (array.clip(0, 1) * 255).round().astype(np.uint8)
    elif np.issubdtype(array.dtype, np.integer):
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > 255:
            raise InvalidInput(f"{name} has values from {low} to {high}: pass uint8 in [0, 255] or floats in [0, 1].")
        array = array.astype(np.uint8)
    else:
        raise InvalidInput(f"{name} is an array of {array.dtype}: pass uint8 in [0, 255] or floats in [0, 1].")
    return Image.fromarray(np.ascontiguousarray(array))


def _to_eight_bit(image: Image.Image) -> Image.Image:
    """PIL's own conversion clips 16-bit grey at 255; scale it instead."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        high = values.max(initial=0.0)
        if image.mode == "F" and high <= 1.0:
            values = values * 255
        elif image.mode.startswith("I;16") or high > 255:
            values = values / 257
        return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
    return image


def _download(url: str, name: str) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "stableviton-sdk"})
    try:
        with urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT) as response:
            data = response.read(MAX_DOWNLOAD_BYTES + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise InvalidInput(f"{name} could not be downloaded from {url} ({error}): check the address.") from error
    if len(data) > MAX_DOWNLOAD_BYTES:
        raise InvalidInput(f"{name} at {url} is larger than {MAX_DOWNLOAD_BYTES // 2**20} MiB: shrink it first.")
    return data
