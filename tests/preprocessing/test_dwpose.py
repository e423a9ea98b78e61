import numpy as np
import pytest
from PIL import Image
from support.dwpose_networks import (
    ANCHORS,
    BLANK,
    BODY_25,
    MEAN,
    POINTS,
    SIDE,
    STD,
    WHOLE_BODY,
    encode,
    paint_person,
    save_colour_detector,
    save_colour_joints,
    save_fixed_detector,
    save_fixed_joints,
    save_graph,
)

from stableviton_sdk.errors import IncompatibleCheckpoint, InvalidInput, WeightsUnavailable
from stableviton_sdk.preprocessing.analyzers.dwpose import DWPoseEstimator


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return save_colour_detector(folder / "yolox_l.onnx"), save_colour_joints(folder / "dw-ll_ucoco_384.onnx")


FEW = ("nose", "left shoulder", "right shoulder", "left hip", "right hip", "left wrist")
# size, the person's box, joints, their columns and radius, pixels that the joints may be off by
IMAGES = {
    "portrait": ((768, 1024), (250, 200, 520, 640), WHOLE_BODY, 4, 9, 1.0),
    "close-up": ((768, 1024), (150, 60, 620, 980), WHOLE_BODY, 4, 16, 1.5),  # a bin is 1.5 pixels
    "wide": ((900, 260), (300, 21, 481, 240), WHOLE_BODY, 4, 6, 1.0),
    "tall": ((210, 1000), (31, 300, 180, 702), WHOLE_BODY, 3, 6, 1.0),
    "odd": ((333, 517), (20, 33, 301, 490), WHOLE_BODY, 4, 7, 1.0),
    "tiny": ((20, 30), (2, 2, 18, 28), FEW, 2, 1, 0.5),
    "at the edges": ((400, 400), (0, 0, 400, 400), WHOLE_BODY, 5, 9, 1.0),
    "large": ((4100, 3100), (1000, 500, 2200, 2400), WHOLE_BODY, 4, 60, 3.1),  # a bin is 3.1 pixels
}


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_joints_and_box_come_back_in_image_pixels(networks, image):
    size, box, names, columns, radius, tolerance = image
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    positions = paint_person(pixels, box, names, columns, radius)

    (pose,) = DWPoseEstimator(*networks)(Image.fromarray(pixels))

    for name, position in positions.items():
        found = pose.keypoints[BODY_25[name]]
        assert np.abs(found[:2] - position).max() <= tolerance, name
        assert found[2] == pytest.approx(0.8, abs=0.003), name  # the smaller one of across and down
    middles = {"neck": ("left shoulder", "right shoulder"), "mid-hip": ("left hip", "right hip")}
    for name, (first, second) in middles.items():
        middle = np.mean([positions[first], positions[second]], axis=0)
        assert np.abs(pose.keypoints[BODY_25[name], :2] - middle).max() <= tolerance
    absent = sorted(set(range(25)) - {BODY_25[name] for name in (*positions, *middles)})
    assert (pose.keypoints[absent] == 0).all()
    assert pose.keypoints.dtype == np.float32
    assert np.abs(np.array(pose.box) - box).max() <= max(1.0, max(size) / SIDE)  # a pixel of the letterbox
    assert pose.score == pytest.approx(0.8, abs=1e-5)


def test_nobody_in_the_photo_is_an_empty_list(networks):
    estimator = DWPoseEstimator(*networks)
    assert estimator(Image.new("RGB", (300, 400), (200, 180, 160))) == []
    assert estimator(Image.new("RGB", (1, 1))) == []
    assert estimator(Image.new("RGB", (3000, 20), (90, 20, 30))) == []
    boxes, scores = estimator.detect(Image.new("RGB", (20, 3000)))
    assert boxes.shape == (0, 4)
    assert scores.shape == (0,)


def test_all_three_grids_are_decoded(tmp_path, networks):
    boxes = {8: (10.0, 20.0, 50.0, 90.0), 16: (200.0, 100.0, 333.0, 404.0), 32: (350.5, 20.25, 620.0, 600.0)}
    predictions = [encode(box, stride, 0.4 + stride / 100) for stride, box in boxes.items()]
    detector = save_fixed_detector(tmp_path / "yolox.onnx", predictions)
    found, scores = DWPoseEstimator(detector, networks[1]).detect(Image.new("RGB", (320, 160)))
    np.testing.assert_allclose(found, np.array([boxes[32], boxes[16], boxes[8]]) / 2, atol=1e-3)
    np.testing.assert_allclose(scores, [0.72, 0.56, 0.48], atol=1e-6)


def test_other_classes_unlikely_people_and_duplicates_are_dropped(tmp_path, networks):
    person = (100.0, 100.0, 200.0, 300.0)
    over_half = (100.0, 100.0, 200.0, 230.0)  # IoU 0.65 with the person
    under_half = (100.0, 200.0, 200.0, 300.0 + 50)  # IoU 100/250 = 0.4
    predictions = [
        encode(person, 8, 0.9),
        encode(over_half, 8, 0.85),
        encode(under_half, 8, 0.5),
        encode((300.0, 100.0, 400.0, 300.0), 16, 0.95, label=16),
        encode((420.0, 100.0, 520.0, 300.0), 16, 0.29),
        encode((20.0, 400.0, 90.0, 600.0), 32, 0.31),
    ]
    detector = save_fixed_detector(tmp_path / "yolox.onnx", predictions)
    boxes, scores = DWPoseEstimator(detector, networks[1]).detect(BLANK)
    np.testing.assert_allclose(boxes, [person, under_half, (20, 400, 90, 600)], atol=1e-3)
    np.testing.assert_allclose(scores, [0.9, 0.5, 0.31], atol=1e-6)


def test_boxes_that_are_infinite_or_beside_the_image_are_dropped(tmp_path, networks):
    anchor, infinite = encode((300.0, 300.0, 340.0, 340.0), 16)
    infinite[2] = 200.0
    below = encode((100.0, 500.0, 200.0, 600.0), 8)  # in the letterbox's padding of a wide image
    not_a_number = np.full(85, np.nan, np.float32)
    detector = save_fixed_detector(tmp_path / "yolox.onnx", [(anchor, infinite), below, (7, not_a_number)])
    assert DWPoseEstimator(detector, networks[1])(Image.new("RGB", (640, 320))) == []


def test_several_people_come_best_first_each_with_their_own_joints(tmp_path, networks):
    pixels = np.zeros((640, 640, 3), np.uint8)
    boxes = [(20, 100, 180, 400), (440, 200, 620, 560)]
    positions = [paint_person(pixels, box, FEW, 2, 8) for box in boxes]
    detector = save_fixed_detector(tmp_path / "yolox.onnx", [encode(boxes[0], 16, 0.5), encode(boxes[1], 16, 0.75)])
    poses = DWPoseEstimator(detector, networks[1])(Image.fromarray(pixels))
    assert [round(pose.score, 3) for pose in poses] == [0.75, 0.5]
    for pose, expected in zip(poses, positions[::-1], strict=True):
        for name, position in expected.items():
            assert np.abs(pose.keypoints[BODY_25[name], :2] - position).max() <= 1


def test_a_box_over_the_edge_is_clipped_but_cropped_whole(tmp_path, networks):
    pixels = np.zeros((640, 640, 3), np.uint8)
    positions = paint_person(pixels, (0, 300, 200, 640), FEW, 2, 8)
    detector = save_fixed_detector(tmp_path / "yolox.onnx", [encode((-50.0, 300.0, 200.0, 690.0), 16)])
    (pose,) = DWPoseEstimator(detector, networks[1])(Image.fromarray(pixels))
    assert pose.box == pytest.approx((0, 300, 200, 640), abs=1e-3)
    for name, position in positions.items():
        assert np.abs(pose.keypoints[BODY_25[name], :2] - position).max() <= 1


def test_bins_become_pixels_of_the_padded_box(tmp_path):
    # the box is 100 x 100 about (200, 300); padded by 1.25 and grown to 3:4 it is 125 x 166.67
    detector = save_fixed_detector(tmp_path / "yolox.onnx", [encode((150.0, 250.0, 250.0, 350.0), 8)])
    joints = save_fixed_joints(tmp_path / "joints.onnx", {}, bins=(0, 767))
    (pose,) = DWPoseEstimator(detector, joints)(BLANK)
    expected = (200 - 62.5, 300 - 250 / 3 + 767 / 2 * 125 / 288)
    np.testing.assert_allclose(pose.keypoints[:, :2], np.tile(expected, (25, 1)), atol=1e-3)


def test_unsure_joints_are_missing_and_take_their_middles_with_them(tmp_path):
    detector = save_fixed_detector(tmp_path / "yolox.onnx", [encode((150.0, 250.0, 250.0, 350.0), 8)])
    confidences = {
        "left shoulder": (0.7, 0.9),
        "right shoulder": (0.9, 0.5),
        "left hip": (0.9, 0.29),
        "nose": (3.0, 2.0),
        "left knee": (np.nan, 0.9),
        "right knee": (0.31, 0.32),
        "left ear": (-1.0, -1.0),
    }
    (pose,) = DWPoseEstimator(detector, save_fixed_joints(tmp_path / "joints.onnx", confidences))(BLANK)
    sure = {name: float(pose.keypoints[index, 2]) for name, index in BODY_25.items()}
    expected = dict.fromkeys(BODY_25, 0.9) | {
        **{"left shoulder": 0.7, "right shoulder": 0.5, "neck": 0.5},
        **{"left hip": 0.0, "mid-hip": 0.0, "nose": 1.0, "left knee": 0.0, "right knee": 0.31, "left ear": 0.0},
    }
    assert sure == pytest.approx(expected, abs=1e-6)
    for name, confidence in expected.items():
        assert pose.keypoints[BODY_25[name]].any() == (confidence > 0)


def test_the_letterbox_is_padded_with_114_below_or_beside_the_image(tmp_path, networks):
    text = """
    detector (float[1,3,640,640] images) => (float[1,8400,85] output)
    <int64[4] first = {0, 0, 639, 639}, int64[4] end = {1, 1, 640, 640}, float scale = {0.005},
     float[85] score = {SCORE}>
    {
        corner = Slice (images, first, end)
        flat = Squeeze (corner)
        scaled = Mul (flat, scale)
        scores = Mul (score, scaled)
        output = Add (predictions, scores)
    }""".replace("SCORE", ", ".join("1" if index == 4 else "0" for index in range(85)))
    anchor, values = encode((10.0, 10.0, 50.0, 50.0), 8, score=0.0)
    predictions = np.zeros((1, ANCHORS, 85), np.float32)
    predictions[0, anchor] = values
    estimator = DWPoseEstimator(save_graph(tmp_path / "y.onnx", text, predictions=predictions), networks[1])
    for size in ((640, 600), (600, 640), (65, 64)):
        _, scores = estimator.detect(Image.new("RGB", size, (200, 200, 200)))
        assert scores == pytest.approx([114 * 0.005]), size
    _, scores = estimator.detect(Image.new("RGB", (64, 64), (0, 0, 180)))
    assert scores == pytest.approx([180 * 0.005])  # channel 0 is blue


def test_each_channel_of_the_crop_is_normalised_in_the_released_pipelines_order(tmp_path):
    # the confidence of joints 0, 1, 2 is the middle pixel's value in channel 0, 1, 2
    text = """
    joints (float[1,3,384,288] input) => (float[1,133,576] simcc_x, float[1,133,768] simcc_y)
    <int64[2] first = {192, 144}, int64[2] end = {193, 145}, int64[2] axes = {2, 3}>
    {
        middle = Slice (input, first, end, axes)
        values = Squeeze (middle, axes)
        column = Reshape (values, shape)
        simcc_x = Mul (column, across)
        simcc_y = Mul (column, down)
    }""".replace("column = Reshape (values, shape)", "padded = Pad (values, pads)\n column = Reshape (padded, shape)")
    joints = save_graph(
        tmp_path / "joints.onnx",
        text,
        pads=np.array([0, 0, 0, POINTS - 3], np.int64),
        shape=np.array([1, POINTS, 1], np.int64),
        across=np.eye(576, dtype=np.float32)[:1].reshape(1, 1, 576),
        down=np.eye(768, dtype=np.float32)[:1].reshape(1, 1, 768),
    )
    detector = save_fixed_detector(tmp_path / "yolox.onnx", [encode((150.0, 250.0, 250.0, 350.0), 8)])
    red, green, blue = 130, 150, 170
    (pose,) = DWPoseEstimator(detector, joints)(Image.new("RGB", (640, 640), (red, green, blue)))
    found = pose.keypoints[[BODY_25["nose"], BODY_25["left eye"], BODY_25["right eye"]], 2]
    np.testing.assert_allclose(found, (np.array([blue, green, red]) - MEAN) / STD, atol=1e-5)


def test_missing_damaged_and_exchanged_files_are_named(tmp_path, networks):
    detector, joints = networks
    with pytest.raises(WeightsUnavailable, match=r"no file .*absent\.onnx"):
        DWPoseEstimator(tmp_path / "absent.onnx", joints)
    with pytest.raises(IncompatibleCheckpoint, match="is not DWPose's person detector"):
        DWPoseEstimator(joints, detector)
    one_person = save_fixed_detector(tmp_path / "one.onnx", [encode((150.0, 250.0, 250.0, 350.0), 8)])
    with pytest.raises(IncompatibleCheckpoint, match="is not DWPose's joint network"):
        DWPoseEstimator(one_person, detector)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(joints.read_bytes()[:1000])
    with pytest.raises(WeightsUnavailable, match=r"damaged\.onnx can't be opened"):
        DWPoseEstimator(one_person, damaged)


def test_networks_with_other_outputs_are_refused(tmp_path, networks):
    small = save_graph(
        tmp_path / "small.onnx",
        "small (float[1,3,640,640] images) => (float[1,3,640,640] output) { output = Identity (images) }",
    )
    with pytest.raises(IncompatibleCheckpoint, match=r"\(1, 8400, 85\)"):
        DWPoseEstimator(small, networks[1])(BLANK)
    one_person = save_fixed_detector(tmp_path / "one.onnx", [encode((150.0, 250.0, 250.0, 350.0), 8)])
    heatmaps = save_graph(
        tmp_path / "heatmaps.onnx",
        "heatmaps (float[1,3,384,288] input) => (float[1,3,384,288] a, float[1,3,384,288] b)"
        "{ a = Identity (input) b = Identity (input) }",
    )
    with pytest.raises(IncompatibleCheckpoint, match=r"\(1, 133, 576\)"):
        DWPoseEstimator(one_person, heatmaps)(BLANK)


@pytest.mark.parametrize("image", [np.zeros((8, 8, 3), np.uint8), Image.new("RGBA", (8, 8)), None, "photo.jpg"])
def test_anything_but_an_rgb_image_is_refused(networks, image):
    with pytest.raises(InvalidInput, match=r"PIL image|mode RGB"):
        DWPoseEstimator(*networks)(image)
