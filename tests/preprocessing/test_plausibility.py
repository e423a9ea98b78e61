"""Wrong maps and images: the certain ones are refused, the doubtful ones warned about, the right ones pass."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from stableviton_sdk.data.synthetic import render_pair
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.preprocessing.garment import prepare_garment
from stableviton_sdk.preprocessing.inputs import TryOnInputs
from stableviton_sdk.preprocessing.labels import PARULA
from stableviton_sdk.preprocessing.plausibility import check_densepose, check_garment, check_mask, check_person

SAMPLES = [render_pair(77, index, style) for index, style in enumerate(("studio", "shifted", "studio", "shifted"))]


@pytest.fixture(params=SAMPLES, ids=["studio", "shifted", "second studio", "second shifted"])
def sample(request):
    return request.param


@pytest.fixture
def photo(sample):
    return Image.fromarray(sample.person)


@pytest.fixture
def densepose(sample):
    return Image.fromarray(PARULA[sample.densepose_labels])


def jpeg(image, quality):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


def changed(image, change):
    return Image.fromarray(np.ascontiguousarray(change(np.asarray(image))))


def resized(image, factor, resample):
    return image.resize((round(image.width * factor), round(image.height * factor)), resample)


def mask_of(array):
    return Image.fromarray(array.astype(np.uint8) * 255)


def silently(check, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(*arguments, **options)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: jpeg(image, 40),
        lambda image: resized(image, 1 / 3, Image.Resampling.LANCZOS),
        lambda image: resized(image, 2.5, Image.Resampling.BICUBIC),
        lambda image: resized(image, 0.5, Image.Resampling.BILINEAR),
        lambda image: image.quantize(20).convert("RGB"),
    ],
    ids=["as drawn", "JPEG", "small", "large", "blurred", "palette"],
)
def test_right_densepose_images_pass_silently(densepose, photo, change):
    silently(check_densepose, change(densepose), photo)


@pytest.mark.parametrize("after", [lambda image: image, lambda image: jpeg(image, 60)], ids=["exact", "JPEG"])
@pytest.mark.parametrize(
    "change, words",
    [
        (lambda values: np.zeros_like(values), "all black"),
        (lambda values: values[..., ::-1], "in BGR order"),
        (lambda values: 255 - values, "is inverted: pass it with a black background"),
        (lambda values: 255 - values[..., ::-1], "is inverted, with its channels in BGR order"),
        (lambda values: values[..., [1, 0, 2]], "has its channels in GRB order"),
        (lambda values: values[..., [0, 2, 1]], "has its channels in RBG order"),
        (lambda values: values[..., [2, 0, 1]], "has its channels in BRG order"),
        (lambda values: values[..., [1, 2, 0]], "has its channels in GBR order"),
    ],
    ids=["black", "BGR", "inverted", "inverted BGR", "GRB", "RBG", "BRG", "GBR"],
)
def test_certainly_wrong_densepose_images_are_refused_by_name(densepose, photo, change, words, after):
    with pytest.raises(InvalidInput, match=rf"^densepose\[1\] .*{words}"):
        check_densepose(after(changed(densepose, change)), photo, name="densepose[1]")


@pytest.mark.parametrize(
    "change", [lambda image: image, lambda image: jpeg(image, 80), lambda image: resized(image, 3, 2)]
)
def test_the_photo_itself_is_refused_as_its_densepose(photo, change):
    with pytest.raises(InvalidInput, match="densepose is the photo itself"):
        check_densepose(change(photo), photo)


def test_doubtful_densepose_images_warn_and_say_what_they_look_like(densepose, photo, sample):
    body = np.asarray(densepose).any(axis=2, keepdims=True)
    overlay = Image.blend(photo, densepose, 0.7)
    over_body = Image.fromarray(np.where(body, np.asarray(overlay), np.asarray(photo)))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*body.shape[:2], 3), np.uint8))
    for image, words in (
        (over_body, "the photo, perhaps with DensePose drawn over it"),
        (mask_of(sample.densepose_labels > 0).convert("RGB"), "a mask or a greyscale image"),
        (densepose.convert("L").convert("RGB"), "a mask or a greyscale image"),
        (noise, "some other image"),
    ):
        with pytest.warns(UserWarning, match=rf"densepose lacks DensePose's colours .* looks like {words}"):
            check_densepose(image, photo)
    with pytest.warns(UserWarning, match="lacks DensePose's colours"):
        check_densepose(overlay, photo)
    filled = np.where(body, np.asarray(densepose), PARULA[1])
    with pytest.warns(UserWarning, match="densepose has no black background"):
        check_densepose(Image.fromarray(filled), photo)


def test_masks_of_the_person_pass_and_others_are_refused_or_warned_about(densepose, sample):
    silently(check_mask, mask_of(sample.mask), densepose)
    silently(check_mask, resized(mask_of(sample.mask), 3, Image.Resampling.NEAREST), densepose)
    with pytest.raises(InvalidInput, match=r"mask\[0\] covers nothing of the person"):
        check_mask(mask_of(sample.densepose_labels == 0), densepose, name="mask[0]")
    with pytest.warns(UserWarning, match="mask (looks inverted|hardly covers the person)"):
        check_mask(mask_of(~sample.mask), densepose)
    barely = sample.densepose_labels == 0
    top = np.nonzero(sample.densepose_labels)[0][0]
    barely[top : top + 6] = True
    with pytest.warns(UserWarning, match="hardly covers the person"):
        check_mask(mask_of(barely), densepose)


def test_masks_pass_where_nothing_is_known_of_the_person(sample):
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (256, 192, 3), np.uint8))
    silently(check_mask, mask_of(sample.densepose_labels == 0), noise)


def test_a_person_passes_and_an_empty_place_of_the_head_is_warned_about(densepose, photo):
    silently(check_person, photo, densepose)
    empty = Image.new("RGB", photo.size, (246, 246, 246))
    empty.paste((180, 30, 40), (60, 130, 130, 230))
    with pytest.warns(UserWarning, match="person shows plain background where densepose has the head"):
        check_person(empty, densepose)


def mirrored(array):
    return np.ascontiguousarray(array[:, ::-1])


def test_a_mirrored_mask_is_warned_about_where_the_pose_tells():
    for sample in SAMPLES:
        densepose = Image.fromarray(PARULA[sample.densepose_labels])
        silently(check_mask, mask_of(sample.mask), densepose)
        one_sleeve = np.isin(sample.densepose_labels, (15, 17, 19, 21))  # a mask of one's own, of a part
        silently(check_mask, mask_of(one_sleeve), densepose)
    for sample in (render_pair(77, 6, "studio"), render_pair(31, 6, "photo")):  # one arm is away from the body
        densepose = Image.fromarray(PARULA[sample.densepose_labels])
        silently(check_mask, mask_of(sample.mask), densepose)
        with pytest.warns(UserWarning, match="mask looks mirrored"):
            check_mask(mask_of(mirrored(sample.mask)), densepose)


@pytest.mark.parametrize("style", ["studio", "photo"])
def test_a_densepose_image_beside_the_person_is_warned_about(style):
    samples = [render_pair(31, index, style) for index in (0, 1, 2)]
    for sample in samples:
        photo, densepose = Image.fromarray(sample.person), Image.fromarray(PARULA[sample.densepose_labels])
        silently(check_person, photo, densepose)
        silently(check_person, photo, densepose, parsing=sample.parsing)
        with pytest.warns(UserWarning, match="beside person, so it looks mirrored, or of another photo"):
            check_person(photo, changed(densepose, mirrored), parsing=sample.parsing)


def test_another_persons_densepose_is_warned_about():
    sample, other = (render_pair(31, index, "photo") for index in (0, 1))
    photo, wrong = Image.fromarray(sample.person), Image.fromarray(PARULA[other.densepose_labels])
    with pytest.warns(UserWarning, match=r"of its body beside person, so it looks .*of another photo"):
        check_person(photo, wrong, parsing=sample.parsing)


def test_inputs_warn_about_another_persons_densepose_however_they_get_it():
    sample, other = (render_pair(31, index, "photo") for index in (0, 1))
    mask, photo = mask_of(sample.mask), Image.fromarray(sample.person)
    densepose, wrong = (Image.fromarray(PARULA[entry.densepose_labels]) for entry in (sample, other))
    wrong = changed(wrong, mirrored)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inputs = TryOnInputs.from_maps(photo, mask=mask, densepose=densepose, parsing=sample.parsing)
    with pytest.warns(UserWarning, match="of another photo"):
        TryOnInputs.from_maps(photo, mask=mask, densepose=wrong, parsing=sample.parsing)
    with pytest.warns(UserWarning, match="of another photo"):
        inputs.replace(densepose=wrong)


def test_garments_alone_pass_as_garments(sample):
    for garment in (sample.garment, sample.garment_other):
        silently(check_garment, Image.fromarray(garment))


@pytest.mark.parametrize("skin", [(224, 172, 145), (141, 85, 58), (90, 56, 37)])
def test_a_person_on_a_plain_background_is_warned_about_as_a_garment(skin):
    person = Image.new("RGB", (300, 400), (240, 240, 240))
    person.paste(skin, (120, 40, 180, 120))
    person.paste((20, 60, 160), (80, 120, 220, 300))
    person.paste((40, 40, 40), (90, 300, 210, 400))
    with pytest.warns(UserWarning, match='garment_photo="model"'):
        check_garment(person)
    cut_out = Image.new("RGB", (300, 400), (240, 240, 240))
    cut_out.paste(skin, (80, 40, 220, 360))  # a garment in a colour of skin
    silently(check_garment, cut_out)


@pytest.mark.parametrize("size", [(1, 1), (400, 3), (3, 400)])
def test_tiny_and_thin_images_are_no_error(size):
    image = Image.new("RGB", size, (90, 150, 60))
    for check in (check_mask, check_person):
        check(image, image)
    check_garment(image)


def test_inputs_refuse_wrong_maps_however_they_get_them(densepose, photo, sample):
    mask = mask_of(sample.mask)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inputs = TryOnInputs.from_maps(photo, mask=mask, densepose=densepose)
        assert inputs.replace(mask=mask, densepose=densepose).frame_densepose.size == densepose.size
    for wrong in (changed(densepose, lambda values: values[..., ::-1]), Image.new("RGB", densepose.size), photo):
        with pytest.raises(InvalidInput, match="densepose"):
            TryOnInputs.from_maps(photo, mask=mask, densepose=wrong)
        for name in ("densepose", "frame_densepose"):
            with pytest.raises(InvalidInput, match="densepose"):
                inputs.replace(**{name: wrong})
    beside = mask_of(sample.densepose_labels == 0)
    with pytest.raises(InvalidInput, match="mask covers nothing of the person"):
        TryOnInputs.from_maps(photo, mask=beside, densepose=densepose)
    for name in ("mask", "frame_mask"):
        with pytest.raises(InvalidInput, match="mask covers nothing of the person"):
            inputs.replace(**{name: beside})


def test_inputs_warn_about_a_flat_lay_as_the_person(densepose, sample):
    flat_lay = Image.new("RGB", densepose.size, (246, 246, 246))
    flat_lay.paste((180, 30, 40), (60, 130, 130, 230))
    with pytest.warns(UserWarning, match="person shows plain background"):
        TryOnInputs.from_maps(flat_lay, mask=mask_of(sample.mask), densepose=densepose)


def test_preparing_the_photo_of_a_person_as_a_flat_lay_warns():
    person = Image.new("RGB", (300, 400), (240, 240, 240))
    person.paste((224, 172, 145), (120, 40, 180, 120))
    person.paste((20, 60, 160), (80, 120, 220, 400))
    with pytest.warns(UserWarning, match='garment_photo="model"'):
        prepare_garment(person)
