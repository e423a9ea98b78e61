"""Comparison of the options that a training was begun with and those that it goes on with."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import InvalidInput, clipped
from ...files import differences
from . import checkpoints
from .config import Config, LoopConfig

logger: logging.Logger = logging.getLogger(__name__)

LAYOUT = 2  # of what a checkpoint says about its training; the first one was without a number
# Options that leave what is trained as it is.
FREE = {
    "output", "workers", "checkpoint_every", "keep_checkpoints", "checkpoint_file_mb", "log_every", "validate_every",
    "validation", "gradient_checkpointing", "cpu",
}  # fmt: skip


def describe_training(settings: Config, *, items: int, processes: int) -> dict[str, Any]:
    """Everything that a training follows from, as JSON holds it, for its checkpoints.

    Args:
        settings (`Config`): All its options.
        items (`int`): Length of the data set.
        processes (`int`): Number of processes that train together.
    """
    return {"layout": LAYOUT, "config": settings.as_mapping(), "items": items, "processes": processes}


def check_steps(output: Path, config: LoopConfig) -> None:
    """Refuse to end before the steps that were taken already: the weights would be those of a longer training.

    Args:
        output (`Path`): The training's folder.
        config (`LoopConfig`): Options of the loop; `steps` of them.

    Raises:
        `InvalidInput`: naming both numbers.
    """
    found = checkpoints.list_checkpoints(output / "checkpoints")
    done = checkpoints.read_checkpoint_state(found[-1])["step"] if found else 0
    if done > config.steps:
        raise InvalidInput(
            f"{output} holds a training of {done} steps already, more than steps: {config.steps}: pass steps from "
            f"{done}, or another output folder."
        )


def warn_of_changes(output: Path, settings: Config, config: LoopConfig, now: Mapping[str, Any]) -> None:
    """Log every option of a training that goes on that differs from before and changes what is trained.

    Args:
        output (`Path`): The training's folder.
        settings (`Config`): All its options.
        config (`LoopConfig`): Options of the loop among them.
        now (`Mapping[str, Any]`): Result of `describe_training`.
    """
    found = checkpoints.list_checkpoints(output / "checkpoints")
    if not found:
        return
    state = checkpoints.read_checkpoint_state(found[-1])
    changes = list(_changes(settings, config, state, now))
    if changes:
        listed = "; ".join(f"{name} was {_shown(old)} and is {_shown(new)}" for name, old, new in changes)
        logger.warning(
            f"The training in {output} goes on from {found[-1].name} with other options than its steps were taken "
            f"with: {listed}."
        )


def _changes(
    settings: Config, config: LoopConfig, state: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    free = FREE if config.schedule == "cosine" else FREE | {"steps"}  # the cosine's length
    before, after = state["config"], now["config"]
    if "layout" not in state:
        before = type(settings).from_first_layout(before, after)
    for name, old, new in differences(before, after):
        # an option that is younger than the steps: off, as it was then
        is_younger = not _has(before, name) and new == type(settings).default_of(name)
        if name.removeprefix("fit.").split(".")[0] not in free and not is_younger:
            yield name, old, new
    for name in ("items", "processes"):
        if name in state and state[name] != now[name]:
            yield f"the number of {name}", state[name], now[name]


def _has(options: Any, name: str) -> bool:
    """Whether nested mappings hold a value, be it None, under a name with dots."""
    for part in name.split("."):
        if not isinstance(options, Mapping) or part not in options:
            return False
        options = options[part]
    return True


def _shown(value: Any) -> str:
    return "unset" if value is None else clipped(str(value), most=80)
