"""Prepare a person once, look at it, and try any number of garments on.

    python examples/prepare_once_try_many.py person.jpg garments/*.jpg --prepared person/ --output results/

The first run derives mask, DensePose and the rest from the photo and saves them to the folder of --prepared. Look at
its images; correct mask.png in a paint program if it is wrong. Later runs load the folder and prepare nothing.
"""

import argparse
from pathlib import Path

import torch

from stableviton_sdk import TryOnInputs, TryOnPipeline
from stableviton_sdk.images import save_atomically


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("person", help="photo of a person")
    parser.add_argument("garments", nargs="+", type=Path, help="images of garments")
    parser.add_argument("--prepared", type=Path, required=True, help="folder of the prepared person")
    parser.add_argument("--output", type=Path, default=Path("results"), help="folder for the results")
    parser.add_argument("--model", default="rlawjdghek/StableVITON", help="folder or Hub repository")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    if len({garment.stem for garment in arguments.garments}) < len(arguments.garments):
        parser.error("two garments have one name, and so would have their results: rename one")

    dtype = torch.float16 if arguments.device.startswith("cuda") else torch.float32
    pipe = TryOnPipeline.from_pretrained(arguments.model, dtype=dtype).to(arguments.device)
    if arguments.prepared.is_dir():
        inputs = TryOnInputs.load(arguments.prepared)
    else:
        inputs = pipe.prepare(arguments.person)
        inputs.save(arguments.prepared)
    for garment in arguments.garments:  # one after the other: a list in one call is quicker, and needs more memory
        generator = torch.Generator().manual_seed(arguments.seed)
        result = pipe(inputs, garment, num_inference_steps=arguments.steps, generator=generator)
        save_atomically(result.images[0], arguments.output / f"{garment.stem}.png")


if __name__ == "__main__":
    main()
