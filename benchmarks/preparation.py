"""Seconds of a photo's preparation by stage: DensePose and OpenPose at full size with random weights.

Random weights find nobody, so what is timed of OpenPose ends with the search for joints in its maps, and DensePose
reads the body's surface in a box that is given.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stableviton_sdk.preprocessing.analyzers.openpose import OpenPoseEstimator
from stableviton_sdk.preprocessing.densepose.network import DensePoseNetwork

from .full_size import interleaved, medians, write_report

PHOTO = (768, 1024)  # width and height
SHORT_SIDE = 800  # of what DensePose sees


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", default="benchmarks/results/preparation.json")
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    photo = Image.fromarray(generator.integers(0, 256, (8, 6, 3), dtype=np.uint8)).resize(PHOTO)
    height = SHORT_SIDE * PHOTO[1] // PHOTO[0]
    pixels = torch.rand(3, height, SHORT_SIDE, generator=torch.Generator().manual_seed(0)) * 255
    box = torch.tensor([[150.0, 50.0, 650.0, height - 50.0]])
    densepose, openpose = DensePoseNetwork(), make_openpose()
    features = densepose.extract_features(pixels)
    works = {
        "DensePose: features": lambda: densepose.extract_features(pixels),
        "DensePose: boxes": lambda: densepose.detect(features, (height, SHORT_SIDE)),
        "DensePose: surface": lambda: densepose.read_surface(densepose.decode(features), box),
        "OpenPose": lambda: openpose(photo),
    }
    interleaved(works, 1, lambda line: print("warming up,", line, flush=True))
    middle = medians(interleaved(works, arguments.rounds, lambda line: print(line, flush=True)))
    together = sum(middle.values())
    print(f"together {together:.2f} s")
    write_report(arguments.output, {"photo": PHOTO, "medians": middle, "together": together})


def make_openpose() -> OpenPoseEstimator:
    """OpenPose's body network with random weights, by way of a file as it is released."""
    from controlnet_aux.open_pose.model import bodypose_model

    network = bodypose_model()
    state = {key.partition(".")[2]: tensor * 0.5 for key, tensor in network.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "body_pose_model.pth")
        torch.save(state, path)
        return OpenPoseEstimator(path)


if __name__ == "__main__":
    main()
