"""The photo networks together, through their real loading code, on stand-in weights of the real shapes."""

import numpy as np
import pytest
from PIL import Image
from support.densepose_weights import write_weights
from support.dwpose_networks import encode, save_fixed_detector, save_graph
from support.flat_figures import FACE, GREY, JOINTS, PALETTE, SHIRT, labels_of, mask_in_photo, photo_of, shrunk
from support.parsing_networks import ATR_NETWORK, LIP, save_colour_network

from stableviton_sdk.errors import NoPersonFound
from stableviton_sdk.preprocessing.labels import CIHP
from stableviton_sdk.preprocessing.preprocessor import PersonPreprocessor

PHOTO_SIZE, PERSON = (900, 800), (300, 60, 600, 760)
# whole-body (COCO) index of the joints, by BODY_25 index; the neck is the middle of the shoulders
WHOLE_BODY = {0: 0, 5: 5, 2: 6, 6: 7, 3: 8, 7: 9, 4: 10, 12: 11, 9: 12}


def save_joints(path, box):
    """A SimCC network that puts a figure's joints into the crop of its box (grown by a quarter, 3:4)."""
    left, top, right, bottom = box
    width, height = 1.25 * (right - left), 1.25 * (bottom - top)
    width, height = max(width, height * 288 / 384), max(height, width * 384 / 288)
    x, y = np.full((1, 133, 576), 0.0, np.float32), np.full((1, 133, 768), 0.0, np.float32)
    for joint, index in WHOLE_BODY.items():
        across = (JOINTS[joint][0] - 0.5) * (right - left) / width + 0.5
        down = (JOINTS[joint][1] - 0.5) * (bottom - top) / height + 0.5
        x[0, index, round(across * 576)] = y[0, index, round(down * 768)] = 0.9
    text = """
    joints (float[1,3,384,288] input) => (float[1,133,576] simcc_x, float[1,133,768] simcc_y) <float zero = {0}>
    {
        mean = ReduceMean <keepdims = 0> (input)
        nothing = Mul (mean, zero)
        simcc_x = Add (x, nothing)
        simcc_y = Add (y, nothing)
    }"""
    return save_graph(path, text, x=x, y=y)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photo-networks")
    # the analysis sees the frame at 768 x 1024, the detector that at 480 x 640
    scale = 1024 / PHOTO_SIZE[1]
    frame_left = 150  # of 600: the crop of 3:4 around the person
    in_frame = [
        (PERSON[0] - frame_left) * scale,
        PERSON[1] * scale,
        (PERSON[2] - frame_left) * scale,
        PERSON[3] * scale,
    ]
    detector = save_fixed_detector(folder / "yolox.onnx", [encode([edge * 0.625 for edge in in_frame], 32)])
    atr_palette = {0: GREY, 4: SHIRT, 11: FACE}
    densepose = write_weights(folder / "densepose.pkl")
    yield {
        "human_parsing_lip": save_colour_network(folder / "lip.onnx", LIP, PALETTE),
        "human_parsing_atr": save_colour_network(folder / "atr.onnx", ATR_NETWORK, atr_palette),
        "dwpose_detector": detector,
        "dwpose_pose": save_joints(folder / "joints.onnx", in_frame),
        "densepose": densepose,
    }
    densepose.unlink()  # pytest would keep 256 MB for three runs


@pytest.mark.slow
def test_a_photo_goes_through_all_networks_from_their_files(weights):
    photo = photo_of(PHOTO_SIZE, PERSON)
    preprocessor = PersonPreprocessor(weights=weights, pose="dwpose")
    inputs = preprocessor(photo, person_box=PERSON)
    assert inputs.frame.box == (150, 0, 750, 800)
    neck = inputs.keypoints[1]
    assert 150 + neck[0] * 600 == pytest.approx(450, abs=3)
    assert neck[1] * 800 == pytest.approx(60 + 0.26 * 700, abs=3)
    labels = np.asarray(inputs.frame.crop(Image.fromarray(labels_of(photo)), (768, 1024), resample=0))
    assert (inputs.parsing == labels).mean() > 0.97
    assert mask_in_photo(inputs)[shrunk(labels_of(photo) == CIHP.UPPER_CLOTHES, 8)].all()
    # the stand-in's surface means nothing, but it lies in the person's box and nowhere else
    surface = np.asarray(inputs.frame_densepose).any(axis=2)
    outside = np.ones_like(surface)
    outside[75:975, 190:578] = False
    assert not surface[outside].any()
    assert surface.any()
    # its scores are near 0.55, so nobody counts as found without a box
    with pytest.raises(NoPersonFound, match="nobody"):
        preprocessor(photo)
