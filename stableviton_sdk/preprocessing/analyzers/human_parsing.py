"""Human parsing: the two SCHP networks (LIP and ATR labels) through onnxruntime."""

from __future__ import annotations

import os
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...errors import IncompatibleCheckpoint, InvalidInput
from ..labels import CIHP, strongest_labels
from ..resampling import check_image, interpolate, warp_to_bgr
from .onnx_session import open_session, run_session

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
LIP_INPUT_SIDE = 473
ATR_INPUT_SIDE = 512
HEAD = (CIHP.HAT, CIHP.HAIR, CIHP.GLASSES, CIHP.FACE)


class HumanParser:
    """Labels every pixel of a photo with the garment or body part it shows.

    Args:
        lip_path (`str` or `os.PathLike`): `parsing_lip.onnx`.
        atr_path (`str` or `os.PathLike`, *optional*):
            `parsing_atr.onnx`. Needed for [`~HumanParser.atr`]; without it [`~HumanParser.parse`] finds no neck.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): Device the networks run on.

    Raises:
        `InvalidInput`: if a path or the device is none.
        `WeightsUnavailable`: if a network's file is missing or damaged.
        `IncompatibleCheckpoint`: if a file holds another network.
        `MissingDependency`: if onnxruntime can't be imported.
    """

    def __init__(
        self, lip_path: str | os.PathLike[str], atr_path: str | os.PathLike[str] | None = None, device: Device = "cpu"
    ):
        self._lip = _open(lip_path, device, "the LIP parsing network", LIP_INPUT_SIDE)
        self._atr = None if atr_path is None else _open(atr_path, device, "the ATR parsing network", ATR_INPUT_SIDE)

    def lip(self, image: Image.Image) -> np.ndarray:
        """Label map of a photo in LIP labels: [`CIHP`]'s, except that 10 is a jumpsuit.

        Args:
            image (`PIL.Image.Image`): RGB, of any size.

        Returns:
            `np.ndarray`: uint8, (H, W), at the image's size.

        Raises:
            `InvalidInput`: if the image isn't a PIL image of mode RGB.
            `IncompatibleCheckpoint`: if the network's output has another shape.
        """
        check_image(image)
        return _parse(self._lip, image, LIP_INPUT_SIDE, len(CIHP))

    def atr(self, image: Image.Image) -> np.ndarray:
        """Label map of a photo in [`ATR`] labels.

        Args:
            image (`PIL.Image.Image`): RGB, of any size.

        Returns:
            `np.ndarray`: uint8, (H, W), at the image's size.

        Raises:
            `InvalidInput`: if the image isn't a PIL image of mode RGB, or the parser has no ATR network.
            `IncompatibleCheckpoint`: if the network's output has another shape.
        """
        check_image(image)
        if self._atr is None:
            raise InvalidInput("this parser has no ATR network: make it with atr_path=<path of parsing_atr.onnx>.")
        return _parse(self._atr, image, ATR_INPUT_SIDE, len(ATR))

    def parse(self, image: Image.Image) -> np.ndarray:
        """Label map of a photo in [`CIHP`] labels, as the agnostic mask's rule reads them.

        LIP's labels are kept, except for two: jumpsuits become dresses, since both cover the upper and the lower
        body; and what ATR calls face and LIP neither face, hair, hat nor glasses becomes torso skin, since neither
        network has a label for the neck. Without the ATR network there is no torso skin.

        Args:
            image (`PIL.Image.Image`): RGB, of any size.

        Returns:
            `np.ndarray`: uint8, (H, W), at the image's size.

        Raises:
            `InvalidInput`: if the image isn't a PIL image of mode RGB.
            `IncompatibleCheckpoint`: if a network's output has another shape.
        """
        labels = self.lip(image)
        labels[labels == LIP_JUMPSUIT] = CIHP.DRESS
        if self._atr is not None:
            is_neck = self.atr(image) == ATR.FACE
            for part in HEAD:
                is_neck &= labels != part
            labels[is_neck] = CIHP.TORSO_SKIN
        return labels


def _open(path: str | os.PathLike[str], device: str, name: str, input_side: int) -> onnxruntime.InferenceSession:
    return open_session(path, device, name=name, input_shape=(1, 3, input_side, input_side), output_count=2)


def _parse(session: onnxruntime.InferenceSession, image: Image.Image, input_side: int, label_count: int) -> np.ndarray:
    """Label map of a photo, through SCHP's warp to a square, the network's fusion logits, and the warp back."""
    width, height = image.size
    # The first and last pixel of the longer side land on the centres of the input's first and last pixel.
    scale = (input_side - 1) / max(width - 1, height - 1, 1)
    offset = (
        (input_side - 1) / 2 - scale * (width - 1) / 2,
        (input_side - 1) / 2 - scale * (height - 1) / 2,
    )
    pixels = warp_to_bgr(image, scale, offset, (input_side, input_side))
    values = (pixels.astype(np.float32) / 255 - MEAN) / STD
    values = np.ascontiguousarray(values.transpose(2, 0, 1)[None])  # (1, 3, input_side, input_side)
    (logits,) = run_session(session, values, [1])  # the first output is the branch before edges were fused in
    if logits.ndim != 4 or logits.shape[:2] != (1, label_count):
        raise IncompatibleCheckpoint(
            f"the parsing network's second output has shape {logits.shape}, where (1, {label_count}, height, width) "
            "belongs: pass the .onnx file of the right label set."
        )
    rows, columns = (np.linspace(0, length - 1, input_side) for length in logits.shape[2:])  # corners aligned
    logits = interpolate(logits[0].astype(np.float32, copy=False), columns, rows)
    return strongest_labels(logits, scale * np.arange(width) + offset[0], scale * np.arange(height) + offset[1])
