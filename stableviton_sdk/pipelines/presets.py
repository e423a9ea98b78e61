"""Quality presets: fewer denoising steps by other schedulers, as suits the weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers import SchedulerMixin

from ..choices import QUALITIES
from ..errors import InvalidInput
from .components import check_scheduler


@dataclass(frozen=True)
class QualityPreset:
    """What a call does for a quality.

    Args:
        num_inference_steps (`int`): Denoising steps.
        scheduler (`str`, *optional*): Class of diffusers' schedulers; None for the pipeline's own scheduler.
        scheduler_options (`Mapping[str, Any]`, *optional*): Entries of its config that differ from the pipeline's own.
        timesteps (`Sequence[int]`, *optional*): The steps' timesteps; the scheduler's own spacing by default.
        step_cache (`Mapping[str, int]`, *optional*): Arguments of `enable_step_cache`; none by default.
    """

    num_inference_steps: int
    scheduler: str | None = None
    scheduler_options: Mapping[str, Any] | None = None
    timesteps: Sequence[int] | None = None
    step_cache: Mapping[str, int] | None = None


def resolve_preset(
    quality: str, presets: Mapping[str, Mapping[str, Any]], default_steps: int, scheduler: SchedulerMixin
) -> QualityPreset:
    """What a quality means for a pipeline.

    A scheduler of another class than the weights came with is the caller's own, and stays. No preset takes more steps
    than the weights do by default.

    Args:
        quality (`str`): One of `QUALITIES`.
        presets (`Mapping`): The pipeline's `quality_presets`.
        default_steps (`int`): The pipeline's `default_num_inference_steps`.
        scheduler (`SchedulerMixin`): The pipeline's.

    Raises:
        `InvalidInput`: for another quality, or a stored preset that can't be used.
    """
    if quality not in QUALITIES:
        raise InvalidInput(f"quality is {quality!r}: pass one of {', '.join(map(repr, QUALITIES))}.")
    exact = QualityPreset(default_steps)
    stored = presets.get(quality, {})
    if quality == "exact" or not stored or stored.get("num_inference_steps", default_steps) >= default_steps:
        return exact
    try:
        preset = QualityPreset(
            **{**stored, "timesteps": tuple(stored["timesteps"]) if "timesteps" in stored else None}
        )
    except TypeError as error:
        raise InvalidInput(
            f"these weights' quality_presets can't be read ({quality}: {error}): correct its config."
        ) from error
    own = type(scheduler).__name__ != presets.get("exact", {}).get("scheduler", type(scheduler).__name__)
    return QualityPreset(preset.num_inference_steps, step_cache=preset.step_cache) if own else preset


def make_scheduler(
    scheduler: SchedulerMixin, preset: QualityPreset, num_inference_steps: int | None, device: torch.device | str
) -> SchedulerMixin:
    """A call's own scheduler, with its timesteps set.

    Args:
        scheduler (`SchedulerMixin`): The pipeline's, which stays as it is.
        preset (`QualityPreset`): Preset of the call.
        num_inference_steps (`int`, *optional*): Steps that the caller chose, instead of the preset's.
        device (`torch.device` or `str`): Device of the timesteps.

    Raises:
        `InvalidInput`: if the preset names no scheduler that can be used.
    """
    if preset.scheduler is None:
        made = copy.deepcopy(scheduler)
    else:
        scheduler_class = getattr(diffusers, preset.scheduler, None)
        if not isinstance(scheduler_class, type) or not issubclass(scheduler_class, SchedulerMixin):
            raise InvalidInput(f"these weights' quality_presets name {preset.scheduler!r}, which is no scheduler.")
        made = scheduler_class.from_config(scheduler.config, **(preset.scheduler_options or {}))
        check_scheduler(made)
    if num_inference_steps is None and preset.timesteps is not None:
        made.set_timesteps(timesteps=list(preset.timesteps), device=device)
    else:
        made.set_timesteps(num_inference_steps or preset.num_inference_steps, device=device)
    return made
