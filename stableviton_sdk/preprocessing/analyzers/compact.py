"""Body analysis by one compact network for parse, joints and DensePose labels, trained on rendered figures alone."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...errors import IncompatibleCheckpoint, NoPersonFound
from ..boxes import check_box
from ..joints import Body25
from ..labels import CIHP, strongest_labels
from ..resampling import check_image
from .base import BodyAnalysis
from .onnx_session import open_session, run_session

if TYPE_CHECKING:
    import onnxruntime

    from .networks import LazyNetworks

# A file beside the preprocessor's configuration.
WEIGHTS = {"body_network": {"file": "body_network.onnx"}}

INPUT_SHAPE = (256, 192)  # height and width of the network's input
PAD = 128  # grey level around images of other proportions
LABELS_STRIDE, JOINTS_STRIDE = 2, 4  # input pixels per cell of the outputs
OUTPUT_SHAPES = ((1, len(CIHP), 128, 96), (1, 25, 128, 96), (1, 25, 64 * 48 + 1))
# joints without which no garment can be fitted; their mean confidence is a person's score
REQUIRED_JOINTS = [Body25.NOSE, Body25.NECK, Body25.RIGHT_SHOULDER, Body25.LEFT_SHOULDER]
MIN_CONFIDENCE = 0.5  # of a joint
# Of a person: rendered people whose head the frame cuts off score .75, all others more; garments laid flat, which have
# all of a person but the head, reach .55.
MIN_SCORE = 0.65
DOUBTFUL = 0.8  # a person with a lower score is worth a warning
# Share of a person's pixels that equal their neighbours below and beside them: at most .2 in photos and .5 in rendered
# figures, at least .65 in drawings.
DRAWN = 0.6
MIN_PERSON_CELLS = 60  # size of a person in cells of the label maps, half a percent of the input
# Added to the upper clothes' logit: a pixel of fabric that is taken for trousers or a hand is given back, and leaks.
UPPER_CLOTHES_BIAS = 1.0
ZOOM_BELOW = 0.55  # a person who fills less of the input's height and width than this is analysed in a crop
MARGIN = 0.14  # of that crop, on each side, as a share of the person's longer side
MAX_WINDOWS = 6  # crops that a long image is searched in
# Views whose outputs are averaged: how much smaller the person is in each, and whether it is mirrored.
VIEWS = ((1.0, False), (1.0, True), (1.25, False), (1.25, True))
# What trades places in a mirror.
MIRRORED_JOINTS = np.array([joint.mirrored for joint in Body25])
MIRRORED_PARSING = np.arange(len(CIHP), dtype=np.uint8)
MIRRORED_PARSING[[CIHP.LEFT_ARM, CIHP.LEFT_LEG, CIHP.LEFT_SHOE]] = CIHP.RIGHT_ARM, CIHP.RIGHT_LEG, CIHP.RIGHT_SHOE
MIRRORED_PARSING[[CIHP.RIGHT_ARM, CIHP.RIGHT_LEG, CIHP.RIGHT_SHOE]] = CIHP.LEFT_ARM, CIHP.LEFT_LEG, CIHP.LEFT_SHOE
MIRRORED_DENSEPOSE = np.array([0, 1, 2, *(label + 1 if label % 2 else label - 1 for label in range(3, 25))], np.uint8)

Box = tuple[float, float, float, float]


class CompactAnalyzer:
    """Analyses people who are upright and face the camera, with one small network; implements [`BodyAnalyzer`].

    It finds one person in an image: the one with the highest score. They are analysed in a crop if they are small,
    in several views whose outputs are averaged. The network was trained on rendered figures alone.

    Args:
        networks (`LazyNetworks`): Cache that opens and keeps the network; its weights have the name in `WEIGHTS`.
    """

    def __init__(self, networks: LazyNetworks):
        self.networks = networks

    def find_people(self, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        """The person in an image, if there is one.

        Args:
            image (`PIL.Image.Image`): RGB, of any size.

        Returns:
            `tuple[np.ndarray, np.ndarray]`:
                boxes, float32, (N, 4), left, top, right, bottom in pixels of the image, and scores in [0, 1], (N,),
                with N of 0 or 1.

        Raises:
            `InvalidInput`: if the image isn't a PIL image of mode RGB.
        """
        check_image(image)
        view = self._find(image)
        if view is None:
            return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        return np.array([view.box], np.float32), np.array([view.score], np.float32)

    def __call__(
        self, image: Image.Image, *, person_box: tuple[float, float, float, float] | None = None
    ) -> BodyAnalysis:
        """Parse, joints and DensePose labels of one person.

        Args:
            image (`PIL.Image.Image`): RGB, of any size.
            person_box (`tuple[float, float, float, float]`, *optional*):
                Left, top, right, bottom of the person in pixels of the image; by default the person with the highest
                score.

        Returns:
            `BodyAnalysis`

        Raises:
            `InvalidInput`: if the image isn't a PIL image of mode RGB, or the box is unusable.
            `NoPersonFound`: if nobody is found.
        """
        check_image(image)
        if person_box is None:
            view = self._find(image)
        else:
            region = _search_region(tuple(check_box(person_box, image.size).tolist()), image.size)
            view = self._run(image, region, VIEWS)
            view = view if view.has_person else None
        if view is None:
            where = "in the image" if person_box is None else "at person_box"
            raise NoPersonFound(
                f"nobody was found {where}: pass a photo of a person who faces the camera, with head and shoulders in "
                "the frame, or maps of your own."
            )
        if view.score < DOUBTFUL:
            warnings.warn(
                f"the bundled body network is {view.score:.0%} certain of this person's pose: check the mask, or pass "
                "one of your own.",
                stacklevel=2,
            )
        parsing = view.labels(view.parsing, image.size)
        if _flat_share(image, parsing != CIHP.BACKGROUND) > DRAWN:
            warnings.warn(
                "this person looks drawn, and the bundled body network knows no drawings: check the mask, or pass a "
                "photo.",
                stacklevel=2,
            )
        return BodyAnalysis(
            parsing=parsing,
            keypoints=view.keypoints(image.size),
            densepose=view.labels(view.densepose, image.size),
            boxes=np.array([view.box], np.float32),
            scores=np.array([view.score], np.float32),
        )

    def silhouette(self, image: Image.Image) -> np.ndarray:
        """Probability of every pixel's showing a person, averaged over `VIEWS`: float32 in [0, 1], (H, W).

        Args:
            image (`PIL.Image.Image`): RGB, of any size.
        """
        check_image(image)
        view = self._run(image, (0.0, 0.0, float(image.width), float(image.height)), VIEWS)
        return view.probability_of_person(image.size)

    def _session(self) -> onnxruntime.InferenceSession:
        def open_network() -> onnxruntime.InferenceSession:
            path = self.networks.required_weights("body_network")
            shape = (1, 3, *INPUT_SHAPE)
            return open_session(path, self.networks.device, name="the body network", input_shape=shape, output_count=3)

        return self.networks.get("body_network", open_network)

    def _find(self, image: Image.Image) -> _NetworkView | None:
        """View with the person of the highest score, averaged over `VIEWS`; None if nobody is found."""
        whole = (0.0, 0.0, float(image.width), float(image.height))
        view = self._run(image, whole)
        if not view.has_person:
            views = [self._run(image, window) for window in _windows(image.size)]
            view = max((view for view in views if view.has_person), key=lambda view: view.score, default=None)
            if view is None:
                return None
        averaged = self._run(image, _search_region(view.box, image.size), VIEWS)
        return averaged if averaged.has_person else view

    def _run(self, image: Image.Image, region: Box, views: Sequence[tuple[float, bool]] = VIEWS[:1]) -> _NetworkView:
        """Run the network on a part of an image, padded to the input's proportions, and average over views of it."""
        left, top, right, bottom = region
        height, width = INPUT_SHAPE
        scale = min(width / (right - left), height / (bottom - top))
        size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
        x, y = (width - size[0]) // 2, (height - size[1]) // 2
        shown = image.resize(size, Image.Resampling.HAMMING, box=region, reducing_gap=3.0)
        answers = [self._log_probabilities(shown, reduction, mirrored) for reduction, mirrored in views]
        outputs = [np.mean(parts, axis=0) for parts in zip(*answers, strict=True)]
        scales = np.divide(size, (right - left, bottom - top))
        return _NetworkView(region, scales, np.array((x, y)) - scales * (left, top), outputs)

    def _log_probabilities(self, shown: Image.Image, reduction: float, mirrored: bool) -> list[np.ndarray]:
        """Log probabilities of the labels, (20, 128, 96) and (25, 128, 96), and of the joints' cells, (25, cells + 1).

        Args:
            shown (`PIL.Image.Image`): RGB, no larger than the input, in whose middle it belongs.
            reduction (`float`): Factor that the network's view is smaller by.
            mirrored (`bool`): Whether the network's view is mirrored. The answer is turned and enlarged back.
        """
        height, width = INPUT_SHAPE
        if reduction != 1:
            size = tuple(max(1, round(side / reduction)) for side in shown.size)
            shown = shown.resize(size, Image.Resampling.HAMMING)
        canvas = Image.new("RGB", (width, height), (PAD, PAD, PAD))
        canvas.paste(shown, ((width - shown.width) // 2, (height - shown.height) // 2))
        values = np.asarray(canvas, dtype=np.float32)
        values = (values[:, ::-1] if mirrored else values).transpose(2, 0, 1)[None]
        outputs = run_session(self._session(), np.ascontiguousarray(values), (0, 1, 2))
        if tuple(output.shape for output in outputs) != OUTPUT_SHAPES:
            raise IncompatibleCheckpoint(
                f"the body network's outputs have shapes {', '.join(str(output.shape) for output in outputs)}, where "
                f"{', '.join(map(str, OUTPUT_SHAPES))} belong: pass the body_network.onnx of the same release."
            )
        parsing, densepose, joints = (output[0] for output in outputs)
        places, missing = joints[:, :-1].reshape(-1, height // JOINTS_STRIDE, width // JOINTS_STRIDE), joints[:, -1:]
        if mirrored:
            parsing, densepose = parsing[MIRRORED_PARSING, :, ::-1], densepose[MIRRORED_DENSEPOSE, :, ::-1]
            places, missing = places[MIRRORED_JOINTS, :, ::-1], missing[MIRRORED_JOINTS]
        if reduction != 1:
            parsing, densepose, places = (_enlarged(maps, reduction) for maps in (parsing, densepose, places))
            missing = missing + 2 * np.log(reduction)  # a joint's probability is spread over more cells now
        joints = np.concatenate([places.reshape(len(places), -1), missing], axis=1)
        return [_log_softmax(parsing, 0), _log_softmax(densepose, 0), _log_softmax(joints, 1)]


class _NetworkView:
    """Log probabilities for a region of an image, whose point p lies at `scale * p + offset` of the network's input.

    Points are measured from the image's corner here, not from the centre of its first pixel.
    """

    def __init__(self, region: Box, scale: np.ndarray, offset: np.ndarray, outputs: list[np.ndarray]):
        self.region, self.scale, self.offset = region, scale, offset
        self.parsing, self.densepose, joints = outputs
        self.parsing[CIHP.UPPER_CLOTHES] += UPPER_CLOTHES_BIAS
        probabilities = joints - joints.max(axis=1, keepdims=True)
        np.exp(probabilities, out=probabilities)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        self.joints, self.confidence = _peaks(probabilities[:, :-1]), 1 - probabilities[:, -1]  # the last: not seen
        self.score = float(self.confidence[REQUIRED_JOINTS].mean())
        person = self.parsing.argmax(axis=0) != CIHP.BACKGROUND
        self.has_person = self.score >= MIN_SCORE and int(person.sum()) >= MIN_PERSON_CELLS
        self.box = self._to_image(_extent(person)) if self.has_person else region

    def labels(self, logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Label map of an image of `size` (width, height), uint8; interpolated logits make its edges smooth."""
        present = np.unique(logits.argmax(axis=0))
        x, y = (
            (scale * (np.arange(side) + 0.5) + offset) / LABELS_STRIDE - 0.5  # pixel centres to cell centres
            for side, scale, offset in zip(size, self.scale, self.offset, strict=True)
        )
        labels = present.astype(np.uint8)[strongest_labels(logits[present], x, y)]
        left, top, right, bottom = (round(edge) for edge in self.region)
        labels[:top] = labels[bottom:] = 0
        labels[:, :left] = labels[:, right:] = 0
        return labels

    def probability_of_person(self, size: tuple[int, int]) -> np.ndarray:
        """Of every pixel of an image of `size` (width, height), float32 in [0, 1], (H, W)."""
        import cv2

        logits = self.parsing - self.parsing.max(axis=0)
        likely = np.exp(logits)
        person = (1 - likely[CIHP.BACKGROUND] / likely.sum(axis=0)).astype(np.float32)
        x, y = (
            ((scale * (np.arange(side) + 0.5) + offset) / LABELS_STRIDE - 0.5).astype(np.float32)
            for side, scale, offset in zip(size, self.scale, self.offset, strict=True)
        )
        return cv2.remap(person, *np.meshgrid(x, y), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def keypoints(self, size: tuple[int, int]) -> np.ndarray:
        """BODY_25 joints in pixels of an image of `size` (width, height), float32, (25, 3)."""
        points = (self.joints - self.offset) / self.scale
        seen = (self.confidence >= MIN_CONFIDENCE) & (points >= 0).all(axis=1) & (points < size).all(axis=1)
        return (np.column_stack([points - 0.5, self.confidence]) * seen[:, None]).astype(np.float32)

    def _to_image(self, box: Box) -> Box:
        corners = (np.reshape(box, (2, 2)) - self.offset) / self.scale
        left, top, right, bottom = self.region
        return tuple(corners.clip((left, top), (right, bottom)).ravel().tolist())


def _flat_share(image: Image.Image, person: np.ndarray) -> float:
    """Share of a person's pixels that equal those below and beside them; of large images a part is looked at."""
    step = max(1, max(image.size) // 512)
    pixels, person = np.asarray(image)[::step, ::step], person[::step, ::step]
    below = (pixels[1:, :-1] == pixels[:-1, :-1]).all(axis=-1)
    beside = (pixels[:-1, 1:] == pixels[:-1, :-1]).all(axis=-1)
    counted = person[:-1, :-1]
    return float((below & beside)[counted].mean()) if counted.any() else 0.0


def _enlarged(maps: np.ndarray, factor: float) -> np.ndarray:
    """The middle of maps (C, H, W), enlarged to their size."""
    import cv2

    height, width = maps.shape[1:]
    across, down = ((side - 1) / 2 * (1 - factor) for side in (width, height))
    matrix = np.array([[factor, 0, across], [0, factor, down]])
    return np.stack([cv2.warpAffine(np.ascontiguousarray(part), matrix, (width, height)) for part in maps])


def _log_softmax(logits: np.ndarray, axis: int) -> np.ndarray:
    logits = logits - logits.max(axis=axis, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=axis, keepdims=True))


def _peaks(probabilities: np.ndarray) -> np.ndarray:
    """Position in the input, (N, 2), of each distribution's maximum: the mean of the 3 x 3 cells around it.

    Args:
        probabilities (`np.ndarray`): (N, cells).
    """
    height, width = (side // JOINTS_STRIDE for side in INPUT_SHAPE)
    y, x = np.divmod(probabilities.argmax(axis=1), width)
    padded = np.pad(probabilities.reshape(-1, height, width), ((0, 0), (1, 1), (1, 1)))
    index = np.arange(len(probabilities))
    mass, moment = 0.0, np.zeros((len(probabilities), 2))
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            weight = padded[index, y + 1 + down, x + 1 + right]
            mass = mass + weight
            moment += weight[:, None] * (right, down)
    return (np.stack([x, y], axis=1) + moment / np.maximum(mass, 1e-12)[:, None] + 0.5) * JOINTS_STRIDE


def _extent(person: np.ndarray) -> Box:
    """Left, top, right, bottom, in input pixels, of the largest connected region of a mask of cells."""
    import cv2

    _, _, statistics, _ = cv2.connectedComponentsWithStats(person.astype(np.uint8), connectivity=8)
    left, top, width, height, _ = statistics[1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))]
    return tuple(LABELS_STRIDE * float(edge) for edge in (left, top, left + width, top + height))


def _search_region(box: Box, size: tuple[int, int]) -> Box:
    """Crop to analyse a person in: the whole image if they fill it well enough, else the box with a margin."""
    width, height = size
    left, top, right, bottom = box
    # input pixels per image pixel, if the whole image is the network's input
    scale = min(INPUT_SHAPE[1] / width, INPUT_SHAPE[0] / height)
    if max((right - left) * scale / INPUT_SHAPE[1], (bottom - top) * scale / INPUT_SHAPE[0]) >= ZOOM_BELOW:
        return 0.0, 0.0, float(width), float(height)
    margin = MARGIN * max(bottom - top, right - left)
    tall = max(bottom - top + 2 * margin, (right - left + 2 * margin) * INPUT_SHAPE[0] / INPUT_SHAPE[1])
    wide = tall * INPUT_SHAPE[1] / INPUT_SHAPE[0]
    across, down = (left + right) / 2, (top + bottom) / 2
    edges = (
        max(math.floor(across - wide / 2), 0), max(math.floor(down - tall / 2), 0),
        min(math.ceil(across + wide / 2), width), min(math.ceil(down + tall / 2), height),
    )  # fmt: skip
    return tuple(float(edge) for edge in edges)


def _windows(size: tuple[int, int]) -> list[Box]:
    """Overlapping crops of a long image, in the input's proportions; none for an image that has them."""
    width, height = size
    wide = min(width, height * INPUT_SHAPE[1] / INPUT_SHAPE[0])
    tall = min(height, width * INPUT_SHAPE[0] / INPUT_SHAPE[1])
    count = min(MAX_WINDOWS, 2 * math.ceil(max(width / wide, height / tall) - 0.15) - 1)
    if count < 2:
        return []
    shares = np.linspace(0, 1, count)
    starts = [(share * (width - wide), share * (height - tall)) for share in shares]
    return [(left, top, min(left + wide, width), min(top + tall, height)) for left, top in starts]
