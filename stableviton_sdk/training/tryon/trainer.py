"""The training loop, top to bottom."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import nn
from tqdm import tqdm

from ...errors import IncompatibleCheckpoint, InvalidInput
from ...files import check_writable, remove_leftovers
from ...pipelines.pipeline_tryon import TryOnPipeline
from ..config import DataConfig, TrainingConfig, as_mapping
from ..loop import checkpoints
from ..loop.dataloader import TrainingDiverged, explain_divergence, learning_rate, open_loader
from ..loop.run_log import MetricsLog
from ..loop.sampler import Batches, ShuffledItems
from .initialise import PAINT_BY_EXAMPLE, from_paint_by_example, from_scratch, load_autoencoder
from .latent_cache import LatentCache, collate_encoded, fill_latent_cache
from .losses import authors_blocks
from .memory import estimate_memory
from .objective import TryOnObjective, check_item, collate, decode, draw, encode
from .trainable import choose_trainable, merge_lora
from .validation import paint_sheet

READERS = {
    "viton-hd": ("viton_hd", "VitonHD"),
    "dress-code": ("dress_code", "DressCode"),
    "folder": ("folder", "FolderDataset"),
    "synthetic": ("synthetic", "SyntheticDataset"),
}


def train(
    config: TrainingConfig,
    *,
    data: Any = None,
    validation_data: Any = None,
    pipeline: TryOnPipeline | None = None,
    progress: bool = True,
) -> Path:
    """Train, from the start or from the last checkpoint in the output folder.

    Order, augmentation and noise follow from seed and step, so a run that was killed and resumed ends with the weights
    of one that wasn't. With several devices, start it through `accelerate launch`; on CPUs alone through `torchrun`,
    since accelerate would start a single process.

    Args:
        config (`TrainingConfig`): See there; `load_config` reads one from YAML.
        data (*optional*):
            A map-style data set of item dictionaries, instead of the one that `config.data` names: `person`,
            `garment`, `agnostic`, `densepose` (uint8, (H, W, 3)), `mask` (bool, (H, W), True = repaint), and for the
            losses that need them `worn_mask` (bool, (H, W)) and `correspondence` (float32, (H, W, 2)).
        validation_data (*optional*): Likewise, for the sheets.
        pipeline (`TryOnPipeline`, *optional*): Networks to start with, instead of those that `config.start` names.
        progress (`bool`, *optional*, defaults to `True`): Show a progress bar with the time left.

    Returns:
        `Path`: the folder of the trained pipeline.

    Raises:
        `InvalidInput`: before the first step, if data, configuration or weights don't fit.
        `TrainingDiverged`: naming the step, the batch, and what to try.
    """
    from accelerate import Accelerator

    # 1. data: every problem is told before anything is loaded
    size = tuple(config.data.size)
    data = open_data(config.data) if data is None else data
    if validation_data is None:
        validation_data = open_data(config.validation.data) if config.validation.data else data
    if not len(data):
        raise InvalidInput("the data set is empty: there is nothing to train on.")
    output = Path(config.output)
    check_writable(output, output)

    # 2. networks, and what of them is trained
    accelerator = Accelerator(mixed_precision=config.mixed_precision, cpu=config.cpu)
    device, main = accelerator.device, accelerator.is_main_process
    pipeline = start_pipeline(config) if pipeline is None else pipeline
    objective = make_objective(config, pipeline)
    check_item(data[0], size, objective.needs)
    trained = choose_trainable(
        pipeline.unet,
        pipeline.spatial_encoder,
        pipeline.garment_encoder,
        config.trainable,
        vision_tower=config.vision_tower,
        lora_rank=config.lora_rank,
    )
    if config.gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
        pipeline.spatial_encoder.enable_gradient_checkpointing()
    if main and progress:
        tqdm.write(estimate_memory(pipeline, list(trained.values()), config).summary())

    # 3. what changes from step to step
    vae = pipeline.vae.to(device).requires_grad_(False)
    encoded = config.data.latent_cache is not None
    if encoded:
        with accelerator.main_process_first():
            data = open_latent_cache(config, data, pipeline, objective.needs, progress=main and progress)
    model = accelerator.prepare(objective)
    optimizer = accelerator.prepare(
        torch.optim.AdamW(trained.values(), lr=config.learning_rate, weight_decay=config.weight_decay)
    )
    average = EMAModel(trained.values(), decay=config.ema_decay) if config.ema_decay is not None else None
    if average is not None:
        average.to(device)
    first = resume(output, trained, optimizer, average, accelerator.scaler)
    accelerator.wait_for_everyone()
    if main:
        remove_leftovers(output / "checkpoints")

    # 4. batches, in an order that depends on the step alone
    parts, processes = config.gradient_accumulation, accelerator.num_processes
    items = ShuffledItems(data, config.seed, config.augmentation)
    order = Batches(first, config.steps, parts, config.batch_size // parts, accelerator.process_index, processes)
    if encoded:
        collated = functools.partial(collate_encoded, size=size)
    else:
        collated = functools.partial(collate, wanted=objective.needs)
    loader = open_loader(items, order, collated, workers=config.workers, pin_memory=device.type == "cuda")
    batches = iter(loader)

    # 5. the loop
    schedule_length = pipeline.scheduler.config.num_train_timesteps
    metrics = MetricsLog(output, first) if main else None
    bar = tqdm(total=config.steps, initial=first, unit="step", disable=not (main and progress))
    with bar, contextlib.closing(metrics) if main else contextlib.nullcontext():
        for step in range(first, config.steps):
            rate = learning_rate(config, step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            sums: dict[str, torch.Tensor] = {}
            positions: list[int] = []
            for part in range(parts):
                batch = next(batches)
                positions += batch["positions"].tolist()
                batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
                batch = batch if encoded else encode(vae, batch)
                batch = draw(
                    batch, config.seed, schedule_length, config.unconditional_probability, config.timestep_exponent
                )
                last = part == parts - 1
                with accelerator.autocast(), contextlib.nullcontext() if last else accelerator.no_sync(model):
                    losses = model(batch)
                    accelerator.backward(losses["loss"] / parts)
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + value.detach() / parts
            norm = accelerator.clip_grad_norm_(trained.values(), config.max_grad_norm)
            # a half-precision scaler expects infinite gradients now and then, and skips those steps by itself
            if not torch.isfinite(sums["loss"]) or (accelerator.scaler is None and not torch.isfinite(norm)):
                raise TrainingDiverged(explain_divergence(config, step, rate, items.named(positions), sums, output))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if average is not None and not optimizer.step_was_skipped:
                average.step(trained.values())
            done = step + 1
            bar.update()

            # 6. what remains of the step
            if done % config.log_every == 0 or done == config.steps:
                means = {name: float(accelerator.reduce(value, reduction="mean")) for name, value in sums.items()}
                bar.set_postfix(loss=f"{means['loss']:.4f}")
                if main:
                    metrics.write(done, {**means, "learning_rate": rate, "gradient_norm": float(norm)})
            if main and (done % config.checkpoint_every == 0 or done == config.steps):
                metrics.flush()
                save(output, done, config, trained, optimizer, average, accelerator.scaler)
            if main and config.validation.every and done % config.validation.every == 0:
                with averaged(average, trained):
                    path = output / "validation" / f"step-{done:08d}.png"
                    metrics.show(done, "validation", paint_sheet(pipeline, validation_data, config, path))
            accelerator.wait_for_everyone()

    # 7. the trained pipeline
    final = output / "pipeline"
    if main:
        if average is not None:
            average.copy_to(trained.values())
        if config.trainable == "lora":
            for network in (pipeline.unet, pipeline.spatial_encoder):
                network.save_lora_adapter(output / "adapters" / type(network).__name__, adapter_name="tryon")
                merge_lora(network)
        pipeline.save_pretrained(final)
    accelerator.wait_for_everyone()
    return final


def open_data(config: DataConfig) -> Any:
    """The data set that a configuration names."""
    module, name = READERS[config.kind]
    reader = getattr(importlib.import_module(f"...data.{module}", __package__), name)
    try:
        return reader(**config.options, size=tuple(config.size))
    except TypeError as error:
        raise InvalidInput(f"data.options don't fit {config.kind!r} ({error}).") from error


def open_latent_cache(
    config: TrainingConfig, data: Any, pipeline: TryOnPipeline, needs: list[str], progress: bool
) -> LatentCache:
    """The items' latents, encoded now where they weren't before."""
    return fill_latent_cache(
        Path(config.data.latent_cache),
        data,
        pipeline.vae,
        size=tuple(config.data.size),
        garment_side=pipeline.garment_encoder.config.image_size,
        needs=needs,
        source={"kind": config.data.kind, "options": config.data.options},
        workers=config.workers,
        progress=progress,
    )


def start_pipeline(config: TrainingConfig) -> TryOnPipeline:
    """The networks that a configuration starts from."""
    start = config.start
    vae = load_autoencoder(start.vae) if start.vae else None
    if start.source == "scratch":
        return from_scratch(start.architecture, vae=vae, scheduler=start.scheduler, seed=config.seed)
    if start.architecture or start.scheduler:
        raise InvalidInput("start.architecture and start.scheduler are for start.source: scratch; leave them out.")
    if start.source == "paint-by-example":
        size = tuple(config.data.size)
        pipeline = from_paint_by_example(start.path or PAINT_BY_EXAMPLE, size=size, seed=config.seed)
    elif start.path is None:
        raise InvalidInput("start.path is missing: pass the folder or repository of the pipeline to go on from.")
    else:
        pipeline = TryOnPipeline.from_pretrained(start.path, dtype=torch.float32)
    if vae is not None:
        pipeline.register_modules(vae=vae)
    return pipeline


def make_objective(config: TrainingConfig, pipeline: TryOnPipeline) -> TryOnObjective:
    """The losses of a configuration."""
    loss, factor = config.loss, pipeline.vae_scale_factor
    if any(side % factor for side in config.data.size):
        raise InvalidInput(f"data.size is {config.data.size}: pass multiples of {factor}.")
    total_variation = loss.total_variation if config.stage == "atv" else 0.0
    latent_size = tuple(side // factor for side in config.data.size)
    unet = pipeline.unet
    blocks = loss.blocks
    if blocks is None:
        blocks = authors_blocks(unet.config.up_block_types, unet.config.layers_per_block, latent_size)
    unknown = [block for block in blocks if not 0 <= block < unet.num_zero_cross_attentions]
    channels, weights = unet.config.out_channels, loss.channel_weights
    if weights is not None and (len(weights) != channels or not all(0 < weight < float("inf") for weight in weights)):
        raise InvalidInput(
            f"loss.channel_weights is {weights}: pass a positive number for each of {channels} channels."
        )
    if loss.structure_weight and pipeline.scheduler.config.prediction_type != "v_prediction":
        raise InvalidInput("loss.structure_weight is for networks that predict velocity; leave it out.")
    objective = TryOnObjective(
        unet,
        pipeline.spatial_encoder,
        pipeline.garment_encoder,
        pipeline.scheduler,
        total_variation=total_variation,
        correspondence=loss.correspondence,
        correspondence_weight=loss.correspondence_weight,
        coordinate_weight=loss.coordinate_weight,
        blocks=blocks,
        outside_weight=loss.outside_weight,
        channel_weights=loss.channel_weights,
        min_snr_gamma=loss.min_snr_gamma,
        structure_weight=loss.structure_weight,
        structure_images=loss.structure_images,
        decode=functools.partial(decode, pipeline.vae),
    )
    if unknown or (objective.needs and not blocks):
        raise InvalidInput(
            f"loss.blocks is {loss.blocks}: pass places between 0 and {unet.num_zero_cross_attentions - 1}"
            + ("" if unknown else ", for no block has the authors' choice of 700 to 3000 garment cells at this size")
            + "."
        )
    return objective


def save(
    output: Path,
    step: int,
    config: TrainingConfig,
    trained: Mapping[str, nn.Parameter],
    optimizer: Any,
    average: EMAModel | None,
    scaler: Any,
) -> Path:
    """Write a checkpoint of all that `resume` needs."""
    tensors: dict[str, torch.Tensor] = {}
    moments = optimizer.state_dict()["state"]
    for index, (name, parameter) in enumerate(trained.items()):
        tensors[f"weights/{name}"] = parameter
        for moment, value in moments.get(index, {}).items():
            tensors[f"{moment}/{name}"] = value
        if average is not None:
            tensors[f"average/{name}"] = average.shadow_params[index]
    state = {
        "averaged_steps": average.optimization_step if average is not None else None,
        "scaler": scaler.state_dict() if scaler is not None else None,
        "config": as_mapping(config),
    }
    return checkpoints.save_checkpoint(
        output / "checkpoints",
        step,
        tensors,
        state,
        keep=config.keep_checkpoints,
        max_file_bytes=config.checkpoint_file_mb * 1e6,
    )


def resume(
    output: Path, trained: Mapping[str, nn.Parameter], optimizer: Any, average: EMAModel | None, scaler: Any
) -> int:
    """Load the last checkpoint, if there is one, into what is trained.

    Returns:
        `int`: optimizer steps taken.

    Raises:
        `IncompatibleCheckpoint`: if it belongs to another training.
    """
    found = checkpoints.list_checkpoints(output / "checkpoints")
    if not found:
        return 0
    state = checkpoints.read_checkpoint_state(found[-1])
    tensors = checkpoints.read_checkpoint_tensors(found[-1], state["files"])
    shapes = {name.removeprefix("weights/"): value.shape for name, value in tensors.items() if name[:8] == "weights/"}
    if shapes != {name: parameter.shape for name, parameter in trained.items()} or (
        average is not None and state["averaged_steps"] is None
    ):
        raise IncompatibleCheckpoint(
            f"{found[-1]} is of a training of other networks or of other parts of them: "
            "pass another output folder, or the configuration of that training."
        )
    moments: dict[int, dict[str, torch.Tensor]] = {}
    with torch.no_grad():
        for index, (name, parameter) in enumerate(trained.items()):
            parameter.copy_(tensors[f"weights/{name}"])
            if average is not None:
                average.shadow_params[index].copy_(tensors[f"average/{name}"])
            kinds = [kind for kind in ("step", "exp_avg", "exp_avg_sq") if f"{kind}/{name}" in tensors]
            if kinds:
                moments[index] = {kind: tensors[f"{kind}/{name}"] for kind in kinds}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    if average is not None:
        average.optimization_step = state["averaged_steps"]
    if scaler is not None and state["scaler"] is not None:
        scaler.load_state_dict(state["scaler"])
    return state["step"]


@contextlib.contextmanager
def averaged(average: EMAModel | None, trained: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Within it, the networks have their averaged weights."""
    if average is None:
        yield
        return
    average.store(trained.values())
    average.copy_to(trained.values())
    try:
        yield
    finally:
        average.restore(trained.values())
