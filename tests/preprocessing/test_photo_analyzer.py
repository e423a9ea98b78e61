"""The analyzer of photos: what its networks find is put together, and its weights are fetched, kept and passed on."""

import copy
import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from support.flat_figures import (
    PALETTE,
    FigureAnalyzer,
    labels_of,
    photo_of,
)
from support.parsing_networks import LIP, save_colour_network

from stableviton_sdk.errors import IncompatibleCheckpoint, InvalidInput, NoPersonFound, WeightsUnavailable
from stableviton_sdk.preprocessing import preprocessor as preprocessor_module
from stableviton_sdk.preprocessing.analyzers.base import BodyAnalyzer
from stableviton_sdk.preprocessing.analyzers.networks import LazyNetworks
from stableviton_sdk.preprocessing.analyzers.photo import WEIGHTS, PhotoAnalyzer
from stableviton_sdk.preprocessing.joints import Pose
from stableviton_sdk.preprocessing.preprocessor import PersonPreprocessor


class StandInSurface:
    """DensePose's answer for fixed boxes."""

    score_threshold, best_score = 0.8, 0.3

    def __init__(self, boxes):
        self.boxes = np.array(boxes, np.float32).reshape(-1, 4)
        self.scores = np.linspace(0.95, 0.85, len(self.boxes), dtype=np.float32)
        self.asked = []

    def labels(self, person_box):
        self.asked.append(person_box)
        labels = np.zeros((100, 200), np.uint8)
        left, top, right, bottom = (int(edge) for edge in person_box)
        labels[top:bottom, left:right] = 2
        return labels


def photo_analyzer(boxes, poses):
    surface = StandInSurface(boxes)
    densepose = SimpleNamespace(
        analyse=lambda image: surface, find_people=lambda image: (surface.boxes, surface.scores)
    )
    parser = SimpleNamespace(parse=lambda image: np.full((100, 200), 5, np.uint8))
    networks = LazyNetworks(lambda name: None)
    for name, network in (("parser", parser), ("openpose", lambda image: poses), ("densepose", densepose)):
        networks.get(name, lambda network=network: network)
    return PhotoAnalyzer(networks), surface


def pose_at(box, mark):
    return Pose(np.full((25, 3), mark, np.float32), box, 0.5)


def test_pose_and_surface_of_the_same_person_are_put_together():
    boxes = [(0, 0, 50, 90), (60, 0, 140, 100)]
    poses = [pose_at((5, 10, 45, 85), 1.0), pose_at((70, 10, 130, 95), 2.0)]
    analyzer, surface = photo_analyzer(boxes, poses)
    image = Image.new("RGB", (200, 100))
    analysis = analyzer(image)
    assert surface.asked == [boxes[1]]  # the larger and more central one, though the other has the better score
    assert (analysis.keypoints == 2).all()
    assert analysis.densepose[50, 100] == 2
    assert (analysis.parsing == 5).all()
    assert (analysis.boxes == boxes).all()
    analysis = analyzer(image, person_box=boxes[0])
    assert (analysis.keypoints == 1).all()
    assert analysis.densepose[50, 25] == 2
    assert isinstance(analyzer, BodyAnalyzer)


def test_a_person_whom_the_pose_network_misses_has_no_joints():
    analyzer, _ = photo_analyzer([(0, 0, 50, 90)], [pose_at((120, 0, 190, 90), 1.0)])
    assert (analyzer(Image.new("RGB", (200, 100))).keypoints == 0).all()
    analyzer, _ = photo_analyzer([(0, 0, 50, 90)], [])
    assert (analyzer(Image.new("RGB", (200, 100))).keypoints == 0).all()


def test_nobody_found_is_told_with_the_best_score_unless_a_box_was_given():
    analyzer, surface = photo_analyzer([], [])
    with pytest.raises(NoPersonFound, match=r"best score 0\.30, needed 0\.80"):
        analyzer(Image.new("RGB", (200, 100)))
    assert analyzer(Image.new("RGB", (200, 100)), person_box=(10, 10, 50, 90)).densepose[50, 30] == 2
    assert surface.asked == [(10, 10, 50, 90)]


# weights


@pytest.fixture
def fetched(monkeypatch, tmp_path):
    """The Hub, replaced: notes what is fetched and hands out a parsing network for everything."""
    network = save_colour_network(tmp_path / "parsing.onnx", LIP, PALETTE)
    requests = []

    def fetch(repo_id, filename, **options):
        requests.append((repo_id, filename, options["repo_type"]))
        return network

    monkeypatch.setattr(preprocessor_module, "fetch_file", fetch)
    return requests


def test_only_the_weights_that_are_needed_are_fetched_and_only_once(fetched):
    preprocessor = PersonPreprocessor(weights={"human_parsing_atr": None})
    assert fetched == []
    image = photo_of((300, 400), (75, 50, 225, 390))
    labels = preprocessor.parser()(image)
    assert fetched == [("rlawjdghek/StableVITON", "checkpoints/humanparsing/parsing_lip.onnx", "space")]
    assert (labels == labels_of(image)).mean() > 0.97
    preprocessor.parser("cpu")(image)
    preprocessor.analyzer("cpu", "dwpose").parse(image)
    assert len(fetched) == 1
    preprocessor.unload()
    preprocessor.parser()(image)
    assert len(fetched) == 2


def test_the_pose_method_decides_whose_weights_are_fetched(fetched):
    with pytest.raises(IncompatibleCheckpoint, match="not DWPose's person detector"):
        PersonPreprocessor().analyzer(pose="dwpose")._pose_estimator()  # the Hub's stand-in has parsers only
    assert [filename for _, filename, _ in fetched] == ["yolox_l.onnx", "dw-ll_ucoco_384.onnx"]
    fetched.clear()
    with pytest.raises(WeightsUnavailable, match="OpenPose"):
        PersonPreprocessor(pose="dwpose").analyzer(pose="openpose")._pose_estimator()
    assert fetched == [("lllyasviel/ControlNet", "annotator/ckpts/body_pose_model.pth", "model")]
    with pytest.raises(InvalidInput, match="'openpose', 'dwpose'"):
        PersonPreprocessor().analyzer(pose="yoga")


def test_the_densepose_weights_come_from_their_repository(fetched):
    with pytest.raises(Exception, match="parsing"):
        PersonPreprocessor().analyzer().find_people(Image.new("RGB", (30, 40)))  # it gets the wrong file here
    assert fetched == [("yisol/IDM-VTON", "densepose/model_final_162be9.pkl", "model")]


@pytest.mark.parametrize(
    "weights, message",
    [
        ({"densepoes": "x"}, "no 'densepoes'"),
        ({"densepose": 5}, "repo_id"),
        ({"densepose": {"repo_id": "a/b"}}, "repo_id"),
        ({"densepose": {"repo_id": "a/b", "filename": "c", "colour": "red"}}, "repo_id"),
        ({"densepose": {"file": "../secret"}}, "repo_id"),
    ],
)
def test_unknown_weights_are_refused_with_one_sentence(weights, message):
    with pytest.raises(InvalidInput, match=message):
        PersonPreprocessor(weights=weights)


def test_missing_and_declined_weights_are_named(tmp_path):
    image = photo_of((300, 400), (75, 50, 225, 390))
    with pytest.raises(WeightsUnavailable, match=r"nowhere\.pkl"):
        PersonPreprocessor(weights={"densepose": tmp_path / "nowhere.pkl"})(image)
    with pytest.raises(InvalidInput, match="'densepose' were declined"):
        PersonPreprocessor(weights={"densepose": None})(image)


# saving and loading


def test_a_saved_preprocessor_comes_back_with_its_sources(tmp_path):
    weights = {"densepose": tmp_path / "mine.pkl", "human_parsing_atr": None}
    weights["openpose"] = {"repo_id": "me/poses", "filename": "pose.pth", "sha256": "0123abcd"}
    preprocessor = PersonPreprocessor(weights=weights, pose="dwpose")
    preprocessor.save_pretrained(tmp_path / "saved")
    loaded = PersonPreprocessor.from_pretrained(tmp_path / "saved")
    assert loaded.config["weights"] == preprocessor.config["weights"]
    assert loaded.config["weights"]["densepose"] == {"path": str(tmp_path / "mine.pkl")}
    assert loaded.config["weights"]["human_parsing_lip"] == WEIGHTS["human_parsing_lip"]
    assert loaded.config["pose"] == "dwpose"
    assert (tmp_path / "saved" / "preprocessor_config.json").is_file()
    assert "densepose" in PersonPreprocessor.from_pretrained(tmp_path, subfolder="saved").config["weights"]
    assert repr(loaded) == "PersonPreprocessor(analyzer='photo', pose='dwpose')"


def test_weights_that_came_with_the_folder_go_where_the_preprocessor_goes(tmp_path):
    saved = tmp_path / "saved"
    PersonPreprocessor(weights={"human_parsing_atr": None}).save_pretrained(saved)
    path = saved / "preprocessor_config.json"
    config = json.loads(path.read_text())
    config["weights"]["human_parsing_lip"] = {"file": "parsing.onnx"}
    path.write_text(json.dumps(config))
    save_colour_network(saved / "parsing.onnx", LIP, PALETTE)
    PersonPreprocessor.from_pretrained(saved).save_pretrained(tmp_path / "again")
    saved.rename(tmp_path / "gone")
    moved = PersonPreprocessor.from_pretrained(tmp_path / "again")
    image = photo_of((300, 400), (75, 50, 225, 390))
    assert (moved.parser()(image) == labels_of(image)).mean() > 0.97
    moved.save_pretrained(tmp_path / "again")  # onto itself
    assert (tmp_path / "again" / "parsing.onnx").stat().st_size > 0
    with pytest.raises(WeightsUnavailable, match="from_pretrained"):
        PersonPreprocessor.from_config(moved.config).parser()(image)


def test_an_analyzer_of_ones_own_is_not_saved_and_this_is_told(tmp_path):
    PersonPreprocessor(FigureAnalyzer()).save_pretrained(tmp_path / "saved")
    loaded = PersonPreprocessor.from_pretrained(tmp_path / "saved")
    photo = photo_of((600, 800), (150, 100, 450, 780))
    with pytest.raises(InvalidInput, match="pass analyzer="):
        loaded(photo)
    assert loaded(photo, analyzer=FigureAnalyzer()).frame_mask.size == (768, 1024)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_and_other_processes_get_a_working_preprocessor(duplicate, fetched):
    preprocessor = PersonPreprocessor(weights={"human_parsing_atr": None})
    image = photo_of((300, 400), (75, 50, 225, 390))
    preprocessor.parser()(image)
    other = duplicate(preprocessor)
    assert other.config["weights"] == preprocessor.config["weights"]
    assert (other.parser()(image) == labels_of(image)).mean() > 0.97
    assert len(fetched) == 2  # loaded networks stay behind
