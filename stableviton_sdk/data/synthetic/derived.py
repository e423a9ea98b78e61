"""Maps of a rendered figure as a body network sees it, instead of the true ones: what a pipeline will meet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ...errors import NoPersonFound
from ...images import resize_mask

if TYPE_CHECKING:
    from ...preprocessing.preprocessor import PersonPreprocessor

BUNDLED = Path(__file__).parents[2] / "bundled" / "preprocessor"


class DerivedMaps:
    """Derives the maps of figures with a preprocessor.

    Args:
        folder (`str` or `Path`, *optional*): Folder of the preprocessor; by default the bundled one.
    """

    def __init__(self, folder: str | Path | None = None):
        self.folder: Path = Path(folder or BUNDLED)
        self._preprocessor: PersonPreprocessor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_preprocessor": None}  # a process that reads data opens the network itself

    def __call__(self, photo: np.ndarray) -> dict[str, np.ndarray] | None:
        """Derive the maps of one photo, uint8 RGB, (H, W, 3), in the proportions 4:3.

        Returns:
            `dict[str, np.ndarray]`: `mask`, bool, (H, W); `agnostic` and `densepose`, uint8 RGB, (H, W, 3); or None
                where nobody was found.
        """
        from ...preprocessing.inputs import derive_agnostic
        from ...preprocessing.preprocessor import PersonPreprocessor

        if self._preprocessor is None:
            self._preprocessor = PersonPreprocessor.from_pretrained(self.folder)
        image = Image.fromarray(photo)
        try:
            inputs = self._preprocessor(image)
        except NoPersonFound:
            return None
        return {
            "mask": np.asarray(resize_mask(inputs.frame_mask, image.size)) >= 128,
            "agnostic": np.asarray(derive_agnostic(image, inputs.frame_mask, image.size)),
            "densepose": np.asarray(inputs.frame_densepose.resize(image.size, Image.Resampling.NEAREST)),
        }
