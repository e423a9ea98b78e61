"""Body analysis of photos: human parsing, pose and DensePose networks together."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ...errors import InvalidInput, NoPersonFound
from ...hub.download import sdk_cache
from ..boxes import find_at
from .base import BodyAnalysis, choose_person

if TYPE_CHECKING:
    from ..densepose import DensePoseEstimator
    from .human_parsing import HumanParser
    from .openpose import Pose

POSE_METHODS = ("openpose", "dwpose")

# Where the networks' weights are, by the names that PersonPreprocessor's `weights` takes.
WEIGHTS = {
    "human_parsing_lip": {
        "repo_id": "rlawjdghek/StableVITON",
        "filename": "checkpoints/humanparsing/parsing_lip.onnx",
        "repo_type": "space",
    },
    "human_parsing_atr": {
        "repo_id": "rlawjdghek/StableVITON",
        "filename": "checkpoints/humanparsing/parsing_atr.onnx",
        "repo_type": "space",
    },
    "openpose": {"repo_id": "lllyasviel/ControlNet", "filename": "annotator/ckpts/body_pose_model.pth"},
    "dwpose_detector": {"repo_id": "yzd-v/DWPose", "filename": "yolox_l.onnx"},
    "dwpose_pose": {"repo_id": "yzd-v/DWPose", "filename": "dw-ll_ucoco_384.onnx"},
    "densepose": {"repo_id": "yisol/IDM-VTON", "filename": "densepose/model_final_162be9.pkl"},
}


class Lazy:
    """Makes something when it is first asked for, once, whichever thread asks."""

    def __init__(self, make: Callable[[], Any]):
        self._make = make
        self._lock = threading.Lock()
        self._made: Any = None

    def __call__(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made


class PhotoBodyAnalyzer:
    """Analyses bodies in photos with three networks; follows [`BodyAnalyzer`].

    Args:
        parser (`Callable`): Returns the [`HumanParser`]. Called when it is needed.
        pose (`Callable`): Returns the [`OpenPoseEstimator`] or [`DWPoseEstimator`].
        densepose (`Callable`): Returns the [`DensePoseEstimator`].
    """

    def __init__(
        self,
        parser: Callable[[], HumanParser],
        pose: Callable[[], Callable[[Image.Image], list[Pose]]],
        densepose: Callable[[], DensePoseEstimator],
    ):
        self._parser = parser
        self._pose = pose
        self._densepose = densepose

    def find_people(self, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        """People in a photo, best first: boxes (N, 4) in its pixels, and scores (N,)."""
        return self._densepose().find_people(image)

    def parse(self, image: Image.Image) -> np.ndarray:
        """CIHP label map of a photo, uint8, (H, W)."""
        return self._parser().parse(image)

    def __call__(
        self, image: Image.Image, *, person_box: tuple[float, float, float, float] | None = None
    ) -> BodyAnalysis:
        """Analyse the person at `person_box`, or the largest and most central one.

        The parse is of everybody in the image; joints and DensePose labels are the person's. Where the pose network
        sees nobody at that place, all joints are missing.

        Raises:
            `NoPersonFound`: if nobody was found and no box was given.
        """
        surface = self._densepose().analyse(image)
        boxes, scores = surface.boxes, surface.scores
        if person_box is None:
            if len(boxes) == 0:
                raise NoPersonFound(
                    f"nobody was found in the photo (best score {surface.best_score:.2f}, needed "
                    f"{surface.score_threshold:.2f}): pass one that shows more of the person, or a person_box."
                )
            person_box = tuple(boxes[choose_person(boxes, scores, image.size)].tolist())
        labels = surface.labels(person_box)
        del surface  # its features are large, and three more networks have to run
        poses = self._pose()(image)
        pose_boxes = np.array([pose.box for pose in poses], dtype=np.float64).reshape(-1, 4)
        index = find_at(pose_boxes, np.array(person_box, dtype=np.float64))
        keypoints = np.zeros((25, 3), np.float32) if index is None else poses[index].keypoints
        return BodyAnalysis(self.parse(image), keypoints, labels, boxes, scores)


def make_analyzer(
    weights: Callable[[str], Path | None],
    share: Callable[[str, Callable[[], Any]], Lazy],
    *,
    device: str,
    pose: str,
) -> PhotoBodyAnalyzer:
    """Make the analyzer out of weights files.

    Args:
        weights (`Callable`): Path of the weights that go by one of the names in `WEIGHTS`; None if they were declined.
        share (`Callable`): Keeps what it is given to make under a name, for the next analyzer on the same device.
        device (`str`): Where the networks run.
        pose (`str`): `"openpose"` or `"dwpose"`.
    """

    def parser() -> HumanParser:
        from .human_parsing import HumanParser

        return HumanParser(_needed(weights, "human_parsing_lip"), weights("human_parsing_atr"), device)

    def openpose() -> Callable[[Image.Image], list[Pose]]:
        from .openpose import OpenPoseEstimator

        return OpenPoseEstimator(_needed(weights, "openpose"), device)

    def dwpose() -> Callable[[Image.Image], list[Pose]]:
        from .dwpose import DWPoseEstimator

        return DWPoseEstimator(_needed(weights, "dwpose_detector"), _needed(weights, "dwpose_pose"), device)

    def densepose() -> DensePoseEstimator:
        from ..densepose import DensePoseEstimator, DensePoseNetwork

        path = converted_once(_needed(weights, "densepose"))
        return DensePoseEstimator(DensePoseNetwork.from_checkpoint(path).to(device))

    return PhotoBodyAnalyzer(
        share("parser", parser),
        share(pose, {"openpose": openpose, "dwpose": dwpose}[pose]),
        share("densepose", densepose),
    )


def converted_once(path: Path) -> Path:
    """The safetensors form of a downloaded DensePose pickle, made on first use; other files are left as they are.

    Files of the Hub's cache are known by their checksum, which their converted form is kept under.
    """
    from ..densepose import convert_checkpoint

    checksum = path.resolve().name
    if path.suffix != ".pkl" or not re.fullmatch(r"[0-9a-f]{64}", checksum):
        return path
    target = sdk_cache() / "densepose" / f"{checksum}.safetensors"
    if not target.is_file():
        convert_checkpoint(path, target)
    return target


def _needed(weights: Callable[[str], Path | None], name: str) -> Path:
    path = weights(name)
    if path is None:
        raise InvalidInput(f"the weights {name!r} were declined, but are needed here: pass their path in `weights`.")
    return path
