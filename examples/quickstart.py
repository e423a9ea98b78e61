"""The first image: a photo of a person and an image of a garment in, the same photo with the garment on out.

    python examples/quickstart.py person.jpg garment.jpg --output result.png

Without --model it is the small model that comes with the package: offline, a preview. With `--model
rlawjdghek/StableVITON` it is the authors' (non-commercial; about 10 GB are downloaded the first time).
"""

import argparse
from pathlib import Path

import torch

from stableviton_sdk import TryOnPipeline
from stableviton_sdk.images import save_atomically


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("person", help="photo of a person")
    parser.add_argument("garment", help="image of a garment")
    parser.add_argument("--output", type=Path, default=Path("result.png"))
    parser.add_argument("--model", help="folder or Hub repository; by default the model in the package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    if arguments.model is None:
        pipe = TryOnPipeline.from_bundled()
    else:
        pipe = TryOnPipeline.from_pretrained(arguments.model, dtype="auto")
    pipe.to(arguments.device)
    generator = torch.Generator().manual_seed(arguments.seed)
    image = pipe(arguments.person, arguments.garment, generator=generator).images[0]
    save_atomically(image, arguments.output)
    print(arguments.output)


if __name__ == "__main__":
    main()
