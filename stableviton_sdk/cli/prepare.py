"""`stableviton prepare`: what the network must know of a photo, as a folder to look at, correct and use again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .arguments import add_consent, add_device, add_preparation, given_preparation_options
from .consent import Consent, missing_networks
from .device import choose_device

EXAMPLES = ("stableviton prepare person.jpg --output prepared/",)


def add_parser(commands: Any, **options: Any) -> None:
    parser = commands.add_parser(
        "prepare",
        help="derive mask, DensePose and the rest from a photo",
        description="Derive from a photo what try-on needs (the part of the photo, agnostic mask, DensePose, parse, "
        "joints) and save it to a folder. Look at contact_sheet.png in it, correct mask.png where it is wrong, and "
        "pass the folder to `stableviton try-on --inputs` with as many garments as you like.",
        **options,
    )
    parser.add_argument("photo", metavar="PHOTO", help="photo of a person: a file or a URL")
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        required=True,
        help="folder to write: new, empty, or an older one of this command, which is replaced",
    )
    add_preparation(parser)
    add_device(parser)
    add_consent(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from ..images import load_photo, save_atomically
    from ..preprocessing.storage import SHEET, check_folder

    folder = Path(arguments.output)
    check_folder(folder)
    photo = load_photo(arguments.photo, name="PHOTO")
    device = choose_device(arguments.device)

    from ..preprocessing.preprocessor import PersonPreprocessor

    preprocessor = PersonPreprocessor()
    Consent(arguments.yes).ask(missing_networks(preprocessor, arguments.pose))
    inputs = preprocessor(photo, category=arguments.category, device=device, **given_preparation_options(arguments))
    inputs.save(folder)
    save_atomically(inputs.to_image(), folder / SHEET)
    print(f"{folder} (look at {folder / SHEET})")
