import base64
import io
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pillow_heif
import pytest
import torch
from PIL import Image
from support.colour_profiles import rgb_profile
from support.tiny import random_image

from stableviton_sdk import decoding
from stableviton_sdk.errors import InvalidInput, MissingDependency
from stableviton_sdk.images import (
    as_image_list,
    as_mask_list,
    check_image_path,
    load_image,
    load_mask,
    load_photo,
    save_atomically,
)


def png_bytes(image: Image.Image, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("orientation, size", [(1, (40, 20)), (3, (40, 20)), (6, (20, 40)), (8, (20, 40))])
def test_exif_orientation_is_applied(tmp_path, orientation, size):
    upright = Image.new("RGB", (40, 20), (0, 0, 0))
    upright.paste((255, 0, 0), (0, 0, 5, 5))
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright.save(tmp_path / "photo.png", exif=exif)
    loaded = load_image(tmp_path / "photo.png")
    assert loaded.size == size
    corner = {1: (2, 2), 3: (37, 17), 6: (17, 2), 8: (2, 37)}[orientation]
    assert loaded.getpixel(corner) == (255, 0, 0)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "RGBA", "LA", "1", "YCbCr", "HSV", "LAB"])
def test_every_mode_becomes_rgb(mode):
    grey = Image.new("RGB", (8, 6), (255, 255, 255))
    source = grey.convert("L").convert("LA") if mode == "LA" else grey.convert(mode) if mode != "LAB" else None
    if mode == "LAB":
        source = Image.new("LAB", (8, 6), (255, 128, 128))
    loaded = load_image(source)
    assert loaded.mode == "RGB"
    assert loaded.size == (8, 6)
    assert min(loaded.getpixel((3, 3))) >= 250


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 48, dtype=np.uint16).reshape(6, 8)
    Image.fromarray(values).save(tmp_path / "deep.png")
    for source in (tmp_path / "deep.png", values):
        loaded = np.asarray(load_image(source))[..., 0]
        assert np.abs(loaded.astype(float) - values / 257).max() <= 1


def test_transparency_is_laid_on_the_background():
    source = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    source.putpixel((1, 1), (10, 20, 30, 255))
    loaded = load_image(source, background=(246, 246, 246))
    assert loaded.getpixel((0, 0)) == (246, 246, 246)
    assert loaded.getpixel((1, 1)) == (10, 20, 30)
    palette = source.quantize(4)
    assert load_image(palette, background=(1, 2, 3)).mode == "RGB"


@pytest.mark.parametrize("scale", [1, 255])
def test_arrays_and_tensors_mean_the_same(scale):
    expected = np.array(random_image(8, 6))
    array = expected / 255 if scale == 1 else expected
    for source in (array, torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1), array[None]):
        assert np.array_equal(np.asarray(load_image(source)), expected)
    half = torch.from_numpy(expected / 255).permute(2, 0, 1).bfloat16()
    assert np.abs(np.asarray(load_image(half)).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "source, match",
    [
        (np.zeros((4, 4, 7)), "shape"),
        (np.zeros((2, 4, 4, 3)), "shape"),
        (np.zeros((0, 4, 3)), "shape"),
        (np.full((4, 4, 3), -1.0), "float values"),
        (np.full((4, 4, 3), 300), "values from"),
        (np.zeros((4, 4, 3), dtype=complex), "complex"),
        (np.zeros((3, 40, 40)), "shape"),
        (torch.zeros(5, 4, 4), "shape"),
        ("", "no file"),
        ("/nowhere.png", "no file"),
        (object(), "object"),
        (b"not an image", "known format"),
        (Image.new("RGB", (0, 5)), "holds no pixels"),
        (torch.eye(4).to_sparse_coo(), "sparse or holds no values"),
        (torch.zeros(3, 4, 4, device="meta"), "sparse or holds no values"),
        ("no\nsuch\nfile.png", "no file no such file"),
    ],
)
def test_what_is_no_image_is_refused(source, match):
    with pytest.raises(InvalidInput, match=match):
        load_image(source)


def test_damaged_files_are_refused(tmp_path):
    stream = io.BytesIO()
    random_image(200, 300).save(stream, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(stream.getvalue()[: len(stream.getvalue()) // 2])
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "cut.png").write_bytes(png_bytes(random_image(200, 300))[:5000])
    for name in ("cut.jpg", "text.png", "cut.png"):
        with pytest.raises(InvalidInput, match=name):
            load_image(tmp_path / name)
    with pytest.raises(InvalidInput):
        load_image(tmp_path)


def test_decompression_bombs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 100)
    Image.new("RGB", (20, 20)).save(tmp_path / "bomb.png")
    for source in (tmp_path / "bomb.png", Image.new("RGB", (20, 20)), np.zeros((20, 20, 3), np.uint8)):
        with pytest.raises(InvalidInput, match="megapixels"):
            load_image(source)


def test_images_come_from_the_web_within_bounds(monkeypatch):
    body = png_bytes(random_image(8, 6))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/ok.png" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        assert load_image(f"{address}/ok.png").size == (8, 6)
        with pytest.raises(InvalidInput, match="could not be downloaded"):
            load_image(f"{address}/missing.png")
        monkeypatch.setattr(decoding, "MAX_FILE_BYTES", 10)
        with pytest.raises(InvalidInput, match="larger than"):
            load_image(f"{address}/ok.png")
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(InvalidInput, match="could not be downloaded"):
        load_image(f"{address}/ok.png")


def test_masks_of_every_kind_become_black_and_white():
    expected = np.zeros((6, 8), np.uint8)
    expected[1:4, 2:5] = 255
    alpha = Image.new("RGBA", (8, 6), (0, 0, 0, 0))
    alpha.putalpha(Image.fromarray(expected))
    for source in (
        expected,
        expected > 0,
        expected / 255.0,
        Image.fromarray(expected),
        Image.fromarray(expected).convert("1"),
        Image.fromarray(expected).convert("RGB"),
        Image.fromarray(expected).convert("P"),
        alpha,
        torch.from_numpy(expected > 0),
    ):
        mask = load_mask(source)
        assert mask.mode == "L"
        assert np.array_equal(np.asarray(mask), expected)


def test_soft_edges_are_thresholded_but_grey_images_refused():
    soft = Image.new("L", (40, 40), 0)
    soft.paste(255, (10, 10, 30, 30))
    soft.putpixel((9, 15), 127)
    soft.putpixel((30, 15), 128)
    mask = load_mask(soft)
    assert mask.getpixel((9, 15)) == 0
    assert mask.getpixel((30, 15)) == 255
    with pytest.raises(InvalidInput, match="grey"):
        load_mask(Image.new("L", (8, 8), 128))
    with pytest.raises(InvalidInput, match="colour"):
        load_mask(random_image())


def test_batches_are_split_and_empty_ones_refused():
    assert as_image_list("a.png") == (["a.png"], False)
    assert as_image_list(("a.png", "b.png")) == (["a.png", "b.png"], True)
    items, batched = as_image_list(np.zeros((3, 4, 4, 3), np.uint8))
    assert batched
    assert len(items) == 3
    for empty in ([], (), np.zeros((0, 4, 4, 3)), None):
        with pytest.raises(InvalidInput, match="garment"):
            as_image_list(empty, name="garment")


def test_saving_leaves_no_half_written_file(tmp_path, monkeypatch):
    path = tmp_path / "new" / "out.png"
    save_atomically(random_image(), path)
    before = path.read_bytes()

    def broken(self, target, **options):
        with open(target, "wb") as stream:
            stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        save_atomically(random_image(seed=1), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["out.png"]
    with pytest.raises(InvalidInput, match="ending"):
        save_atomically(random_image(), tmp_path / "out.xyz")


def test_a_colour_that_stands_for_transparency_is_laid_on_the_background():
    garment = Image.new("RGB", (8, 6), (10, 200, 30))
    garment.paste((200, 0, 0), (0, 0, 4, 6))
    loaded = load_image(png_bytes(garment, transparency=(10, 200, 30)))
    assert loaded.getpixel((1, 1)) == (200, 0, 0)
    assert loaded.getpixel((6, 1)) == (255, 255, 255)
    assert "transparency" not in loaded.info


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_colour_profile_is_saved_with_the_image(tmp_path, ending):
    photo = Image.new("RGB", (8, 6))
    photo.info["icc_profile"] = rgb_profile("Display P3")
    save_atomically(photo, tmp_path / f"x.{ending}")
    with Image.open(tmp_path / f"x.{ending}") as saved:
        assert saved.info["icc_profile"] == photo.info["icc_profile"]


def test_transparency_is_saved_where_the_format_has_it_and_white_elsewhere(tmp_path):
    cut = Image.new("RGBA", (16, 16), (200, 0, 0, 0))
    cut.paste((0, 0, 200, 255), (0, 0, 8, 16))
    cut.info["icc_profile"] = rgb_profile("Display P3")
    for ending in ("png", "jpg"):
        save_atomically(cut, tmp_path / f"x.{ending}", quality=95)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "x.png")), np.asarray(cut))
    saved = Image.open(tmp_path / "x.jpg")
    assert saved.mode == "RGB"
    assert saved.info["icc_profile"] == cut.info["icc_profile"]
    assert min(saved.getpixel((13, 8))) > 245


# where images come from


@pytest.fixture
def stored(tmp_path):
    """An image, its file's bytes, and the file's path."""
    image = random_image(12, 9, seed=5)
    path = tmp_path / "a photo.png"
    path.write_bytes(png_bytes(image))
    return np.asarray(image), path.read_bytes(), path


def data_url(data, kind="image/png"):
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    "make",
    [
        lambda data, path: io.BytesIO(data),
        lambda data, path: memoryview(data),
        lambda data, path: bytearray(data),
        lambda data, path: memoryview(b"x" + data)[1:],
        lambda data, path: path.open("rb"),
        lambda data, path: path.open("rb", buffering=0),
        lambda data, path: data_url(data),
        lambda data, path: data_url(data, "image/jpeg"),  # what it says matters less than what it is
        lambda data, path: data_url(data, "").rstrip("="),
        lambda data, path: "data:;base64," + base64.urlsafe_b64encode(data).decode(),
        lambda data, path: f"data:image/png,{quote(data)}",
        lambda data, path: data_url(data)[:60] + "\n  " + data_url(data)[60:],
        lambda data, path: path.as_uri(),
        lambda data, path: f"file://localhost{quote(str(path))}",
        lambda data, path: f"file:{quote(str(path))}",
        lambda data, path: Path("~/a photo.png"),
        lambda data, path: "~/a photo.png",
    ],
)
def test_files_of_every_kind_are_read(stored, monkeypatch, make):
    expected, data, path = stored
    source = make(data, path)
    with monkeypatch.context() as home:
        home.setenv("HOME", str(path.parent))
        assert np.array_equal(np.asarray(load_image(source)), expected)
    if hasattr(source, "close"):
        source.close()


def test_a_view_of_every_second_byte_is_read_too():
    data = png_bytes(random_image(8, 6))
    spread = memoryview(bytes(part for byte in data for part in (byte, 0)))[::2]
    assert load_image(spread).size == (8, 6)


def test_an_open_file_is_read_from_its_start_and_may_be_passed_again(stored):
    expected, data, _ = stored
    stream = io.BytesIO()
    stream.write(data)  # its position is at the end now
    for _ in range(2):
        assert np.array_equal(np.asarray(load_image(stream)), expected)


def test_a_stream_that_cannot_be_rewound_is_read_on(stored):
    expected, data, _ = stored

    class Pipe(io.RawIOBase):
        left = io.BytesIO(data)

        def readable(self):
            return True

        def readinto(self, buffer):
            return self.left.readinto(buffer)

    assert np.array_equal(np.asarray(load_image(io.BufferedReader(Pipe()))), expected)


def test_a_file_named_with_a_tilde_is_that_file(stored):
    expected, data, path = stored
    Path("~").mkdir()
    Path("~/a photo.png").write_bytes(data)
    path.unlink()
    assert np.array_equal(np.asarray(load_image("~/a photo.png")), expected)


class Upload:
    """As web frameworks hand them over."""

    async def read(self, size=-1):
        return b""


def closed_file():
    stream = io.BytesIO(b"x")
    stream.close()
    return stream


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: io.StringIO("text"), "opened as text"),
        (closed_file, "closed file"),
        (Upload, "asynchronously"),
        (lambda: "data:image/png;base64", "without a comma"),
        (lambda: "data:image/png;base64,@@@@", "damaged"),
        (lambda: "data:image/png;base64,AAAAA", "damaged"),
        (lambda: "data:text/plain,hello", "known format"),
        (lambda: "file://elsewhere/x.png", "elsewhere"),
        (lambda: "file:///nowhere.png", "no file"),
        (lambda: "~nobody-by-this-name/x.png", "no file"),
        (lambda: "http://[::1", "could not be downloaded"),
        (lambda: "ftp://example.org/x.png", "no file"),
    ],
)
def test_what_cannot_be_read_is_refused_with_one_sentence(make, match):
    with pytest.raises(InvalidInput, match=match) as caught:
        load_image(make(), name="person")
    assert "person" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_files_beyond_all_measure_are_refused(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_FILE_BYTES", 10)
    for source in (io.BytesIO(bytes(11)), data_url(bytes(30))):
        with pytest.raises(InvalidInput, match="larger than"):
            load_image(source)


# HEIC


def heic_bytes(image, **options):
    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream, quality=-1, **options)
    return stream.getvalue()


def test_heic_is_read_upright_with_its_profile_and_without_a_trace_in_pil(tmp_path):
    image = Image.new("RGB", (64, 32), (200, 30, 30))
    image.paste((30, 30, 200), (0, 0, 16, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = rgb_profile("Display P3")
    image.info["icc_profile"] = profile
    data = heic_bytes(image, exif=exif.tobytes())
    (tmp_path / "IMG_0001.HEIC").write_bytes(data)
    for source in (data, tmp_path / "IMG_0001.HEIC", io.BytesIO(data)):
        loaded = load_image(source)
        assert loaded.size == (32, 64)
        assert loaded.info["icc_profile"] == profile
        assert loaded.getpixel((16, 60))[0] > 190
        assert loaded.getpixel((16, 4))[2] > 190
    assert ".heic" not in Image.registered_extensions()


def test_heic_names_its_extra_where_that_is_missing(monkeypatch):
    data = heic_bytes(Image.new("RGB", (16, 16)))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingDependency, match=r"stableviton-sdk\[heif\]"):
        load_image(data)


def test_heic_that_is_damaged_or_too_large_is_refused(monkeypatch):
    data = heic_bytes(random_image(64, 64))
    with pytest.raises(InvalidInput, match="damaged"):
        load_image(data[: len(data) // 2])
    monkeypatch.setattr(decoding, "MAX_PIXELS", 100)
    with pytest.raises(InvalidInput, match="megapixels"):
        load_image(data)


def test_avif_needs_no_extra(monkeypatch):
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(stream, "AVIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert load_image(stream.getvalue()).size == (16, 16)


# what isn't copied


def test_an_image_that_is_ready_is_returned_itself_and_never_changed():
    image = random_image()
    assert load_image(image) is image
    assert load_photo(image, name="person") is image
    broken = random_image()
    broken.info["icc_profile"] = b"a profile of an image that is not to be changed"
    with pytest.warns(UserWarning, match="profile"):
        assert "icc_profile" not in load_image(broken).info
    assert "icc_profile" in broken.info


def test_an_image_of_an_open_file_outlives_the_file(tmp_path):
    random_image().save(tmp_path / "x.png")
    opened = Image.open(tmp_path / "x.png")
    loaded = load_image(opened)
    opened.close()
    assert np.array_equal(np.asarray(loaded), np.asarray(random_image()))


# photos


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_a_cut_out_photo_keeps_its_transparency_and_the_values_under_it(mode):
    alpha = Image.new("L", (8, 6), 255)
    alpha.paste(0, (0, 0, 3, 6))
    alpha.paste(90, (3, 0, 4, 6))
    source = Image.new("L" if mode == "LA" else "RGB", (8, 6), 70)
    source = source.quantize(4) if mode == "PA" else source
    source.putalpha(alpha)
    loaded = load_photo(source)
    assert loaded.mode == "RGBA"
    assert np.array_equal(np.asarray(loaded), np.asarray(source.convert("RGBA")))
    assert load_image(source).getpixel((0, 0)) == (255, 255, 255)


def test_an_alpha_channel_that_hides_nothing_is_dropped():
    image = random_image()
    image.putalpha(255)
    assert np.array_equal(np.asarray(load_photo(image)), np.asarray(random_image()))


# masks in arrays


def stack(count):
    masks = np.zeros((count, 20, 30), bool)
    for index in range(count):
        masks[index, 2 * index : 2 * index + 8, 5:20] = True
    return masks


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("kind", ["bool", "uint8", "float32"])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_arrays_of_masks_are_split(count, kind, library):
    masks = stack(count).astype(kind) * {"bool": True, "uint8": 255, "float32": 1}[kind]
    masks = masks.astype(kind)
    items, _ = as_mask_list(torch.from_numpy(masks) if library == "torch" else masks)
    assert len(items) == count
    for item, expected in zip(items, stack(count), strict=True):
        assert np.array_equal(np.asarray(load_mask(item)) > 0, expected)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_one_mask_stored_as_an_image_stays_one(channels, library):
    expected = stack(1)[0]
    image = np.repeat(expected[..., None], channels, axis=2).astype(np.uint8) * 255
    image[..., 3:] = 255
    source = torch.from_numpy(image).permute(2, 0, 1) if library == "torch" else image
    items, batched = as_mask_list(source)
    assert (len(items), batched) == (1, False)
    assert np.array_equal(np.asarray(load_mask(items[0])) > 0, expected)
    for several in ([source, source], source[None]):
        items, _ = as_mask_list(several)
        assert np.array_equal(np.asarray(load_mask(items[0])) > 0, expected)


def test_four_planes_that_may_be_masks_or_one_with_alpha_are_refused():
    planes = torch.from_numpy(stack(2)).float()[[0, 0, 0, 1]]
    with pytest.raises(InvalidInput, match="pass a list"):
        as_mask_list(planes)
    assert len(as_mask_list(list(planes))[0]) == 4


# text


def test_text_that_is_no_path_is_refused_in_short():
    for text, words in (
        ("data:image/png;base64," + "A" * 9000, "known format"),
        ("A" * 9000, "no file"),
        ("a\0b", "no file"),
    ):
        with pytest.raises(InvalidInput, match=words) as caught:
            load_image(text)
        assert len(str(caught.value)) < 400


def test_a_decoder_that_gives_up_means_a_damaged_file(monkeypatch):
    def give_up(image):
        raise RuntimeError("Failed to decode image")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", give_up)  # as the AVIF plugin does
    with pytest.raises(InvalidInput, match=r"Failed to decode image.*damaged"):
        load_image(png_bytes(Image.new("RGB", (8, 6))))


def test_a_mask_of_zeros_and_ones_is_named_as_what_it_is():
    with pytest.raises(InvalidInput, match="only 0 and 1"):
        load_mask(np.eye(8, dtype=np.uint8))
    assert load_mask(np.eye(8, dtype=bool)).getextrema() == (0, 255)


@pytest.mark.parametrize("name", ["icon.ico", f"{'a' * 240}.png"])
def test_names_that_end_badly_are_refused_before_the_work(tmp_path, name):
    with pytest.raises(InvalidInput, match=r"ending|too long"):
        check_image_path(tmp_path / name)
