"""`stableviton demo`: the first image, offline, with the small model that comes with the package."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .arguments import add_device, add_metadata, add_quality, check_outputs, parse_seed, parse_share
from .device import choose_device
from .messages import progress_bars_only_on_tty

SAMPLES = Path(__file__).parents[1] / "bundled" / "samples"
OUTPUT = "demo.png"
EXAMPLES = (
    "stableviton demo --output result.png --sheet sheet.png",
    "stableviton demo --person person.jpg --garment garment.jpg --output result.png",
)


def add_parser(commands: Any, **options: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="a preview with the small bundled model, offline",
        description="Dress a person in an upper garment with the small model that comes with the package: a preview "
        "that works anywhere, without a download or a GPU. For quality there are the authors' weights: "
        "`stableviton try-on`.",
        **options,
    )
    parser.add_argument("--person", metavar="FILE", help="photo of a person who faces the camera; default: a sample")
    parser.add_argument("--garment", metavar="FILE", help="image of a garment, laid flat; default: a sample")
    parser.add_argument("--output", metavar="FILE", default=OUTPUT, help="image to write (%(default)s)")
    parser.add_argument(
        "--sheet",
        metavar="FILE",
        help="also write person, garment, result and where the garment's pixels went, side by side",
    )
    parser.add_argument("--seed", type=parse_seed, default=0, metavar="N", help="of the noise (%(default)s)")
    add_quality(parser)
    parser.add_argument(
        "--detail",
        type=parse_share,
        metavar="X",
        help="how much of the garment's own fine detail is carried into the result, from 0 to 1; default: the model's",
    )
    add_metadata(parser)
    add_device(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from ..grids import side_by_side
    from ..images import load_image, load_photo, save_atomically
    from ..preprocessing.garment import CANVAS

    sources = arguments.person or SAMPLES / "person_1.png", arguments.garment or SAMPLES / "garment_1.png"
    output, sheet = check_outputs(arguments, "sheet", sources)
    person = load_photo(sources[0], name="--person")
    garment = load_image(sources[1], name="--garment", background=CANVAS, srgb=True)
    device = choose_device(arguments.device)

    import torch

    from ..pipelines.identity import model_identity, result_settings
    from ..pipelines.pipeline_tryon import TryOnPipeline
    from ..provenance import save_image

    with progress_bars_only_on_tty():
        pipeline = TryOnPipeline.from_bundled().to(device)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(arguments.seed)
    result = pipeline(
        person,
        garment,
        quality=arguments.quality,
        generator=generator,
        detail=arguments.detail,
        output_attention=sheet is not None,
    )
    image = result.images[0]
    settings = result_settings(
        pipeline,
        model_identity(pipeline),
        seed=arguments.seed,
        quality=arguments.quality,
        num_inference_steps=None,
        detail=arguments.detail,
    )
    save_image(image, output, settings, metadata=arguments.metadata)
    if sheet is not None:
        correspondence = result.attention.to_image(height=image.height)
        save_atomically(side_by_side([person, garment, image, correspondence]), sheet, quality=95)
    written = " and ".join(str(path) for path in (output, sheet) if path is not None)
    print(f"{written} ({image.width} x {image.height}, the bundled model)")
