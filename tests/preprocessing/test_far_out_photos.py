"""What the bundled body network wasn't made for is refused or warned about, and what it was made for is neither."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import stableviton_sdk
from stableviton_sdk.data.synthetic import render_pair
from stableviton_sdk.errors import NoPersonFound
from stableviton_sdk.preprocessing.preprocessor import PersonPreprocessor
from stableviton_sdk.training.bundled.body_data import draw_empty

FOLDER = Path(stableviton_sdk.__file__).parent / "bundled"
SEED = 905


@pytest.fixture(scope="module")
def analyzer():
    return PersonPreprocessor.from_pretrained(FOLDER / "preprocessor").analyzer()


def line_drawing(image):
    grey = cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2GRAY)
    return Image.fromarray(cv2.cvtColor(255 - cv2.Canny(grey, 60, 150), cv2.COLOR_GRAY2RGB))


def cartoon(image):
    flat = cv2.pyrMeanShiftFiltering(np.asarray(image), 8, 30)
    return Image.fromarray((flat // 32 * 32 + 16).astype(np.uint8))


def person(index, style="photo", size=(384, 512)):
    return Image.fromarray(render_pair(SEED, index, style, size).person)


@pytest.mark.parametrize("draw", [line_drawing, cartoon])
def test_a_drawing_warns(analyzer, draw):
    with pytest.warns(UserWarning, match="looks drawn"):
        analyzer(draw(person(1)))


@pytest.mark.parametrize("style", ["studio", "shifted", "photo"])
def test_a_rendered_person_does_not(analyzer, style):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*looks drawn")
        for index in range(1, 4):
            analyzer(person(index, style))


def test_the_packages_own_samples_do_not_warn(analyzer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in sorted((FOLDER / "samples").glob("person_*.png")):
            analyzer(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("angle", [90, -90])
def test_a_lying_person_is_not_taken_for_a_standing_one(analyzer, angle):
    for index in range(3):
        with pytest.raises(NoPersonFound):
            analyzer(person(index).rotate(angle, expand=True, fillcolor=(220, 220, 220)))


@pytest.mark.parametrize("style", ["studio", "shifted", "photo"])
def test_a_garment_laid_flat_is_nobody(analyzer, style):
    for index in range(6):
        flat = render_pair(SEED, index, style).garment_other
        assert len(analyzer.find_people(Image.fromarray(flat))[0]) == 0


def test_an_empty_scene_is_nobody(analyzer):
    for index in range(6):
        with pytest.raises(NoPersonFound):
            analyzer(Image.fromarray(draw_empty(SEED, index)))
