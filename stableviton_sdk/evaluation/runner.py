"""`evaluate`: generate missing results, measure all of them, write the report."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import FEATURE_LIBRARIES, METRICS, FeatureLibrary
from ..errors import InvalidInput, SeveralProblems
from ..files import write_text_atomically
from ..images import save_atomically
from ..pipelines.identity import describe_model
from ..validation import check_choice
from .data import EvaluationData
from .inference import IMAGES, InferenceSettings, begin_or_resume, mask_path, run_inference
from .metric_networks import MetricNetworks, load_networks
from .metrics import require
from .report import build_report, to_json, to_markdown, versions
from .scoring import ResultsFolder, score
from .sheet import draw_sheet

if TYPE_CHECKING:
    from ..pipelines.pipeline_tryon import TryOnPipeline

REPORT, TABLE, SHEET = "report.json", "report.md", "contact.png"


class IncompleteResults(SeveralProblems):
    """Some pairs have no result that can be measured.

    Args:
        problems (`dict[str, str]`): One sentence for each, by the pair's name.
        count (`int`): Number of all pairs.
        outcome (`str`): Consequence for the report.
    """

    def __init__(self, problems: dict[str, str], count: int, outcome: str):
        self.count = count
        self.outcome = outcome
        super().__init__(
            f"{len(problems)} of {count} pairs have no result that can be measured, so {outcome}", problems
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return IncompleteResults, (self.problems, self.count, self.outcome)


def evaluate(
    data: EvaluationData,
    output: str | os.PathLike[str],
    *,
    pipeline: TryOnPipeline | None = None,
    results: str | os.PathLike[str] | None = None,
    settings: InferenceSettings | None = None,
    metrics: Collection[str] = METRICS,
    feature_library: FeatureLibrary = "clean-fid",
    networks: MetricNetworks | None = None,
    model_name: str | None = None,
    incomplete: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Evaluate a pipeline, or results that exist.

    Args:
        data (`EvaluationData`): The pairs, such as `load_data` opens.
        output (`str` or `os.PathLike`):
            Folder for `report.json`, `report.md`, `contact.png`, and a pipeline's results in `images`. An interrupted
            run goes on in it; one with other settings is refused.
        pipeline (`TryOnPipeline`, *optional*): Model to evaluate, on its device already.
        results (`str` or `os.PathLike`, *optional*):
            Folder of images of the data's size instead of a pipeline, called `PERSON_GARMENT` or `PERSON`.
        settings (`InferenceSettings`, *optional*): Options of the pipeline's call.
        metrics (`Collection[str]`, *optional*): Names of metrics, some of `METRICS`; all by default.
        feature_library (`str`, *optional*, defaults to `"clean-fid"`):
            Library of FID and KID, `"clean-fid"` or `"torchmetrics"`.
        networks (`MetricNetworks`, *optional*): Networks of LPIPS, FID and KID; by default what `load_networks` finds.
        model_name (`str`, *optional*): Name of the pipeline in the report.
        incomplete (`bool`, *optional*, defaults to `False`):
            Whether to report on the other pairs if results are missing or unusable; the report lists those.
        progress (`bool`, *optional*, defaults to `True`): Whether to show progress bars.

    Returns:
        `dict`: the report, as in `report.json`.

    Raises:
        `IncompleteResults`: if pairs have no usable result, unless `incomplete`.
        `InvalidInput`: if an argument can't be used, or the folder holds another run.
        `MissingDependency`: without the extra `[eval]`.
    """
    if (pipeline is None) == (results is None):
        raise InvalidInput("pass either a pipeline or a folder of results.")
    unknown = sorted(set(metrics) - set(METRICS))
    if unknown or not metrics:
        raise InvalidInput(f"the metrics are {unknown or 'none'}: pass some of {', '.join(METRICS)}.")
    check_choice("feature_library", feature_library, FEATURE_LIBRARIES)
    require("torchmetrics.functional.image")
    output = Path(output)
    if pipeline is not None:
        settings = (settings or InferenceSettings()).resolved_for(pipeline)
        pipeline.check_inputs(  # before anything is written: a folder keeps the settings that it was begun with
            height=data.size[1],
            width=data.size[0],
            num_inference_steps=settings.steps or pipeline.quality_preset(settings.quality).num_inference_steps,
            guidance_scale=settings.guidance_scale,
            num_images_per_prompt=1,
            init_from=settings.init_from,
            output_type="pil",
            feather=0.0,
            detail=settings.detail,
        )
        device = pipeline._execution_device
        model = {**describe_model(pipeline, model_name), "device": device.type}
        source: dict[str, Any] = {"model": model, "settings": asdict(settings)}
        if settings.quality != "exact":
            source["preset"] = json.loads(json.dumps(asdict(pipeline.quality_preset(settings.quality))))
        # the same weights under another name are the same model
        identity = {name: value for name, value in model.items() if name != "name"}
        begin_or_resume(
            output,
            {"data": data.describe(), **source, "model": identity, "versions": versions(inference=True)},
            unstated=InferenceSettings(detail=pipeline.config.default_detail),
        )
    else:
        folder = Path(results).absolute()
        found = ResultsFolder(folder, data)
        if folder == output.absolute():
            raise InvalidInput(f"{output} holds the results: pass another folder for the report.")
        source, device = {"results": folder.name}, "cpu"
        begin_or_resume(output, {"data": data.describe(), "results": str(folder)})
    for name in (REPORT, TABLE, SHEET):
        (output / name).unlink(missing_ok=True)  # of an earlier run, about other images
    began = time.perf_counter()
    problems: dict[str, str] = {}
    if pipeline is not None:
        problems = run_inference(pipeline, data, output, settings, progress=progress)
        (output / IMAGES).mkdir(exist_ok=True)
        found = ResultsFolder(output / IMAGES, data)
    generated = time.perf_counter()
    if networks is None:
        networks = load_networks(metrics, feature_library, device)
    scores = score(
        data,
        found,
        networks,
        metrics=metrics,
        masks=None if pipeline is None else lambda name: mask_path(output, name),
        known_problems=problems,
        progress=progress,
    )
    if scores.problems and not (incomplete and scores.images):
        raise IncompleteResults(scores.problems, len(data), "nothing was averaged and there is no report")
    timings = {
        "inference_seconds": generated - began,
        "measuring_seconds": time.perf_counter() - generated,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    report = build_report(data, scores, networks, source, metrics, feature_library, timings)
    _write(report, data, found, output)
    return report


def _write(report: dict[str, Any], data: EvaluationData, results: ResultsFolder, output: Path) -> None:
    save_atomically(draw_sheet(report, data, results), output / SHEET)
    write_text_atomically(output / TABLE, to_markdown(report))
    write_text_atomically(output / REPORT, to_json(report))  # last: where it is, the rest is
