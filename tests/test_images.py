import io
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from support.tiny import random_image

from stableviton_sdk import images
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.images import as_image_list, check_image_path, load_image, load_mask, save_atomically


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
        (torch.zeros(5, 4, 4), "shape"),
        ("", "no file"),
        ("/nowhere.png", "no file"),
        (object(), "object"),
        (b"not an image", "known format"),
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
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
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
        monkeypatch.setattr(images, "MAX_DOWNLOAD_BYTES", 10)
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


def test_a_colour_profile_goes_with_the_image_as_long_as_it_fits(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    of_inks = srgb[:16] + b"CMYK" + srgb[20:]
    for mode in ("RGB", "RGBA", "P"):
        stream = io.BytesIO()
        Image.new("RGB", (8, 6)).convert(mode).save(stream, "PNG", icc_profile=srgb)
        assert load_image(stream.getvalue()).info["icc_profile"] == srgb
    stream = io.BytesIO()
    Image.new("CMYK", (8, 6)).save(stream, "JPEG", icc_profile=of_inks)
    assert "icc_profile" not in load_image(stream.getvalue()).info
    photo = Image.new("RGB", (8, 6))
    photo.info["icc_profile"] = srgb
    for ending in ("png", "jpg", "webp"):
        save_atomically(photo, tmp_path / f"x.{ending}")
        with Image.open(tmp_path / f"x.{ending}") as saved:
            assert saved.info["icc_profile"] == srgb


def test_text_that_is_no_path_is_refused_in_short():
    for text, words in (
        ("data:image/png;base64," + "A" * 9000, "b64decode"),
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
