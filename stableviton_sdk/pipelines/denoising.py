"""The denoising loop."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline

from ..attention.recorder import ConditionalBranch
from ..models.lean import runs_lean
from ..models.packing import version_of
from ..models.spatial_encoder import SpatialEncoder
from ..models.step_cache import StepCache
from ..models.unet import TryOnUNet
from .batches import match_branches
from .calls import Call
from .checks import raise_if_set


@dataclass
class Conditions:
    """What the networks are given beside the noisy latents, for a batch of images; a callback may exchange any.

    Args:
        garment_embeds (`torch.Tensor`): The garments' tokens, (batch, 1, width); with guidance twice as many.
        negative_garment_embeds (`torch.Tensor`): Token of guidance's unconditional branch, (1, 1, width).
        garment_latents (`torch.Tensor`): (batch, channels, h, w).
        conditioning (`torch.Tensor`): Agnostic latent, mask and DensePose latent, (batch, channels, h, w).
    """

    garment_embeds: torch.Tensor
    negative_garment_embeds: torch.Tensor
    garment_latents: torch.Tensor
    conditioning: torch.Tensor

    def select(self, places: Sequence[int]) -> Conditions:
        """Those of some of the images."""
        parts = (part[places] for part in (self.garment_embeds, self.garment_latents, self.conditioning))
        garment_embeds, garment_latents, conditioning = parts
        return Conditions(garment_embeds, self.negative_garment_embeds, garment_latents, conditioning)


def denoise(
    pipeline: DiffusionPipeline,
    call: Call,
    scheduler: Any,
    latents: torch.Tensor,
    conditions: Conditions,
    *,
    num_inference_steps: int,
    generator: torch.Generator | list[torch.Generator] | None,
    branch: ConditionalBranch | None,
    step_cache: StepCache | None,
    cancel_event: threading.Event | None,
    callback_on_step_end: Callable | None,
    callback_on_step_end_tensor_inputs: Sequence[str] | None,
    progress_bar: Any,
) -> torch.Tensor:
    """Latents without their noise.

    Args:
        pipeline (`TryOnPipeline`): Whose networks compute.
        call (`Call`): The running call.
        scheduler (`SchedulerMixin`): Of its own, with its timesteps set.
        latents (`torch.Tensor`): Noised, float32, (batch, channels, h, w).
        conditions (`Conditions`): Of these images.
        num_inference_steps (`int`): Steps, of which a scheduler may make more timesteps.
        generator (`torch.Generator` or a list, *optional*): For schedulers that add noise.
        branch (`ConditionalBranch`, *optional*): Receives attention's queries and keys.
        step_cache (`StepCache`, *optional*): An empty one, for steps that reuse the deep features of earlier ones.
        cancel_event, callback_on_step_end, callback_on_step_end_tensor_inputs: As for the pipeline's call.
        progress_bar (`tqdm`): Goes on after every step.

    Raises:
        `CallCancelled`: if the event is set.
    """
    unet, spatial_encoder, count = pipeline.unet, pipeline.spatial_encoder, len(latents)
    lean = can_run_lean(pipeline)
    accepted = inspect.signature(scheduler.step).parameters
    step_options = {"generator": generator} if "generator" in accepted else {}
    last, num_warmup_steps = (
        len(scheduler.timesteps) - 1,
        len(scheduler.timesteps) - num_inference_steps * scheduler.order,
    )
    for i, t in enumerate(scheduler.timesteps):
        raise_if_set(cancel_event)
        if call.interrupt:
            break
        call.current_timestep = t

        # 1. guidance's branches, which a callback may switch; they differ in their tokens only, and share the rest
        guided = pipeline.do_classifier_free_guidance
        conditions.garment_embeds = match_branches(
            conditions.garment_embeds, count, guided, conditions.negative_garment_embeds
        )
        garment_latents, conditioning = conditions.garment_latents, conditions.conditioning
        leanly = lean and conditions.garment_embeds.shape[1] == 1
        if not (leanly and len(garment_latents) == len(conditioning) == count):
            garment_latents = match_branches(garment_latents, count, guided)
            conditioning = match_branches(conditioning, count, guided)
        noisy = latents if len(conditioning) == count else torch.cat([latents] * 2)
        noisy = scheduler.scale_model_input(noisy, t).to(conditioning.dtype)
        sample = torch.cat([noisy, conditioning], dim=1)

        # 2. the networks
        full, options = True, {"lean": True} if leanly else {}
        if branch is not None:
            branch.start_step(i)
        if step_cache is not None and leanly:
            recorded = branch is not None and branch.records_any(unet.num_zero_cross_attentions)
            full = step_cache.is_full(i, len(conditions.garment_embeds), must=recorded)
            garment_features = None
        if full:
            garment_features = spatial_encoder(sample, t, conditions.garment_embeds, garment_latents, **options)
        if step_cache is not None and leanly:
            options["step_cache"] = step_cache
        prediction = unet(
            sample,
            t,
            conditions.garment_embeds,
            garment_features,
            attention_recorder=branch,
            return_dict=False,
            **options,
        )[0].float()

        # 3. guidance, and the scheduler's step
        if guided:
            unconditional, conditional = prediction.chunk(2)
            prediction = unconditional + call.guidance_scale * (conditional - unconditional)
        latents = scheduler.step(prediction, t, latents, **step_options, return_dict=False)[0]

        if callback_on_step_end is not None:
            shown = {"latents": latents}
            for name in set(callback_on_step_end_tensor_inputs or ()) - {"latents"}:
                shown[name] = match_branches(getattr(conditions, name), count, guided)
            chosen = {name: shown[name] for name in callback_on_step_end_tensor_inputs or ()}
            versions = {name: version_of(tensor) for name, tensor in shown.items()}
            changed = callback_on_step_end(pipeline, i, t, chosen) or {}
            latents = changed.pop("latents", latents)
            for name in ("garment_embeds", "garment_latents", "conditioning"):
                tensor = changed.pop(name, shown.get(name))
                if tensor is not shown.get(name) or (tensor is not None and version_of(tensor) != versions[name]):
                    setattr(conditions, name, tensor)
        if i == last or (i + 1 > num_warmup_steps and (i + 1) % scheduler.order == 0):
            progress_bar.update()
    call.current_timestep = None
    raise_if_set(cancel_event)
    return latents


def can_run_lean(pipeline: DiffusionPipeline) -> bool:
    """Whether both networks are of our classes, and nothing hangs on their inner blocks; see `models.lean`."""
    networks = (pipeline.unet, pipeline.spatial_encoder)
    classes = (TryOnUNet, SpatialEncoder)
    return all(type(part) is kind and runs_lean(part) for part, kind in zip(networks, classes, strict=True))
