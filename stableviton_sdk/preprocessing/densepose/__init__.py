"""DensePose without detectron2: the network in plain PyTorch, the released weights, labels and drawings."""

from .estimator import DensePoseAnalysis, DensePoseEstimator, DensePoseMaps
from .network import DensePoseNetwork, DensePoseOutput
from .render import PARULA, draw_labels, labels_from_image, render_labels, render_uv
from .weights import convert_checkpoint

__all__ = [
    "DensePoseAnalysis",
    "DensePoseEstimator",
    "DensePoseMaps",
    "DensePoseNetwork",
    "DensePoseOutput",
    "PARULA",
    "convert_checkpoint",
    "draw_labels",
    "labels_from_image",
    "render_labels",
    "render_uv",
]
