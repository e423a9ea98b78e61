"""What a result's file says of its making: that a network painted in it, and with which settings; nothing else."""

from __future__ import annotations

import io
import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from PIL import Image, PngImagePlugin

from ._version import __version__
from .decoding import decode
from .errors import InvalidInput
from .images import check_image_path, load_image, save_atomically

# A photo with something in it that a trained network painted; the words of the IPTC's vocabulary.
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
NAMESPACE = "urn:stableviton-sdk:settings:1/"
PNG_KEY = "stableviton"
MAX_PACKET_BYTES = 60_000  # a JPEG's segment holds 65,502
MAX_READ_BYTES = 2**20
JPEG_QUALITY = 95
XMP_TIFF_TAG = 700
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF")  # whose files hold metadata as it is written here
LOCAL_PATH = re.compile(r"^(?:[/\\~]|[A-Za-z]:[/\\]|file:|\.{1,2}[/\\])")
PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:stableviton="{namespace}">'
    "<xmp:CreatorTool>{tool}</xmp:CreatorTool>"
    "<Iptc4xmpExt:DigitalSourceType>{source_type}</Iptc4xmpExt:DigitalSourceType>"
    "{settings}</rdf:Description></rdf:RDF></x:xmpmeta>"
    '<?xpacket end="r"?>'
)


def save_image(
    image: Image.Image,
    target: str | os.PathLike[str] | BinaryIO,
    settings: Mapping[str, Any] | None = None,
    *,
    format: str | None = None,
    metadata: bool = True,
) -> None:
    """Write a result, whole or not at all, with what it says of its making.

    The file says in XMP that a trained network painted in it (IPTC's `DigitalSourceType`), and with which settings.
    Nothing else of the photo's metadata goes along, neither its place nor its camera or comment; its colour profile
    stays. The same image and settings make the same bytes. PNG and WebP files hold the image's very values.

    Args:
        image (`PIL.Image.Image`): RGB or RGBA.
        target (`str`, `os.PathLike` or a binary file): The file; a path's ending says the format, its folder is made.
        settings (`Mapping[str, Any]`, *optional*):
            What the image follows from: model, revision, seed, options; of JSON's types. A text that is a path of
            this machine loses all but its last part.
        format (`str`, *optional*, defaults to `"PNG"`): For a binary file: PNG, JPEG, WEBP, AVIF or TIFF.
        metadata (`bool`, *optional*, defaults to `True`): False leaves out everything but the colour profile.

    Raises:
        `InvalidInput`: if the path can't be written, the format isn't one of these, or the settings are not of JSON's
            types or too long.
    """
    is_path = isinstance(target, (str, os.PathLike))
    if is_path and format is None:
        path = check_image_path(target)
        format = Image.registered_extensions()[path.suffix.lower()]
    format = (format or "PNG").upper()
    if not is_path and format not in FORMATS:
        raise InvalidInput(f"format is {format!r}: pass one of {', '.join(FORMATS)}.")
    profile = image.info.get("icc_profile")
    image = image.copy()
    image.info = {"icc_profile": profile} if profile else {}
    options = _encoder_options(format)
    if metadata:
        options |= _metadata_options(format, settings)
    if is_path:
        save_atomically(image, target, format=format, **options)
        return
    if profile:
        options["icc_profile"] = profile
    if format == "JPEG":
        image = load_image(image)  # it has no transparency
    encoded = io.BytesIO()  # nothing reaches the file unless everything could be encoded
    image.save(encoded, format, **options)
    target.write(encoded.getbuffer())


def read_settings(source: str | os.PathLike[str] | bytes | BinaryIO) -> dict[str, Any] | None:
    """The settings that `save_image` wrote into a file.

    Args:
        source (`str`, `os.PathLike`, `bytes` or a binary file): An image file, its bytes, or the file opened.

    Returns:
        `dict[str, Any]`: the settings; None if the file holds none.

    Raises:
        `InvalidInput`: if it is no image, or its settings are damaged.
    """
    packet = _packet_of(decode(source, "source"))
    if packet is None or NAMESPACE.encode() not in packet:
        return None
    if len(packet) > MAX_READ_BYTES or b"<!" in packet:  # declarations of entities, which could unfold without end
        raise InvalidInput("the image's XMP can't be read safely: it's too long, or declares entities.")
    try:
        element = ElementTree.fromstring(packet.strip(b"\0 \n")).find(f".//{{{NAMESPACE}}}settings")
        if element is None:
            return None
        settings = json.loads(element.text or "")
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the image's settings are damaged ({error}): write the image again.") from error
    if not isinstance(settings, dict):
        raise InvalidInput("the image's settings are damaged: write the image again.")
    return settings


def _encoder_options(format: str) -> dict[str, Any]:
    if format == "JPEG":
        return {"quality": JPEG_QUALITY}
    if format == "WEBP":  # outside the mask the photo's own values, transparent ones too
        return {"lossless": True, "exact": True, "quality": 0, "method": 0}  # of effort: a fifth of the time
    return {}


def _metadata_options(format: str, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    if format not in FORMATS:
        warnings.warn(
            f"{format} files can't say that a network painted in them: save PNG, JPEG or WebP to keep that.",
            stacklevel=3,
        )
        return {}
    text = None if settings is None else _as_json(settings)
    packet = _make_packet(text)
    if format == "PNG":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", packet.decode())
        if text is not None:
            chunks.add_text(PNG_KEY, text)
        return {"pnginfo": chunks}
    if format == "TIFF":
        return {"tiffinfo": {XMP_TIFF_TAG: packet}}
    return {"xmp": packet}


def _make_packet(settings: str | None) -> bytes:
    packet = PACKET.format(
        namespace=NAMESPACE,
        tool=f"stableviton-sdk {__version__}",
        source_type=DIGITAL_SOURCE_TYPE,
        settings="" if settings is None else f"<stableviton:settings>{escape(settings)}</stableviton:settings>",
    ).encode()
    if len(packet) > MAX_PACKET_BYTES:
        raise InvalidInput(
            f"the settings take {len(packet)} bytes of metadata: pass less than {MAX_PACKET_BYTES // 1000} kB."
        )
    return packet


def _as_json(settings: Mapping[str, Any]) -> str:
    """Settings as JSON in ASCII, in an order of their own: the same text for the same settings."""
    try:
        return json.dumps(_without_paths(settings), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the settings can't be written as JSON ({error}): pass texts and numbers.") from error


def _without_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_paths(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_paths(entry) for entry in value]
    if isinstance(value, Path):
        value = str(value.absolute())
    if isinstance(value, str) and LOCAL_PATH.match(value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return value


def _packet_of(image: Image.Image) -> bytes | None:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if packet is None and hasattr(image, "tag_v2"):
        packet = image.tag_v2.get(XMP_TIFF_TAG)
    return packet.encode() if isinstance(packet, str) else packet
