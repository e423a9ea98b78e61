"""Try-on results for every pair of a data set; an interrupted run resumes and ends with the same images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..errors import InvalidInput
from ..files import write_text_atomically
from ..images import save_atomically
from .data import EvalPair, EvaluationData

if TYPE_CHECKING:
    import torch

    from ..pipelines.pipeline_tryon import TryOnPipeline
    from ..preprocessing.inputs import TryOnInputs

MANIFEST = "manifest.json"
IMAGES, MASKS = "images", "masks"


@dataclass(frozen=True)
class InferenceSettings:
    """Options of the pipeline's call, the same for all pairs of a run.

    Args:
        steps (`int`, *optional*, defaults to 50): Denoising steps.
        guidance_scale (`float`, *optional*, defaults to 1.0): 1 turns guidance off.
        start (`str`, *optional*, defaults to `"agnostic"`): What is noised to start from; see the pipeline.
        seed (`int`, *optional*, defaults to 0): Of the noise, together with each pair's name.
        batch_size (`int`, *optional*, defaults to 1): Pairs at once. It changes no noise, and pixels by rounding only.
        repaint (`bool`, *optional*, defaults to `True`): Keep the photo's pixels outside the mask.
    """

    steps: int = 50
    guidance_scale: float = 1.0
    start: str = "agnostic"
    seed: int = 0
    batch_size: int = 1
    repaint: bool = True

    def __post_init__(self):
        for name, least in (("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InvalidInput(f"{name} is {value!r}: pass a whole number from {least}.")


def pair_generator(seed: int, name: str) -> torch.Generator:
    """The generator of one pair's noise, on the CPU: the same in every batch, order and run, on every device.

    Args:
        seed (`int`): Of the run.
        name (`str`): Of the pair.
    """
    import torch

    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


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
    for leftover in folder.glob("*/.*.partial*"):  # of a run that was killed while it wrote
        leftover.unlink()
    problems: dict[str, str] = {}
    with tqdm(total=len(data), desc="generating", unit="pair", disable=not progress) as bar:
        for first in range(0, len(data), settings.batch_size):
            batch = range(first, min(first + settings.batch_size, len(data)))
            if not all(image_path(folder, data.names[index]).is_file() for index in batch):
                _generate_batch(pipeline, [data[index] for index in batch], folder, settings, problems)
            bar.update(len(batch))
    return problems


def image_path(folder: Path, name: str) -> Path:
    """Where a pair's result is stored."""
    return folder / IMAGES / f"{name}.png"


def mask_path(folder: Path, name: str) -> Path:
    """Where a pair's mask is stored if the data had none."""
    return folder / MASKS / f"{name}.png"


def describe_model(pipeline: TryOnPipeline, name: str | None = None) -> dict[str, Any]:
    """What makes one model's results differ from another's: weights, number types, scheduler.

    Args:
        pipeline (`TryOnPipeline`): Whose weights are all on a device, none offloaded.
        name (`str`, *optional*): What its user calls it.

    Raises:
        `InvalidInput`: if weights are offloaded, so that there is nothing to take the hash of.
    """
    scheduler = {key: value for key, value in pipeline.scheduler.config.items() if not key.startswith("_")}
    return {
        "name": name,
        "weights_sha256": weights_sha256(pipeline),
        "dtype": str(pipeline.unet.dtype).removeprefix("torch."),
        "trained_size": list(pipeline.default_size),
        "scheduler": {"class": type(pipeline.scheduler).__name__, **json.loads(json.dumps(scheduler, default=str))},
    }


def weights_sha256(pipeline: TryOnPipeline) -> str:
    """sha256 over the networks' tensors: names, shapes, types and values, in the order of their names.

    It's the same however the weights are stored, and another one for another number type.
    """
    import torch

    digest = hashlib.sha256()
    for name, component in sorted(pipeline.components.items()):
        if not isinstance(component, torch.nn.Module):
            continue
        for key, tensor in sorted(component.state_dict().items()):
            if tensor.device.type == "meta":
                raise InvalidInput("the pipeline's weights are offloaded: evaluate it before you turn that on.")
            digest.update(f"{name}.{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            values = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(memoryview(values.view(torch.uint8).numpy()) if values.numel() else b"")
    return digest.hexdigest()


def begin_or_resume(folder: Path, manifest: dict[str, Any]) -> None:
    """Begin a run in a folder, or go on with the one that it holds.

    Args:
        folder (`Path`): New, empty, or of a run.
        manifest (`dict`): All that the images follow from.

    Raises:
        `InvalidInput`: if the folder holds a run that differs, or something else.
    """
    manifest = json.loads(json.dumps(manifest))
    path = folder / MANIFEST
    if path.is_file():
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InvalidInput(f"{path} is damaged ({error}): pass another folder.") from error
        differing = list(differences(old, manifest))
        if differing:
            name, before, now = differing[0]
            if isinstance(before, dict) or isinstance(now, dict):
                raise InvalidInput(
                    f"{folder} holds a run of another sort (a model's, or about existing results): pass another one."
                )
            more = f" (and {len(differing) - 1} more differences)" if differing[1:] else ""
            raise InvalidInput(
                f"{folder} holds a run whose {name} is {before}, not {now}{more}: pass another folder, or the same "
                "settings to go on with it."
            )
        return
    for leftover in folder.glob(f".{path.stem}.*.partial*"):  # of a run that was killed while it wrote this file
        leftover.unlink()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InvalidInput(f"{folder} holds something else than an evaluation: pass a new or empty folder.")
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps(manifest, indent=2) + "\n")


def differences(first: Any, second: Any, name: str = "") -> Iterable[tuple[str, Any, Any]]:
    """Where two nested dictionaries differ: dotted name, and either value."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys([*first, *second]):
            yield from differences(first.get(key), second.get(key), f"{name}.{key}" if name else str(key))
    elif first != second:
        yield name, first, second


def _generate_batch(
    pipeline: TryOnPipeline, cases: list[EvalPair], folder: Path, settings: InferenceSettings, problems: dict[str, str]
) -> None:
    ready: list[tuple[EvalPair, TryOnInputs]] = []
    for case in cases:
        if pipeline.preprocessor is None and (case.mask is None or case.densepose is None):
            raise InvalidInput(
                f"{case.name} has no mask or DensePose image, and the pipeline has no preprocessor to derive them: "
                "add them to the data, or load the pipeline with a preprocessor."
            )
        try:
            ready.append((case, _prepare(pipeline, case)))
        except InvalidInput as error:
            problems[case.name] = str(error)
    if not ready:
        return
    height, width = ready[0][0].person.shape[:2]
    try:
        images = pipeline(
            [inputs for _, inputs in ready],
            [Image.fromarray(case.garment) for case, _ in ready],
            height=height,
            width=width,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            start=settings.start,
            repaint=settings.repaint,
            generator=[pair_generator(settings.seed, case.name) for case, _ in ready],
        ).images
    except InvalidInput as error:
        raise InvalidInput(f"{', '.join(case.name for case, _ in ready)}: {error}") from error
    for (case, inputs), image in zip(ready, images, strict=True):
        if case.mask is None:
            save_atomically(_mask_of(inputs), mask_path(folder, case.name))
        save_atomically(image, image_path(folder, case.name))


def _prepare(pipeline: TryOnPipeline, case: EvalPair) -> TryOnInputs:
    """The person with all maps; what the data lacks is derived.

    Raises:
        `InvalidInput`: if the person can't be prepared.
    """
    from ..preprocessing.inputs import TryOnInputs

    if case.garment is None:
        raise InvalidInput("there is no image of the garment.")
    if case.mask is not None and (case.mask.all() or not case.mask.any()):
        raise InvalidInput("its mask is all of one value, so there is nothing to repaint, or nothing to keep.")
    if case.mask is None or case.densepose is None:
        height, width = case.person.shape[:2]
        inputs = pipeline.prepare(Image.fromarray(case.person), height=height, width=width)
        given = {"mask": case.mask, "densepose": case.densepose}
        return inputs.replace(**{name: image for name, image in given.items() if image is not None})
    return TryOnInputs.of_whole_photo(case.person, case.mask, case.densepose, case.agnostic)


def _mask_of(inputs: TryOnInputs) -> Image.Image:
    """A derived mask, of the whole photo."""
    patch, corner = inputs.frame.restore(inputs.mask, resample=Image.Resampling.BILINEAR)
    mask = Image.new("L", inputs.photo.size, 0)
    mask.paste(patch.point(lambda value: 255 if value >= 128 else 0), corner)
    return mask
