import numpy as np
import pytest
from PIL import Image, ImageDraw
from support.paths import SHARED

from stableviton_sdk.errors import InvalidInput, NoPersonFound
from stableviton_sdk.preprocessing.garment import CANVAS, garment_area, prepare_garment
from stableviton_sdk.preprocessing.labels import CIHP

CLOTHES = SHARED / "samples" / "vitonhd" / "cloth"
RED, BLUE = (200, 30, 40), (30, 40, 200)


def shirt(size, box, background, *, colour=RED, mode="RGB"):
    """A block with a diagonal stripe, so that a stretched or mirrored copy would show."""
    image = Image.new(mode, size, background)
    draw = ImageDraw.Draw(image)
    draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=(*colour, 255) if mode == "RGBA" else colour)
    draw.line(
        (box[0] + 9, box[1] + 9, box[2] - 10, box[3] - 10), fill=(*BLUE, 255) if mode == "RGBA" else BLUE, width=9
    )
    return image


def garment_box(image, canvas=CANVAS):
    """Box of what isn't canvas."""
    away = np.abs(np.asarray(image).astype(int) - canvas).max(axis=2) > 60
    rows, columns = np.flatnonzero(away.any(axis=1)), np.flatnonzero(away.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def expected_box(garment_size, size=(384, 512)):
    """Centred, 9 % free at the sides and 5.8 % at the ends at least, proportions kept."""
    scale = min(size[0] * 0.82 / garment_size[0], size[1] * 0.884 / garment_size[1])
    width, height = garment_size[0] * scale, garment_size[1] * scale
    return ((size[0] - width) / 2, (size[1] - height) / 2, (size[0] + width) / 2, (size[1] + height) / 2)


def canvas_of(*arguments, **options):
    """The image that the network sees."""
    return prepare_garment(*arguments, **options).image


def resized(image, size=(384, 512)):
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS))


@pytest.mark.parametrize("background", [CANVAS, (255, 255, 255), (230, 235, 240)])
def test_a_flat_lay_of_the_training_kind_is_only_resized(background):
    image = shirt((768, 1024), (70, 90, 700, 930), background)
    assert (np.asarray(canvas_of(image)) == resized(image)).all()


def test_a_flat_lay_of_the_wanted_size_comes_back_byte_for_byte():
    image = shirt((384, 512), (35, 45, 350, 465), CANVAS)
    assert (np.asarray(canvas_of(image)) == np.asarray(image)).all()


@pytest.mark.parametrize(
    "size, box",
    [((1200, 900), (40, 60, 500, 760)), ((768, 1024), (500, 700, 700, 1000)), ((600, 2400), (150, 50, 450, 250))],
)
@pytest.mark.parametrize("background", [CANVAS, (255, 255, 255), (120, 130, 140), (20, 20, 20)])
def test_a_garment_on_an_even_background_is_centred_on_the_canvas_undistorted(size, box, background):
    result = canvas_of(shirt(size, box, background))
    assert result.size == (384, 512)
    expected = expected_box((box[2] - box[0], box[3] - box[1]))
    assert np.abs(np.subtract(garment_box(result), expected)).max() <= 3
    left, top, right, bottom = (round(edge) for edge in expected)
    values = np.asarray(result)
    outside = np.ones(values.shape[:2], bool)
    outside[top - 4 : bottom + 4, left - 4 : right + 4] = False
    assert (values[outside] == CANVAS).all()
    assert np.abs(values[top + 40 : top + 60, right - 60 : right - 20].astype(int) - RED).max() <= 2
    middle = values[(top + bottom) // 2, (left + right) // 2]  # on the stripe
    assert np.abs(middle.astype(int) - BLUE).max() <= 40


def test_a_noisy_background_is_still_even():
    noise = np.random.default_rng(0).normal(0, 4, (900, 1200, 3))
    values = np.asarray(shirt((1200, 900), (40, 60, 500, 760), (180, 180, 175))) + noise
    result = canvas_of(values.clip(0, 255).astype(np.uint8))
    assert np.abs(np.subtract(garment_box(result), expected_box((460, 700)))).max() <= 3
    corner = np.asarray(result)[:20, :100].astype(int)
    assert np.abs(corner - CANVAS).mean() < 1


def test_a_pale_garment_is_found_on_a_clean_background():
    image = Image.new("RGB", (1000, 1000), (255, 255, 255))
    image.paste((243, 243, 243), (100, 200, 500, 700))
    values = np.asarray(canvas_of(image))
    left, top, right, bottom = (round(edge) for edge in expected_box((400, 500)))
    assert (values[top + 10 : bottom - 10, left + 10 : right - 10] == (243, 243, 243)).all()
    assert (values[: top - 5] == CANVAS).all()


def test_background_enclosed_by_the_garment_becomes_canvas_but_a_pattern_stays():
    image = shirt((1200, 900), (40, 60, 500, 760), (120, 130, 140))
    ImageDraw.Draw(image).rectangle((350, 150, 450, 350), fill=(120, 130, 140))  # between sleeve and body
    ImageDraw.Draw(image).rectangle((60, 600, 160, 700), fill=(170, 170, 170))  # a grey print
    values = np.asarray(canvas_of(image))
    scale = 0.82 * 384 / 460
    left, top = 384 * 0.09, (512 - 700 * scale) / 2

    def at(x, y):
        return values[round(top + (y - 60) * scale), round(left + (x - 40) * scale)].tolist()

    assert at(400, 250) == list(CANVAS)
    assert at(110, 650) == [170, 170, 170]


def test_dust_does_not_move_the_garment():
    image = shirt((1200, 900), (40, 60, 500, 760), (255, 255, 255))
    ImageDraw.Draw(image).ellipse((1100, 800, 1110, 810), fill=(0, 0, 0))
    result = np.asarray(canvas_of(image))
    expected = expected_box((460, 700))
    body = Image.fromarray(result[:, : round(expected[2]) + 8])
    assert np.abs(np.subtract(garment_box(body), expected)).max() <= 2.5


def test_a_cluttered_background_is_kept_whole_and_padded():
    values = np.random.default_rng(1).integers(0, 256, (300, 600, 3), np.uint8)
    values = np.asarray(Image.fromarray(values).resize((600, 300), Image.Resampling.BICUBIC))
    result = np.asarray(canvas_of(values, size=(300, 400)))
    assert (result[:124] == CANVAS).all()
    assert (result[276:] == CANVAS).all()
    assert np.abs(result[125:275].astype(int) - resized(Image.fromarray(values), (300, 150))).mean() < 1


def test_a_cluttered_image_of_the_right_proportions_is_only_resized():
    values = np.random.default_rng(1).integers(0, 256, (1024, 768, 3), np.uint8)
    assert (np.asarray(canvas_of(values)) == resized(Image.fromarray(values))).all()


def test_transparency_shows_the_canvas_and_the_garment_is_centred():
    image = shirt((1000, 800), (600, 100, 900, 700), (0, 0, 0, 0), mode="RGBA")
    result = canvas_of(image)
    assert np.abs(np.subtract(garment_box(result), expected_box((300, 600)))).max() <= 2.5
    assert np.asarray(result)[0, 0].tolist() == list(CANVAS)


def test_a_white_garment_with_transparency_is_found_too():
    image = Image.new("RGBA", (1000, 800))
    image.paste((255, 255, 255, 255), (600, 100, 900, 700))
    values = np.asarray(canvas_of(image))
    left, top, right, bottom = (round(edge) for edge in expected_box((300, 600)))
    assert (values[top + 10 : bottom - 10, left + 10 : right - 10] == 255).all()


def test_an_empty_image_is_refused():
    with pytest.raises(InvalidInput, match="empty"):
        canvas_of(Image.new("RGBA", (50, 50)))


@pytest.mark.parametrize("size", [(1, 1), (20, 3000), (3000, 20), (3, 4)])
def test_odd_images_come_out_at_the_wanted_size(size):
    assert canvas_of(Image.new("RGB", size, RED), size=(96, 128)).size == (96, 128)
    values = np.random.default_rng(2).integers(0, 256, (size[1], size[0], 3), np.uint8)
    assert canvas_of(values, size=(96, 128)).size == (96, 128)


def worn(background=(90, 140, 90)):
    """A model in a red shirt, and the parse of the photo."""
    image = Image.new("RGB", (900, 600), background)
    labels = Image.new("L", image.size, 0)
    for draw, values in ((ImageDraw.Draw(image), (RED, (230, 190, 160))), (ImageDraw.Draw(labels), (5, 13))):
        draw.rectangle((300, 200, 499, 499), fill=values[0])
        draw.ellipse((350, 50, 450, 190), fill=values[1])
    return image, labels


def parser_of(labels):
    return lambda image: np.asarray(labels.resize(image.size, Image.Resampling.NEAREST))


def test_a_worn_garment_is_cut_out_and_centred_on_the_canvas():
    image, labels = worn()
    result = canvas_of(image, garment_photo="model", parser=parser_of(labels))
    assert np.abs(np.subtract(garment_box(result), expected_box((200, 300)))).max() <= 2.5
    values = np.asarray(result)
    assert values[256, 192].tolist() == list(RED)
    colours = np.abs(values.astype(int) - (90, 140, 90)).max(axis=2)
    assert colours.min() > 20  # nothing of the surroundings


def test_the_category_says_which_worn_garment_is_cut_out():
    image, labels = worn()
    ImageDraw.Draw(image).rectangle((320, 500, 479, 599), fill=BLUE)
    ImageDraw.Draw(labels).rectangle((320, 500, 479, 599), fill=int(CIHP.TROUSERS))
    lower = canvas_of(image, garment_photo="model", parser=parser_of(labels), category="lower")
    assert np.asarray(lower)[256, 192].tolist() == list(BLUE)
    both = canvas_of(image, garment_photo="model", parser=parser_of(labels), category="dress")
    assert np.abs(np.subtract(garment_box(both), expected_box((200, 400)))).max() <= 2.5


def test_a_large_model_photo_is_parsed_at_a_bounded_size():
    image, labels = worn()
    sizes = []

    def parser(small):
        sizes.append(small.size)
        return parser_of(labels)(small)

    canvas_of(image.resize((4500, 3000)), garment_photo="model", parser=parser)
    assert len(sizes) == 1
    assert max(sizes[0]) <= 1024


def test_a_model_photo_without_a_garment_or_a_person_is_told_apart():
    image, labels = worn()
    with pytest.raises(NoPersonFound, match="nobody"):
        canvas_of(image, garment_photo="model", parser=lambda small: np.zeros((small.height, small.width)))
    face_only = labels.point(lambda value: 13 if value == 13 else 0)
    with pytest.raises(InvalidInput, match="no such garment"):
        canvas_of(image, garment_photo="model", parser=parser_of(face_only))
    with pytest.raises(InvalidInput, match="parser returned"):
        canvas_of(image, garment_photo="model", parser=lambda small: np.ones((3, 3)))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"garment_photo": "ghost"}, "garment_photo"),
        ({"garment_photo": "model"}, "parser"),
        ({"category": "shoes"}, "category"),
        ({"size": (0, 10)}, "size"),
        ({"size": (3, 4, 5)}, "size"),
    ],
)
def test_wrong_arguments_are_refused_with_one_sentence(options, message):
    with pytest.raises(InvalidInput, match=message):
        canvas_of(Image.new("RGB", (10, 10), RED), **options)


@pytest.mark.skipif(not CLOTHES.is_dir(), reason=f"the VITON-HD samples are not at {CLOTHES}")
def test_real_garments_of_the_data_set_are_only_resized():
    paths = sorted(CLOTHES.glob("*.jpg"))
    assert paths
    for path in paths:
        assert (np.asarray(canvas_of(path)) == resized(Image.open(path).convert("RGB"))).all(), path.name


def test_the_garments_area_has_no_holes_where_it_is_as_pale_as_its_background():
    image = shirt((384, 512), (50, 60, 330, 450), CANVAS)
    ImageDraw.Draw(image).rectangle((120, 150, 260, 350), fill=CANVAS)  # a pale print
    area = garment_area(image)
    expected = np.zeros((512, 384), bool)
    expected[60:450, 50:330] = True
    assert (area != expected).mean() < 0.001
    noise = np.random.default_rng(0).integers(0, 255, (512, 384, 3), dtype=np.uint8)
    assert garment_area(Image.fromarray(noise)) is None
    assert garment_area(Image.new("RGB", (384, 512), CANVAS)) is None


@pytest.mark.parametrize("background", [CANVAS, (90, 120, 240), (255, 255, 255)])
def test_a_prepared_garment_knows_its_way_back(background):
    box = (500, 200, 700, 500)
    prepared = prepare_garment(shirt((900, 800), box, background))
    left, top, right, bottom = garment_box(prepared.image)
    x, y = prepared.to_original(np.array([left - 0.5, right - 0.5]), np.array([top - 0.5, bottom - 0.5]))
    assert np.allclose(x + 0.5, (box[0], box[2]), atol=2)
    assert np.allclose(y + 0.5, (box[1], box[3]), atol=2)
    assert prepared.original.size == (900, 800)
    assert (np.asarray(prepared.image) == np.asarray(canvas_of(prepared.original))).all()
