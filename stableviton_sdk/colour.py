"""Colour spaces: networks see sRGB, and what they make goes back into the photo's own space."""

from __future__ import annotations

import functools
import io
import struct
import warnings
from dataclasses import dataclass

from PIL import Image, ImageCms

from .errors import reason_of

MAX_PROFILE_BYTES = 16 * 2**20  # of inks have some megabytes
CACHED_PROFILES = 16
TOLERANCE = 2  # of 255: profiles that are no further than this from sRGB count as sRGB
INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOCACHE  # without the cache threads can share one
MODES = {b"RGB ": "RGB", b"CMYK": "CMYK"}  # of images, by a profile's colour space
# Columns of the matrix from sRGB to the profile connection space, as ICC's own sRGB profile has them.
SRGB_PRIMARIES = {b"rXYZ": (0.43607, 0.22249, 0.01392), b"gXYZ": (0.38515, 0.71687, 0.09708)}
SRGB_PRIMARIES[b"bXYZ"] = (0.14307, 0.06061, 0.71410)
WHITE_POINT = (0.9642, 1.0, 0.8249)


def is_grey(profile: bytes) -> bool:
    """Whether a colour profile is of grey images."""
    return profile[16:20] == b"GRAY"


def is_usable(profile: bytes) -> bool:
    """Whether a colour profile is one of RGB values that can be read; warns once of one that can't."""
    transforms = _transforms(profile)
    return transforms is not None and transforms.mode == "RGB"


def to_srgb(image: Image.Image) -> Image.Image:
    """An image in sRGB, as networks see it.

    Args:
        image (`PIL.Image.Image`):
            Mode RGB, RGBA or CMYK. Its values are read by the profile in `info["icc_profile"]`; without one, or with
            one that is of another mode or can't be read, they count as sRGB.

    Returns:
        `PIL.Image.Image`: mode RGB, or RGBA where it was, without a profile; the same image if it is sRGB already.
    """
    profile = image.info.get("icc_profile")
    transforms = _transforms(profile) if profile else None
    opaque = image.convert("RGB") if image.mode == "RGBA" else image
    if transforms is None or transforms.mode != opaque.mode or transforms.to_srgb is None:
        return image
    converted = ImageCms.applyTransform(opaque, transforms.to_srgb)
    converted.info = {key: value for key, value in image.info.items() if key != "icc_profile"}
    if image.mode == "RGBA":
        converted.putalpha(image.getchannel("A"))
    return converted


def from_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An sRGB image in the colour space of a profile.

    Args:
        image (`PIL.Image.Image`): Mode RGB, sRGB.
        profile (`bytes`, *optional*): Of RGB values; None for sRGB.

    Returns:
        `PIL.Image.Image`: mode RGB, with the profile in `info["icc_profile"]`; the same image if nothing changes.
    """
    transforms = _transforms(profile) if profile else None
    if transforms is None or transforms.from_srgb is None:
        return image
    converted = ImageCms.applyTransform(image, transforms.from_srgb)
    converted.info = {**image.info, "icc_profile": profile}
    return converted


def rgb_profile_of_grey(profile: bytes) -> bytes | None:
    """A profile for RGB images whose three channels are a grey image's values.

    Args:
        profile (`bytes`): Of the grey image.

    Returns:
        `bytes`: an RGB profile with the grey one's tone curve and sRGB's primaries; None if it has no tone curve.
    """
    try:
        count = struct.unpack_from(">I", profile, 128)[0]
        entries = [struct.unpack_from(">4sII", profile, 132 + 12 * index) for index in range(min(count, 100))]
    except struct.error:
        return None
    curves = [profile[start : start + size] for tag, start, size in entries if tag == b"kTRC"]
    if not is_grey(profile) or not curves or not curves[0]:
        return None
    tags = {tag: b"XYZ " + bytes(4) + _fixed(*values) for tag, values in SRGB_PRIMARIES.items()}
    tags |= {b"wtpt": b"XYZ " + bytes(4) + _fixed(*WHITE_POINT)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curves[0])
    table, data = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        table += struct.pack(">4sII", tag, 132 + 12 * len(tags) + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    header = bytearray(profile[:128])
    struct.pack_into(">I", header, 0, 128 + len(table) + len(data))
    header[16:20], header[20:24] = b"RGB ", b"XYZ "
    return bytes(header) + table + data


@dataclass(frozen=True)
class _Transforms:
    """From a profile's values, of images of `mode`, to sRGB and back; None where nothing changes."""

    mode: str
    to_srgb: ImageCms.ImageCmsTransform | None
    from_srgb: ImageCms.ImageCmsTransform | None


@functools.lru_cache(maxsize=CACHED_PROFILES)
def _transforms(profile: bytes) -> _Transforms | None:
    """The transforms of a profile; None, and a warning, if it can't be used."""
    mode = MODES.get(profile[16:20])
    try:
        if mode is None or len(profile) > MAX_PROFILE_BYTES:
            raise ValueError("it is of no known kind")
        own, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        to_srgb = ImageCms.buildTransform(own, srgb, mode, "RGB", INTENT, FLAGS)
        if mode != "RGB":
            return _Transforms(mode, to_srgb, None)
        if _is_identity(to_srgb):
            return _Transforms(mode, None, None)
        return _Transforms(mode, to_srgb, ImageCms.buildTransform(srgb, own, mode, mode, INTENT, FLAGS))
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        warnings.warn(
            f"an image's colour profile can't be used ({reason_of(error)}): its colours count as sRGB.", stacklevel=2
        )
        return None


def _is_identity(transform: ImageCms.ImageCmsTransform) -> bool:
    steps = bytes(range(0, 256, 15))
    cube = bytes(value for red in steps for green in steps for blue in steps for value in (red, green, blue))
    image = Image.frombytes("RGB", (len(steps) ** 2, len(steps)), cube)
    changed = ImageCms.applyTransform(image, transform).tobytes()
    return max(abs(before - after) for before, after in zip(cube, changed, strict=True)) <= TOLERANCE


def _fixed(*values: float) -> bytes:
    """ICC's numbers with 16 bits before and 16 behind the point."""
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))
