"""Networks in place of DWPose's two: small graphs that find people and joints by their colours, or where told."""

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper
from PIL import Image

SIDE, ANCHORS, POINTS = 640, 8400, 133
MEAN = np.array([123.675, 116.28, 103.53])
STD = np.array([58.395, 57.12, 57.375])

PERSON = (0, 0, 128)  # RGB: a detector that is fed RGB instead of BGR sees red, and finds nobody
WHOLE_BODY = (
    *("nose", "left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder", "left elbow"),
    *("right elbow", "left wrist", "right wrist", "left hip", "right hip", "left knee", "right knee", "left ankle"),
    *("right ankle", "left big toe", "left small toe", "left heel", "right big toe", "right small toe", "right heel"),
)
BODY_25 = {
    **{"nose": 0, "neck": 1, "right shoulder": 2, "right elbow": 3, "right wrist": 4, "left shoulder": 5},
    **{"left elbow": 6, "left wrist": 7, "mid-hip": 8, "right hip": 9, "right knee": 10, "right ankle": 11},
    **{"left hip": 12, "left knee": 13, "left ankle": 14, "right eye": 15, "left eye": 16, "right ear": 17},
    **{"left ear": 18, "left big toe": 19, "left small toe": 20, "left heel": 21, "right big toe": 22},
    **{"right small toe": 23, "right heel": 24},
}
# RGB; one channel is at 255, so that a joint's blend with its darker surroundings looks like no other joint
COLOURS = [85 * np.array(c) for c in np.ndindex(4, 4, 4) if max(c) == 3 and c[0] != c[2]]
JOINT_COLOURS = dict(zip(WHOLE_BODY, COLOURS[: len(WHOLE_BODY)], strict=True))

BLANK = Image.new("RGB", (640, 640))


def save_graph(path, text, **initializers):
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 17]>' + text)
    for name, values in initializers.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def save_colour_detector(path):
    """Boxes everything in the person's colour, as one prediction of the finest grid's cell (3, 2), score 0.8."""
    text = """
    detector (float[1,3,640,640] images) => (float[1,8400,85] output)
    <float person_blue = {128}, float tolerance = {20}, float half = {0.5}, float zero = {0}, float far = {10000},
     float stride = {8}, float column = {3}, float row = {2}, float objectness = {0.8}, int64[1] one = {1}>
    {
        blue, green, red = Split <axis = 1> (images)
        away = Sub (blue, person_blue)
        distance = Abs (away)
        is_blue = Less (distance, tolerance)
        no_green = Less (green, tolerance)
        no_red = Less (red, tolerance)
        no_other = And (no_green, no_red)
        is_person = And (is_blue, no_other)
        mask = Cast <to = 1> (is_person)
        across = ReduceMax <axes = [2], keepdims = 0> (mask)
        down = ReduceMax <axes = [3], keepdims = 0> (mask)
        in_columns = Greater (across, half)
        in_rows = Greater (down, half)
        starts_x = Where (in_columns, starts, far)
        starts_y = Where (in_rows, starts, far)
        ends_x = Where (in_columns, ends, zero)
        ends_y = Where (in_rows, ends, zero)
        left = ReduceMin <keepdims = 0> (starts_x)
        top = ReduceMin <keepdims = 0> (starts_y)
        right = ReduceMax <keepdims = 0> (ends_x)
        bottom = ReduceMax <keepdims = 0> (ends_y)
        sum_x = Add (left, right)
        sum_y = Add (top, bottom)
        middle_x = Mul (sum_x, half)
        middle_y = Mul (sum_y, half)
        cells_x = Div (middle_x, stride)
        cells_y = Div (middle_y, stride)
        x = Sub (cells_x, column)
        y = Sub (cells_y, row)
        any_width = Sub (right, left)
        any_height = Sub (bottom, top)
        width = Max (any_width, half)
        height = Max (any_height, half)
        relative_width = Div (width, stride)
        relative_height = Div (height, stride)
        w = Log (relative_width)
        h = Log (relative_height)
        found = ReduceMax <keepdims = 0> (mask)
        score = Mul (found, objectness)
        x1 = Reshape (x, one)
        y1 = Reshape (y, one)
        w1 = Reshape (w, one)
        h1 = Reshape (h, one)
        score1 = Reshape (score, one)
        values = Concat <axis = 0> (x1, y1, w1, h1, score1, classes)
        output = Mul (values, anchor)
    }"""
    anchor = np.zeros((1, ANCHORS, 1), np.float32)
    anchor[0, 2 * (SIDE // 8) + 3] = 1
    positions = np.arange(SIDE, dtype=np.float32).reshape(1, 1, SIDE)
    return save_graph(
        path, text, starts=positions, ends=positions + 1, anchor=anchor, classes=np.eye(80, dtype=np.float32)[0]
    )


def save_fixed_detector(path, predictions):
    """Predicts the same for every photo: pairs of an anchor and its 85 values."""
    text = """
    detector (float[1,3,640,640] images) => (float[1,8400,85] output) <float zero = {0}>
    {
        mean = ReduceMean <keepdims = 0> (images)
        nothing = Mul (mean, zero)
        output = Add (predictions, nothing)
    }"""
    values = np.zeros((1, ANCHORS, 85), np.float32)
    for anchor, prediction in predictions:
        values[0, anchor] = prediction
    return save_graph(path, text, predictions=values)


def encode(box, stride, score=0.9, label=0):
    """YOLOX's raw prediction of a box in letterbox pixels: its anchor, and 85 values. The class is sure."""
    left, top, right, bottom = box
    x, y = (left + right) / 2 / stride, (top + bottom) / 2 / stride
    column, row = int(x), int(y)
    anchor = {8: 0, 16: 80 * 80, 32: 80 * 80 + 40 * 40}[stride] + row * (SIDE // stride) + column
    values = np.zeros(85, np.float32)
    values[:5] = x - column, y - row, np.log((right - left) / stride), np.log((bottom - top) / stride), score
    values[5 + label] = 1
    return anchor, values


def save_colour_joints(path):
    """Finds each joint at the middle of all that has its colour, confidence 0.9 across and 0.8 down."""
    text = """
    joints (float[1,3,384,288] input) => (float[1,133,576] simcc_x, float[1,133,768] simcc_y)
    <float tolerance = {0.3}, float one = {1}, float two = {2}, float sure = {0.9}, float less_sure = {0.8},
     float steepness = {-0.01},
     int64[1] first = {1}, int64[2] both = {2, 3}, int64[1] last = {2}>
    {
        pixels = Unsqueeze (input, first)
        difference = Sub (pixels, colours)
        distances = Abs (difference)
        distance = ReduceMax <axes = [2], keepdims = 0> (distances)
        is_joint = Less (distance, tolerance)
        mask = Cast <to = 1> (is_joint)
        count = ReduceSum <keepdims = 1> (mask, both)
        present = Clip (count, , one)
        divisor = Max (count, one)
        weighted_x = Mul (mask, columns)
        weighted_y = Mul (mask, rows)
        sum_x = ReduceSum <keepdims = 1> (weighted_x, both)
        sum_y = ReduceSum <keepdims = 1> (weighted_y, both)
        mean_x = Div (sum_x, divisor)
        mean_y = Div (sum_y, divisor)
        bin_x = Mul (mean_x, two)
        bin_y = Mul (mean_y, two)
        flat_x = Squeeze (bin_x, last)
        flat_y = Squeeze (bin_y, last)
        flat_present = Squeeze (present, last)
        away_x = Sub (bins_x, flat_x)
        away_y = Sub (bins_y, flat_y)
        square_x = Mul (away_x, away_x)
        square_y = Mul (away_y, away_y)
        minus_x = Mul (square_x, steepness)
        minus_y = Mul (square_y, steepness)
        peak_x = Exp (minus_x)
        peak_y = Exp (minus_y)
        present_x = Mul (flat_present, sure)
        present_y = Mul (flat_present, less_sure)
        known_x = Mul (peak_x, present_x)
        known_y = Mul (peak_y, present_y)
        simcc_x = Concat <axis = 1> (known_x, others_x)
        simcc_y = Concat <axis = 1> (known_y, others_y)
    }"""
    colours = (np.stack(list(JOINT_COLOURS.values()))[:, ::-1] - MEAN) / STD
    known, others = len(WHOLE_BODY), POINTS - len(WHOLE_BODY)

    def real(values):
        return np.asarray(values, np.float32)

    return save_graph(
        path,
        text,
        colours=real(colours).reshape(1, known, 3, 1, 1),
        columns=real(np.arange(288)).reshape(1, 1, 1, 288),
        rows=real(np.arange(384)).reshape(1, 1, 384, 1),
        bins_x=real(np.arange(576)).reshape(1, 1, 576),
        bins_y=real(np.arange(768)).reshape(1, 1, 768),
        # the hands and the face are found everywhere, surer than all else: they mustn't be taken for body joints
        others_x=real(np.full((1, others, 576), 0.99)),
        others_y=real(np.full((1, others, 768), 0.99)),
    )


def save_fixed_joints(path, confidences, *, bins=(100, 200)):
    """Every joint at the same bins; `confidences` gives (across, down) by name, the others are at 0.9."""
    text = """
    joints (float[1,3,384,288] input) => (float[1,133,576] simcc_x, float[1,133,768] simcc_y) <float zero = {0}>
    {
        mean = ReduceMean <keepdims = 0> (input)
        nothing = Mul (mean, zero)
        simcc_x = Add (across, nothing)
        simcc_y = Add (down, nothing)
    }"""
    across, down = np.zeros((1, POINTS, 576), np.float32), np.zeros((1, POINTS, 768), np.float32)
    across[..., bins[0]] = down[..., bins[1]] = 0.9
    for name, (sure_across, sure_down) in confidences.items():
        across[0, WHOLE_BODY.index(name), bins[0]] = sure_across
        down[0, WHOLE_BODY.index(name), bins[1]] = sure_down
    return save_graph(path, text, across=across, down=down)


def paint_person(pixels, box, names, columns, radius):
    """Fill a box with the person's colour and dot the joints over it in a grid; returns their positions."""
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = PERSON
    rows = -(-len(names) // columns)
    positions = {}
    for index, name in enumerate(names):
        x = left + round((right - left - 1) * (index % columns + 0.5) / columns)
        y = top + round((bottom - top - 1) * (index // columns + 0.5) / rows)
        pixels[y - radius : y + radius + 1, x - radius : x + radius + 1] = JOINT_COLOURS[name]
        positions[name] = (x, y)
    return positions
