"""Paths, URLs, files, bytes, arrays and tensors to PIL images of whatever mode they hold."""

from __future__ import annotations

import base64
import binascii
import contextlib
import inspect
import io
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Union

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .errors import InvalidInput, MissingDependency, clipped, reason_of

if TYPE_CHECKING:
    import torch

ImageLike = Union[
    str, os.PathLike[str], bytes, bytearray, memoryview, BinaryIO, Image.Image, np.ndarray, "torch.Tensor"
]

MAX_PIXELS = 120_000_000  # a 100-megapixel camera passes, a decompression bomb doesn't
MAX_FILE_BYTES = 200 * 2**20  # of a download, an open file, a data URL
DOWNLOAD_TIMEOUT = 30.0  # seconds
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}
# Formats that PIL has other programs or handlers decode (EPS: Ghostscript), or that may hold one of these.
NOT_DECODED = ("EPS", "WMF", "IPTC", "BUFR", "GRIB", "HDF5")
MAX_SHOWN = 200  # characters of an address in a message


def decode(image: ImageLike, name: str) -> Image.Image:
    """A PIL image of anything image-like, in its own mode, turned upright by its EXIF orientation.

    Args:
        image (`ImageLike`): See `load_image`.
        name (`str`): The argument's name in error messages.

    Returns:
        `PIL.Image.Image`: loaded; the very image if it was a loaded, upright PIL image already.

    Raises:
        `InvalidInput`: if it is no image, is damaged, has values out of range, or has more than 120 megapixels.
        `MissingDependency`: if it is an HEIC file, and the package that reads it isn't installed.
    """
    if isinstance(image, Image.Image):
        return _load(image, name)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _decode_file(io.BytesIO(bytes(image)), name)
    if isinstance(image, (str, os.PathLike)):
        return _decode_address(os.fspath(image), name)
    if isinstance(image, np.ndarray):
        return _from_array(image, name)
    if type(image).__module__.split(".")[0] == "torch" and hasattr(image, "detach"):
        return _from_tensor(image, name)
    if callable(getattr(image, "read", None)):
        return _decode_file(io.BytesIO(_read(image, name)), name)
    raise InvalidInput(
        f"{name} is a {type(image).__name__}: pass a PIL image, a path, a URL, an open file, an array or a tensor "
        "instead."
    )


def _decode_address(address: str | bytes, name: str) -> Image.Image:
    text = os.fsdecode(address)
    shown = clipped(text, most=MAX_SHOWN)
    scheme = text.partition(":")[0].lower()
    if scheme in ("http", "https"):
        return _decode_file(io.BytesIO(_download(text, name)), shown)
    if scheme == "data":
        return _decode_file(io.BytesIO(_data_of_url(text, name)), name)
    path = _path_of_url(text, name) if scheme == "file" else Path(text)
    try:
        if not path.exists() and path.parts[:1] and path.parts[0].startswith("~"):
            path = path.expanduser()
        found = path.is_file()
    except (OSError, ValueError, RuntimeError):  # a name that is too long, has a null in it, or names no user
        found = False
    if not found:
        raise InvalidInput(f"{name}: there is no file {shown}.")
    return _decode_file(path, str(path))


@contextlib.contextmanager
def open_image(source: Path | io.BytesIO, name: str) -> Iterator[Image.Image]:
    """An image file, opened: its mode and size are known, its pixels are decoded in the block.

    Args:
        source (`Path` or `io.BytesIO`): The file.
        name (`str`): The argument's name in error messages.

    Raises:
        `InvalidInput`: if it is no image, has more than 120 megapixels, is of a format that other programs decode, or
            if the block finds it damaged.
        `MissingDependency`: if it is an HEIC file, and the package that reads it isn't installed.
    """
    try:
        if _is_heif(source):
            yield _open_heif(source, name)
            return
        with Image.open(source) as image:
            if image.format in NOT_DECODED:
                raise InvalidInput(f"{name} is in the format {image.format}: convert it to PNG or JPEG first.")
            _check_size(image.size, name)
            yield image
    except UnidentifiedImageError:
        raise InvalidInput(f"{name} is not an image in a known format: convert it to PNG or JPEG first.") from None
    except Image.DecompressionBombError:
        raise InvalidInput(f"{name} has more than {MAX_PIXELS // 10**6} megapixels: shrink it first.") from None
    except (InvalidInput, MissingDependency):
        raise
    except Exception as error:  # decoders fail in as many ways as there are formats
        raise _damaged(name, error) from error


def _decode_file(source: Path | io.BytesIO, name: str) -> Image.Image:
    with open_image(source, name) as image:
        return _load(image, name)


def _load(image: Image.Image, name: str) -> Image.Image:
    _check_size(image.size, name)
    try:
        image.load()
        if type(image) is Image.Image and image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return image  # a copy of a large photo would cost a tenth of a second
        return ImageOps.exif_transpose(image)  # a copy also where it is upright: of a file, which may be closed
    except Exception as error:  # of every kind, as in open_image
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> InvalidInput:
    if isinstance(error, MemoryError):
        return InvalidInput(f"{name} needs more memory than there is: shrink it first.")
    return InvalidInput(f"{name} could not be read as an image ({reason_of(error)}): the file is damaged.")


def _is_heif(source: Path | io.BytesIO) -> bool:
    """Whether a file says that it is HEIF, of a kind other than AVIF (which PIL reads)."""
    if isinstance(source, Path):
        with source.open("rb") as stream:
            head = stream.read(64)
    else:
        head = source.getvalue()[:64]
    if head[4:8] != b"ftyp":
        return False
    end = min(len(head), int.from_bytes(head[:4], "big"))
    brands = {head[8:12], *(head[start : start + 4] for start in range(16, end - 3, 4))}
    return bool(brands & HEIF_BRANDS) and not brands & AVIF_BRANDS


def _open_heif(source: Path | io.BytesIO, name: str) -> Image.Image:
    try:
        import pillow_heif
    except ImportError as error:
        raise MissingDependency(
            f"{name} is an HEIC image, which needs an extra: pip install 'stableviton-sdk[heif]', or convert it to "
            "JPEG first."
        ) from error
    # opened here and not by an opener registered with PIL, which would be there for the whole process
    heif = pillow_heif.open_heif(source)
    _check_size(heif.size, name)
    return heif.to_pillow()


def _check_size(size: tuple[int, int], name: str) -> None:
    if 0 in size:
        raise InvalidInput(f"{name} is {size[0]} x {size[1]}, so it holds no pixels: pass an image.")
    if size[0] * size[1] > MAX_PIXELS:
        raise InvalidInput(f"{name} is {size[0]} x {size[1]}, over {MAX_PIXELS // 10**6} megapixels: shrink it first.")


def _read(stream: Any, name: str) -> bytes:
    """All bytes of an open file, from its start where it can be rewound."""
    try:
        if getattr(stream, "seekable", bool)():
            stream.seek(0)
        data = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # closed, or open for writing only
        raise InvalidInput(f"{name} is an open file that can't be read ({error}): open it with mode 'rb'.") from error
    if inspect.isawaitable(data):
        if inspect.iscoroutine(data):
            data.close()
        raise InvalidInput(f"{name} is read asynchronously: await its bytes, and pass those.")
    if not isinstance(data, (bytes, bytearray)):
        raise InvalidInput(f"{name} is a file that was opened as text: open it with mode 'rb'.")
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInput(f"{name} is larger than {MAX_FILE_BYTES // 2**20} MiB: shrink it first.")
    return data


def _data_of_url(url: str, name: str) -> bytes:
    """The bytes in a `data:` URL."""
    head, comma, content = url.partition(",")
    if not comma:
        raise InvalidInput(f"{name} is a data URL without a comma before its data: check that it is whole.")
    if len(content) > MAX_FILE_BYTES * 4 / 3:
        raise InvalidInput(f"{name} is larger than {MAX_FILE_BYTES // 2**20} MiB: shrink it first.")
    data = urllib.parse.unquote_to_bytes(content)
    if not head.lower().endswith(";base64"):
        return data
    data = b"".join(data.split()).rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except binascii.Error as error:
        raise InvalidInput(
            f"{name} is a data URL whose base64 is damaged ({error}): check that it is whole."
        ) from error


def _path_of_url(url: str, name: str) -> Path:
    """The path in a `file:` URL."""
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise ValueError(f"it names the host {parts.netloc}")
        return Path(urllib.request.url2pathname(parts.path))
    except (ValueError, OSError) as error:
        raise InvalidInput(f"{name} is a file URL that can't be used ({error}): pass the path itself.") from error


def _download(url: str, name: str) -> bytes:
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "stableviton-sdk"})
        with urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT) as response:
            data = response.read(MAX_FILE_BYTES + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        shown = clipped(url, most=MAX_SHOWN)
        raise InvalidInput(f"{name} could not be downloaded from {shown} ({error}): check the address.") from error
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInput(f"{name} at {url} is larger than {MAX_FILE_BYTES // 2**20} MiB: shrink it first.")
    return data


def _from_tensor(tensor: torch.Tensor, name: str) -> Image.Image:
    if str(tensor.layout) != "torch.strided" or tensor.device.type == "meta":
        raise InvalidInput(f"{name} is a tensor that is sparse or holds no values: pass a dense one, (3, H, W).")
    tensor = tensor.detach().cpu()
    if tensor.ndim == 4 and tensor.shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim not in (2, 3) or (tensor.ndim == 3 and tensor.shape[0] not in (1, 3, 4)):
        raise InvalidInput(f"{name} is a tensor of shape {tuple(tensor.shape)}: pass (3, H, W) with values in [0, 1].")
    if tensor.ndim == 3:
        tensor = tensor.permute(1, 2, 0)
    if tensor.is_floating_point():
        tensor = tensor.float()
    return _from_array(tensor.numpy(), name)


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise InvalidInput(f"{name} is an array of shape {array.shape}: pass (H, W, 3), values 0..255 or 0.0..1.0.")
    _check_size(array.shape[1::-1], name)
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
