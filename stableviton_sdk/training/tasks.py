"""Trainings by the name that a configuration file gives under `task`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InvalidInput
from . import CONFIGS
from .config import read_yaml

DEFAULT = "try-on"
# The module and the class of the configuration, the module and the function that trains by it.
TASKS = {
    "try-on": ("config", "TrainingConfig", "tryon.trainer", "train"),
    "bundle": ("bundled.assemble", "BundleConfig", "bundled.assemble", "make_bundle"),
    "autoencoder": ("bundled.autoencoder", "AutoencoderConfig", "bundled.autoencoder", "train_autoencoder"),
    "decoder": ("bundled.decoder", "DecoderConfig", "bundled.decoder", "train_decoder"),
    "coordinates": ("bundled.coordinates", "CoordinatesConfig", "bundled.coordinates", "train_coordinates"),
    "body": ("bundled.body_training", "BodyConfig", "bundled.body_training", "train_body"),
}


class Task(NamedTuple):
    """A checked configuration, and the name of its training."""

    name: str
    config: Any

    def run(self, *, progress: bool = True) -> Path:
        """Train, from the start or from the last checkpoint in the configuration's output folder.

        Returns:
            `Path`: the folder that was made.
        """
        train: Callable[..., Path] = _load(*TASKS[self.name][2:])
        return train(self.config, progress=progress)


def read_task(path: str | os.PathLike[str]) -> Task:
    """The training that a configuration file describes.

    Args:
        path (`str` or `os.PathLike`): A YAML file, or the bare name of one of the package's own.

    Raises:
        `InvalidInput`: if there is no such file, or naming everything that is wrong with it.
    """
    content = read_yaml(find_config(path))
    name = DEFAULT
    if isinstance(content, Mapping):
        content = dict(content)
        name = content.pop("task", DEFAULT)
    if not isinstance(name, str) or name not in TASKS:
        close = difflib.get_close_matches(str(name), TASKS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"pass one of {', '.join(map(repr, TASKS))}."
        raise InvalidInput(f"{os.fspath(path)}: task is {name!r}: {hint}")
    return Task(name, _load(*TASKS[name][:2]).from_mapping(content))


def find_config(path: str | os.PathLike[str]) -> Path:
    """The file of a name: itself, or else one of the package's own, with or without its suffix.

    Raises:
        `InvalidInput`: if there is none.
    """
    given = Path(path)
    own = [CONFIGS / given.name, CONFIGS / f"{given.name}.yaml"] if given.name == os.fspath(path) else []
    found = next((candidate for candidate in (given, *own) if candidate.is_file()), None)
    if found is None:
        raise InvalidInput(
            f"there is no configuration {given}: pass a YAML file, or one of {', '.join(own_configs())}."
        )
    return found


def own_configs() -> list[str]:
    """Names of the package's own configurations."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def _load(module: str, name: str) -> Any:
    return getattr(import_module(f".{module}", __package__), name)
