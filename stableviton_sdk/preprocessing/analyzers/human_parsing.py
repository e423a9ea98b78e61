"""Human parsing: the two SCHP networks (LIP and ATR labels) through onnxruntime."""

from __future__ import annotations

import os
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...errors import IncompatibleCheckpoint, InvalidInput
from ..labels import CIHP
from .onnx_session import check_device, open_session, run_session
from .resampling import check_image, warp_to_bgr

if TYPE_CHECKING:
    import onnxruntime

    from .onnx_session import Device


LIP_JUMPSUIT = 10  # the one LIP label whose number means something else in CIHP


class ATR(IntEnum):
    """Labels of an ATR parse."""

    BACKGROUND = 0
    HAT = 1
    HAIR = 2
    GLASSES = 3
    UPPER_CLOTHES = 4
    SKIRT = 5
    TROUSERS = 6
    DRESS = 7
    BELT = 8
    LEFT_SHOE = 9
    RIGHT_SHOE = 10
    FACE = 11
    LEFT_LEG = 12
    RIGHT_LEG = 13
    LEFT_ARM = 14
    RIGHT_ARM = 15
    BAG = 16
    SCARF = 17


# Per channel in BGR order, which is the order the networks were trained with.
MEAN = np.array([0.406, 0.456, 0.485], np.float32)
STD = np.array([0.225, 0.224, 0.229], np.float32)
LIP_INPUT_SIZE = 473
ATR_INPUT_SIZE = 512
TILE = 2048  # pixels; bounds the memory of a large photo's logits
HEAD = (CIHP.HAT, CIHP.HAIR, CIHP.GLASSES, CIHP.FACE)


class HumanParser:
    """Labels every pixel of a photo with the garment or body part it shows.

    The networks open on first use.

    Args:
        lip_path (`str` or `os.PathLike`): `parsing_lip.onnx`.
        atr_path (`str` or `os.PathLike`, *optional*):
            `parsing_atr.onnx`. Needed for [`~HumanParser.atr`]; without it [`~HumanParser.parse`] finds no neck.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): Where the networks run.
    """

    def __init__(self, lip_path: str | os.PathLike, atr_path: str | os.PathLike | None = None, device: Device = "cpu"):
        self.lip_path = lip_path
        self.atr_path = atr_path
        self.device = check_device(device)
        self._lip_session: onnxruntime.InferenceSession | None = None
        self._atr_session: onnxruntime.InferenceSession | None = None

    def lip(self, image: Image.Image) -> np.ndarray:
        """Parse a photo into LIP labels: [`CIHP`]'s, except that 10 is a jumpsuit.

        Args:
            image (`PIL.Image.Image`): RGB, of any size.

        Returns:
            `np.ndarray`: uint8, (H, W), at the image's size.

        Raises:
            `InvalidInput`: if the image isn't a PIL image of mode RGB.
            `WeightsUnavailable`: if the network's file is missing or damaged.
            `IncompatibleCheckpoint`: if the file holds another network.
            `MissingDependency`: if onnxruntime can't be imported.
        """
        check_image(image)
        if self._lip_session is None:
            self._lip_session = _open(self.lip_path, self.device, "the LIP parsing network", LIP_INPUT_SIZE)
        return _parse(self._lip_session, image, LIP_INPUT_SIZE, len(CIHP))

    def atr(self, image: Image.Image) -> np.ndarray:
        """Parse a photo into [`ATR`] labels; arguments, result and errors are those of [`~HumanParser.lip`].

        Raises:
            `InvalidInput`: also if the parser was made without `atr_path`.
        """
        check_image(image)
        if self.atr_path is None:
            raise InvalidInput("this parser has no ATR network: make it with atr_path=<path of parsing_atr.onnx>.")
        if self._atr_session is None:
            self._atr_session = _open(self.atr_path, self.device, "the ATR parsing network", ATR_INPUT_SIZE)
        return _parse(self._atr_session, image, ATR_INPUT_SIZE, len(ATR))

    def parse(self, image: Image.Image) -> np.ndarray:
        """Parse a photo into [`CIHP`] labels, as the agnostic mask's rule reads them.

        LIP's labels are taken over. Its jumpsuits become dresses, since like them they cover both halves of the body.
        Neither network knows the neck: it is what ATR calls face and LIP doesn't, and becomes torso skin, if the
        parser has the ATR network. What LIP calls hat, hair or glasses stays so.

        Args:
            image (`PIL.Image.Image`): RGB, of any size.

        Returns:
            `np.ndarray`: uint8, (H, W), at the image's size.

        Raises:
            The errors of [`~HumanParser.lip`].
        """
        labels = self.lip(image)
        labels[labels == LIP_JUMPSUIT] = CIHP.DRESS
        if self.atr_path is not None:
            is_neck = self.atr(image) == ATR.FACE
            for part in HEAD:
                is_neck &= labels != part
            labels[is_neck] = CIHP.TORSO_SKIN
        return labels


def _open(path: str | os.PathLike, device: str, name: str, input_size: int) -> onnxruntime.InferenceSession:
    return open_session(path, device, name=name, input_shape=(1, 3, input_size, input_size), output_count=2)


def _parse(session: onnxruntime.InferenceSession, image: Image.Image, input_size: int, label_count: int) -> np.ndarray:
    """Photo to label map: SCHP's warp of the photo's square surroundings, fusion logits, and the warp back."""
    width, height = image.size
    # The first and last pixel of the longer side land on the centres of the input's first and last pixel.
    scale = (input_size - 1) / max(width - 1, height - 1, 1)
    offset = (
        (input_size - 1) / 2 - scale * (width - 1) / 2,
        (input_size - 1) / 2 - scale * (height - 1) / 2,
    )
    pixels = warp_to_bgr(image, scale, offset, (input_size, input_size))
    values = (pixels.astype(np.float32) / 255 - MEAN) / STD
    values = np.ascontiguousarray(values.transpose(2, 0, 1)[None])  # (1, 3, input_size, input_size)
    (logits,) = run_session(session, values, [1])  # the first output is the branch before edges were fused in
    if logits.ndim != 4 or logits.shape[:2] != (1, label_count):
        raise IncompatibleCheckpoint(
            f"the parsing network's second output has shape {logits.shape}, where (1, {label_count}, height, width) "
            "belongs: pass the .onnx file of the right label set."
        )
    return label_map(_upsample(logits[0], input_size), (scale, scale), offset, image.size)


def _upsample(logits: np.ndarray, size: int) -> np.ndarray:
    """Bilinear upsampling with aligned corners, (labels, h, w) -> (labels, size, size)."""
    rows, columns = (_interpolation(length, size) for length in logits.shape[1:])
    return rows @ logits.astype(np.float32, copy=False) @ columns.T


def _interpolation(length: int, size: int) -> np.ndarray:
    """Matrix (size, length) that interpolates `size` values linearly, the first and last of `length` included."""
    positions = np.arange(size) * ((length - 1) / (size - 1))
    return np.maximum(0.0, 1.0 - np.abs(positions[:, None] - np.arange(length))).astype(np.float32)


def label_map(
    logits: np.ndarray, scale: tuple[float, float], offset: tuple[float, float], size: tuple[int, int]
) -> np.ndarray:
    """Interpolate logits at every pixel of an image, and keep the best label.

    Args:
        logits (`np.ndarray`): float32, (labels, h, w); beyond their edges they go on as they end there.
        scale (`tuple[float, float]`), offset (`tuple[float, float]`):
            The image's pixel p lies at `scale * p + offset` of the logits, along x and y, in whole pixels' centres.
        size (`tuple[int, int]`): Width and height of the image.

    Returns:
        `np.ndarray`: uint8, (H, W).
    """
    import cv2

    width, height = size
    labels = np.zeros((height, width), np.uint8)
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            tile = labels[top : top + TILE, left : left + TILE]
            matrix = np.array(
                [[scale[0], 0.0, offset[0] + scale[0] * left], [0.0, scale[1], offset[1] + scale[1] * top]]
            )
            best = None
            for label, plane in enumerate(logits):
                # Repeating the edge keeps pixels between the outermost centres and the edge, and rounding, from zeros.
                warped = cv2.warpAffine(
                    plane,
                    matrix,
                    tile.shape[::-1],
                    flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                    borderMode=cv2.BORDER_REPLICATE,
                )
                if best is None:
                    best = warped
                    continue
                np.copyto(tile, np.uint8(label), where=warped > best)
                np.maximum(best, warped, out=best)
    return labels
