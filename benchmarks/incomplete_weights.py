"""Whether a pipeline's folder is refused by name whatever tensor it lacks: every one is removed in turn.

    python benchmarks/incomplete_weights.py [--model FOLDER] [--direct]

By default of the bundled model. --direct loads the changed network by its own class, not by the pipeline.
Prints how many tensors were tried, and each that wasn't refused by its name; the exit code is 1 if there is one.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from diffusers import AutoencoderKL
from diffusers.utils import logging
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from stableviton_sdk import IncompatibleCheckpoint, TryOnPipeline
from stableviton_sdk.models.garment_encoder import GarmentEncoder
from stableviton_sdk.models.patch_autoencoder import PatchAutoencoder
from stableviton_sdk.models.spatial_encoder import SpatialEncoder
from stableviton_sdk.models.unet import TryOnUNet
from stableviton_sdk.pipelines.loading import BUNDLED

CLASSES = {
    entry.__name__: entry for entry in (AutoencoderKL, PatchAutoencoder, GarmentEncoder, SpatialEncoder, TryOnUNet)
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=BUNDLED, metavar="FOLDER", help="a saved pipeline")
    parser.add_argument("--direct", action="store_true", help="load the network by its own class")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tried, passed = 0, []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(arguments.model, Path(place) / "model"))
        for path in sorted(folder.glob("*/*.safetensors")):
            tensors = load_file(path)
            for name in tqdm(tensors, desc=path.parent.name):
                rest = {key: value for key, value in tensors.items() if key != name}
                save_file(rest, path, metadata={"format": "pt"})
                tried += 1
                problem = refusal(folder, path.parent, arguments.direct)
                owner = path.parent.name
                if f"{name!r}" not in problem or owner not in problem:
                    passed.append(f"{owner} without {name}: {problem}")
            save_file(tensors, path, metadata={"format": "pt"})
    print(f"{tried} tensors removed one at a time, {tried - len(passed)} refused by name")
    print("\n".join(passed))
    return bool(passed)


def refusal(folder: Path, component: Path, direct: bool) -> str:
    """What loading says; "loaded" if it says nothing."""
    try:
        if direct:
            class_name = TryOnPipeline.load_config(folder)[component.name][1]
            CLASSES[class_name].from_pretrained(component)
        else:
            TryOnPipeline.from_pretrained(folder)
    except IncompatibleCheckpoint as error:
        return str(error)
    return "loaded"


if __name__ == "__main__":
    sys.exit(main())
