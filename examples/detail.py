"""What detail transfer does, before and after, on a rendered figure: offline, with the bundled model.

    python examples/detail.py --output detail.png

The network paints at 256 x 192. With `detail` the garment's own fine detail is carried along the attention into the
result, at the photo's own resolution: from left to right the garment, `detail=0`, `detail=1`.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stableviton_sdk import TryOnPipeline
from stableviton_sdk.data.synthetic import render_pair
from stableviton_sdk.images import save_atomically


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("detail.png"))
    parser.add_argument("--seed", type=int, default=91, help="series of figures")
    parser.add_argument("--index", type=int, default=2, help="figure of the series")
    parser.add_argument("--height", type=int, default=1024, help="of the photo, in pixels")
    arguments = parser.parse_args()
    sample = render_pair(arguments.seed, arguments.index, size=(arguments.height * 3 // 4, arguments.height))
    pipe = TryOnPipeline.from_bundled()
    person, garment = Image.fromarray(sample.person), Image.fromarray(sample.garment_other)
    inputs = pipe.prepare(person)  # once: mask and DensePose are the same for both
    images = []
    for detail in (0.0, 1.0):
        generator = torch.Generator().manual_seed(0)
        images.append(pipe(inputs, garment, generator=generator, detail=detail).images[0])
    sheet = np.concatenate([np.asarray(image) for image in (garment, *images)], axis=1)
    save_atomically(Image.fromarray(sheet), arguments.output)
    print(arguments.output)


if __name__ == "__main__":
    main()
