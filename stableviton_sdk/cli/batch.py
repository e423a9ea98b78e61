"""`stableviton batch`: a catalogue overnight, and how it stands."""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import CATEGORIES, GARMENT_PHOTOS, INIT_FROM
from ..pipelines.places import BUNDLED_MODEL, DEFAULT_MODEL
from .arguments import (
    add_metadata,
    add_model,
    add_quality,
    parse_count,
    parse_count_or_zero,
    parse_guidance,
    parse_number,
    parse_seed,
    parse_share,
    parse_steps,
)
from .consent import Consent, missing_networks
from .loading import load_pipeline
from .messages import print_message, progress_bars_only_on_tty

if TYPE_CHECKING:
    from ..batch import BatchSettings, Folders, LocalEngine, RayEngine, Summary

USAGE = """%(prog)s PAIRS --output DIR [options]
       %(prog)s --persons FOLDER --garments FOLDER (--cross | --zip) --output DIR [options]
       %(prog)s --status DIR [--sheet FILE] [--json]"""
ENGINE_OPTIONS = {"local": ("workers", "device"), "ray": ("actors", "gpus_per_actor", "cpus_per_actor", "address")}
EXAMPLES = (
    "stableviton batch pairs.csv --output results/ --model bundled",
    "stableviton batch --persons persons/ --garments garments/ --cross --output crossed/ --model bundled",
    "stableviton batch --status results/",
)


def add_parser(commands: Any, **options: Any) -> None:
    parser = commands.add_parser(
        "batch",
        usage=USAGE,
        help="dress a whole catalogue, overnight or on a cluster; interrupted, the same command goes on",
        description="Make an image of each pair of a list, or of two folders. The output is the checkpoint: the same "
        "command again makes what is missing. Rows that can't be made are in errors.csv, with one sentence each.",
        **options,
    )
    parser.add_argument(
        "pairs",
        metavar="PAIRS",
        nargs="?",
        help="list in CSV, JSON lines or Parquet: person, garment, and where you like id, category, seed, mask, "
        "garment_photo and columns of your own; a path, or an address such as s3://bucket/pairs.csv",
    )
    parser.add_argument("--output", metavar="DIR", help="folder, or address such as s3://bucket/results")
    parser.add_argument("--status", metavar="DIR", help="say how a batch stands, and draw a sample of it")
    parser.add_argument("--sheet", metavar="FILE", help="where --status draws (DIR/contact.png)")

    folders = parser.add_argument_group("two folders instead of a list")
    folders.add_argument("--persons", metavar="FOLDER", help="photos of persons")
    folders.add_argument("--garments", metavar="FOLDER", help="images of garments")
    how = folders.add_mutually_exclusive_group()
    how.add_argument("--cross", dest="how", action="store_const", const="cross", help="each with each")
    how.add_argument("--zip", dest="how", action="store_const", const="zip", help="those of the same name")
    folders.add_argument("--watch", action="store_true", help="go on with new files until Ctrl-C")

    painting = parser.add_argument_group("painting", "Of rows that don't say otherwise.")
    painting.add_argument("--category", choices=CATEGORIES, default="upper", help="kind of garment (%(default)s)")
    painting.add_argument(
        "--garment-photo", choices=GARMENT_PHOTOS, default="flat-lay", help="model: worn by a person, cut out"
    )
    add_quality(painting)
    painting.add_argument(
        "--steps", type=parse_steps, metavar="N", help="denoising steps; default: as many as the quality has"
    )
    painting.add_argument("--guidance-scale", type=parse_guidance, default=1.0, metavar="X", help="as for try-on (1)")
    painting.add_argument("--init-from", choices=INIT_FROM, default="agnostic", help="as for try-on (%(default)s)")
    painting.add_argument("--detail", type=parse_share, metavar="X", help="as for try-on; default: the model's own")
    painting.add_argument(
        "--seed", type=parse_seed, default=0, metavar="N", help="of the noise, with each row's id (%(default)s)"
    )
    painting.add_argument(
        "--batch-size", type=parse_count, default=4, metavar="N", help="images at once (%(default)s)"
    )
    painting.add_argument(
        "--format",
        choices=("png", "webp", "jpg"),
        default="png",
        help="of the images (%(default)s); webp loses nothing",
    )
    add_metadata(painting)

    running = parser.add_argument_group("running")
    running.add_argument("--limit", type=parse_count, metavar="N", help="the first N rows only")
    running.add_argument(
        "--redo", action="store_true", help="make images again that are of other settings, or whose row has changed"
    )
    running.add_argument(
        "--max-errors", type=parse_count_or_zero, metavar="N", help="stop when more rows than this failed"
    )
    running.add_argument("--json", action="store_true", help="progress and result as JSON lines")
    running.add_argument(
        "--threads", type=parse_count, metavar="N", help="threads of each process; default: the cores, shared out"
    )

    engine = parser.add_argument_group("engine")
    engine.add_argument(
        "--engine",
        choices=tuple(ENGINE_OPTIONS),
        default="local",
        help="local: one process for each device (default); ray: actors of a cluster, which need "
        "pip install 'stableviton-sdk[batch]'",
    )
    engine.add_argument("--workers", type=parse_count, metavar="N", help="local: processes on each device (1)")
    engine.add_argument("--actors", type=parse_count, metavar="N", help="ray: processes (1)")
    engine.add_argument("--gpus-per-actor", type=parse_number, metavar="X", help="ray: 1, or a share of one (0)")
    engine.add_argument("--cpus-per-actor", type=parse_number, metavar="X", help="ray: in Ray's books (0.5)")
    engine.add_argument(
        "--address", metavar="HOST:PORT", help="ray: a running cluster, or auto; default: one of its own"
    )

    model = parser.add_argument_group("model")
    add_model(
        model,
        default=DEFAULT_MODEL,
        help="a converted folder, a released checkpoint file, a Hub repository (%(default)s), or bundled; every "
        "machine of a cluster needs it",
    )
    parser.set_defaults(run=run, usage_error=parser.error, default_of=parser.get_default)


def run(arguments: argparse.Namespace) -> None:
    if arguments.status is not None:
        _print_status(arguments)
        return
    source, engine = _source(arguments), _engine(arguments)
    if arguments.output is None:
        arguments.usage_error("the following arguments are required: --output")
    settings = _settings(arguments, engine)
    if arguments.model != BUNDLED_MODEL:
        _get_weights(arguments, settings)

    from .. import batch
    from ..batch.progress import Progress

    progress = Progress(arguments.json)
    with progress_bars_only_on_tty():
        summary = batch.run(
            source,
            arguments.output,
            settings,
            engine=engine,
            limit=arguments.limit,
            redo=arguments.redo,
            max_errors=arguments.max_errors,
            watch=arguments.watch,
            on_event=progress,
        )
    _print_summary(arguments, summary)


def _source(arguments: argparse.Namespace) -> str | Folders:
    from ..batch import Folders

    folders = (arguments.persons, arguments.garments)
    if arguments.pairs is not None:
        if any(folders) or arguments.how or arguments.watch:
            arguments.usage_error(
                "PAIRS is a list of its own: leave out --persons, --garments, --cross, --zip, --watch"
            )
        return arguments.pairs
    if not all(folders):
        arguments.usage_error("pass a list of pairs, or both --persons and --garments")
    if arguments.how is None:
        arguments.usage_error("pass --cross (each with each) or --zip (those of the same name)")
    return Folders(*folders, arguments.how)


def _engine(arguments: argparse.Namespace) -> LocalEngine | RayEngine:
    from ..batch import LocalEngine, RayEngine
    from .device import choose_device

    for engine, names in ENGINE_OPTIONS.items():
        given = [name for name in names if getattr(arguments, name) is not None]
        if given and engine != arguments.engine:
            arguments.usage_error(f"--{given[0].replace('_', '-')} is for --engine {engine}")
    if arguments.engine == "ray":
        names = ENGINE_OPTIONS["ray"]
        given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
        return RayEngine(**given)
    devices = () if arguments.device is None else tuple(arguments.device.split(","))
    for device in devices:
        choose_device(device)
    return LocalEngine(devices, arguments.workers or 1)


def _settings(arguments: argparse.Namespace, engine: LocalEngine | RayEngine) -> BatchSettings:
    from dataclasses import fields

    from ..batch import BatchSettings
    from ..dtypes import DTYPES
    from .device import choose_device, choose_dtype

    values = {entry.name: getattr(arguments, entry.name) for entry in fields(BatchSettings)}
    if arguments.engine == "ray":
        if arguments.dtype == "auto":
            arguments.usage_error(
                "--dtype auto asks this machine's device, and the actors have their own: name a type"
            )
        values["dtype"] = arguments.dtype or engine.default_dtype()
    else:
        resolved = choose_dtype(arguments.dtype, choose_device(engine.places()[0]), arguments.model)
        values["dtype"] = next(name for name, dtype in DTYPES.items() if dtype == resolved)
    return BatchSettings(**values)


def _get_weights(arguments: argparse.Namespace, settings: BatchSettings) -> None:
    """Load the model once, with consent to what has to be downloaded; the processes find it in the cache."""
    from ..dtypes import resolve_dtype

    networks = functools.partial(missing_networks, pose=None)
    load_pipeline(
        arguments.model, arguments.checkpoint, resolve_dtype(settings.dtype), Consent(arguments.yes), networks
    )


def _print_summary(arguments: argparse.Namespace, summary: Summary) -> None:
    if arguments.json:
        print(json.dumps({"event": "summary", **summary.to_dict()}), flush=True)
    else:
        speed = "" if summary.per_hour is None else f", {summary.per_hour:,.0f} images an hour"
        failed = f", {summary.failed:,} failed (see errors.csv)" if summary.failed else ""
        print(f"{summary.output}: {summary.done:,} of {summary.total:,} done{failed}{speed}")
    if summary.interrupted:
        print_message("the images in hand are finished; the same command goes on")
        raise KeyboardInterrupt
    if summary.failed:
        from ..errors import InvalidInput

        raise InvalidInput(
            f"{summary.failed:,} of {summary.total:,} rows failed: see errors.csv in {summary.output}, mend them, and "
            "run the same command again."
        )


def _print_status(arguments: argparse.Namespace) -> None:
    from ..batch.progress import format_seconds
    from ..batch.status import draw_sample, read_status
    from ..batch.stores import is_remote
    from ..images import check_image_path, save_atomically

    if arguments.pairs is not None or arguments.output is not None:
        arguments.usage_error("--status reads an output and nothing else")
    sheet = arguments.sheet
    if sheet is None and not is_remote(arguments.status):
        sheet = Path(arguments.status) / "contact.png"
    status = read_status(arguments.status)
    if sheet is not None:
        sheet = check_image_path(sheet)
    drawn = sheet is not None and status.done > 0
    if drawn:
        save_atomically(draw_sample(arguments.status), sheet)
    if arguments.json:
        print(json.dumps({**status.to_dict(), "sheet": str(sheet) if drawn else None}))
        return
    parts = [f"{status.done:,} of {status.total:,} done", f"{status.failed:,} failed", f"{status.left:,} left"]
    if status.per_hour is not None:
        parts.append(f"{status.per_hour:,.0f} images an hour")
    if status.left and status.seconds_left is not None:
        parts.append(f"{format_seconds(status.seconds_left)} at that speed")
    print(f"{status.output}: {', '.join(parts)}{f'; sample: {sheet}' if drawn else ''}")
