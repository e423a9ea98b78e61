"""The loop of every training, top to bottom."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from ...errors import InvalidInput, TryOnError, shortened
from ...files import remove_leftovers
from . import checkpoints
from .config import Config, LoopConfig
from .dataloader import open_loader
from .resumption import check_steps, describe_training, warn_of_changes
from .run_log import MetricsLog
from .sampler import EpochShuffle, ResumableBatchSampler
from .state import TrainingState

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Batch = dict[str, Any]


class TrainingDiverged(TryOnError):
    """The loss or its gradient is no number any more."""


def make_accelerator(config: LoopConfig) -> Accelerator:
    """This process's device, and its place among those that train together.

    The precision is the loop's own affair: accelerate would keep the first training's for the whole process.

    Raises:
        `InvalidInput`: if accelerate has settled on another device in this process.
    """
    accelerator = Accelerator(mixed_precision="no", cpu=config.cpu)
    on_cpu = accelerator.device.type == "cpu"
    if on_cpu != (config.cpu or not (torch.cuda.is_available() or torch.backends.mps.is_available())):
        raise InvalidInput(
            f"cpu is {config.cpu}, but this process has trained on {accelerator.device.type}: start another process."
        )
    return accelerator


def run_training(
    objective: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    data: Any,
    collate: Callable[[list[dict[str, Any]]], Batch],
    config: LoopConfig,
    output: Path,
    *,
    accelerator: Accelerator,
    tensors: Mapping[str, torch.Tensor] | None = None,
    groups: Iterable[dict[str, Any]] | None = None,
    settings: Config | None = None,
    augmentation: Callable[..., dict[str, Any]] | None = None,
    micro_batches: int = 1,
    prepare: Callable[[Batch], Batch] = lambda batch: batch,
    validate: Callable[[int, MetricsLog], None] | None = None,
    validate_every: int = 0,
    progress: bool = True,
) -> None:
    """Train, from the start or from the last checkpoint in the output folder; in the end the weights are averaged.

    Args:
        objective (`nn.Module`): Makes of a batch a dictionary of scalars, of which `loss` is minimised.
        parameters (`Mapping[str, nn.Parameter]`): The objective's trained parameters, by name.
        data: A map-style data set of item dictionaries.
        collate (`Callable`): Makes a batch, a dictionary of tensors, out of items.
        config (`LoopConfig`): Options of the loop.
        output (`Path`): Folder of `checkpoints/` and `metrics.jsonl`.
        accelerator (`Accelerator`): Result of `make_accelerator`.
        tensors (`Mapping[str, torch.Tensor]`, *optional*): Tensors that checkpoints keep; the parameters by default.
        groups (`Iterable[dict]`, *optional*): AdamW's parameter groups; one of all parameters by default.
        settings (`Config`, *optional*): All options of the training; `config` by default.
        augmentation (`Callable`, *optional*): Makes of an item and a `numpy.random.Generator` the item to use.
        micro_batches (`int`, *optional*, defaults to 1): Number of equal parts that a batch is computed in.
        prepare (`Callable`, *optional*): Makes of each micro-batch, on the device, what the objective takes.
        validate (`Callable`, *optional*): Called with the step and the log while the averaged weights are in place.
        validate_every (`int`, *optional*, defaults to 0): Steps between two validations; 0 for none.
        progress (`bool`, *optional*, defaults to `True`): Show a progress bar with the time left.

    Raises:
        `InvalidInput`: if more steps were taken already.
        `IncompatibleCheckpoint`: if the checkpoint belongs to another training.
        `TrainingDiverged`: naming the step, the items of the batch, and what to try.
    """
    # 1. what changes from step to step
    device, main = accelerator.device, accelerator.is_main_process
    process, processes = accelerator.process_index, accelerator.num_processes
    model = accelerator.prepare(objective)
    dtype = PRECISIONS[config.mixed_precision]
    optimizer = torch.optim.AdamW(
        parameters.values() if groups is None else groups, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    scaler = torch.amp.GradScaler(device.type, enabled=config.mixed_precision == "fp16")
    state = TrainingState(parameters if tensors is None else tensors, parameters, optimizer, config.ema_decay, scaler)

    # 2. where it goes on
    folder, settings = output / "checkpoints", config if settings is None else settings
    about = describe_training(settings, items=len(data), processes=processes)
    if main:
        remove_leftovers(folder)
        warn_of_changes(output, settings, config, about)
    accelerator.wait_for_everyone()
    check_steps(output, config)
    first = state.resume(folder)

    # 3. batches, in an order that depends on the step alone
    items = EpochShuffle(data, config.seed, augmentation)
    layout = {"micro_batches": micro_batches, "batch_size": config.batch_size // micro_batches}
    layout |= {"process": process, "processes": processes}
    order = ResumableBatchSampler(first, config.steps, **layout)
    batches = iter(open_loader(items, order, collate, workers=config.workers, pin_memory=device.type == "cuda"))

    # 4. the steps
    metrics = MetricsLog(output, first) if main else None
    bar = tqdm(total=config.steps, initial=first, unit="step", disable=not (main and progress))
    with bar, contextlib.closing(metrics) if main else contextlib.nullcontext():
        for step in range(first, config.steps):
            rate = learning_rate(config, step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            means: dict[str, torch.Tensor] = {}
            for micro_batch in range(micro_batches):
                batch = {name: tensor.to(device, non_blocking=True) for name, tensor in next(batches).items()}
                batch = prepare(batch)
                last = micro_batch == micro_batches - 1
                with contextlib.nullcontext() if last else accelerator.no_sync(model):
                    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                        losses = model(batch)
                    scaler.scale(losses["loss"] / micro_batches).backward()
                for name, value in losses.items():
                    means[name] = means.get(name, 0.0) + value.detach() / micro_batches
            scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(parameters.values(), config.max_grad_norm)
            # a half-precision scaler expects infinite gradients now and then, and skips those steps by itself
            if not (torch.isfinite(means["loss"]) and (scaler.is_enabled() or torch.isfinite(norm))):
                positions = list(itertools.chain(*ResumableBatchSampler(step, step + 1, **layout)))
                raise TrainingDiverged(_explanation(config, step, rate, items.names_of(positions), means, output))
            scale = scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            if scaler.get_scale() >= scale:  # it falls when a step is skipped
                state.update_ema()
            done = step + 1
            bar.update()

            # 5. what remains of the step
            if done % config.log_every == 0 or done == config.steps:
                values = {name: float(accelerator.reduce(value, reduction="mean")) for name, value in means.items()}
                bar.set_postfix(loss=f"{values['loss']:.4f}")
                if main:
                    metrics.write(done, {**values, "learning_rate": rate, "gradient_norm": float(norm)})
            if main and (done % config.checkpoint_every == 0 or done == config.steps):
                metrics.flush()
                limits = {"keep": config.keep_checkpoints, "max_file_bytes": config.checkpoint_file_mb * 1e6}
                state.save(folder, done, about, **limits)
            if main and validate is not None and validate_every and done % validate_every == 0:
                with state.ema_weights():
                    validate(done, metrics)
            accelerator.wait_for_everyone()
    state.keep_ema_weights()


def learning_rate(config: LoopConfig, step: int) -> float:
    """The rate of the step that follows `step` others: linear warm-up, then constant, or a half cosine to zero.

    Args:
        config (`LoopConfig`): Configuration; read are `learning_rate`, `schedule`, `warmup_steps` and `steps`.
        step (`int`): Steps taken.
    """
    rate = config.learning_rate
    if step < config.warmup_steps:
        return rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return rate
    part = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return rate * 0.5 * (1 + math.cos(math.pi * part))


def _explanation(
    config: LoopConfig, step: int, rate: float, names: Sequence[str], means: Mapping[str, torch.Tensor], output: Path
) -> str:
    """Why a training ended whose loss is no number, and what to try."""
    values = ", ".join(f"{name} {float(value):.4g}" for name, value in means.items())
    found = checkpoints.list_checkpoints(output / "checkpoints")
    advice = ["a lower learning_rate" if rate > 1e-6 else "a longer warmup"]
    if config.mixed_precision == "fp16":
        advice.append("mixed_precision: bf16")
    if config.max_grad_norm > 1:
        advice.append("max_grad_norm: 1")
    advice.append("a look at these pairs")
    again = f"it goes on from {found[-1].name}" if found else "it starts anew, there is no checkpoint yet"
    return (
        f"training diverged at step {step + 1}, learning rate {rate:.3g}: {values}; the batch was "
        f"{shortened(names, most=32)}. No weight was changed by this step. Try {', '.join(advice)}; when run again, "
        f"{again}."
    )
