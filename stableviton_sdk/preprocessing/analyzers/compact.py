"""Body analysis of rendered figures: one compact network for parse, joints and DensePose labels. Not for photos."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ...errors import IncompatibleCheckpoint, InvalidInput, NoPersonFound
from ..boxes import check_box
from ..labels import CIHP
from .base import BodyAnalysis
from .human_parsing import label_map
from .onnx_session import open_session, run_session
from .photo import Lazy
from .resampling import check_image

if TYPE_CHECKING:
    import onnxruntime

# A file beside the preprocessor's configuration.
WEIGHTS = {"body_network": {"file": "body_network.onnx"}}

INPUT_SIZE = (256, 192)  # height and width of the network's input
PAD = 128  # grey around what has other proportions
LABELS_STRIDE, JOINTS_STRIDE = 2, 4  # input pixels to a cell of the answers
OUTPUT_SHAPES = ((1, len(CIHP), 128, 96), (1, 25, 128, 96), (1, 25, 64 * 48 + 1))
UPPER_BODY = (0, 1, 2, 5)  # nose, neck, shoulders: without them nobody can be dressed
SURE = 0.5  # of a joint, and of a person
FEWEST_CELLS = 60  # of a person, half a percent of the input
# Added to the upper clothes' logit: a pixel of fabric that is taken for trousers or a hand is given back, and leaks.
FABRIC_FIRST = 2.0
SMALL = 0.55  # a person who fills less than this of height and width is looked at again from nearer
MARGIN = 0.14  # of a person's height, around them when they're looked at from nearer
WINDOWS = 6  # at most so many parts of a long image are searched

Box = tuple[float, float, float, float]


class FigureBodyAnalyzer:
    """Analyses rendered figures, such as `data.synthetic` draws them; follows [`BodyAnalyzer`].

    It knows one person in an image, the one whom it sees best. A small one is looked at twice: from afar, and then
    from as near as the network is used to. In photos of real people it finds nobody, or nonsense.

    Args:
        session (`Callable`): Returns the network, an `onnxruntime.InferenceSession`. Called when it is needed.
    """

    def __init__(self, session: Callable[[], onnxruntime.InferenceSession]):
        self._session = session

    def find_people(self, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        """The person in an image, or nobody: boxes (N, 4) in its pixels, and scores (N,), with N of 0 or 1."""
        check_image(image)
        view = self._find(image)
        if view is None:
            return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        return np.array([view.box], np.float32), np.array([view.score], np.float32)

    def __call__(
        self, image: Image.Image, *, person_box: tuple[float, float, float, float] | None = None
    ) -> BodyAnalysis:
        """Analyse the person at `person_box`, or the one who is seen best.

        Raises:
            `InvalidInput`: if the image isn't a PIL image of mode RGB, or the box is none.
            `NoPersonFound`: if nobody is there.
        """
        check_image(image)
        if person_box is None:
            view = self._find(image)
        else:
            region = _around(tuple(check_box(person_box, image.size).tolist()), image.size)
            view = self._look(image, region)
            view = view if view.somebody else None
        if view is None:
            where = "in the image" if person_box is None else "at person_box"
            raise NoPersonFound(
                f"nobody was found {where}: the bundled network knows rendered figures only, whose head and shoulders "
                "are seen."
            )
        return BodyAnalysis(
            parsing=view.labels(view.parsing, image.size),
            keypoints=view.keypoints(image.size),
            densepose=view.labels(view.densepose, image.size),
            boxes=np.array([view.box], np.float32),
            scores=np.array([view.score], np.float32),
        )

    def _find(self, image: Image.Image) -> _View | None:
        """The best view of the best person; None if nobody is seen."""
        whole = (0.0, 0.0, float(image.width), float(image.height))
        view = self._look(image, whole)
        if not view.somebody:
            views = [self._look(image, window) for window in _windows(image.size)]
            view = max((view for view in views if view.somebody), key=lambda view: view.score, default=None)
            if view is None:
                return None
        region = _around(view.box, image.size)
        if region == view.region:
            return view
        nearer = self._look(image, region)
        return nearer if nearer.somebody else view

    def _look(self, image: Image.Image, region: Box) -> _View:
        """Run the network on a part of an image, padded to the input's proportions."""
        left, top, right, bottom = region
        height, width = INPUT_SIZE
        scale = min(width / (right - left), height / (bottom - top))
        size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
        x, y = (width - size[0]) // 2, (height - size[1]) // 2
        canvas = Image.new("RGB", (width, height), (PAD, PAD, PAD))
        canvas.paste(image.resize(size, Image.Resampling.HAMMING, box=region, reducing_gap=3.0), (x, y))
        values = np.asarray(canvas, dtype=np.float32).transpose(2, 0, 1)[None]
        outputs = run_session(self._session(), np.ascontiguousarray(values), (0, 1, 2))
        if tuple(output.shape for output in outputs) != OUTPUT_SHAPES:
            raise IncompatibleCheckpoint(
                f"the body network's outputs have shapes {', '.join(str(output.shape) for output in outputs)}, where "
                f"{', '.join(map(str, OUTPUT_SHAPES))} belong: pass the body_network.onnx of the same release."
            )
        scales = np.divide(size, (right - left, bottom - top))
        return _View(region, scales, np.array((x, y)) - scales * (left, top), outputs)


class _View:
    """What the network said about a region: an image's point p lies at `scale * p + offset` of its input.

    Points are measured from the corner of the image here, not from the centre of its first pixel.
    """

    def __init__(self, region: Box, scale: np.ndarray, offset: np.ndarray, outputs: list[np.ndarray]):
        self.region, self.scale, self.offset = region, scale, offset
        self.parsing, self.densepose, joints = (output[0] for output in outputs)
        self.parsing[CIHP.UPPER_CLOTHES] += FABRIC_FIRST
        places = joints - joints.max(axis=1, keepdims=True)
        np.exp(places, out=places)
        places /= places.sum(axis=1, keepdims=True)
        self.joints, self.sure = _peaks(places[:, :-1]), 1 - places[:, -1]
        self.score = float(self.sure[list(UPPER_BODY)].mean())
        person = self.parsing.argmax(axis=0) != CIHP.BACKGROUND
        self.somebody = self.score >= SURE and int(person.sum()) >= FEWEST_CELLS
        self.box = self._to_image(_extent(person)) if self.somebody else region

    def labels(self, logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Label map of an image of `size` (width, height), uint8; interpolated logits make its edges smooth."""
        present = np.unique(logits.argmax(axis=0))
        scale = self.scale / LABELS_STRIDE
        offset = (self.offset + self.scale / 2) / LABELS_STRIDE - 0.5  # pixel centres -> cell centres
        labels = present.astype(np.uint8)[label_map(logits[present], tuple(scale), tuple(offset), size)]
        left, top, right, bottom = (round(edge) for edge in self.region)
        labels[:top] = labels[bottom:] = 0
        labels[:, :left] = labels[:, right:] = 0
        return labels

    def keypoints(self, size: tuple[int, int]) -> np.ndarray:
        """BODY_25 joints in pixels of an image of `size` (width, height), float32, (25, 3)."""
        points = (self.joints - self.offset) / self.scale
        seen = (self.sure >= SURE) & (points >= 0).all(axis=1) & (points < size).all(axis=1)
        return (np.column_stack([points - 0.5, self.sure]) * seen[:, None]).astype(np.float32)

    def _to_image(self, box: Box) -> Box:
        corners = (np.reshape(box, (2, 2)) - self.offset) / self.scale
        left, top, right, bottom = self.region
        return tuple(corners.clip((left, top), (right, bottom)).ravel().tolist())


def make_analyzer(
    weights: Callable[[str], Path | None],
    share: Callable[[str, Callable[[], Any]], Lazy],
    *,
    device: str,
    pose: str,
) -> FigureBodyAnalyzer:
    """Make the analyzer out of its weights file.

    Args:
        weights (`Callable`): Path of the weights that go by one of the names in `WEIGHTS`; None if they were declined.
        share (`Callable`): Keeps what it is given to make under a name, for the next analyzer on the same device.
        device (`str`): Where the network runs.
        pose (`str`): Not used: there is but one network.
    """

    def session() -> onnxruntime.InferenceSession:
        path = weights("body_network")
        if path is None:
            raise InvalidInput(
                "the weights 'body_network' were declined, but are needed: pass their path in `weights`."
            )
        return open_session(path, device, name="the body network", input_shape=(1, 3, *INPUT_SIZE), output_count=3)

    return FigureBodyAnalyzer(share("body_network", session))


def _peaks(places: np.ndarray) -> np.ndarray:
    """Where in the input each of the (N, cells) distributions is highest, (N, 2): the mean of the cells around it."""
    height, width = (side // JOINTS_STRIDE for side in INPUT_SIZE)
    y, x = np.divmod(places.argmax(axis=1), width)
    padded = np.pad(places.reshape(-1, height, width), ((0, 0), (1, 1), (1, 1)))
    index = np.arange(len(places))
    mass, moment = 0.0, np.zeros((len(places), 2))
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            weight = padded[index, y + 1 + down, x + 1 + right]
            mass = mass + weight
            moment += weight[:, None] * (right, down)
    return (np.stack([x, y], axis=1) + moment / np.maximum(mass, 1e-12)[:, None] + 0.5) * JOINTS_STRIDE


def _extent(person: np.ndarray) -> Box:
    """Left, top, right, bottom, in input pixels, of the largest connected part."""
    import cv2

    _, _, statistics, _ = cv2.connectedComponentsWithStats(person.astype(np.uint8), connectivity=8)
    left, top, width, height, _ = statistics[1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))]
    return tuple(LABELS_STRIDE * float(edge) for edge in (left, top, left + width, top + height))


def _around(box: Box, size: tuple[int, int]) -> Box:
    """Where to look at a person: the whole image if they fill it well enough, else their surroundings."""
    width, height = size
    left, top, right, bottom = box
    # what the person would measure in the input, if the whole image were looked at
    scale = min(INPUT_SIZE[1] / width, INPUT_SIZE[0] / height)
    if max((right - left) * scale / INPUT_SIZE[1], (bottom - top) * scale / INPUT_SIZE[0]) >= SMALL:
        return 0.0, 0.0, float(width), float(height)
    margin = MARGIN * max(bottom - top, right - left)
    tall = max(bottom - top + 2 * margin, (right - left + 2 * margin) * INPUT_SIZE[0] / INPUT_SIZE[1])
    wide = tall * INPUT_SIZE[1] / INPUT_SIZE[0]
    across, down = (left + right) / 2, (top + bottom) / 2
    edges = (
        max(math.floor(across - wide / 2), 0), max(math.floor(down - tall / 2), 0),
        min(math.ceil(across + wide / 2), width), min(math.ceil(down + tall / 2), height),
    )  # fmt: skip
    return tuple(float(edge) for edge in edges)


def _windows(size: tuple[int, int]) -> list[Box]:
    """Overlapping parts of a long image, in the input's proportions; none for an image that has them."""
    width, height = size
    wide, tall = min(width, height * INPUT_SIZE[1] / INPUT_SIZE[0]), min(height, width * INPUT_SIZE[0] / INPUT_SIZE[1])
    count = min(WINDOWS, 2 * math.ceil(max(width / wide, height / tall) - 0.15) - 1)
    if count < 2:
        return []
    shares = np.linspace(0, 1, count)
    starts = [(share * (width - wide), share * (height - tall)) for share in shares]
    return [(left, top, min(left + wide, width), min(top + tall, height)) for left, top in starts]
