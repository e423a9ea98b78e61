"""Where in the garment did a pixel come from? Print it, and draw lines from the result to the garment.

    python examples/attention_source.py person.jpg mask.png densepose.png garment.jpg \
        --model path-or-repository --pixel 300,400 --pixel 420,510 --output sources.png

Pixels are x,y of the photo. Without --pixel, twelve spots of the mask are taken. The lines' opacity is the certainty.
Beside sources.png, sources.correspondence.png shows colours on the garment and where they landed on the body, and
sources.warp.png the garment as the attention warps it.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from stableviton_sdk import TryOnPipeline
from stableviton_sdk.images import load_mask, save_atomically


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("person", help="photo of a person")
    parser.add_argument("mask", help="white = repaint, black = keep")
    parser.add_argument("densepose", help="DensePose image, parula colours on black")
    parser.add_argument("garment", help="image of the garment")
    parser.add_argument("--model", required=True, help="folder or Hub repository")
    parser.add_argument("--pixel", action="append", type=parse_pixel, metavar="X,Y", help="may be repeated")
    parser.add_argument("--output", default="sources.png", type=Path)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()

    dtype = torch.float16 if arguments.device.startswith("cuda") else torch.float32
    pipe = TryOnPipeline.from_pretrained(arguments.model, dtype=dtype).to(arguments.device)
    out = pipe(
        arguments.person,
        arguments.garment,
        mask=arguments.mask,
        densepose=arguments.densepose,
        num_inference_steps=arguments.steps,
        generator=torch.Generator().manual_seed(arguments.seed),
        output_attention=True,
    )
    result, garment = out.images[0], out.attention.garments[0].original
    pixels = arguments.pixel or spots(load_mask(arguments.mask).resize(result.size, Image.Resampling.NEAREST))
    sources = [out.attention.source_of(x, y) for x, y in pixels]
    for (x, y), source in zip(pixels, sources, strict=True):
        print(f"({x}, {y}) came from ({source.x:.0f}, {source.y:.0f}), certainty {source.certainty:.2f}")
    save_atomically(draw(result, garment, pixels, sources), arguments.output)
    save_atomically(out.attention.to_image(), arguments.output.with_suffix(".correspondence.png"))
    save_atomically(out.attention.warp(), arguments.output.with_suffix(".warp.png"))


def parse_pixel(text: str) -> tuple[int, int]:
    x, y = text.split(",")
    return int(x), int(y)


def spots(mask: Image.Image, count: int = 12) -> list[tuple[int, int]]:
    """Pixels spread over the white part of a mask, from top to bottom."""
    rows, columns = np.nonzero(np.asarray(mask))
    chosen = np.linspace(0, len(rows) - 1, count + 2)[1:-1].astype(int)
    return [(int(columns[index]), int(rows[index])) for index in chosen]


def draw(result: Image.Image, garment: Image.Image, pixels, sources) -> Image.Image:
    """The result and the garment side by side, and a line for every pixel."""
    scale = result.height / garment.height
    sheet = Image.new("RGB", (result.width + round(garment.width * scale), result.height), "white")
    sheet.paste(result, (0, 0))
    sheet.paste(garment.resize((sheet.width - result.width, result.height)), (result.width, 0))
    pencil = ImageDraw.Draw(sheet, "RGBA")
    width = max(2, result.height // 300)
    for (x, y), source in zip(pixels, sources, strict=True):
        end = (result.width + source.x * scale, source.y * scale)
        pencil.line([(x, y), end], fill=(255, 60, 0, 60 + round(195 * source.certainty)), width=width)
        for centre in ((x, y), end):
            pencil.circle(centre, 2 * width, fill=(255, 60, 0), outline=(255, 255, 255))
    return sheet


if __name__ == "__main__":
    main()
