"""Training of the compact body network, from nothing to the folder that `PersonPreprocessor.from_pretrained` takes."""

from __future__ import annotations

import copy
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import IncompatibleCheckpoint, MissingDependency
from ...files import replacing
from ...preprocessing.analyzers.onnx_session import open_session
from ..loop.config import Count, Field
from ..loop.resumption import check_steps
from .body_data import INPUT_SHAPE, FigureAugmentation, FigureOptions, RenderedFigures
from .body_network import BodyNetwork, body_loss, collate
from .fit import FitTask, fit

OPSET = 17
EXPORT_TOLERANCE, HALVED_TOLERANCE = 1e-4, 1e-2  # of the largest answer
HALVED_FROM = 1024  # numbers of a weight that is stored in half precision


class BodyConfig(FitTask):
    """One training of the body network."""

    data: FigureOptions = Field(default_factory=FigureOptions)
    widths: list[Count] = Field(default_factory=lambda: [16, 32, 48, 80, 104], min_length=5, max_length=5)
    """Channels of the network at 1/2, 1/4 ... 1/32 of the image's size."""
    blocks: list[Count] = Field(default_factory=lambda: [1, 1, 1, 1], min_length=4, max_length=4)
    """Residual blocks of the network on the way down, at 1/4 ... 1/32."""


def train_network(config: BodyConfig, *, progress: bool = True) -> BodyNetwork:
    """Train, from the start or from the last checkpoint in the output folder."""
    output = Path(config.output)
    check_steps(output, config.fit)
    figures = RenderedFigures(output / "figures", config.data, progress)
    return fit(
        make_network(config),
        body_loss,
        figures,
        config.fit,
        output,
        settings=config,
        collate=collate,
        augmentation=FigureAugmentation(figures),
        progress=progress,
    )


def make_network(config: BodyConfig) -> BodyNetwork:
    """The untrained network; the same seed gives the same weights, and the global generator isn't touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.fit.seed)
        return BodyNetwork(config.widths, config.blocks).to(memory_format=torch.channels_last)


def train_body(config: BodyConfig, *, progress: bool = True) -> Path:
    """Train the body network, and write the preprocessor that uses it.

    Args:
        config (`BodyConfig`): All options.
        progress (`bool`, *optional*, defaults to `True`): Show progress bars with the time left.

    Returns:
        `Path`: the folder of the preprocessor.

    Raises:
        `InvalidInput`, `IncompatibleCheckpoint`, `TrainingDiverged`: see `fit`.
        `MissingDependency`: if the package onnx isn't installed; raised before the training.
    """
    require_onnx()
    return save_preprocessor(train_network(config, progress=progress), Path(config.output) / "preprocessor")


def save_preprocessor(network: BodyNetwork, folder: Path) -> Path:
    """Write what `PersonPreprocessor.from_pretrained` takes: its configuration, and the network beside it."""
    from ...preprocessing.analyzers.compact import WEIGHTS
    from ...preprocessing.preprocessor import PersonPreprocessor

    folder.mkdir(parents=True, exist_ok=True)
    export_onnx(network, folder / WEIGHTS["body_network"]["file"])
    PersonPreprocessor(analyzer="compact").save_config(folder)
    return folder


def export_onnx(network: BodyNetwork, path: Path) -> None:
    """Write the network as an ONNX graph that takes one image, and check that it computes the same.

    Weights are stored in half precision, and cast when the graph is loaded: the file is half as large, and as fast.

    Raises:
        `MissingDependency`: if the package onnx isn't installed.
        `IncompatibleCheckpoint`: if the graph's answers aren't the network's.
    """
    onnx = require_onnx()
    network = copy.deepcopy(network).cpu().eval().to(memory_format=torch.contiguous_format)
    image = 255 * torch.rand(1, 3, *INPUT_SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(image)

    def check(path: Path, tolerance: float) -> None:
        session = open_session(
            path, "cpu", name="the exported network", input_shape=(1, 3, *INPUT_SHAPE), output_count=3
        )
        answers = session.run(None, {"image": image.numpy()})
        for name, ours, theirs in zip(("parsing", "densepose", "joints"), expected, answers, strict=True):
            difference = float((ours - torch.from_numpy(theirs)).abs().max())
            if not difference <= tolerance * float(ours.abs().max()):
                raise IncompatibleCheckpoint(
                    f"the exported network's {name} differ from the network's by {difference:.2g}."
                )

    with replacing(path) as partial:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the other exporter needs one package more
            torch.onnx.export(
                network,
                (image,),
                str(partial),
                input_names=["image"],
                output_names=["parsing", "densepose", "joints"],
                opset_version=OPSET,
                dynamo=False,
            )
        check(partial, EXPORT_TOLERANCE)
        model = onnx.load(str(partial))
        _halve(onnx, model.graph)
        onnx.save(model, str(partial))
        onnx.checker.check_model(str(partial), full_check=True)
        check(partial, HALVED_TOLERANCE)


def _halve(onnx: types.ModuleType, graph: Any) -> None:
    """Store a graph's large weights in half precision, in place, each with a cast back under its old name."""
    casts = []
    for weight in graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size >= HALVED_FROM:
            name, half = weight.name, f"{weight.name}_half"
            weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), half))
            casts.append(onnx.helper.make_node("Cast", [half], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def require_onnx() -> types.ModuleType:
    """The package onnx.

    Raises:
        `MissingDependency`: if it isn't installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency(
            "exporting the body network needs the package onnx: pip install 'stableviton-sdk[train]'."
        ) from error
    return onnx
