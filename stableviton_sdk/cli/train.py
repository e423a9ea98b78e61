"""`stableviton train`: training runs, from the start or from their last checkpoints."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import InvalidInput
from ..training import CONFIGS

EXAMPLES = (
    "stableviton train viton-hd-base --data-root VITON-HD",
    "stableviton train mine.yaml",
)


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
    parser.add_argument(
        "config", metavar="CONFIG", nargs="+", help=f"YAML files, one run after another, or the package's own: {names}"
    )
    parser.add_argument("--output", metavar="FOLDER", help="instead of the configuration's output")
    parser.add_argument("--data-root", metavar="FOLDER", help="instead of the configuration's data.options.root")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from ..training.tasks import read_task

    if arguments.output and len(arguments.config) > 1:
        raise InvalidInput("--output is for one configuration: leave it out, each of them names its own.")
    tasks = [read_task(path) for path in arguments.config]  # all are checked before the first one runs
    if arguments.output:
        tasks = [task._replace(config=task.config.replace(output=arguments.output)) for task in tasks]
    if arguments.data_root:
        tasks = [task._replace(config=_with_data_root(task, arguments.data_root)) for task in tasks]
    for task in tasks:
        print(task.run(progress=not arguments.quiet), flush=True)


def _with_data_root(task: Any, root: str) -> Any:
    if task.name != "try-on":
        raise InvalidInput(f"--data-root is for try-on data, the task {task.name!r} renders its own: leave it out.")
    data = task.config.data
    return task.config.replace(data=data.replace(options={**data.options, "root": root}))
