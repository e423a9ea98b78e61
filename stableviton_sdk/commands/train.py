"""`stableviton train`: one training run, from the start or from its last checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import InvalidInput

CONFIGS = Path(__file__).parents[1] / "training" / "configs"


def add_parser(commands: Any, **options: Any) -> None:
    names = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
    parser = commands.add_parser(
        "train",
        help="train or fine-tune",
        description="Train by a configuration, from the start or from the last checkpoint in its output folder: start "
        "the same command again to go on. Needs the extra: pip install 'stableviton-sdk[train]'. With several GPUs: "
        "accelerate launch -m stableviton_sdk train CONFIG.",
        **options,
    )
    parser.add_argument("config", metavar="CONFIG", help=f"YAML file, or one of the package's own: {names}")
    parser.add_argument("--output", metavar="FOLDER", help="instead of the configuration's output")
    parser.add_argument("--data-root", metavar="FOLDER", help="instead of the configuration's data.options.root")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    import dataclasses

    from ..training.config import load_config

    own = CONFIGS / f"{arguments.config}.yaml"
    path = own if own.is_file() else Path(arguments.config)
    if not path.is_file():
        known = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
        raise InvalidInput(f"there is no configuration {path}: pass a YAML file, or one of {known}.")
    config = load_config(path)
    if arguments.output:
        config = dataclasses.replace(config, output=arguments.output)
    if arguments.data_root:
        options = {**config.data.options, "root": arguments.data_root}
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, options=options))

    from ..training.trainer import train

    print(train(config, progress=not arguments.quiet))
