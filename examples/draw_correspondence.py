"""How a correspondence image looks, drawn for a rendered figure: no photo, no weights, no network needed.

    python examples/draw_correspondence.py --output correspondence.png

The true correspondence of the figure stands in for what a network's attention found; for a real try-on,
`pipe(..., output_attention=True).attention.to_image()` draws the same.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from stableviton_sdk import TryOnAttention, TryOnInputs
from stableviton_sdk.data.synthetic import render_pair
from stableviton_sdk.evaluation.correspondence.recorder import true_places
from stableviton_sdk.images import save_atomically
from stableviton_sdk.preprocessing.garment import prepare_garment

HEIGHT, WIDTH = 512, 384
CELLS = (64, 48)  # as the finest blocks have at this size
SHARP, SPREAD_OUT = 0.05, 0.4  # standard deviations of attention, of the garment's sides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("correspondence.png"))
    parser.add_argument("--seed", type=int, default=0, help="series of figures")
    parser.add_argument("--index", type=int, default=3, help="figure of the series")
    arguments = parser.parse_args()
    sample = render_pair(arguments.seed, arguments.index, size=(WIDTH, HEIGHT))
    inputs = TryOnInputs.from_maps(sample.person, mask=sample.mask, densepose=sample.densepose)
    garment = prepare_garment(Image.fromarray(sample.garment), size=(WIDTH, HEIGHT))
    places = true_places(sample.correspondence, sample.worn_mask, CELLS, seam=0.05 * HEIGHT)
    worn = np.isfinite(places).all(-1)
    x, y = garment.frame.from_photo(*np.moveaxis(places, -1, 0), (1, 1))
    found = np.stack([y + 0.5, x + 0.5, np.full(CELLS, SHARP)], axis=-1)  # in [0, 1] of the prepared garment
    record = np.where(worn[..., None], found, (0.5, 0.5, SPREAD_OUT)).astype(np.float16)
    attention = TryOnAttention({0: {0: record[None]}}, [inputs], [garment], [inputs.photo])
    save_atomically(attention.to_image(), arguments.output)
    print(arguments.output)


if __name__ == "__main__":
    main()
