"""Accuracy of the attention as a correspondence, measured on rendered figures, whose truth is known.

```python
samples = SyntheticDataset(8, seed=1000)
report = measure_correspondence(pipe, samples, steps=10)
print(report.to_markdown())
```
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ...choices import SETTINGS, Setting
from ...errors import InvalidInput
from ...preprocessing.inputs import TryOnInputs
from ...validation import check_choice, is_whole_number
from .recorder import CorrespondenceRecorder, GroundTruth, Measured

if TYPE_CHECKING:
    from ...pipelines.pipeline_tryon import TryOnPipeline


@dataclass(frozen=True)
class BlockCorrespondence:
    """Accuracy and sharpness of one block's attention, over the cells on the worn garment.

    Args:
        mean (`float`), percentile_90 (`float`):
            Distance between the place that a cell expects, averaged over steps, and the true one, in pixels of the
            garment's image.
        constant_mean (`float`), constant_percentile_90 (`float`):
            The same for attention spread evenly over the garment, which expects the image's middle everywhere.
        entropy (`float`): Entropy of the head-averaged map in nats, mean over cells and steps; `log(keys)` if even.
        total_variation (`float`): Attention total variation, as the loss minimises it, in key cells; 0 if constant.
        query_size (`tuple[int, int]`), key_size (`tuple[int, int]`): Height and width of both maps in cells.
        queries (`int`): Number of cells on the worn garment.
    """

    mean: float
    percentile_90: float
    constant_mean: float
    constant_percentile_90: float
    entropy: float
    total_variation: float
    query_size: tuple[int, int]
    key_size: tuple[int, int]
    queries: int


@dataclass(frozen=True)
class CorrespondenceReport:
    """Result of `measure_correspondence`.

    Args:
        garment_size (`tuple[int, int]`): Width and height of the garments' images; distances are in their pixels.
        blocks (`dict[int, BlockCorrespondence]`):
            Numbers by block (0 is the decoder's lowest resolution): distances and entropy over the cells of all
            samples, the total variation averaged over samples.
        samples (`list[dict[int, BlockCorrespondence]]`): The same for every sample.
        protocol (`dict[str, Any]`): Settings of the measurement.
    """

    garment_size: tuple[int, int]
    blocks: dict[int, BlockCorrespondence]
    samples: list[dict[int, BlockCorrespondence]]
    protocol: dict[str, Any]

    @property
    def best_block(self) -> int:
        """The block with the smallest mean distance."""
        return min(self.blocks, key=lambda block: self.blocks[block].mean)

    def scaled_to(self, height: int) -> CorrespondenceReport:
        """The same report with distances in pixels of garment images `height` pixels high."""
        factor = height / self.garment_size[1]
        names = ("mean", "percentile_90", "constant_mean", "constant_percentile_90")

        def scaled(blocks: dict[int, BlockCorrespondence]) -> dict[int, BlockCorrespondence]:
            return {
                block: dataclasses.replace(found, **{name: getattr(found, name) * factor for name in names})
                for block, found in blocks.items()
            }

        size = (round(self.garment_size[0] * factor), int(height))
        return CorrespondenceReport(size, scaled(self.blocks), [scaled(one) for one in self.samples], self.protocol)

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {
            "protocol": self.protocol,
            "garment_size": list(self.garment_size),
            "blocks": {str(block): dataclasses.asdict(found) for block, found in self.blocks.items()},
            "samples": [
                {str(block): dataclasses.asdict(found) for block, found in one.items()} for one in self.samples
            ],
        }

    def to_markdown(self) -> str:
        """A table of the blocks."""
        width, height = self.garment_size
        lines = [
            f"Distances in pixels of a {width} x {height} garment; {len(self.samples)} samples.",
            "",
            "| block | cells | mean | 90 % | constant map: mean | 90 % | entropy (even map) | total variation |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for block, found in self.blocks.items():
            even = np.log(found.key_size[0] * found.key_size[1])
            lines.append(
                f"| {block} | {found.query_size[1]} x {found.query_size[0]} | {found.mean:.2f} "
                f"| {found.percentile_90:.2f} | {found.constant_mean:.2f} | {found.constant_percentile_90:.2f} "
                f"| {found.entropy:.2f} ({even:.2f}) | {found.total_variation:.3f} |"
            )
        return "\n".join(lines)


def summarise(parts: Sequence[Measured]) -> BlockCorrespondence:
    """One block's numbers over any number of images; images without a cell that counts are left out.

    Raises:
        `InvalidInput`: if no cell counts at all.
    """
    parts = [part for part in parts if part.distances.size]
    if not parts:
        raise InvalidInput(
            "no cell of the attention lies on a worn garment: pass samples that show one, or a larger size."
        )
    distances, constant = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("distances", "constant")
    )
    counts = [part.distances.size for part in parts]
    return BlockCorrespondence(
        mean=float(distances.mean()),
        percentile_90=float(np.percentile(distances, 90)),
        constant_mean=float(constant.mean()),
        constant_percentile_90=float(np.percentile(constant, 90)),
        entropy=float(np.average([part.entropy for part in parts], weights=counts)),
        total_variation=float(np.mean([part.total_variation for part in parts])),
        query_size=parts[0].query_size,
        key_size=parts[0].key_size,
        queries=int(distances.size),
    )


def measure_correspondence(
    pipe: TryOnPipeline,
    samples: Sequence[Any],
    *,
    steps: int = 50,
    guidance_scale: float = 1.0,
    seed: int = 0,
    setting: Setting = "paired",
    progress: Callable[[int, int], None] | None = None,
) -> CorrespondenceReport:
    """Distance between where attention looks and where the garment's pixels truly are, on rendered figures.

    The network gets the renderer's own mask, agnostic and DensePose images, so nothing but the network is measured.
    Attention is averaged over the last half of the steps, as `TryOnAttention.source_of` does; every sample's
    noise follows from the seed and its place alone.

    Args:
        pipe (`TryOnPipeline`): The model, at its own size; the samples must have its proportions.
        samples (`Sequence`):
            `SyntheticSample`s, or dictionaries as from `SyntheticDataset`: with `person`, `mask`, `agnostic`,
            `densepose`, `garment`, `correspondence` and `worn_mask`.
        steps (`int`, *optional*, defaults to 50): Number of denoising steps.
        guidance_scale (`float`, *optional*, defaults to 1.0): The call's guidance scale.
        seed (`int`, *optional*, defaults to 0): Seed of the noise, not negative.
        setting (`str`, *optional*, defaults to `"paired"`):
            `"paired"`: the garment that the person wears. `"unpaired"`: the sample's other garment, whose truth is
            known too (`garment_other`, `correspondence_other`, `worn_mask_other`).
        progress (`Callable`, *optional*): Called as `progress(done, total)` after every sample.

    Returns:
        `CorrespondenceReport`

    Raises:
        `InvalidInput`: if an argument or a sample can't be used.
    """
    check_choice("setting", setting, SETTINGS)
    if not is_whole_number(seed) or seed < 0:
        raise InvalidInput(f"seed is {seed!r}: pass a whole number that isn't negative.")
    if len(samples) == 0:
        raise InvalidInput("samples is empty: pass at least one sample to measure.")
    measured: list[dict[int, Measured]] = []
    averaged = last_half_of_steps(pipe, steps)
    width, height = pipe.default_size
    garment_size = None
    for index in range(len(samples)):
        inputs, garment, correspondence, worn_mask = _read_sample(samples[index], index, setting)
        if garment_size not in (None, garment.size):
            raise InvalidInput(
                f"the garment of sample {index} is {garment.size} (width, height), those before are {garment_size}: "
                "pass samples of one size."
            )
        garment_size = garment.size
        prepared = pipe.prepare_garment(garment)
        truth = GroundTruth(correspondence, worn_mask, prepared)
        recorder = CorrespondenceRecorder([truth], averaged)
        noise = np.random.SeedSequence([int(seed), index]).generate_state(1)[0]
        pipe(
            inputs,
            prepared,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            generator=torch.Generator().manual_seed(int(noise)),
            output_type="latent",
            output_attention=recorder,
        )
        measured += recorder.measures()
        if progress is not None:
            progress(index + 1, len(samples))
    return CorrespondenceReport(
        garment_size=garment_size,
        blocks={block: summarise([one[block] for one in measured]) for block in measured[0]},
        samples=[{block: summarise([part]) for block, part in one.items() if part.distances.size} for one in measured],
        protocol={
            "setting": setting,
            "samples": len(samples),
            "height": height,
            "width": width,
            "steps": steps,
            "averaged_steps": sorted(averaged),
            "guidance_scale": guidance_scale,
            "seed": int(seed),
            "scheduler": type(pipe.scheduler).__name__,
        },
    )


def last_half_of_steps(pipe: TryOnPipeline, steps: int) -> range:
    """Indices of the steps that are averaged; a scheduler may run the network more often than `steps` says."""
    if not is_whole_number(steps) or not 1 <= steps <= 1000:
        raise InvalidInput(f"steps is {steps!r}: pass a whole number from 1 to 1000.")
    scheduler = copy.deepcopy(pipe.scheduler)
    scheduler.set_timesteps(steps)
    count = len(scheduler.timesteps)
    return range(count // 2, count)


def _read_sample(sample: Any, index: int, setting: str) -> tuple[TryOnInputs, Image.Image, np.ndarray, np.ndarray]:
    """Inputs and garment for the pipeline, correspondence and worn mask to measure with."""
    suffix = "_other" if setting == "unpaired" else ""
    parts = {}
    for name, ndim in (
        *((name, 3) for name in ("person", "agnostic", "densepose", f"garment{suffix}", f"correspondence{suffix}")),
        *((name, 2) for name in ("mask", f"worn_mask{suffix}")),
    ):
        value = sample.get(name) if isinstance(sample, Mapping) else getattr(sample, name, None)
        if not isinstance(value, np.ndarray) or value.ndim != ndim:
            raise InvalidInput(f"sample {index} has no array of {ndim} dimensions as {name}: pass rendered samples.")
        parts[name] = value
    correspondence, worn_mask = parts[f"correspondence{suffix}"], parts[f"worn_mask{suffix}"]
    size = parts["person"].shape[:2]
    if correspondence.shape != (*size, 2) or worn_mask.shape != size:
        raise InvalidInput(
            f"sample {index}: correspondence{suffix} is {correspondence.shape} and worn_mask{suffix} "
            f"{worn_mask.shape} for a person of {size}: pass both for every pixel of the person."
        )
    inputs = TryOnInputs.from_maps(
        parts["person"],
        mask=parts["mask"].astype(bool),
        densepose=parts["densepose"],
        agnostic=parts["agnostic"],
    )
    return inputs, Image.fromarray(parts[f"garment{suffix}"]), correspondence, worn_mask
