import threading
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image
from support.flat_figures import (
    GREY,
    JOINTS,
    SHIRT,
    TROUSERS,
    FigureAnalyzer,
    labels_of,
    mask_in_photo,
    photo_of,
    prepare,
    shrunk,
)
from support.tiny import HEIGHT, WIDTH, tiny_pipeline

from stableviton_sdk.errors import InvalidInput, NoPersonFound
from stableviton_sdk.hub.layout import read_index
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.preprocessing.analyzers.base import BodyAnalysis, BodyAnalyzer
from stableviton_sdk.preprocessing.boxes import choose_person
from stableviton_sdk.preprocessing.inputs import TryOnInputs
from stableviton_sdk.preprocessing.labels import CIHP
from stableviton_sdk.preprocessing.preprocessor import PersonPreprocessor

# choose_person


def test_the_largest_and_most_central_person_is_chosen():
    size = (1000, 1000)
    centre, corner = (350, 350, 650, 650), (0, 0, 330, 330)
    assert choose_person(np.array([corner, centre]), np.array([0.9, 0.9]), size) == 1
    assert choose_person(np.array([(0, 100, 600, 1000), centre]), np.array([0.9, 0.9]), size) == 0
    assert choose_person(np.array([centre, centre]), np.array([0.5, 0.9]), size) == 1
    outside = (900, 0, 3000, 1000)  # large, but hardly on the photo
    assert choose_person(np.array([outside, centre]), np.array([0.9, 0.9]), size) == 1


def test_nobody_to_choose_from_is_told():
    with pytest.raises(NoPersonFound, match="nobody"):
        choose_person(np.empty((0, 4)), np.empty(0), (10, 10))


# BodyAnalysis


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"parsing": np.zeros((8, 6))}, "parsing labels"),
        ({"parsing": np.full((8, 6), 20, np.uint8)}, "label 20"),
        ({"densepose": np.full((8, 6), 25, np.uint8)}, "label 25"),
        ({"densepose": np.zeros((6, 8), np.uint8)}, "image's shape"),
        ({"keypoints": np.zeros((18, 3))}, "keypoints"),
        ({"boxes": np.zeros((1, 4))}, "boxes"),
        ({"scores": None}, "scores"),
    ],
)
def test_an_analysis_of_the_wrong_form_is_refused(changes, message):
    blank = np.zeros((8, 6), np.uint8)
    parts = {"parsing": blank, "keypoints": np.zeros((25, 3)), "densepose": blank}
    parts |= {"boxes": np.zeros((0, 4)), "scores": np.zeros(0)}
    with pytest.raises(InvalidInput, match=message):
        BodyAnalysis(**(parts | changes))


# PersonPreprocessor with an analyzer that knows the figures


def test_a_photo_of_the_right_proportions_is_analysed_once_and_searched_never():
    inputs, analyzer = prepare(photo_of((600, 800), (150, 100, 450, 780)))
    assert inputs.frame.box == (0, 0, 600, 800)
    assert analyzer.searched == []
    assert analyzer.analysed == [((768, 1024), None)]
    assert inputs.frame_person.size == inputs.frame_mask.size == inputs.frame_densepose.size == (768, 1024)
    assert inputs.parsing.shape == (1024, 768)


def test_the_mask_covers_the_shirt_and_leaves_face_and_trousers():
    photo = photo_of((1400, 800), (500, 100, 800, 780))
    inputs, _ = prepare(photo)
    mask, labels = mask_in_photo(inputs), labels_of(photo)
    assert mask[shrunk(labels == CIHP.UPPER_CLOTHES, 3)].all()
    assert not mask[shrunk(labels == CIHP.FACE, 3)].any()
    assert not mask[shrunk(labels == CIHP.TROUSERS, 3)].any()
    agnostic = np.asarray(inputs.agnostic_at(inputs.frame_person.size))
    grey = agnostic[np.asarray(inputs.frame_mask) > 0]
    assert (grey == 128).all()
    assert (agnostic == np.asarray(inputs.frame_person))[np.asarray(inputs.frame_mask) == 0].all()


def test_joints_densepose_and_parse_lie_on_the_person_of_the_frame():
    inputs, _ = prepare(photo_of((1400, 800), (500, 100, 800, 780)))
    neck = inputs.keypoints[1]
    left, top = inputs.frame.box[:2]
    assert left + neck[0] * inputs.frame.size[0] == pytest.approx(500 + 0.5 * 300, abs=2)
    assert top + neck[1] * inputs.frame.size[1] == pytest.approx(100 + 0.25 * 680, abs=2)
    assert (inputs.keypoints[:, 2] > 0).sum() == len(JOINTS)
    x, y = (neck[:2] * inputs.frame_densepose.size).astype(int)
    assert inputs.frame_densepose.getpixel((int(x), int(y))) == (20, 80, 194)  # DensePose label 2
    assert inputs.frame_densepose.getpixel((3, 3)) == (0, 0, 0)
    assert inputs.parsing[int(0.45 * 680 * 1024 / 800 + 128), int(x)] == CIHP.UPPER_CLOTHES


def test_among_three_people_the_central_one_is_prepared_and_a_box_chooses_another():
    people = [(50, 300, 250, 780), (600, 100, 900, 790), (1250, 250, 1450, 780)]
    photo = photo_of((1500, 800), *people)
    inputs, analyzer = prepare(photo)
    assert analyzer.searched == [(1500, 800)]
    mask = mask_in_photo(inputs)
    shirts = shrunk(labels_of(photo) == CIHP.UPPER_CLOTHES, 3)
    assert mask[:, 600:900][shirts[:, 600:900]].all()
    assert not mask[:, :300].any()
    assert not mask[:, 1200:].any()
    inputs, analyzer = prepare(photo, person_box=people[2])
    assert analyzer.searched == []
    mask = mask_in_photo(inputs)
    assert mask[:, 1250:1450][shirts[:, 1250:1450]].all()
    assert not mask[:, :900].any()
    (_, box) = analyzer.analysed[0]
    corner = np.add(inputs.frame.box[:2], np.array(box[:2]) * inputs.frame.size[1] / 1024)
    assert np.abs(corner - people[2][:2]).max() < 1


def test_a_photo_that_no_crop_fits_is_padded():
    inputs, _ = prepare(photo_of((300, 1200), (50, 50, 250, 1150)))
    assert inputs.frame.size == (900, 1200)
    assert inputs.frame.visible_box == (0, 0, 300, 1200)
    mask = mask_in_photo(inputs)
    assert mask[shrunk(labels_of(inputs.photo) == CIHP.UPPER_CLOTHES, 6)].all()


def test_close_zooms_in_on_a_small_person():
    photo = photo_of((1200, 1600), (560, 900, 680, 1200))
    wide, _ = prepare(photo)
    near, _ = prepare(photo, zoom_to_person=True)
    assert wide.frame.size == (1200, 1600)
    assert near.frame.size[1] == pytest.approx(300 * 1.24, abs=3)
    shirt = shrunk(labels_of(photo) == CIHP.UPPER_CLOTHES, 3)
    assert mask_in_photo(near)[shirt].all()


@pytest.mark.parametrize("aspect, size", [((3, 4), (768, 1024)), ((384, 512), (768, 1024)), ((512, 512), (887, 887))])
def test_the_frame_has_the_network_s_proportions(aspect, size):
    inputs, _ = prepare(photo_of((1000, 900), (350, 100, 650, 880)), aspect=aspect)
    assert inputs.frame_person.size == size
    assert inputs.frame.size[0] * aspect[1] == pytest.approx(inputs.frame.size[1] * aspect[0], abs=4)


def test_a_network_with_more_pixels_than_the_analysis_gets_a_person_of_its_own_resolution():
    inputs, analyzer = prepare(photo_of((1200, 1600), (300, 100, 900, 1500)), aspect=(900, 1200))
    assert inputs.frame_person.size == (900, 1200)
    assert analyzer.analysed[0][0] == inputs.frame_mask.size == (768, 1024)


def test_growing_widens_the_mask():
    photo = photo_of((600, 800), (150, 100, 450, 780))
    plain, grown = (np.asarray(prepare(photo, mask_dilation=share)[0].frame_mask) > 0 for share in (0, 0.2))
    assert (grown | ~plain).all()
    assert grown.sum() > 1.1 * plain.sum()


def test_lower_bodies_are_prepared_with_a_warning():
    photo = photo_of((600, 800), (150, 100, 450, 780))
    with pytest.warns(UserWarning, match="upper bodies"):
        inputs, _ = prepare(photo, category="lower")
    mask = mask_in_photo(inputs)
    assert mask[shrunk(labels_of(photo) == CIHP.TROUSERS, 3)].all()
    assert not mask[shrunk(labels_of(photo) == CIHP.UPPER_CLOTHES, 3)].any()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "CMYK", "path", "exif"])
def test_any_kind_of_image_gives_the_same_inputs(mode, tmp_path):
    photo = photo_of((600, 800), (150, 100, 450, 780))
    expected, _ = prepare(photo)
    if mode == "path":
        image = tmp_path / "photo.png"
        photo.save(image)
    elif mode == "exif":
        image = tmp_path / "photo.png"
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned
        photo.transpose(Image.Transpose.ROTATE_90).save(image, exif=exif)
    elif mode == "LA":
        with pytest.raises(NoPersonFound):
            prepare(photo.convert("LA"))  # the figures are their colours
        return
    else:
        image = photo.convert(mode)
    inputs, _ = prepare(image)
    assert inputs.photo.size == (600, 800)
    assert (np.asarray(inputs.frame_mask) != np.asarray(expected.frame_mask)).mean() < 0.001


@pytest.mark.parametrize("size", [(1, 1), (20, 3000), (3000, 20), (500, 400)])
def test_a_photo_of_nobody_is_told_in_one_sentence(size):
    with pytest.raises(NoPersonFound, match="nobody"):
        prepare(Image.new("RGB", size, GREY))


def test_a_photo_without_the_body_part_is_told_in_one_sentence():
    class HeadOnly(FigureAnalyzer):
        def __call__(self, image, *, person_box=None):
            analysis = super().__call__(image, person_box=person_box)
            parsing = np.full_like(analysis.parsing, CIHP.FACE)
            return BodyAnalysis(parsing, analysis.keypoints, analysis.densepose, analysis.boxes, analysis.scores)

    with pytest.raises(NoPersonFound, match="nothing of the body part"):
        PersonPreprocessor(HeadOnly())(photo_of((600, 800), (150, 100, 450, 780)))


def test_a_large_photo_needs_no_arrays_of_its_own_size():
    photo = photo_of((8000, 6000), (3000, 500, 5000, 5900))
    analyzer = FigureAnalyzer()
    boxes = np.array([(3000, 500, 5000, 5900)], np.float32)
    analyzer.find_people = lambda image: (boxes, np.ones(1, np.float32))  # the colours would cost gigabytes
    tracemalloc.start()
    inputs = PersonPreprocessor(analyzer)(photo)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert inputs.frame.size == (4500, 6000)
    assert inputs.frame_person.size == (768, 1024)
    assert peak < 144e6  # bytes of the photo


@pytest.mark.parametrize(
    "options, message",
    [
        ({"category": "hat"}, "category"),
        ({"mask_dilation": 20}, "mask_dilation"),
        ({"mask_dilation": True}, "mask_dilation"),
        ({"aspect": (0, 4)}, "aspect"),
        ({"aspect": (1, 40)}, "aspect"),
        ({"aspect": (0.75, 1)}, "aspect"),
        ({"person_box": (5, 5)}, "person_box"),
        ({"person_box": (900, 5, 950, 50)}, "person_box"),
        ({"person_box": "everyone"}, "person_box"),
    ],
)
def test_wrong_options_are_refused_with_one_sentence(options, message):
    with pytest.raises(InvalidInput, match=message):
        prepare(photo_of((600, 700), (150, 100, 450, 680)), **options)


def test_an_analyzer_that_answers_at_another_size_is_refused():
    class Small(FigureAnalyzer):
        def __call__(self, image, *, person_box=None):
            return super().__call__(image.resize((300, 400)), person_box=None)

    with pytest.raises(InvalidInput, match="400, 300"):
        PersonPreprocessor(Small())(photo_of((600, 800), (150, 100, 450, 780)))


def test_what_does_not_follow_the_protocol_is_no_analyzer():
    assert isinstance(FigureAnalyzer(), BodyAnalyzer)
    with pytest.raises(InvalidInput, match="find_people"):
        PersonPreprocessor(lambda image: None)
    with pytest.raises(InvalidInput, match="'photo'"):
        PersonPreprocessor("psychic")
    with pytest.raises(InvalidInput, match="its weights itself"):
        PersonPreprocessor(FigureAnalyzer(), weights={"densepose": "x"})


def test_one_call_can_bring_another_analyzer():
    mine = FigureAnalyzer()
    PersonPreprocessor(FigureAnalyzer())(photo_of((600, 800), (150, 100, 450, 780)), analyzer=mine)
    assert len(mine.analysed) == 1


def test_calls_from_several_threads_take_turns():
    inside, most = [], []

    class Slow(FigureAnalyzer):
        def __call__(self, image, *, person_box=None):
            inside.append(1)
            most.append(len(inside))
            threading.Event().wait(0.02)
            analysis = super().__call__(image, person_box=person_box)
            inside.pop()
            return analysis

    preprocessor = PersonPreprocessor(Slow())
    results = {}

    def work(index):
        left = 100 + 20 * index
        results[index] = preprocessor(photo_of((600, 800), (left, 100, left + 300, 780)))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    for index, inputs in results.items():
        assert inputs.keypoints[1, 0] * 600 == pytest.approx(100 + 20 * index + 150, abs=2)


# in the pipeline


def test_the_pipeline_saves_and_loads_its_preprocessor(tmp_path):
    pipeline = tiny_pipeline()
    pipeline.register_modules(preprocessor=PersonPreprocessor(pose="dwpose"))
    pipeline.save_pretrained(tmp_path / "pipeline")
    index = read_index(tmp_path / "pipeline")
    assert index["preprocessor"] == ["stableviton_sdk.preprocessing.preprocessor", "PersonPreprocessor"]
    loaded = TryOnPipeline.from_pretrained(tmp_path / "pipeline")
    assert isinstance(loaded.preprocessor, PersonPreprocessor)
    assert loaded.preprocessor.config["pose"] == "dwpose"
    replaced = TryOnPipeline.from_pretrained(tmp_path / "pipeline", preprocessor=PersonPreprocessor(FigureAnalyzer()))
    assert replaced.preprocessor.config["analyzer"] is None


def test_a_raw_photo_and_a_garment_go_in_and_the_photo_comes_out_changed_inside_the_mask_only():
    pipeline = tiny_pipeline()
    pipeline.register_modules(preprocessor=PersonPreprocessor(FigureAnalyzer()))
    pipeline.set_progress_bar_config(disable=True)
    photo = photo_of((700, 500), (250, 20, 450, 490))
    garment = Image.new("RGB", (300, 400), (246, 246, 246))
    garment.paste((10, 90, 200), (40, 40, 260, 360))
    inputs = pipeline.prepare(photo, height=HEIGHT, width=WIDTH)
    assert isinstance(inputs, TryOnInputs)
    generator = torch.Generator().manual_seed(0)
    result = pipeline(photo, garment, height=HEIGHT, width=WIDTH, num_inference_steps=2, generator=generator).images[0]
    assert result.size == photo.size
    mask = mask_in_photo(inputs)
    changed = (np.asarray(result) != np.asarray(photo)).any(axis=2)
    assert not changed[~mask].any()
    assert changed[mask].mean() > 0.5


def test_the_pipeline_cuts_a_worn_garment_out_with_its_preprocessor():
    pipeline = tiny_pipeline()
    pipeline.register_modules(preprocessor=PersonPreprocessor(FigureAnalyzer()))
    photo = photo_of((600, 800), (150, 100, 450, 780))
    garment = pipeline.prepare_garment(photo, garment_photo="model", height=512, width=384).image
    values = np.asarray(garment)
    assert np.abs(values[256, 192].astype(int) - SHIRT).max() <= 2
    assert (values[:20] == 246).all()
    assert not (np.abs(values.astype(int) - TROUSERS).max(axis=2) < 40).any()
