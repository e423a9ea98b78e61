"""People drawn in flat colours, and an analyzer that finds them by those: photos without photo networks."""

import cv2
import numpy as np
from PIL import Image, ImageDraw

from stableviton_sdk.preprocessing.analyzers.base import BodyAnalysis
from stableviton_sdk.preprocessing.boxes import choose_person
from stableviton_sdk.preprocessing.labels import CIHP
from stableviton_sdk.preprocessing.preprocessor import PersonPreprocessor

GREY = (110, 110, 110)
FACE, SHIRT, TROUSERS, HAND = (240, 200, 20), (220, 30, 60), (60, 30, 220), (20, 200, 60)
PALETTE = {
    CIHP.BACKGROUND: GREY,
    CIHP.FACE: FACE,
    CIHP.UPPER_CLOTHES: SHIRT,
    CIHP.TROUSERS: TROUSERS,
    CIHP.LEFT_ARM: HAND,
}
# A figure's parts and joints as shares of its box: face, shirt, trousers
PARTS = {FACE: (0.35, 0.0, 0.65, 0.2), SHIRT: (0.1, 0.22, 0.9, 0.6), TROUSERS: (0.2, 0.6, 0.8, 1.0)}
JOINTS = {0: (0.5, 0.1), 1: (0.5, 0.25), 2: (0.2, 0.26), 3: (0.15, 0.42), 4: (0.15, 0.58)}
JOINTS |= {5: (0.8, 0.26), 6: (0.85, 0.42), 7: (0.85, 0.58), 9: (0.32, 0.6), 12: (0.68, 0.6)}


def photo_of(size, *people):
    """Figures in flat colours on grey, each in its box."""
    image = Image.new("RGB", size, GREY)
    draw = ImageDraw.Draw(image)
    for left, top, right, bottom in people:
        for colour, part in PARTS.items():
            x = [left + share * (right - left) for share in part[::2]]
            y = [top + share * (bottom - top) for share in part[1::2]]
            radius = 0.2 * (right - left) if colour == SHIRT else 0  # as far as the mask's rule reaches
            draw.rounded_rectangle((x[0], y[0], x[1] - 1, y[1] - 1), radius, fill=colour)
    return image


def labels_of(image):
    """Nearest colour of the palette: a parser that sees the figures as they were drawn."""
    values = np.asarray(image).astype(int)
    distances = [((values - colour) ** 2).sum(axis=2) for colour in PALETTE.values()]
    return np.array(list(PALETTE), np.uint8)[np.argmin(distances, axis=0)]


class FigureAnalyzer:
    """Finds figures by their colours; follows the protocol, and notes what it was asked."""

    def __init__(self):
        self.searched, self.analysed = [], []

    def find_people(self, image):
        self.searched.append(image.size)
        return self._find(labels_of(image))

    def __call__(self, image, *, person_box=None):
        self.analysed.append((image.size, person_box))
        labels = labels_of(image)
        boxes, scores = self._find(labels)
        if person_box is None:
            person_box = boxes[choose_person(boxes, scores, image.size)]
        middle = np.mean(np.reshape(person_box, (2, 2)), axis=0)
        inside = [box for box in boxes if (box[:2] <= middle).all() and (middle <= box[2:]).all()]
        left, top, right, bottom = inside[0]
        keypoints = np.zeros((25, 3), np.float32)
        for joint, (x, y) in JOINTS.items():
            keypoints[joint] = left + x * (right - left), top + y * (bottom - top), 0.9
        densepose = np.zeros_like(labels)
        densepose[int(top) : int(bottom), int(left) : int(right)] = 2
        return BodyAnalysis(labels, keypoints, densepose, boxes, scores)

    @staticmethod
    def _find(labels):
        close = cv2.morphologyEx((labels > 0).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((15, 1), np.uint8))
        close = np.maximum(close, cv2.dilate(close, np.ones((41, 1), np.uint8)) & (labels > 0))
        count, _, statistics, _ = cv2.connectedComponentsWithStats(cv2.dilate(close, np.ones((41, 1), np.uint8)))
        boxes = []
        for index in range(1, count):
            x, y, width, height = statistics[index, :4]
            rows = np.flatnonzero((labels[y : y + height, x : x + width] > 0).any(axis=1))
            if width * height > 100:
                boxes.append((x, y + rows[0], x + width, y + rows[-1] + 1))
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        return boxes, np.full(len(boxes), 0.9, np.float32)


def prepare(image, **options):
    analyzer = FigureAnalyzer()
    inputs = PersonPreprocessor(analyzer)(image, **options)
    return inputs, analyzer


def mask_in_photo(inputs):
    restored, (left, top) = inputs.frame.uncrop(inputs.frame_mask, resample=Image.Resampling.BILINEAR)
    mask = np.zeros(inputs.photo.size[::-1], bool)
    mask[top : top + restored.height, left : left + restored.width] = np.asarray(restored) >= 128
    return mask


def shrunk(mask, pixels):
    return cv2.erode(mask.astype(np.uint8), np.ones((2 * pixels + 1,) * 2)).astype(bool)
