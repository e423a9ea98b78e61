"""An outfit: first the upper garment, then the lower one, with masks that are kept apart.

    python examples/outfit.py person.jpg shirt.jpg trousers.jpg --output outfit.png

The second call works on the first one's result. Its mask is the lower body's less what the first call has painted, so
the shirt stays as it is. The released weights and the bundled ones were trained on upper bodies only: the pipeline
warns, and the lower half is a guess.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stableviton_sdk import TryOnPipeline
from stableviton_sdk.images import save_atomically


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("person", help="photo of a person, from head to feet")
    parser.add_argument("upper", help="image of the upper garment")
    parser.add_argument("lower", help="image of the lower garment")
    parser.add_argument("--output", type=Path, default=Path("outfit.png"))
    parser.add_argument("--model", help="folder or Hub repository; by default the model in the package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    if arguments.model is None:
        pipe = TryOnPipeline.from_bundled()
    else:
        pipe = TryOnPipeline.from_pretrained(arguments.model, dtype="auto")
    pipe.to(arguments.device)

    upper, lower = (pipe.prepare(arguments.person, category=category) for category in ("upper", "lower"))
    first = pipe(upper, arguments.upper, generator=torch.Generator().manual_seed(arguments.seed)).images[0]
    photo, mask = first.convert("RGB"), apart(mask_of(lower), mask_of(upper))
    if mask.getbbox() is None:
        parser.error("the photo shows nothing below the upper garment: pass one that shows more of the person")
    second = pipe(
        photo,
        arguments.lower,
        mask=mask,
        category="lower",
        generator=torch.Generator().manual_seed(arguments.seed + 1),
    ).images[0]
    save_atomically(second, arguments.output)
    print(arguments.output)


def mask_of(inputs) -> Image.Image:
    """The mask of the whole photo: the frame's, put where the frame was cut out."""
    part, corner = inputs.frame.uncrop(inputs.frame_mask, resample=Image.Resampling.NEAREST)
    mask = Image.new("L", inputs.photo.size, 0)
    mask.paste(part.convert("L"), corner)
    return mask


def apart(mask: Image.Image, other: Image.Image) -> Image.Image:
    """What is white in a mask and black in another."""
    return Image.fromarray(np.where(np.asarray(other) > 127, 0, np.asarray(mask)).astype(np.uint8))


if __name__ == "__main__":
    main()
