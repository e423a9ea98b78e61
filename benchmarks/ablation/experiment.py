"""Train and measure every variant with every seed; what is there already is left alone."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.files import RunManifest, replacing, write_text_atomically
from stableviton_sdk.models.patch_autoencoder import PatchAutoencoder
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.training.augmentation import Augmentation
from stableviton_sdk.training.bundled.autoencoder import initialise_components, sample_images
from stableviton_sdk.training.config import DataConfig, LossConfig, TrainingConfig
from stableviton_sdk.training.loop.run_log import read_metrics
from stableviton_sdk.training.tryon.trainer import train

from .measure import baselines, measure
from .pairs import TEST_SEED, TRAINED_SEED, RenderedPairs, render_pairs
from .variants import FINEST_BLOCKS, VARIANTS, Variant, architecture, build, parameters

STYLES = ("studio", "shifted")  # trained on the first
LATENT_CHANNELS = 16
COMPONENT_FIGURES = 100  # that the autoencoder's linear map is computed from
SHOWN = 6  # unpaired results that are kept for the sheet
MEASURED_WITH = ("test_figures", "steps")  # of the protocol: weights don't depend on it
NETWORKS = ("unet", "spatial_encoder", "garment_encoder")


@dataclass(frozen=True)
class Protocol:
    """Settings that all runs have in common, and that their numbers depend on.

    Args:
        samples (`int`): Training samples of a run, both stages together.
        second_stage (`float`): Share of them in the second stage.
        batch_size (`int`): Samples of a step.
        learning_rate (`float`), second_learning_rate (`float`): Of either stage, each with a cosine decay to zero.
        figures (`int`): Rendered figures to train on, each in two garments.
        test_figures (`int`): Figures to measure on, of either style, each paired and unpaired.
        height (`int`), width (`int`): Of the images, in pixels; 4:3.
        widths (`list[int]`): Channels of the three levels.
        steps (`int`): Denoising steps.
        total_variation (`float`): Weight of the attention total variation loss.
        correspondence (`float`): Weight of the cross-entropy, where there is supervision.
    """

    samples: int
    second_stage: float
    batch_size: int
    learning_rate: float
    second_learning_rate: float
    figures: int
    test_figures: int
    height: int
    width: int
    widths: list[int]
    steps: int
    total_variation: float
    correspondence: float

    def __post_init__(self):
        if not 0 < self.second_stage < 1 or min(self.stage_steps) < 1:
            raise InvalidInput(
                f"{self.samples} samples in batches of {self.batch_size}, {self.second_stage} of them in the second "
                "stage, leave a stage without a step: pass more samples, or a share between 0 and 1."
            )
        if len(self.widths) != 3 or any(width < 8 or width % 8 for width in self.widths):
            raise InvalidInput(f"widths are {self.widths}: pass three multiples of 8.")
        if any(side < 32 or side % 8 for side in (self.height, self.width)):
            raise InvalidInput(f"the images are {self.width} x {self.height}: pass a height that is a multiple of 32.")
        for name in ("figures", "test_figures", "steps"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} is {getattr(self, name)}: pass a number from 1.")

    @property
    def stage_steps(self) -> tuple[int, int]:
        """Optimizer steps of either stage."""
        total = self.samples // self.batch_size
        second = round(total * self.second_stage)
        return total - second, second


class Experiment:
    """All runs of a protocol.

    Args:
        protocol (`Protocol`): Settings that all runs have in common.
        work (`Path`): Folder for what can be made again: rendered pairs, weights, logs.
        results (`Path`): Folder for the numbers of every run.
        cpu (`bool`, *optional*, defaults to `False`): Stay on the CPU.
        log (`Callable`, *optional*, defaults to `print`): Function that takes lines of progress.
    """

    def __init__(
        self,
        protocol: Protocol,
        work: Path,
        results: Path,
        cpu: bool = False,
        log: Callable[[str], None] = print,
    ):
        self.protocol, self.work, self.results, self.cpu, self.log = protocol, work, results, cpu, log
        settings = dataclasses.asdict(protocol)
        # what is trained may be measured again, in another way, into another folder
        trained_with = {name: value for name, value in settings.items() if name not in MEASURED_WITH}
        RunManifest(work, name="protocol.json").open_or_refuse(trained_with)
        RunManifest(results, name="protocol.json").open_or_refuse(settings)
        self._pairs: dict[str, RenderedPairs] = {}
        self._vae: PatchAutoencoder | None = None

    def run(self, variant: Variant, seed: int) -> None:
        """Train and measure one variant with one seed, unless that's done already."""
        path = self.results / f"{variant.name}-seed-{seed}.json"
        if path.is_file():
            self.log(f"{path.stem}: there already")
            return
        first_steps, second_steps = self.protocol.stage_steps
        pipeline = build(variant, self.architecture, self.vae, seed)
        folder = self.work / f"seed-{seed}"
        first = self._stage(pipeline, folder / variant.first_stage, self.config(variant, seed, second=False))
        second = self._stage(pipeline, folder / variant.name, self.config(variant, seed, second=True))
        start = time.perf_counter()
        measured, shown = {}, {}
        device = torch.device("cuda" if torch.cuda.is_available() and not self.cpu else "cpu")
        pipeline.to(device)
        for style in STYLES:
            measured[style], images = measure(
                pipeline, self.pairs(style), steps=self.protocol.steps, attention=variant.attention
            )
            shown[style] = images[:SHOWN]
        np.savez_compressed(self.work / f"{variant.name}-seed-{seed}.npz", **shown)
        outcome = {
            "variant": variant.name,
            "seed": seed,
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
            "parameters": {name: parameters(getattr(pipeline, name)) for name in NETWORKS},
            "optimizer_steps": [first_steps, second_steps],
            "training": [first, second],
            "measured": measured,
            "measuring_seconds": round(time.perf_counter() - start, 1),
        }
        write_json(path, outcome)
        unpaired = measured[STYLES[0]]["unpaired"]
        self.log(f"{path.stem}: unpaired {unpaired['psnr']:.2f} dB, SSIM {unpaired['ssim']:.3f}")

    def run_baselines(self) -> None:
        """Score the reference images, which no try-on network made."""
        path = self.results / "baselines.json"
        if not path.is_file():
            write_json(path, {style: baselines(self.pairs(style), self.vae) for style in STYLES})

    def config(self, variant: Variant, seed: int, second: bool) -> TrainingConfig:
        """Configuration of one stage: the same for all variants but for what their names say."""
        protocol = self.protocol
        steps = protocol.stage_steps[second]
        with_variation = second and variant.total_variation
        return TrainingConfig(
            output=str(self.work / f"seed-{seed}" / (variant.name if second else variant.first_stage)),
            stage="atv" if with_variation else "base",
            data=DataConfig(kind="synthetic", size=(protocol.width, protocol.height)),
            loss=LossConfig(
                total_variation=protocol.total_variation,
                correspondence="cross-entropy" if variant.supervised else "none",
                correspondence_weight=protocol.correspondence,
                blocks=FINEST_BLOCKS,
                unmasked_weight=0.2,
            ),
            augmentation=Augmentation() if variant.augmented else None,
            trainable="full",
            train_vision_tower=True,
            steps=steps,
            batch_size=protocol.batch_size,
            learning_rate=protocol.second_learning_rate if second else protocol.learning_rate,
            schedule="cosine",
            warmup_steps=min(20, steps // 4),
            unconditional_probability=0.1,
            timestep_power=0.5,
            ema_decay=0.98,
            seed=seed + 1000 * second,  # another order and other noise
            workers=0,
            checkpoint_every=min(steps, 1000),
            keep_checkpoints=1,
            log_every=max(1, steps // 20),
            cpu=self.cpu,
        )

    @property
    def architecture(self) -> dict[str, Any]:
        return architecture((self.protocol.width, self.protocol.height), self.protocol.widths, LATENT_CHANNELS)

    @property
    def vae(self) -> PatchAutoencoder:
        """Principal components of rendered patches; the correction, untrained, adds nothing."""
        if self._vae is None:
            self._vae = PatchAutoencoder(
                latent_channels=LATENT_CHANNELS, block_out_channels=(4, 4, 4, 4), layers_per_block=0
            )
            count = min(2 * COMPONENT_FIGURES, len(self.pairs("trained")))
            initialise_components(self._vae, sample_images(self.pairs("trained"), range(count)))
        return self._vae

    def pairs(self, name: str) -> RenderedPairs:
        """Those trained on (`"trained"`), or the test's of a style."""
        if name not in self._pairs:
            trained = name == "trained"
            style = STYLES[0] if trained else name
            figures = self.protocol.figures if trained else self.protocol.test_figures
            seed = TRAINED_SEED if trained else TEST_SEED
            path = self.work / f"{style}-{seed}-{figures}.npz"
            self.log(f"figures: {path}")
            self._pairs[name] = render_pairs(path, figures, seed, style, (self.protocol.width, self.protocol.height))
        return self._pairs[name]

    def _stage(self, pipeline: TryOnPipeline, folder: Path, config: TrainingConfig) -> list[dict[str, float]]:
        """Train one stage, or load what it led to; the metrics noted."""
        weights = folder / "stage.safetensors"
        if not weights.is_file():
            start = time.perf_counter()
            train(config, data=self.pairs("trained"), pipeline=pipeline, progress=False)
            state = {
                f"{name}.{key}": value.cpu()
                for name in NETWORKS
                for key, value in getattr(pipeline, name).state_dict().items()
            }
            with replacing(weights) as partial:
                save_file(state, partial)
            seconds = time.perf_counter() - start
            rate = config.steps * config.batch_size / seconds
            self.log(f"{folder.parent.name}/{folder.name}: {seconds:.0f} s, {rate:.1f} samples/s")
        state = load_file(weights)
        for name in NETWORKS:
            prefix = f"{name}."
            own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            _load(getattr(pipeline, name), own)
        return read_metrics(folder / "metrics.jsonl")


def chosen_variants(names: list[str] | None) -> list[Variant]:
    """The variants named, in the table's order; all by default."""
    if names is None:
        return list(VARIANTS.values())
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        raise InvalidInput(f"there is no variant {unknown[0]!r}: pass some of {', '.join(VARIANTS)}.")
    return [variant for name, variant in VARIANTS.items() if name in names]


def write_json(path: Path, content: Any) -> None:
    """Write under a temporary name, then rename."""
    write_text_atomically(path, json.dumps(content, indent=1) + "\n")


def _load(network: nn.Module, state: dict[str, torch.Tensor]) -> None:
    network.load_state_dict({key: value.to(network.device) for key, value in state.items()})
