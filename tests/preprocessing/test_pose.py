import math
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import stableviton_sdk
from stableviton_sdk.errors import IncompatibleCheckpoint, InvalidInput, MissingDependency, WeightsUnavailable
from stableviton_sdk.preprocessing.analyzers import openpose as pose_module
from stableviton_sdk.preprocessing.analyzers.openpose import OpenPoseEstimator
from stableviton_sdk.preprocessing.drawing import draw_pose
from stableviton_sdk.preprocessing.joints import BONES, Body25

Body, bodypose_model = pose_module.import_openpose()

COCO_18 = (
    *("nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow", "left wrist"),
    *("right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle"),
    *("right eye", "left eye", "right ear", "left ear"),
)
# COCO-18 joints that OpenPose connects, and the first of the two channels of its part affinity fields
LIMBS = {
    **{(1, 2): 12, (1, 5): 20, (2, 3): 14, (3, 4): 16, (5, 6): 22, (6, 7): 24, (1, 8): 0, (8, 9): 2, (9, 10): 4},
    **{(1, 11): 6, (11, 12): 8, (12, 13): 10, (1, 0): 28, (0, 14): 30, (14, 16): 34, (0, 15): 32, (15, 17): 36},
    **{(2, 16): 18, (5, 17): 26},
}
# RGB; one channel is at 255, so that a dot's blend with black looks like no other dot; no red equals blue
COLOURS = [85 * np.array(c) for c in np.ndindex(4, 4, 4) if max(c) == 3 and c[0] != c[2]][:18]

# Joints as shares of the person's box; the figure's head is large, so that its dots stay apart.
FIGURE = dict(
    zip(
        COCO_18,
        [
            *((0.50, 0.15), (0.50, 0.28), (0.30, 0.28), (0.20, 0.42), (0.08, 0.55), (0.70, 0.28), (0.80, 0.42)),
            *((0.92, 0.55), (0.38, 0.58), (0.36, 0.76), (0.33, 0.94), (0.62, 0.58), (0.64, 0.76), (0.67, 0.94)),
            *((0.35, 0.05), (0.65, 0.05), (0.15, 0.15), (0.85, 0.15)),
        ],
        strict=True,
    )
)
FEW = ("nose", "neck", "right shoulder", "left shoulder", "right hip", "left hip")


class StickFigures(torch.nn.Module):
    """Stands in for OpenPose's network: draws the maps of dotted figures, one figure in each of `parts` columns."""

    def __init__(self, parts=1, strength=0.9):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))  # Body asks the first parameter for the device
        self.parts = parts
        self.strength = strength
        self.seen = []

    def forward(self, values):
        self.seen.append(tuple(values.shape))
        pixels = (values[0].permute(1, 2, 0).numpy() + 0.5) * 256
        height, width = pixels.shape[:2]
        heat, affinity = np.zeros((19, height // 8, width // 8)), np.zeros((38, height // 8, width // 8))
        rows, columns = np.mgrid[: height // 8, : width // 8] * 8 + 3.5  # the pixels at the cells' centres
        for part in range(self.parts):
            joints = self.find_dots(pixels, part * width // self.parts, (part + 1) * width // self.parts)
            for joint, (x, y) in joints.items():
                blob = self.strength * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 8.0**2))
                heat[joint] = np.maximum(heat[joint], blob)
            for (start, end), channel in LIMBS.items():
                if start in joints and end in joints:
                    direction = np.array(joints[end]) - joints[start]
                    length = np.hypot(*direction)
                    along = (
                        (columns - joints[start][0]) * direction[0] + (rows - joints[start][1]) * direction[1]
                    ) / (length**2)
                    nearest = np.clip(along, 0, 1)
                    away = np.hypot(
                        columns - joints[start][0] - nearest * direction[0],
                        rows - joints[start][1] - nearest * direction[1],
                    )
                    for axis in range(2):
                        affinity[channel + axis][away < 10] = direction[axis] / length
        return torch.from_numpy(affinity)[None].float(), torch.from_numpy(heat)[None].float()

    @staticmethod
    def find_dots(pixels, left, right):
        """Centre of each colour's dot, to a fraction of a pixel: the mean position, weighted with the brightness."""
        found = {}
        for joint, colour in enumerate(COLOURS):
            core = np.abs(pixels - colour[::-1]).max(axis=-1) < 20  # the network is fed BGR
            core[:, :left] = core[:, right:] = False
            rows, columns = np.nonzero(core)
            if len(rows):
                top, start = max(rows.min() - 2, 0), max(columns.min() - 2, 0)
                window = pixels[top : rows.max() + 3, start : columns.max() + 3].max(axis=-1)
                window = np.where(window == 128, 0, window)  # OpenPose's grey padding
                window_rows, window_columns = np.mgrid[: window.shape[0], : window.shape[1]]
                found[joint] = (
                    start + (window_columns * window).sum() / window.sum(),
                    top + (window_rows * window).sum() / window.sum(),
                )
        return found


def joint_named(name):
    return Body25[name.upper().replace(" ", "_")]


def estimator_of(body):
    """An estimator around a body that needs no weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pose_module, "_load_body", lambda path, device: body)
        return OpenPoseEstimator("unused.pth")


def make_estimator(network):
    body = Body.__new__(Body)
    body.model = network
    return estimator_of(body)


def paint_figure(pixels, box, radius, names=COCO_18):
    """Dot the figure's joints over a black image; returns their positions."""
    left, top, right, bottom = box
    positions = {}
    for name in names:
        x = round(left + FIGURE[name][0] * (right - left))
        y = round(top + FIGURE[name][1] * (bottom - top))
        pixels[y - radius : y + radius + 1, x - radius : x + radius + 1] = COLOURS[COCO_18.index(name)]
        positions[name] = (x, y)
    return positions


IMAGES = {
    # size, the figure's box, the dots' radius, joints
    "portrait": ((768, 1024), (100, 60, 640, 1000), 9, COCO_18),
    "wide": ((900, 260), (300, 5, 560, 258), 4, COCO_18),
    "tall": ((400, 1000), (60, 100, 340, 900), 8, COCO_18),
    "odd": ((333, 517), (20, 20, 311, 500), 6, COCO_18),
    "tiny": ((20, 30), (0, 0, 20, 30), 1, FEW),
    "strip": ((2400, 300), (1000, 10, 1300, 290), 5, COCO_18),
    "large": ((3000, 4000), (500, 300, 2500, 3700), 40, COCO_18),
}


@pytest.mark.slow
@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_a_figures_joints_come_back_as_body_25_in_image_pixels(image):
    size, box, radius, names = image
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    positions = paint_figure(pixels, box, radius, names)

    (pose,) = make_estimator(StickFigures())(Image.fromarray(pixels))

    # OpenPose's peaks are whole pixels of an image whose shorter side has 512
    tolerance = 1.5 * max(1.0, min(size) / 512, max(size) / 2048)
    for name, position in positions.items():
        found = pose.keypoints[joint_named(name)]
        assert np.abs(found[:2] - position).max() <= tolerance, name
        assert found[2] == pytest.approx(0.9, abs=0.1), name
    middle = np.mean([positions["right hip"], positions["left hip"]], axis=0)
    assert np.abs(pose.keypoints[8, :2] - middle).max() <= tolerance
    assert (pose.keypoints[19:] == 0).all()  # the feet
    absent = [joint_named(name) for name in set(COCO_18) - set(names)]
    assert (pose.keypoints[absent] == 0).all()
    points = np.array(list(positions.values()))
    assert np.abs(np.array(pose.box) - [*points.min(axis=0), *points.max(axis=0)]).max() <= tolerance
    assert pose.keypoints.dtype == np.float32


def test_several_people_come_apart_and_the_surer_one_comes_first():
    pixels = np.zeros((600, 1000, 3), np.uint8)
    few = paint_figure(pixels, (60, 40, 440, 580), 7, ("nose", "neck", "right shoulder", "left shoulder"))
    whole = paint_figure(pixels, (560, 40, 940, 580), 7)
    poses = make_estimator(StickFigures(parts=2))(Image.fromarray(pixels))
    assert [int((pose.keypoints[:, 2] > 0).sum()) for pose in poses] == [19, 4]
    assert poses[0].score > poses[1].score > 0
    for pose, positions in zip(poses, (whole, few), strict=True):
        for name, position in positions.items():
            assert np.abs(pose.keypoints[joint_named(name), :2] - position).max() <= 2, name


def test_the_network_sees_bgr():
    pixels = np.zeros((1024, 768, 3), np.uint8)
    paint_figure(pixels, (100, 60, 640, 1000), 9)
    exchanged = Image.fromarray(pixels[..., ::-1].copy())
    assert make_estimator(StickFigures())(exchanged) == []  # no dot is another one with red and blue exchanged


def test_nobody_in_the_photo_is_an_empty_list():
    estimator = make_estimator(StickFigures())
    for size in ((300, 400), (1, 1), (3, 2)):
        assert estimator(Image.new("RGB", size)) == []


def test_too_few_joints_are_nobody():
    pixels = np.zeros((512, 512, 3), np.uint8)
    paint_figure(pixels, (20, 20, 490, 490), 8, ("neck", "right shoulder", "left shoulder"))
    assert make_estimator(StickFigures())(Image.fromarray(pixels)) == []


@pytest.mark.slow
def test_strips_do_not_blow_up_the_maps():
    network = StickFigures()
    estimator = make_estimator(network)
    for size in ((3000, 20), (1, 40000)):
        assert estimator(Image.new("RGB", size)) == []
    assert network.seen == [(1, 3, 184, 736), (1, 3, 184, 48)]


def test_a_missing_hip_leaves_no_mid_hip_and_scores_stay_within_one():
    class Fixed:
        format_body_result = staticmethod(Body.format_body_result)

        def __call__(self, pixels):
            assert pixels.shape == (512, 512, 3)
            candidate = np.array([[100.0, 50.0, 1.25, 0], [110, 80, 0.5, 1], [90, 200, 0.75, 2], [120, 60, -0.1, 3]])
            subset = np.full((1, 20), -1.0)
            subset[0, [0, 1, 8, 15]] = 0, 1, 2, 3
            subset[0, 18:] = 6.0, 4
            return candidate, subset

    (pose,) = estimator_of(Fixed())(Image.new("RGB", (256, 256)))
    expected = np.zeros((25, 3))
    expected[0] = 49.75, 24.75, 1.0  # (100 + 0.5) / 2 - 0.5
    expected[1] = 54.75, 39.75, 0.5
    expected[9] = 44.75, 99.75, 0.75
    expected[16] = 59.75, 29.75, 0.0
    np.testing.assert_allclose(pose.keypoints, expected, atol=1e-5)
    assert pose.score == 1.5
    assert pose.box == pytest.approx((44.75, 24.75, 54.75, 99.75))


def test_peaks_in_the_padding_are_no_joints():
    joints = [None] * 18
    joints[0], joints[1] = SimpleNamespace(x=300, y=10, score=0.9), SimpleNamespace(x=300, y=200, score=0.8)
    result = SimpleNamespace(keypoints=joints, total_score=3.0, total_parts=2)
    pose = pose_module._to_pose(result, (0.5, 0.5), (400, 50))
    assert pose.keypoints[0].tolist() == [149.75, 4.75, pytest.approx(0.9)]
    assert (pose.keypoints[1:] == 0).all()
    joints[0] = None
    assert pose_module._to_pose(result, (0.5, 0.5), (400, 50)) is None


def test_people_who_cannot_be_told_apart_are_an_error_that_says_so():
    class Crowd:
        def __call__(self, pixels):
            raise IndexError("list assignment index out of range")

    estimator = estimator_of(Crowd())
    with pytest.raises(InvalidInput, match="can't tell the people in this photo apart"):
        estimator(Image.new("RGB", (64, 64)))


def released_names(state):
    """The released file names layers without the block that holds them."""
    return OrderedDict((name.split(".", 1)[1], tensor) for name, tensor in state.items())


@pytest.fixture(scope="module")
def random_network(tmp_path_factory):
    """OpenPose's network with random weights, and its file in the old format of the released one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = bodypose_model().eval()
    path = tmp_path_factory.mktemp("openpose") / "body_pose_model.pth"
    torch.save(released_names(network.state_dict()), path, _use_new_zipfile_serialization=False)
    yield network, path
    path.unlink()  # 209 MB


@pytest.mark.slow
def test_released_weights_are_loaded_whole(random_network):
    network, path = random_network
    state = torch.random.get_rng_state()
    estimator = OpenPoseEstimator(path)

    poses = estimator(Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)))

    assert poses == []  # random weights give maps near zero
    assert torch.equal(state, torch.random.get_rng_state())
    loaded = estimator._body.model
    assert not loaded.training
    values = torch.rand(1, 3, 40, 32, generator=torch.Generator().manual_seed(1)) - 0.5
    with torch.no_grad():
        for found, expected in zip(loaded(values), network(values), strict=True):
            assert expected.std() > 0
            torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    path = tmp_path / "body_pose_model.pth"
    for zipped in (True, False):
        torch.save({"conv1_1.weight": Payload()}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(WeightsUnavailable, match="more than plain tensors"):
            OpenPoseEstimator(path)
        assert not marker.exists()


def test_missing_damaged_and_foreign_weights_are_named(tmp_path):
    path = tmp_path / "weights.pth"

    def load():
        return OpenPoseEstimator(path)

    with pytest.raises(WeightsUnavailable, match=r"no file .*weights\.pth"):
        load()
    with pytest.raises(InvalidInput, match="None is no path"):
        OpenPoseEstimator(None)
    for content in (b"", b"<!doctype html>", b"PK\x03\x04 not a zip"):
        path.write_bytes(content)
        with pytest.raises(WeightsUnavailable, match=r"weights\.pth is damaged"):
            load()
    torch.save([torch.zeros(3)], path)
    with pytest.raises(IncompatibleCheckpoint, match="no dictionary of tensors"):
        load()
    torch.save({"conv1_1.weight": torch.zeros(64, 3, 3, 3), "conv1_1.bias": torch.zeros(3)}, path)
    with pytest.raises(IncompatibleCheckpoint, match=r"183 of 184 tensors .* such as conv1_1\.bias"):
        load()


@pytest.mark.parametrize("image", [np.zeros((8, 8, 3), np.uint8), Image.new("RGBA", (8, 8)), None, "photo.jpg"])
def test_anything_but_an_rgb_image_is_refused(image):
    with pytest.raises(InvalidInput, match=r"PIL image|mode RGB"):
        estimator_of(None)(image)


def forget_controlnet_aux(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "controlnet_aux"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(
    "failure, remedy",
    [
        ("raise RuntimeError('operator torchvision::nms does not exist')", "install both from the same index"),
        ("raise AttributeError(\"module 'mediapipe' has no attribute 'solutions'\")", "pip uninstall mediapipe"),
        ("import no_such_package_at_all", "No module named 'no_such_package_at_all'"),
    ],
)
def test_each_trap_of_importing_controlnet_aux_names_its_remedy(tmp_path, monkeypatch, failure, remedy):
    forget_controlnet_aux(monkeypatch)
    package = tmp_path / "controlnet_aux"
    package.mkdir()
    (package / "__init__.py").write_text(failure)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependency, match=remedy):
        OpenPoseEstimator("unused.pth")


def test_a_missing_controlnet_aux_is_named_with_its_remedy(monkeypatch):
    class Absent:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "controlnet_aux":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    forget_controlnet_aux(monkeypatch)
    monkeypatch.setattr(sys, "meta_path", [Absent, *sys.meta_path])
    with pytest.raises(MissingDependency, match="pip install controlnet_aux"):
        OpenPoseEstimator("unused.pth")


@pytest.mark.slow
def test_the_real_controlnet_aux_is_imported_late_silently_and_without_a_trace(tmp_path):
    (tmp_path / "mediapipe.py").write_text("")  # a mediapipe without `solutions`
    code = """
import os, sys
from stableviton_sdk.preprocessing.analyzers import dwpose, human_parsing, openpose as pose
print(sorted({"torch", "onnxruntime", "controlnet_aux", "cv2", "torchvision"} & set(sys.modules)))
try:
    pose.OpenPoseEstimator("unused.pth")
except Exception as error:
    print(type(error).__name__, "pip uninstall mediapipe" in str(error), os.environ.get("KMP_DUPLICATE_LIB_OK"))
del sys.modules["mediapipe"]
os.remove("mediapipe.py")
sys.path.remove(os.getcwd())
print([found.__name__ for found in pose.import_openpose()], os.environ.get("KMP_DUPLICATE_LIB_OK"), os.listdir())
"""
    environment = {name: value for name, value in os.environ.items() if name != "KMP_DUPLICATE_LIB_OK"}
    root = Path(stableviton_sdk.__file__).parents[1]
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(root)])
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300
    )
    assert result.stdout.splitlines() == [
        "[]",
        "MissingDependency True None",
        "['Body', 'bodypose_model'] None []",
    ], result.stderr
    assert "Warning" not in result.stderr


def test_a_skeleton_is_drawn_where_the_joints_are_and_only_between_known_ones():
    image = Image.new("RGB", (400, 600))
    keypoints = np.zeros((25, 3))
    known = {2: (100.0, 100.0), 3: (100.0, 300.0), 4: (300.0, 300.0), 12: (350.0, 550.0)}
    for joint, position in known.items():
        keypoints[joint] = *position, 0.5
    keypoints[10] = math.nan, 10.0, 1.0
    drawn = np.asarray(draw_pose(image, keypoints)).astype(int).sum(axis=-1)
    assert drawn.shape == (600, 400)
    for x, y in (*known.values(), (100, 200), (200, 300)):
        assert drawn[int(y), int(x)] > 0
    rows, columns = np.nonzero(drawn)
    distance = np.minimum.reduce(
        [
            np.hypot(columns - 100, rows - np.clip(rows, 100, 300)),
            np.hypot(columns - np.clip(columns, 100, 300), rows - 300),
            np.hypot(columns - 350, rows - 550),
        ]
    )
    assert distance.max() < 6
    assert image.getextrema() == ((0, 0), (0, 0), (0, 0))  # a copy was drawn on


def test_the_skeletons_edges_reach_every_joint_once_from_the_neck():
    reached = {1}
    for start, end in BONES:
        assert start in reached
        assert end not in reached
        reached.add(end)
    assert reached == set(range(25)) == set(Body25)


def test_mirroring_swaps_the_sides_and_leaves_the_middle():
    assert Body25.LEFT_WRIST.mirrored is Body25.RIGHT_WRIST
    assert Body25.RIGHT_SMALL_TOE.mirrored is Body25.LEFT_SMALL_TOE
    alone = [joint for joint in Body25 if joint.mirrored is joint]
    assert alone == [Body25.NOSE, Body25.NECK, Body25.MID_HIP]
    assert all(joint.mirrored.mirrored is joint for joint in Body25)
