"""Try-on results for every pair of a data set; an interrupted run resumes and ends with the same images."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..errors import InvalidInput, shortened
from ..files import RunManifest, remove_leftovers, write_text_atomically
from ..images import save_atomically
from ..pipelines.seeds import pair_generator
from .data import EvalPair, EvaluationData

if TYPE_CHECKING:
    from ..pipelines.pipeline_tryon import TryOnPipeline
    from ..preprocessing.inputs import TryOnInputs

IMAGES, MASKS = "images", "masks"


@dataclass(frozen=True)
class InferenceSettings:
    """Options of the pipeline's call, the same for all pairs of a run.

    Args:
        steps (`int`, *optional*): Number of denoising steps; by default as many as the quality has.
        quality (`str`, *optional*, defaults to `"exact"`): The call's quality.
        guidance_scale (`float`, *optional*, defaults to 1.0): Weight of the garment; 1 turns guidance off.
        init_from (`str`, *optional*, defaults to `"agnostic"`): Image that is noised first, as for the pipeline.
        seed (`int`, *optional*, defaults to 0): Seed of the noise, together with each pair's name.
        batch_size (`int`, *optional*, defaults to 1): Pairs at once. It changes no noise, and pixels by rounding only.
        paste_back (`bool`, *optional*, defaults to `True`): Whether the photo's pixels outside the mask are kept.
        detail (`float`, *optional*): Detail transfer, as for the pipeline; the weights' `default_detail` by default.
    """

    steps: int | None = None
    quality: str = "exact"
    guidance_scale: float = 1.0
    init_from: str = "agnostic"
    seed: int = 0
    batch_size: int = 1
    paste_back: bool = True
    detail: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InvalidInput(f"{name} is {value!r}: pass a whole number from {least}.")

    def resolved_for(self, pipeline: TryOnPipeline) -> InferenceSettings:
        """These settings with what the weights choose stated: the detail, and the steps of exact results."""
        settings = self
        if settings.steps is None and settings.quality == "exact":
            settings = replace(settings, steps=pipeline.quality_preset(settings.quality).num_inference_steps)
        return settings if settings.detail is not None else replace(settings, detail=pipeline.config.default_detail)

    def call_options(self) -> dict[str, Any]:
        """Arguments of the pipeline's call that the images depend on."""
        return {
            "num_inference_steps": self.steps,
            "quality": self.quality,
            "guidance_scale": self.guidance_scale,
            "init_from": self.init_from,
            "paste_back": self.paste_back,
            "detail": self.detail,
        }


def run_inference(
    pipeline: TryOnPipeline,
    data: EvaluationData,
    folder: Path,
    settings: InferenceSettings,
    *,
    progress: bool = True,
) -> dict[str, str]:
    """Generate the results that a folder lacks.

    Batches are fixed by the pairs' order in the data. Where one result of a batch is missing, the whole batch is
    generated again, so that an interrupted run ends with the same pixels as an uninterrupted one.

    Args:
        pipeline (`TryOnPipeline`): On its device already.
        data (`EvaluationData`): The pairs.
        folder (`Path`): Output folder; results go to `images/NAME.png`, derived masks to `masks/NAME.png`.
        settings (`InferenceSettings`): Options of the call.
        progress (`bool`, *optional*, defaults to `True`): Show a bar.

    Returns:
        `dict[str, str]`: by name, why a pair has no result.

    Raises:
        `InvalidInput`: if the pipeline refuses a batch, naming its pairs.
    """
    from tqdm import tqdm

    pipeline.set_progress_bar_config(disable=True)
    for part in (IMAGES, MASKS):
        remove_leftovers(folder / part)
    problems: dict[str, str] = {}
    with tqdm(total=len(data), desc="generating", unit="pair", disable=not progress) as bar:
        for first in range(0, len(data), settings.batch_size):
            batch = range(first, min(first + settings.batch_size, len(data)))
            if not all(image_path(folder, data.names[index]).is_file() for index in batch):
                _generate_batch(pipeline, [data[index] for index in batch], folder, settings, problems)
            bar.update(len(batch))
    return problems


def image_path(folder: Path, name: str) -> Path:
    """Path of a pair's result."""
    return folder / IMAGES / f"{name}.png"


def mask_path(folder: Path, name: str) -> Path:
    """Path of a pair's mask, where it is derived because the data has none."""
    return folder / MASKS / f"{name}.png"


def begin_or_resume(
    folder: Path, content: dict[str, Any], *, unstated: InferenceSettings = InferenceSettings()
) -> None:
    """Begin a run in a folder, or go on with the one that it holds.

    Args:
        folder (`Path`): A new or empty folder, or one of a run.
        content (`dict`): All that the images follow from, as JSON holds it.
        unstated (`InferenceSettings`, *optional*): What a run used of settings that were unknown when it began.

    Raises:
        `InvalidInput`: if the folder holds a run that differs, or something else.
    """
    manifest = RunManifest(folder, kind="evaluation")
    before = manifest.read()
    if before is not None and (renamed := _in_todays_names(before, unstated)) != before:
        write_text_atomically(manifest.path, json.dumps(renamed, indent=2) + "\n")
    manifest.open_or_refuse(content)


def _in_todays_names(manifest: dict[str, Any], unstated: InferenceSettings) -> dict[str, Any]:
    """A run's manifest, with names of before replaced and settings added that were unknown when it began."""
    manifest = {name: dict(part) if isinstance(part, dict) else part for name, part in manifest.items()}
    for part, old, new in (("data", "size", "{}"), ("model", "trained_size", "trained_{}")):
        if old in manifest.get(part, {}):
            height, width = manifest[part].pop(old)
            manifest[part] |= {new.format("width"): width, new.format("height"): height}
    if settings := manifest.get("settings"):
        for old, new in (("start", "init_from"), ("repaint", "paste_back")):
            if old in settings:
                settings[new] = settings.pop(old)
        manifest["settings"] = asdict(unstated) | settings
    return manifest


def _generate_batch(
    pipeline: TryOnPipeline, pairs: list[EvalPair], folder: Path, settings: InferenceSettings, problems: dict[str, str]
) -> None:
    ready: list[tuple[EvalPair, TryOnInputs]] = []
    for pair in pairs:
        if pipeline.preprocessor is None and (pair.mask is None or pair.densepose is None):
            raise InvalidInput(
                f"{pair.name} has no mask or DensePose image, and the pipeline has no preprocessor to derive them: "
                "add them to the data, or load the pipeline with a preprocessor."
            )
        try:
            ready.append((pair, _prepare(pipeline, pair)))
        except InvalidInput as error:
            problems[pair.name] = str(error)
    if not ready:
        return
    height, width = ready[0][0].person.shape[:2]
    try:
        images = pipeline(
            [inputs for _, inputs in ready],
            [Image.fromarray(pair.garment) for pair, _ in ready],
            height=height,
            width=width,
            generator=[pair_generator(settings.seed, pair.name) for pair, _ in ready],
            **settings.call_options(),
        ).images
    except InvalidInput as error:
        raise InvalidInput(f"{shortened([pair.name for pair, _ in ready])}: {error}") from error
    for (pair, inputs), image in zip(ready, images, strict=True):
        if pair.mask is None:
            save_atomically(inputs.photo_mask(), mask_path(folder, pair.name))
        save_atomically(image, image_path(folder, pair.name))


def _prepare(pipeline: TryOnPipeline, pair: EvalPair) -> TryOnInputs:
    """The person with all maps; what the data lacks is derived.

    Raises:
        `InvalidInput`: if the person can't be prepared.
    """
    from ..preprocessing.inputs import TryOnInputs

    if pair.garment is None:
        raise InvalidInput("there is no image of the garment.")
    if pair.mask is not None and (pair.mask.all() or not pair.mask.any()):
        raise InvalidInput("its mask is all of one value, so there is nothing to repaint, or nothing to keep.")
    if pair.mask is None or pair.densepose is None:
        height, width = pair.person.shape[:2]
        inputs = pipeline.prepare(Image.fromarray(pair.person), height=height, width=width)
        given = {"mask": pair.mask, "densepose": pair.densepose}
        return inputs.replace(**{name: image for name, image in given.items() if image is not None})
    return TryOnInputs.from_maps(pair.person, mask=pair.mask, densepose=pair.densepose, agnostic=pair.agnostic)
