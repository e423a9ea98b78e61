"""Training of the try-on network: data, networks, losses, and the pipeline that comes of them."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ...errors import InvalidInput
from ...files import check_writable
from ...pipelines.pipeline_tryon import TryOnPipeline
from ..config import DataConfig, TrainingConfig
from ..loop.resumption import check_steps
from ..loop.run_log import MetricsLog
from ..loop.training_loop import make_accelerator, run_training
from .batches import Batch, check_item, collate, collate_encoded
from .initialise import PAINT_BY_EXAMPLE, from_paint_by_example, from_scratch, load_autoencoder
from .latent_cache import LatentCache, fill_latent_cache
from .losses import authors_blocks
from .memory import estimate_memory
from .objective import TryOnObjective, decode, encode, sample_noise
from .trainable import choose_trainable, merge_lora
from .validation import validation_sheet

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
        config (`TrainingConfig`): All options; `load_config` reads them from YAML.
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
        `InvalidInput`:
            before the first step, if data, configuration or weights don't fit, or if the output folder holds a
            training of more steps already.
        `IncompatibleCheckpoint`: if it holds a training of another network, or of other parts of it.
        `TrainingDiverged`: naming the step, the batch, and what to try.
    """

    # 1. data: every problem is reported before anything is loaded
    output = Path(config.output)
    check_writable(output, output)
    check_steps(output, config)
    data = open_data(config.data) if data is None else data
    if validation_data is None:
        validation_data = open_data(config.validation.data) if config.validation.data else data
    if not len(data):
        raise InvalidInput("the data set is empty: there is nothing to train on.")

    # 2. networks, and what of them is trained
    accelerator = make_accelerator(config)
    main = accelerator.is_main_process
    pipeline = start_pipeline(config) if pipeline is None else pipeline
    objective = make_objective(config, pipeline)
    check_item(data[0], config.data.shape, objective.needs)
    trained = choose_trainable(
        pipeline.unet,
        pipeline.spatial_encoder,
        pipeline.garment_encoder,
        config.trainable,
        train_vision_tower=config.train_vision_tower,
        lora_rank=config.lora_rank,
    )
    if config.gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
        pipeline.spatial_encoder.enable_gradient_checkpointing()
    if main and progress:
        tqdm.write(estimate_memory(pipeline, list(trained.values()), config).summary())

    # 3. latents, encoded once or in every step
    vae = pipeline.vae.to(accelerator.device).requires_grad_(False)
    cached = config.data.latent_cache is not None
    if cached:
        with accelerator.main_process_first():
            data = open_latent_cache(config, data, pipeline, objective.needs, progress=main and progress)
        collated = functools.partial(collate_encoded, garment_shape=config.data.shape)
    else:
        collated = functools.partial(collate, wanted=objective.needs)
    schedule_length = pipeline.scheduler.config.num_train_timesteps

    def prepare(batch: Batch) -> Batch:
        return sample_noise(
            batch if cached else encode(vae, batch),
            config.seed,
            schedule_length,
            config.unconditional_probability,
            config.timestep_power,
        )

    def validate(step: int, metrics: MetricsLog) -> None:
        path = output / "validation" / f"step-{step:08d}.png"
        metrics.show(step, "validation", validation_sheet(pipeline, validation_data, config, path))

    # 4. the steps
    run_training(
        objective,
        trained,
        data,
        collated,
        config,
        output,
        accelerator=accelerator,
        augmentation=config.augmentation,
        micro_batches=config.gradient_accumulation,
        prepare=prepare,
        validate=validate,
        validate_every=config.validation.every,
        progress=progress,
    )

    # 5. the trained pipeline
    final = output / "pipeline"
    if main:
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
        return reader(**config.options, size=config.size)
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
        shape=config.data.shape,
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
        pipeline = from_paint_by_example(start.path or PAINT_BY_EXAMPLE, size=config.data.size, seed=config.seed)
    elif start.path is None:
        raise InvalidInput("start.path is missing: pass the folder or repository of the pipeline to go on from.")
    else:
        pipeline = TryOnPipeline.from_pretrained(start.path, dtype=torch.float32)
    if vae is not None:
        pipeline.register_modules(vae=vae)
    return pipeline


def make_objective(config: TrainingConfig, pipeline: TryOnPipeline) -> TryOnObjective:
    """The losses of a configuration."""
    loss, factor, unet = config.loss, pipeline.vae_scale_factor, pipeline.unet
    if any(side % factor for side in config.data.size):
        raise InvalidInput(f"data.size is {list(config.data.size)}: pass multiples of {factor}.")
    if config.stage != "atv":
        loss = loss.replace(total_variation=0.0)
    if loss.blocks is None:
        latent_shape = tuple(side // factor for side in config.data.shape)
        blocks = authors_blocks(unet.config.up_block_types, unet.config.layers_per_block, latent_shape)
        loss = loss.replace(blocks=blocks)
    channels, count = unet.config.out_channels, unet.num_zero_cross_attentions
    if loss.channel_weights is not None and len(loss.channel_weights) != channels:
        raise InvalidInput(
            f"loss.channel_weights is {loss.channel_weights}: pass a number for each of {channels} channels."
        )
    if loss.panels_weight and unet.config.coordinate_channels is None:
        raise InvalidInput("loss.panels_weight is for networks with garment coordinates: leave it out.")
    if loss.ssim_weight and pipeline.scheduler.config.prediction_type != "v_prediction":
        raise InvalidInput("loss.ssim_weight is for networks that predict velocity; leave it out.")
    networks = unet, pipeline.spatial_encoder, pipeline.garment_encoder
    objective = TryOnObjective(*networks, pipeline.scheduler, loss, decode=functools.partial(decode, pipeline.vae))
    unknown = any(block >= count for block in loss.blocks)
    if unknown or (objective.needs and not loss.blocks):
        raise InvalidInput(
            f"loss.blocks is {config.loss.blocks}: pass numbers from 0 to {count - 1}"
            + ("" if unknown else ", for no block has the authors' choice of 700 to 3000 garment cells at this size")
            + "."
        )
    return objective
