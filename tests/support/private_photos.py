"""Photos with place, camera, owner and comment in their metadata, and exiftool to read what files hold."""

import json
import shutil
import subprocess

import pytest
from PIL import ExifTags, Image, PngImagePlugin

SECRETS = ("Anna Example", "SecretCam", "SN-4711", "dear diary", "48.85")


def private_photo(path, size=(96, 128), image=None):
    """Write a photo, to a path or as PNG to a file, with EXIF (GPS, camera, owner) and a comment."""
    image = image or Image.linear_gradient("L").resize(size).convert("RGB")
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "SecretCam"
    exif[ExifTags.Base.Artist] = "Anna Example"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.CameraOwnerName] = "Anna Example"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.BodySerialNumber] = "SN-4711"
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    gps[ExifTags.GPS.GPSLatitudeRef], gps[ExifTags.GPS.GPSLatitude] = "N", (48.0, 51.0, 24.0)
    gps[ExifTags.GPS.GPSLongitudeRef], gps[ExifTags.GPS.GPSLongitude] = "E", (2.0, 21.0, 3.0)
    if not str(path).endswith((".jpg", ".jpeg")):
        text = PngImagePlugin.PngInfo()
        text.add_text("Comment", "dear diary")
        image.save(path, "PNG", exif=exif, pnginfo=text)
    else:
        image.save(path, exif=exif, comment=b"dear diary", quality=95)
    return path


def read_by_exiftool(path):
    """All that exiftool finds in a file, by group and name."""
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool isn't installed (Debian: libimage-exiftool-perl)")
    arguments = ["exiftool", "-json", "-G1", "-a", "-struct", str(path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)[0]
