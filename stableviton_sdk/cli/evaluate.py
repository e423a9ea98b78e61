"""`stableviton evaluate`: measure a model or a folder of results, and compare two reports."""

from __future__ import annotations

import argparse
import functools
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import DATA_KINDS, FEATURE_LIBRARIES, INIT_FROM, METRICS, SETTINGS, STYLES
from ..errors import WeightsUnavailable
from ..hub.pending import Download
from ..pipelines.places import DEFAULT_MODEL
from .arguments import add_model, add_quality, parse_count, parse_guidance, parse_seed, parse_share, parse_steps
from .consent import Consent, missing_networks
from .device import choose_device, choose_dtype
from .loading import load_pipeline

if TYPE_CHECKING:
    from ..evaluation.data import EvaluationData

RENDERED_SIZE = (192, 256)  # of rendered figures, where no model says how it was trained
LOGGER = logging.getLogger(__name__)
USAGE = """%(prog)s DATA --output FOLDER [--model PLACE] [options]
       %(prog)s DATA --output FOLDER --results FOLDER [options]
       %(prog)s --compare A.json B.json"""
EXAMPLES = (
    "stableviton evaluate VITON-HD --setting unpaired --output runs/unpaired",
    "stableviton evaluate synthetic --setting unpaired --model bundled --limit 4 --output runs/rendered",
    "stableviton evaluate --compare runs/a/report.json runs/b/report.json",
)


def add_parser(commands: Any, **options: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        usage=USAGE,
        help="measure a model or a folder of results by a declared protocol",
        description="Paint the test pairs of a data set, or take results that exist, and write report.json, report.md "
        "and a contact sheet. Start an interrupted run again to go on. What can't be measured is named with the "
        "reason. Needs the extra: pip install 'stableviton-sdk[eval]'.",
        **options,
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="?",
        help="folder of VITON-HD, of DressCode (upper bodies), of person/garment/mask/densepose, or of photos of "
        "persons (with --garments); a .csv or .jsonl list of pairs; or: synthetic",
    )
    parser.add_argument("--output", metavar="FOLDER", help="where results and report go")
    parser.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="two reports: is their difference more than chance?"
    )

    data = parser.add_argument_group("data")
    data.add_argument("--kind", choices=DATA_KINDS, help="what DATA is; default: what it looks like")
    data.add_argument(
        "--setting",
        choices=SETTINGS,
        default="paired",
        help="the person's own garment, or another (%(default)s)",
    )
    data.add_argument(
        "--size",
        type=parse_size,
        metavar="WIDTHxHEIGHT",
        help="to paint and measure at; default: 384x512, for rendered figures the model's",
    )
    data.add_argument("--limit", type=parse_count, metavar="N", help="the first N pairs only")
    data.add_argument("--garments", metavar="FOLDER", help="for a folder of persons: another set's garments")
    data.add_argument("--pairs", metavar="FILE", help="for a folder of persons: lines of a person and a garment")
    data.add_argument("--style", choices=STYLES, default="studio", help="of rendered figures")
    data.add_argument(
        "--data-seed", type=parse_seed, default=0, metavar="N", help="of rendered figures, of garments' choice"
    )

    painting = parser.add_argument_group("painting")
    add_quality(painting, default=None)
    painting.add_argument(
        "--steps", type=parse_steps, metavar="N", help="denoising steps; default: as many as the quality has"
    )
    painting.add_argument("--guidance-scale", type=parse_guidance, metavar="X", help="1 turns guidance off (1.0)")
    painting.add_argument("--init-from", choices=INIT_FROM, help="what is noised (agnostic)")
    painting.add_argument("--seed", type=parse_seed, metavar="N", help="of the noise, with each pair's name (0)")
    painting.add_argument("--batch-size", type=parse_count, metavar="N", help="pairs at once (1)")
    painting.add_argument("--detail", type=parse_share, metavar="X", help="as for try-on; default: the model's own")
    painting.add_argument(
        "--no-paste-back", action="store_true", help="keep all that the network painted, also outside the mask"
    )

    model = parser.add_argument_group("model")
    model.add_argument("--results", metavar="FOLDER", help="measure these images, PERSON_GARMENT.png or PERSON.png")
    add_model(model, help=f"what paints; see try-on ({DEFAULT_MODEL})")

    measuring = parser.add_argument_group("measuring")
    measuring.add_argument(
        "--metrics", type=parse_metrics, default=METRICS, metavar="A,B,…", help=f"of {', '.join(METRICS)} (all)"
    )
    measuring.add_argument(
        "--feature-library",
        choices=FEATURE_LIBRARIES,
        default="clean-fid",
        help="whose FID and KID (%(default)s)",
    )
    measuring.add_argument(
        "--incomplete",
        action="store_true",
        help="report on what is left where results are missing or unusable; the exit status stays 1",
    )
    measuring.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=run, usage_error=parser.error, default_of=parser.get_default)


def parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a width and a height, such as 384x512")
    return int(width), int(height)


def parse_metrics(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in METRICS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(METRICS)}")
    return names


def run(arguments: argparse.Namespace) -> None:
    if arguments.compare:
        own = ("compare", "traceback")
        if any(value != arguments.default_of(name) for name, value in vars(arguments).items() if name not in own):
            arguments.usage_error("--compare reads two reports and nothing else")
        from ..evaluation.comparison import compare, comparison_table

        print(comparison_table(compare(*arguments.compare)), end="")
        return
    for name in ("data", "output"):
        if getattr(arguments, name) is None:
            arguments.usage_error(f"the following arguments are required: {'DATA' if name == 'data' else '--output'}")
    painting = _painting_options(arguments)
    if arguments.results is not None and (painting or arguments.model or arguments.checkpoint or arguments.dtype):
        arguments.usage_error("--results are painted already: leave out the model and how to paint")

    from ..evaluation.inference import InferenceSettings
    from ..evaluation.metric_networks import load_networks
    from ..evaluation.metrics import require
    from ..evaluation.runner import TABLE, IncompleteResults, evaluate

    require("torchmetrics.functional.image")
    consent, device = Consent(arguments.yes), choose_device(arguments.device)
    data = pipeline = None
    if arguments.results is not None or arguments.size is not None or _kind(arguments) != "synthetic":
        data = _open_data(arguments)
    if arguments.results is None:
        derive = data is not None and data.lacks_maps
        pipeline = load_pipeline(
            arguments.model or DEFAULT_MODEL,
            arguments.checkpoint,
            choose_dtype(arguments.dtype, device, arguments.model),
            consent,
            functools.partial(missing_networks, pose=None) if derive else None,
        )
        model_size = pipeline.default_size
        data = data or _open_data(arguments, model_size)
        if model_size != data.size:
            sizes = ["{} x {}".format(*size) for size in (model_size, data.size)]
            LOGGER.warning("the model was trained at %s and paints at %s: --size sets it.", *sizes)
        pipeline.to(device, silence_dtype_warnings=True)  # PyTorch does compute fp16 on CPUs
        pipeline.optimize()
    refusals = _fetch_metric_weights(arguments, consent)
    networks = load_networks(arguments.metrics, arguments.feature_library, device, refusals=refusals)
    report = evaluate(
        data,
        arguments.output,
        pipeline=pipeline,
        results=arguments.results,
        settings=None if pipeline is None else InferenceSettings(**painting),
        metrics=arguments.metrics,
        feature_library=arguments.feature_library,
        networks=networks,
        model_name=None if pipeline is None else arguments.model or DEFAULT_MODEL,
        incomplete=arguments.incomplete,
        progress=not arguments.quiet and sys.stderr.isatty(),
    )
    table = Path(arguments.output) / TABLE
    print(table.read_text(encoding="utf-8").split("## Protocol")[0].strip())
    print(f"\n{table}")
    if report["problems"]:
        raise IncompleteResults(report["problems"], len(data), "the report is about the others only")


def _kind(arguments: argparse.Namespace) -> str:
    from ..evaluation.data import recognise

    return arguments.kind or recognise(arguments.data, arguments.garments)


def _open_data(arguments: argparse.Namespace, model_size: tuple[int, int] | None = None) -> EvaluationData:
    from ..evaluation.data import load_data

    kind = _kind(arguments)
    size = arguments.size or ((model_size or RENDERED_SIZE) if kind == "synthetic" else (384, 512))
    return load_data(
        arguments.data,
        kind=kind,
        setting=arguments.setting,
        size=size,
        limit=arguments.limit,
        for_inference=arguments.results is None,
        garments=arguments.garments,
        pairs=arguments.pairs,
        style=arguments.style,
        seed=arguments.data_seed,
    )


def _painting_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Those that were given."""
    names = ("quality", "steps", "guidance_scale", "init_from", "seed", "batch_size", "detail")
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    return given | ({"paste_back": False} if arguments.no_paste_back else {})


def _fetch_metric_weights(arguments: argparse.Namespace, consent: Consent) -> dict[str, str]:
    """Download what the metrics need, if that is agreed to; otherwise why not, by network."""
    from ..evaluation.metric_networks import fetch_weights, weights_needed

    needed = weights_needed(arguments.metrics, arguments.feature_library)
    missing = {network: file for network, file in needed.items() if not file.path.is_file()}
    try:
        consent.ask([Download(f"{file.name} (for a metric)", file.size, file.licence) for file in missing.values()])
    except WeightsUnavailable:
        return dict.fromkeys(missing, "nothing is downloaded without consent (--yes gives it)")
    failures = {}
    for network, file in missing.items():
        try:
            fetch_weights(file, progress=not arguments.quiet and sys.stderr.isatty())
        except WeightsUnavailable as error:
            failures[network] = str(error).rstrip(".")
    return failures
