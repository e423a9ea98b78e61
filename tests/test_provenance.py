"""What a result's file says of its making, and what it keeps to itself."""

import io
import json
import os

import numpy as np
import pytest
from PIL import Image
from support.colour_profiles import rgb_profile
from support.private_photos import SECRETS, private_photo, read_by_exiftool
from support.tiny import noise

from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.images import load_photo
from stableviton_sdk.provenance import DIGITAL_SOURCE_TYPE, read_settings, save_image

SETTINGS = {"model": "owner/name", "revision": "0" * 40, "seed": 2**53 + 1, "category": "upper", "detail": 0.85}
FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


def written(image=None, settings=SETTINGS, **options):
    file = io.BytesIO()
    save_image(image or noise((40, 30)), file, settings, **options)
    return file.getvalue()


@pytest.mark.parametrize("ending", FORMATS.values())
def test_exiftool_reads_the_source_type_and_the_settings(ending, tmp_path):
    save_image(noise((40, 30)), tmp_path / f"result.{ending}", SETTINGS)
    found = read_by_exiftool(tmp_path / f"result.{ending}")
    assert found["XMP-iptcExt:DigitalSourceType"] in (DIGITAL_SOURCE_TYPE, "Composite with Trained Algorithmic Media")
    assert json.loads(found["XMP-stableviton:Settings"]) == SETTINGS
    assert found["XMP-xmp:CreatorTool"].startswith("stableviton-sdk ")


@pytest.mark.parametrize("format", [*FORMATS, "AVIF", "TIFF"])
def test_settings_come_back_as_they_were(format):
    settings = SETTINGS | {"note": 'a <b> & "c"\n\x07 é 👕 ]]>', "nested": {"list": [1, None, True, 0.1]}}
    assert read_settings(written(settings=settings, format=format)) == settings


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_result_makes_the_same_bytes(format):
    turned = dict(reversed(SETTINGS.items()))
    assert written(format=format) == written(settings=turned, format=format)
    assert written(format=format) != written(settings=SETTINGS | {"seed": 1}, format=format)


@pytest.mark.parametrize("source", ["jpg", "png"])
@pytest.mark.parametrize("format", [*FORMATS, "TIFF", "AVIF"])
@pytest.mark.parametrize("metadata", [True, False])
def test_nothing_of_the_photos_metadata_goes_along(source, format, metadata, tmp_path):
    photo = load_photo(private_photo(tmp_path / f"photo.{source}"))
    photo.info["comment"] = "dear diary"
    content = written(photo, format=format, metadata=metadata)
    for secret in SECRETS:
        assert secret.encode() not in content
    image = Image.open(io.BytesIO(content))
    assert "exif" not in image.info
    assert not {0x8825, 0x010F, 0x013B} & set(image.getexif())
    path = tmp_path / f"result.{format.lower()}"
    path.write_bytes(content)
    found = read_by_exiftool(path)
    found = {name: value for name, value in found.items() if not name.startswith(("System:", "ExifTool:"))}
    assert not [name for name in found if "GPS" in name or "Owner" in name or "Make" in name or "Comment" in name]
    assert str(tmp_path) not in str({name: value for name, value in found.items() if name != "SourceFile"})


@pytest.mark.parametrize("format", [*FORMATS, "TIFF", "AVIF"])
def test_without_metadata_only_the_colour_profile_is_left(format):
    image = noise((40, 30))
    image.info = {"icc_profile": rgb_profile("Display P3"), "comment": "dear diary"}
    content = written(image, format=format, metadata=False)
    assert read_settings(content) is None
    assert b"stableviton" not in content
    assert b"trainedAlgorithmicMedia" not in content
    assert Image.open(io.BytesIO(content)).info["icc_profile"] == rgb_profile("Display P3")


@pytest.mark.parametrize("format", FORMATS)
def test_the_colour_profile_stays_beside_the_settings(format):
    image = noise((40, 30))
    image.info["icc_profile"] = rgb_profile("Adobe RGB")
    content = written(image, format=format)
    assert Image.open(io.BytesIO(content)).info["icc_profile"] == rgb_profile("Adobe RGB")
    assert read_settings(content) == SETTINGS


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_values_are_kept_exactly_transparent_ones_too(format):
    image = noise((40, 30), channels=4)
    np.testing.assert_array_equal(Image.open(io.BytesIO(written(image, format=format))), image)


def test_a_jpeg_of_a_cut_out_photo_is_white_around_it():
    image = Image.new("RGBA", (16, 16), (10, 20, 30, 0))
    assert Image.open(io.BytesIO(written(image, format="JPEG"))).getpixel((8, 8)) == (255, 255, 255)


@pytest.mark.parametrize(
    "text", ["/home/anna/model", "~/model", "C:\\Users\\anna\\model", "file:///home/anna/model", "../anna/model"]
)
def test_a_local_path_is_cut_to_its_last_part(text):
    assert read_settings(written(settings={"model": text, "deep": [{"place": text}]})) == {
        "model": "model",
        "deep": [{"place": "model"}],
    }


def test_names_of_repositories_are_no_paths():
    assert read_settings(written(settings={"model": "owner/name"}))["model"] == "owner/name"


def test_settings_that_are_too_long_or_no_json_are_refused_and_nothing_is_left(tmp_path):
    for settings in ({"note": "x" * 70_000}, {"value": float("nan")}, {"value": object()}):
        with pytest.raises(InvalidInput, match="settings"):
            save_image(noise((40, 30)), tmp_path / "result.jpg", settings)
    assert os.listdir(tmp_path) == []


def test_a_long_but_allowed_text_fits_into_a_jpeg():
    settings = {"note": "&" * 11_000}  # five bytes each in XML
    assert read_settings(written(settings=settings, format="JPEG")) == settings


def test_a_format_without_metadata_says_so(tmp_path):
    with pytest.warns(UserWarning, match="BMP files can't say"):
        save_image(noise((40, 30)), tmp_path / "result.bmp", SETTINGS)
    assert read_settings(tmp_path / "result.bmp") is None


def test_an_unknown_format_is_refused():
    with pytest.raises(InvalidInput, match="format is 'GIF'"):
        written(format="gif")


def test_a_folder_is_made_and_an_older_result_replaced(tmp_path):
    path = tmp_path / "new" / "result.png"
    for seed in (1, 2):
        save_image(noise((40, 30)), path, {"seed": seed})
    assert read_settings(path) == {"seed": 2}
    assert os.listdir(path.parent) == ["result.png"]


@pytest.mark.parametrize(
    "packet",
    [
        b'<!DOCTYPE a [<!ENTITY b "urn:stableviton-sdk:settings:1/">]><a>&b;</a>',
        b'<a xmlns:s="urn:stableviton-sdk:settings:1/"><s:settings>{</s:settings></a>',
        b'<a xmlns:s="urn:stableviton-sdk:settings:1/"><s:settings>[1]</s:settings></a>',
        b'<a xmlns:s="urn:stableviton-sdk:settings:1/">',
    ],
)
def test_settings_that_somebody_damaged_are_refused_in_one_sentence(packet):
    file = io.BytesIO()
    noise((8, 8)).save(file, "JPEG", xmp=packet)
    with pytest.raises(InvalidInput, match=r"settings are damaged|can't be read safely"):
        read_settings(file)


def test_a_foreign_image_has_no_settings():
    file = io.BytesIO()
    noise((8, 8)).save(file, "PNG")
    assert read_settings(file) is None
    assert read_settings(file.getvalue()) is None
