"""Try a garment on with your own mask and DensePose image: nothing is derived, no preprocessing model is needed.

    python examples/try_on_with_maps.py person.jpg mask.png densepose.png garment.jpg \
        --model path-or-repository --output result.png

Mask and DensePose image show the whole photo, at any resolution. The mask is white where the person is repainted.
Beside result.png, result.side-by-side.png shows photo, mask, DensePose image, garment and result.
"""

import argparse
from pathlib import Path

import torch

from stableviton_sdk import TryOnPipeline
from stableviton_sdk.grids import side_by_side
from stableviton_sdk.images import load_image, load_mask, load_photo, save_atomically


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("person", help="photo of a person")
    parser.add_argument("mask", help="white = repaint, black = keep")
    parser.add_argument("densepose", help="DensePose image, parula colours on black")
    parser.add_argument("garment", help="image of the garment")
    parser.add_argument("--model", required=True, help="folder or Hub repository")
    parser.add_argument("--output", default="result.png", type=Path)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()

    dtype = torch.float16 if arguments.device.startswith("cuda") else torch.float32
    pipe = TryOnPipeline.from_pretrained(arguments.model, dtype=dtype).to(arguments.device)
    photo, mask = load_photo(arguments.person), load_mask(arguments.mask)
    densepose, garment = load_image(arguments.densepose), load_image(arguments.garment)
    result = pipe(
        photo,
        garment,
        mask=mask,
        densepose=densepose,
        num_inference_steps=arguments.steps,
        generator=torch.Generator().manual_seed(arguments.seed),
    ).images[0]
    save_atomically(result, arguments.output)
    save_atomically(
        side_by_side([photo, mask, densepose, garment, result], height=512),
        arguments.output.with_suffix(".side-by-side.png"),
    )


if __name__ == "__main__":
    main()
