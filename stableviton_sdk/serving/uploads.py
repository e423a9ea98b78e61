"""Multipart requests: bounded in bytes, parts and time, kept in memory alone, and decoded before they are accepted."""

from __future__ import annotations

import asyncio
import functools
import io
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from PIL import Image, UnidentifiedImageError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from ..errors import InvalidInput
from ..images import load_mask, load_photo
from .problems import Problem

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")  # and HEIC, which has a reader of its own
MAX_TEXT = 100  # bytes of a text field
MAX_SIDE = 32_000  # pixels
NAMES = {"person": "the photo", "garment": "the garment's image", "mask": "the mask"}


@dataclass(frozen=True)
class UploadLimits:
    """
    Args:
        bytes (`int`, *optional*, defaults to 40 MiB): Of a whole request.
        pixels (`int`, *optional*, defaults to 50,000,000): Of an image.
        seconds (`float`, *optional*, defaults to 120.0): Time for a whole request to arrive.
        idle_seconds (`float`, *optional*, defaults to 10.0): Time without a byte.
        at_once (`int`, *optional*, defaults to 24): Requests that are read at the same time.
        decoded_at_once (`int`, *optional*, defaults to 2): Of these, whose images are decoded at the same time.
    """

    bytes: int = 40 * 2**20
    pixels: int = 50_000_000
    seconds: float = 120.0
    idle_seconds: float = 10.0
    at_once: int = 24
    decoded_at_once: int = 2


@dataclass
class Form:
    """What a request holds.

    Args:
        texts (`dict[str, str]`): Text fields by name.
        files (`dict[str, bytes]`): Files by their field's name; what they are called is never looked at.
    """

    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


class UploadReader:
    """Reads forms, a bounded number at once.

    Args:
        limits (`UploadLimits`): Bounds.
    """

    def __init__(self, limits: UploadLimits):
        self.limits: UploadLimits = limits
        self._free = limits.at_once
        self._decoding = asyncio.Semaphore(limits.decoded_at_once)

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None, None]:
        """One of the places for reading and decoding.

        Raises:
            `Problem`: if all are taken.
        """
        if self._free <= 0:
            raise Problem("queue_full", "too many uploads at once: try again in 2 seconds.", {"Retry-After": "2"})
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1

    async def read(self, request: Request, files: tuple[str, ...], texts: tuple[str, ...]) -> Form:
        """The form of a request.

        Args:
            request (`Request`): Its body is read.
            files (`tuple[str, ...]`), texts (`tuple[str, ...]`): Names of the fields that it may have, once each.

        Raises:
            `Problem`: one sentence on what can't be accepted.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
            raise Problem("unsupported_media_type", "the request is no form: send multipart/form-data.")
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self.limits.bytes:
            raise self._too_large()
        parser = _MemoryParser(
            request.headers,
            self._bounded(request),
            max_files=len(files) + 1,  # one more, so that the answer names the field
            max_fields=len(texts) + 1,
            max_part_size=MAX_TEXT,
        )
        try:
            parsed = await parser.parse()
        except MultiPartException as error:
            reason = error.message.rstrip(".").lower()
            raise Problem("bad_request", f"the form can't be read ({reason}): send fewer, shorter fields.") from error
        except KeyError as error:
            raise Problem("bad_request", "the form can't be read: a part of it lacks its name.") from error
        except ClientDisconnect:
            raise Problem("bad_request", "the request ended before its time: send it again.") from None
        form = Form()
        try:
            for name, value in parsed.multi_items():
                shown = repr(name[:40])
                if name not in files and name not in texts:
                    known = ", ".join((*files, *texts))
                    raise Problem("unknown_field", f"there is no field {shown}: the fields are {known}.")
                if name in form.files or name in form.texts:
                    raise Problem("repeated_field", f"the field {shown} is there twice: send it once.")
                if isinstance(value, UploadFile) != (name in files):
                    kind = "a file" if name in files else "a text"
                    raise Problem("invalid_field", f"the field {shown} must be {kind}: addresses aren't read.")
                if isinstance(value, UploadFile):
                    form.files[name] = value.file.read()
                else:
                    form.texts[name] = value
        finally:
            await parsed.close()
        return form

    async def decode(self, form: Form, *needed: str) -> dict[str, Image.Image]:
        """The images of a form by their field's name, decoded in another thread.

        Args:
            form (`Form`): From `read`; its files are let go of.
            needed (`str`): Names of the fields that must be there.

        Raises:
            `Problem`: one sentence on what is missing or can't be used.
        """
        for name in needed:
            if name not in form.files:
                raise Problem("missing_field", f"the field {name!r} is missing: send an image file in it.")
        images = {}
        async with self._decoding:
            while form.files:
                name, data = form.files.popitem()
                images[name] = await run_in_threadpool(decode_upload, data, name, self.limits)
        return images

    async def _bounded(self, request: Request) -> AsyncGenerator[bytes, None]:
        """The body as it arrives, refused where it is too large or too slow."""
        stream, received, until = request.stream(), 0, time.monotonic() + self.limits.seconds
        while True:
            patience = min(self.limits.idle_seconds, until - time.monotonic())
            try:
                chunk = await asyncio.wait_for(anext(stream), max(0.0, patience))
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise Problem("slow_upload", "the upload is too slow: send it again, or a smaller image.") from None
            received += len(chunk)
            if received > self.limits.bytes:
                raise self._too_large()
            yield chunk

    def _too_large(self) -> Problem:
        return Problem(
            "too_large",
            f"the request is larger than {self.limits.bytes // 2**20} MiB: send smaller images.",
        )


class _MemoryParser(MultiPartParser):
    spool_max_size = 2**40  # never to a disk: the body's own bound is the memory's


def decode_upload(data: bytes, name: str, limits: UploadLimits) -> Image.Image:
    """An uploaded image, decoded: a photo, or for the name `"mask"` a mask.

    Args:
        data (`bytes`): The file.
        name (`str`): Of its field.
        limits (`UploadLimits`): Bounds.

    Raises:
        `Problem`: one sentence on why it can't be used.
    """
    what = NAMES[name]
    load: Callable[..., Image.Image] = load_mask if name == "mask" else load_photo
    try:
        try:
            with Image.open(io.BytesIO(data), formats=_formats()) as image:
                _check_pixels(image.size, what, limits)
                loaded = load(image, name=what)
        except UnidentifiedImageError:
            if data[4:8] != b"ftyp":
                raise Problem(
                    "unsupported_image",
                    f"{what} is no image of a known kind: send JPEG, PNG, WebP or HEIC.",
                ) from None
            loaded = load(data, name=what)
    except Image.DecompressionBombError:
        raise Problem("too_many_pixels", f"{what} has far too many pixels: shrink it first.") from None
    except Problem:
        raise
    except Exception as error:  # decoders fail in as many ways as there are formats
        message = str(error) if isinstance(error, InvalidInput) else f"{what} is damaged: save it again."
        raise Problem("invalid_image", message) from error
    _check_pixels(loaded.size, what, limits)
    return loaded


@functools.cache
def _formats() -> list[str]:
    """Those of `FORMATS` that this build of PIL reads."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _check_pixels(size: tuple[int, int], what: str, limits: UploadLimits) -> None:
    if size[0] * size[1] > limits.pixels or max(size) > MAX_SIDE:
        raise Problem(
            "too_many_pixels",
            f"{what} is {size[0]} x {size[1]}, over {limits.pixels / 1e6:g} megapixels: shrink it first.",
        )
