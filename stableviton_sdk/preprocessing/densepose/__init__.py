"""DensePose without detectron2: the network in plain PyTorch, the released weights, labels and images."""

from .estimator import DensePoseAnalysis, DensePoseEstimator
from .network import DensePoseNetwork, DensePoseOutput
from .render import draw_labels, labels_from_image, render_labels
from .weights import convert_checkpoint, load_network

__all__ = [
    "DensePoseAnalysis",
    "DensePoseEstimator",
    "DensePoseNetwork",
    "DensePoseOutput",
    "convert_checkpoint",
    "draw_labels",
    "labels_from_image",
    "load_network",
    "render_labels",
]
