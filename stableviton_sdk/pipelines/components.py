"""The parts of a pipeline: whether they can make one, and what they remember of the pipeline they come from."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import ConfigMixin, SchedulerMixin

from ..errors import InvalidInput

# What a part must be able to do; a network of another class that does it may stand in.
NEEDED = {
    "vae": ("encode", "decode", "config"),
    "garment_encoder": ("forward", "dtype"),
    "spatial_encoder": ("forward", "dtype"),
    "unet": ("forward", "dtype", "num_zero_cross_attentions"),
    "scheduler": ("set_timesteps", "step", "config"),
}
PREDICTIONS = ("epsilon", "v_prediction", "sample")
# Settings of schedulers that follow from a network's training, and what they are in a configuration without them.
NOISE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
    "prediction_type": "epsilon",
}

# For the authors' weights, and others that state none: plain values, since a pipeline's config is saved as JSON.
# `exact` names the scheduler that the weights came with; its steps are `default_num_inference_steps`.
DEFAULT_PRESETS: dict[str, dict[str, Any]] = {
    "exact": {"scheduler": "PNDMScheduler"},
    "balanced": {
        "num_inference_steps": 20,
        "scheduler": "UniPCMultistepScheduler",
        "scheduler_options": {"timestep_spacing": "trailing"},
    },
    # align your steps (arXiv 2404.14507), for Stable Diffusion 1.5
    "fast": {
        "num_inference_steps": 10,
        "scheduler": "DPMSolverMultistepScheduler",
        "timesteps": [999, 850, 736, 645, 545, 455, 343, 233, 124, 24],
        "step_cache": {"interval": 2, "depth": 2},
    },
    # the same schedule, interpolated in the logarithm of the noise
    "turbo": {
        "num_inference_steps": 5,
        "scheduler": "DPMSolverMultistepScheduler",
        "timesteps": [999, 714, 500, 259, 24],
    },
}

LICENCE = "_weights_licence"  # in a network's configuration, where diffusers ignores what begins like this
# Options that suit weights, and what they are for weights that state none.
DEFAULTS = {
    "default_num_inference_steps": 50,
    "correspondence_block": None,
    "default_detail": 0.0,
    "restores_background": False,
    "quality_presets": DEFAULT_PRESETS,
}


def check_components(components: Mapping[str, Any]) -> None:
    """Refuse parts of a pipeline that are none.

    Args:
        components (`Mapping[str, Any]`): Any of the pipeline's components, by name; other entries don't matter.

    Raises:
        `InvalidInput`: for a class instead of an object, for None where a part is needed, and for one of another kind.
    """
    for name in (*NEEDED, "preprocessor"):
        if name not in components:
            continue
        component = components[name]
        if isinstance(component, type):
            config = "pipe.scheduler.config" if name == "scheduler" else "config"
            raise InvalidInput(
                f"{name} is the class {component.__name__}: pass an object, such as "
                f"{component.__name__}.from_config({config})."
            )
        if component is None and name != "preprocessor":
            raise InvalidInput(f"{name} is None, and nothing works without it: leave {name}= out, or pass one.")
        lacking = [need for need in NEEDED.get(name, ()) if not hasattr(component, need)]
        if lacking:
            raise InvalidInput(f"{name} is a {type(component).__name__}, which has no {lacking[0]}: pass a {name}.")
    if components.get("scheduler") is not None:
        check_scheduler(components["scheduler"])


def check_scheduler(scheduler: SchedulerMixin) -> None:
    """Refuse a scheduler whose noise isn't that of the networks' training, or whose steps want other arguments.

    Raises:
        `InvalidInput`: naming it.
    """
    name = type(scheduler).__name__
    if not hasattr(scheduler, "alphas_cumprod") or not hasattr(scheduler, "scale_model_input"):
        problem = "is made for another kind of diffusion (EDM, flow matching or consistency)"
    elif scheduler.config.get("use_flow_sigmas"):
        problem = "has use_flow_sigmas, which is for flow matching"
    elif scheduler.config.get("prediction_type", "epsilon") not in PREDICTIONS:
        problem = f"predicts {scheduler.config.prediction_type!r}"
    elif "Inverse" in name:
        problem = "adds noise instead of removing it"
    elif _other_arguments(scheduler):
        problem = f"wants more than a prediction at each step ({', '.join(_other_arguments(scheduler))})"
    else:
        return
    raise InvalidInput(
        f"the scheduler {name} {problem}, so these networks can't use it: pass one of Stable Diffusion's, such "
        "as UniPCMultistepScheduler.from_config(pipe.scheduler.config)."
    )


def remember_noise(unet: torch.nn.Module, config: Mapping[str, Any], *, replace: bool = False) -> None:
    """Have a U-Net carry the noise schedule that it was trained with, unless it carries one.

    Args:
        unet (`torch.nn.Module`): The U-Net.
        config (`Mapping[str, Any]`): Configuration of the scheduler that came with it.
        replace (`bool`, *optional*, defaults to `False`): Replace what it carries.
    """
    if replace or "_noise_settings" not in vars(unet):
        unet._noise_settings = _noise_settings(config)


def warn_of_other_noise(scheduler: SchedulerMixin, unet: torch.nn.Module) -> None:
    """Warn about a scheduler whose noise isn't what the U-Net was trained with, such as one made without arguments."""
    own = _noise_settings(scheduler.config)
    trained = vars(unet).get("_noise_settings", own)
    if wanted := [f"{name}={value!r}" for name, value in trained.items() if value != own[name]]:
        kind = type(scheduler).__name__
        warnings.warn(
            f"the scheduler {kind} has another noise schedule or prediction than these weights were trained with, "
            f"so results will be wrong: make it with {kind}.from_config of the model's own, or {', '.join(wanted)}.",
            stacklevel=4,
        )


def check_same_dtype(unet: torch.dtype, spatial_encoder: torch.dtype) -> None:
    """Refuse number types of networks that couldn't compute with each other.

    Raises:
        `InvalidInput`: naming both types.
    """
    if unet != spatial_encoder:
        raise InvalidInput(
            f"unet is {unet} and spatial_encoder {spatial_encoder}, and they exchange tensors at every step: load "
            "both in one type (the other networks may have another)."
        )


def recall_options(components: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a pipeline, where none are given those of the pipeline that its networks come from.

    Networks are passed from one pipeline to the next without the pipeline's configuration
    (`TryOnPipeline(**pipe.components)`), and saved without it (`pipe.unet.save_pretrained`), and neither their licence
    nor what suits them may get lost. So each network carries its licence in its own configuration, and the U-Net the
    other options. What a network carries is what the first pipeline stated that had it: later ones may use other
    options, and don't change what it carries.

    Args:
        components (`Mapping[str, Any]`): The pipeline's.
        given (`Mapping[str, Any]`): Options by name; None for those that aren't given.

    Returns:
        `dict[str, Any]`: the same options, resolved.
    """
    networks = {name: part for name, part in components.items() if isinstance(part, torch.nn.Module)}
    options = dict(given)
    if options["weights_licence"] is None:
        licences: dict[str, list[str]] = {}
        for name, network in networks.items():
            if licence := _licence_of(network):
                licences.setdefault(licence, []).append(name)
        options["weights_licence"] = next(iter(licences), None)
        if len(licences) > 1:
            options["weights_licence"] = "; ".join(f"{', '.join(names)}: {text}" for text, names in licences.items())
    else:
        for network in networks.values():
            if _licence_of(network) is None and isinstance(network, ConfigMixin):
                network.register_to_config(**{LICENCE: options["weights_licence"]})
    carried = vars(components["unet"]).setdefault("_pipeline_options", {})
    for name, default in DEFAULTS.items():
        if options[name] is None:
            options[name] = copy.deepcopy(carried.get(name, default))
        else:
            carried.setdefault(name, copy.deepcopy(options[name]))
    return options


def _noise_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    settings = {name: config.get(name, default) for name, default in NOISE.items()}
    betas = settings["trained_betas"]
    return {**settings, "trained_betas": None if betas is None else [float(beta) for beta in betas]}


def _licence_of(network: torch.nn.Module) -> str | None:
    return network.config.get(LICENCE) if isinstance(network, ConfigMixin) else None


def _other_arguments(scheduler: SchedulerMixin) -> list[str]:
    """Arguments that a step has no defaults for, besides the usual three."""
    parameters = list(inspect.signature(scheduler.step).parameters.values())[3:]
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [entry.name for entry in parameters if entry.default is entry.empty and entry.kind not in kinds]
