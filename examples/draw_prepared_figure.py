"""What the network is given, drawn for a rendered figure: no photo, no weights, no network needed.

    python examples/draw_prepared_figure.py --output prepared.png

The figure stands in for a photo, and what is known about it for the analysis of one: `pipe.prepare(photo).to_image()`
draws the same sheet.
"""

import argparse
from pathlib import Path

import numpy as np

from stableviton_sdk import TryOnInputs
from stableviton_sdk.data.synthetic import render_pair
from stableviton_sdk.images import save_atomically
from stableviton_sdk.preprocessing.densepose import draw_labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("prepared.png"))
    parser.add_argument("--seed", type=int, default=0, help="series of figures")
    parser.add_argument("--index", type=int, default=3, help="figure of the series")
    arguments = parser.parse_args()
    height, width = 512, 384
    sample = render_pair(arguments.seed, arguments.index, size=(width, height))
    inputs = TryOnInputs.from_maps(
        sample.person,
        mask=sample.mask,
        densepose=draw_labels(sample.densepose_labels),
        parsing=sample.parsing,
        keypoints=(sample.keypoints / (width, height, 1)).astype(np.float32),
    )
    save_atomically(inputs.to_image(), arguments.output)
    print(arguments.output)


if __name__ == "__main__":
    main()
