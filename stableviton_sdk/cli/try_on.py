"""`stableviton try-on`: a person and a garment in, one image out."""

from __future__ import annotations

import argparse
import functools
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import GARMENT_PHOTOS, INIT_FROM
from ..errors import InvalidInput
from ..pipelines.places import DEFAULT_MODEL
from .arguments import (
    add_metadata,
    add_model,
    add_preparation,
    add_quality,
    check_outputs,
    given_preparation_options,
    parse_guidance,
    parse_seed,
    parse_share,
    parse_steps,
)
from .consent import Consent, missing_networks
from .device import choose_device, choose_dtype
from .loading import load_pipeline

if TYPE_CHECKING:
    from PIL import Image

ALL, PARSING = "", "human_parsing"
MAPS = ("mask", "agnostic", "densepose")
USAGE = """%(prog)s PERSON GARMENT --output FILE [options]
       %(prog)s --inputs FOLDER GARMENT --output FILE [options]"""
EXAMPLES = (
    "stableviton try-on person.jpg garment.jpg --output result.png",
    "stableviton try-on person.jpg garment.jpg --output result.png --model bundled --detail 1",
    "stableviton try-on --inputs prepared/ garment.jpg --output result.png --quality fast",
)


def add_parser(commands: Any, **options: Any) -> None:
    parser = commands.add_parser(
        "try-on",
        usage=USAGE,
        help="dress a person in a garment",
        description="Dress the person of one photo in the garment of another image. The result has the photo's "
        "size, and outside the mask its very pixels.",
        **options,
    )
    parser.add_argument("person", metavar="PERSON", help="photo of a person: a file or a URL")
    garment = parser.add_argument("garment", metavar="GARMENT", help="image of the garment: a file or a URL")
    garment.required = False  # with --inputs the only image is the garment
    parser.add_argument(
        "--output", metavar="FILE", required=True, help="image to write, .png or .jpg; an older one is replaced"
    )

    person = parser.add_argument_group("the person", "What isn't given is derived from the photo.")
    person.add_argument("--inputs", metavar="FOLDER", help="what `stableviton prepare` wrote, instead of a photo")
    person.add_argument("--mask", metavar="FILE", help="white = repaint, black = keep, of the whole photo")
    person.add_argument("--agnostic", metavar="FILE", help="the photo with the region to repaint in grey 128")
    person.add_argument("--densepose", metavar="FILE", help="DensePose image of the whole photo, parula on black")
    add_preparation(person)
    person.add_argument("--show-inputs", metavar="FILE", help="also write an image of all that the network was given")

    painting = parser.add_argument_group("painting")
    painting.add_argument(
        "--garment-photo",
        choices=GARMENT_PHOTOS,
        default="flat-lay",
        help="model: worn by a person, cut out of the photo",
    )
    add_quality(painting)
    painting.add_argument(
        "--steps", type=parse_steps, metavar="N", help="denoising steps; default: as many as the quality has"
    )
    painting.add_argument("--seed", type=parse_seed, metavar="N", help="of the noise; default: another one every time")
    painting.add_argument(
        "--guidance-scale",
        type=parse_guidance,
        default=1.0,
        metavar="X",
        help="above 1: nearer to the garment, twice the time",
    )
    painting.add_argument(
        "--init-from",
        choices=INIT_FROM,
        default="agnostic",
        help="what is noised to denoise from (%(default)s); person is the authors' way",
    )
    painting.add_argument(
        "--detail",
        type=parse_share,
        metavar="X",
        help="how much of the garment's own fine detail is carried into the result, from 0 to 1; default: the model's "
        "own, 0 for the authors'",
    )
    painting.add_argument(
        "--no-paste-back", action="store_true", help="keep all that the network painted, also outside the mask"
    )
    add_metadata(painting)

    add_model(
        parser.add_argument_group("model"),
        default=DEFAULT_MODEL,
        help="a converted folder, a released checkpoint file, a Hub repository (%(default)s), or bundled: the small "
        "preview that comes with the package",
    )
    parser.set_defaults(run=run, usage_error=parser.error)


def run(arguments: argparse.Namespace) -> None:
    _sort_images(arguments)
    needed = _networks_needed(arguments)
    if needed is None and given_preparation_options(arguments):
        arguments.usage_error(
            "--person-box, --pose, --mask-dilation and --zoom-to-person are for deriving the maps, and none is derived"
        )
    # Everything that can be refused is refused before the long work begins.
    sources = [arguments.person, arguments.garment, *(getattr(arguments, name) for name in MAPS)]
    if arguments.inputs is not None:
        sources += Path(arguments.inputs).glob("*")
    output, sheet = check_outputs(arguments, "show_inputs", sources)
    person, maps = _load_person(arguments)
    garment = _load_garment(arguments.garment)
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    device = choose_device(arguments.device)
    dtype = choose_dtype(arguments.dtype, device, arguments.model)

    import torch

    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same noise on every device

    networks = None
    if needed is not None:
        networks = functools.partial(missing_networks, pose=arguments.pose, wanted=needed)
    pipeline = load_pipeline(arguments.model, arguments.checkpoint, dtype, Consent(arguments.yes), networks)
    if needed == ALL:
        width, height = pipeline.default_size
        person = pipeline.preprocessor(
            person,
            category=arguments.category,
            aspect=(width, height),
            device=device,
            **given_preparation_options(arguments),
        )
        pipeline.preprocessor.unload()  # its networks and the large ones need not share the memory
    pipeline.to(device, silence_dtype_warnings=True)  # PyTorch does compute fp16 on CPUs
    pipeline.optimize()
    pipeline.set_progress_bar_config(disable=not sys.stderr.isatty())
    options = {
        "category": arguments.category,
        "garment_photo": arguments.garment_photo,
        "quality": arguments.quality,
        "num_inference_steps": arguments.steps,
        "guidance_scale": arguments.guidance_scale,
        "init_from": arguments.init_from,
        "paste_back": not arguments.no_paste_back,
        "detail": arguments.detail,
    }
    result = pipeline(person, garment, **maps, **options, generator=generator)

    from ..images import save_atomically
    from ..pipelines.identity import model_identity, result_settings
    from ..provenance import save_image

    if sheet is not None:
        save_atomically(result.inputs[0].to_image(), sheet)
    image = result.images[0]
    settings = None
    if arguments.metadata:
        settings = result_settings(pipeline, model_identity(pipeline, arguments.model), seed=seed, **options)
    save_image(image, output, settings, metadata=arguments.metadata)
    print(f"{output} ({image.width} x {image.height}, seed {seed})")


def _sort_images(arguments: argparse.Namespace) -> None:
    if arguments.inputs is not None:
        if arguments.garment is not None:
            arguments.usage_error("--inputs stands in for the photo: pass the garment only")
        arguments.person, arguments.garment = None, arguments.person
    elif arguments.garment is None:
        arguments.usage_error("the following arguments are required: GARMENT")


def _networks_needed(arguments: argparse.Namespace) -> str | None:
    """What the names of the preprocessor's networks that will run begin with; None if none will."""
    if arguments.inputs is None and (arguments.mask is None or arguments.densepose is None):
        return ALL
    return PARSING if arguments.garment_photo == "model" else None


def _load_person(arguments: argparse.Namespace) -> tuple[Any, dict[str, Image.Image]]:
    """The photo, or the prepared inputs, and the maps that are given."""
    from ..images import load_image, load_mask, load_photo
    from ..preprocessing.frame import same_aspect
    from ..preprocessing.inputs import TryOnInputs

    if arguments.inputs is not None:
        person = TryOnInputs.load(arguments.inputs)
        size = person.photo.size
    else:
        person = load_photo(arguments.person, name="PERSON")
        size = person.size
    maps = {}
    for name in MAPS:
        path = getattr(arguments, name)
        if path is None:
            continue
        load = load_mask if name == "mask" else load_image
        maps[name] = load(path, name=f"--{name}")
        if not same_aspect(maps[name].size, size):
            width, height = maps[name].size
            raise InvalidInput(
                f"--{name} is {width} x {height} for a photo of {size[0]} x {size[1]}: it must show the whole photo, "
                "in the photo's proportions."
            )
    return person, maps


def _load_garment(source: str) -> Image.Image:
    from ..images import load_image
    from ..preprocessing.garment import CANVAS

    return load_image(source, name="GARMENT", background=CANVAS, srgb=True)
