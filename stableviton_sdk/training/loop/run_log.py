"""Metrics of a training: scalars as lines of JSON, and with images in TensorBoard where that is installed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ...files import write_text_atomically


class MetricsLog:
    """Appends to `metrics.jsonl`, and to TensorBoard's files beside it.

    Args:
        folder (`Path`): The training's folder.
        step (`int`, *optional*, defaults to 0): Steps taken so far; later lines, of a killed training, are dropped.
    """

    def __init__(self, folder: Path, step: int = 0):
        folder.mkdir(parents=True, exist_ok=True)
        self.path: Path = folder / "metrics.jsonl"
        kept = [line for line in read_metrics(self.path) if line["step"] <= step]
        write_text_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._board = None
        else:
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values after a step."""
        clean = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **clean}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def show(self, step: int, name: str, image: Image.Image) -> None:
        """Write an image of a step to TensorBoard, which keeps the last few of a name."""
        if self._board is not None:
            self._board.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def flush(self) -> None:
        """Write what TensorBoard holds back, so that a training that is killed later doesn't lose it."""
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """End TensorBoard's file."""
        if self._board is not None:
            self._board.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """All whole lines of a `metrics.jsonl`; a half-written last one is left out."""
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines
