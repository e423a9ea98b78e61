"""ONNX files with the inputs and outputs of the human parsing networks, which find colours or say the same always."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LIP = (473, 119, 20)  # side of the input, side of the logits, labels
ATR_NETWORK = (512, 128, 18)
BGR_MEAN = np.array([0.406, 0.456, 0.485])
BGR_STD = np.array([0.225, 0.224, 0.229])


def save_network(path, network, nodes, initializers, *, input_name="input.1", first_output="branch"):
    """An ONNX file with SCHP's input and outputs; `nodes` make "fusion" from the input's name."""
    side, grid, labels = network
    constants = [numpy_helper.from_array(values, name) for name, values in initializers.items()]
    # The first output is there to be wrong: it says label 1 everywhere.
    wrong = np.zeros((1, labels, grid, grid), np.float32)
    wrong[:, 1] = 1e6
    constants.append(numpy_helper.from_array(wrong, "wrong"))
    nodes = [helper.make_node("Identity", ["wrong"], [first_output]), *nodes]
    graph = helper.make_graph(
        nodes,
        "parsing",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [1, 3, side, side])],
        [
            helper.make_tensor_value_info(first_output, TensorProto.FLOAT, [1, labels, grid, grid]),
            helper.make_tensor_value_info("fusion", TensorProto.FLOAT, [1, labels, grid, grid]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def save_linear_network(path, network, weight, bias):
    """Logits = weight @ normalised BGR + bias, sampled with aligned corners, as SCHP's own logits are laid out."""
    _, grid, labels = network
    resize = helper.make_node(
        "Resize",
        ["input.1", "", "", "sizes"],
        ["small"],
        mode="linear",
        coordinate_transformation_mode="align_corners",
    )
    convolution = helper.make_node("Conv", ["small", "weight", "bias"], ["fusion"])
    initializers = {
        "sizes": np.array([1, 3, grid, grid], np.int64),
        "weight": np.asarray(weight, np.float32).reshape(labels, 3, 1, 1),
        "bias": np.asarray(bias, np.float32),
    }
    return save_network(path, network, [resize, convolution], initializers)


def save_colour_network(path, network, palette):
    """Labels each pixel with the nearest colour of the palette: argmax of 2 c x - c c."""
    labels = network[2]
    weight, bias = np.zeros((labels, 3)), np.full(labels, -1e6)
    for label, rgb in palette.items():
        colour = (np.array(rgb[::-1]) / 255 - BGR_MEAN) / BGR_STD
        weight[label], bias[label] = 2 * colour, -(colour**2).sum()
    return save_linear_network(path, network, weight, bias)


def save_constant_network(path, network, logits):
    """Logits that don't depend on the photo."""
    # the input has to be used: its values, which are finite, are multiplied by zero
    nodes = [
        helper.make_node("ReduceMean", ["input.1"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["logits", "nothing"], ["fusion"]),
    ]
    initializers = {"zero": np.zeros((1, 1, 1, 1), np.float32), "logits": logits.astype(np.float32)[None]}
    return save_network(path, network, nodes, initializers)


def save_label_network(path, network, labels):
    """Says the same for every photo: a label map (grid, grid), as logits."""
    return save_constant_network(path, network, 10.0 * (np.arange(network[2])[:, None, None] == labels))
