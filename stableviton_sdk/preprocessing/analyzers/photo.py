"""Body analysis of photos: human parsing, pose and DensePose networks together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...errors import NoPersonFound
from ...hub.download import sdk_cache
from ..boxes import choose_person, match_box
from .base import BodyAnalysis

if TYPE_CHECKING:
    from ..densepose import DensePoseEstimator
    from .dwpose import DWPoseEstimator
    from .human_parsing import HumanParser
    from .networks import LazyNetworks
    from .openpose import OpenPoseEstimator


# Sources of the networks' weights, by the names that PersonPreprocessor's `weights` takes.
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


class PhotoAnalyzer:
    """Analyses bodies in photos with parsing, pose and DensePose networks; implements [`BodyAnalyzer`].

    Args:
        networks (`LazyNetworks`): Cache that opens and keeps the networks; their weights have the names in `WEIGHTS`.
        pose (`str`, *optional*, defaults to `"openpose"`): Pose network, `"openpose"` or `"dwpose"`.
    """

    def __init__(self, networks: LazyNetworks, pose: str = "openpose"):
        self.networks = networks
        self.pose = pose

    def find_people(self, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        """People in a photo, best first.

        Args:
            image (`PIL.Image.Image`): Photo, RGB.

        Returns:
            `tuple[np.ndarray, np.ndarray]`:
                boxes, float32, (N, 4), left, top, right, bottom in pixels of the photo, and scores in [0, 1], (N,).
        """
        return self._densepose().find_people(image)

    def parse(self, image: Image.Image) -> np.ndarray:
        """CIHP label map of a photo, uint8, (H, W).

        Args:
            image (`PIL.Image.Image`): Photo, RGB.
        """
        return self._parser().parse(image)

    def __call__(
        self, image: Image.Image, *, person_box: tuple[float, float, float, float] | None = None
    ) -> BodyAnalysis:
        """Parse, joints and DensePose labels of one person.

        The parse covers everybody in the image; joints and DensePose labels are of the one person. If the pose
        network finds nobody there, all joints are missing.

        Args:
            image (`PIL.Image.Image`): Photo, RGB.
            person_box (`tuple[float, float, float, float]`, *optional*):
                Left, top, right, bottom of the person in pixels of the photo; by default the largest and most central
                person.

        Returns:
            `BodyAnalysis`

        Raises:
            `NoPersonFound`: if nobody was found and `person_box` is None.
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
        poses = self._pose_estimator()(image)
        pose_boxes = np.array([pose.box for pose in poses], dtype=np.float64).reshape(-1, 4)
        index = match_box(pose_boxes, np.array(person_box, dtype=np.float64))
        keypoints = np.zeros((25, 3), np.float32) if index is None else poses[index].keypoints
        return BodyAnalysis(self.parse(image), keypoints, labels, boxes, scores)

    def _parser(self) -> HumanParser:
        def open_network() -> HumanParser:
            from .human_parsing import HumanParser

            lip, atr = self.networks.required_weights("human_parsing_lip"), self.networks.weights("human_parsing_atr")
            return HumanParser(lip, atr, self.networks.device)

        return self.networks.get("parser", open_network)

    def _pose_estimator(self) -> OpenPoseEstimator | DWPoseEstimator:
        def open_openpose() -> OpenPoseEstimator:
            from .openpose import OpenPoseEstimator

            return OpenPoseEstimator(self.networks.required_weights("openpose"), self.networks.device)

        def open_dwpose() -> DWPoseEstimator:
            from .dwpose import DWPoseEstimator

            paths = [self.networks.required_weights(name) for name in ("dwpose_detector", "dwpose_pose")]
            return DWPoseEstimator(*paths, self.networks.device)

        return self.networks.get(self.pose, open_openpose if self.pose == "openpose" else open_dwpose)

    def _densepose(self) -> DensePoseEstimator:
        def open_network() -> DensePoseEstimator:
            from ..densepose import DensePoseEstimator, load_network

            path = converted_once(self.networks.required_weights("densepose"))
            return DensePoseEstimator(load_network(path).to(self.networks.device))

        return self.networks.get("densepose", open_network)


def converted_once(path: Path) -> Path:
    """Path of the safetensors form of a downloaded DensePose pickle, converted on first use; other paths unchanged.

    Files of the Hub's cache are named by their checksum; the converted form is kept under the same name.
    """
    from ..densepose import convert_checkpoint

    checksum = path.resolve().name
    if path.suffix != ".pkl" or not re.fullmatch(r"[0-9a-f]{64}", checksum):
        return path
    target = sdk_cache() / "densepose" / f"{checksum}.safetensors"
    if not target.is_file():
        convert_checkpoint(path, target)
    return target
