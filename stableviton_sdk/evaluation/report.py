"""Report of an evaluation: numbers, intervals and protocol, as JSON and as Markdown."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Collection
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from .._version import __version__
from ..choices import IMAGE_METRICS, METRICS, FeatureLibrary
from ..errors import InvalidInput
from .bootstrap import LEVEL, MIN_PERSONS, RESAMPLES, has_enough_persons, intervals, resampled_means
from .data import EvaluationData
from .metric_networks import MetricNetworks
from .metrics import HIGHER_IS_BETTER, PSNR_CAP
from .scoring import Scores

FORMAT, VERSION = "stableviton-evaluation", 1
LABELS = {"ssim": "SSIM", "psnr": "PSNR, dB", "lpips": "LPIPS", "fid": "FID", "kid_x1000": "KID x 1000"}
LABELS |= {"ssim_region": "SSIM, repainted region", "psnr_region": "PSNR, repainted region, dB"}
DIGITS = {"ssim": 4, "psnr": 2, "lpips": 4, "ssim_region": 4, "psnr_region": 2, "fid": 3, "kid_x1000": 3}
PUBLISHED_SIZE, VITON_HD_TEST_PAIRS = (384, 512), 2032
INFERENCE_PACKAGES = ("torch", "diffusers", "transformers", "pillow", "numpy")
MEASURING_PACKAGES = ("torchvision", "torchmetrics", "torch-fidelity", "clean-fid", "scipy")


def build_report(
    data: EvaluationData,
    scores: Scores,
    networks: MetricNetworks,
    source: dict[str, Any],
    metrics: Collection[str],
    feature_library: FeatureLibrary,
    timings: dict[str, Any],
) -> dict[str, Any]:
    """Report of an evaluation as JSON types.

    Args:
        data (`EvaluationData`): The pairs.
        scores (`Scores`): Their scores.
        networks (`MetricNetworks`): Networks that were used.
        source (`dict`): `model` and `settings`, or `results`.
        metrics (`Collection[str]`): Names of the metrics requested.
        feature_library (`str`): Library of FID and KID, `"clean-fid"` or `"torchmetrics"`.
        timings (`dict`): Values that differ between two equal runs, such as seconds.

    Returns:
        `dict`: the report.
    """
    persons = [entry["person"] for entry in scores.images]
    measured = [name for name in IMAGE_METRICS if scores.images and name in scores.images[0]]
    values = np.array([[image[name] for name in measured] for image in scores.images])
    bounds: dict[str, Any] = dict.fromkeys(measured)
    if has_enough_persons(persons):
        bounds = dict(zip(measured, map(list, intervals(resampled_means(values, persons))), strict=True))
    summary: dict[str, Any] = {}
    for name in METRICS:
        entry: dict[str, Any] = {"higher_is_better": HIGHER_IS_BETTER[name]}
        if name in scores.sets:
            summary[name] = {"value": scores.sets[name], "interval": None, **entry}
        elif name in measured:
            value = float(values[:, measured.index(name)].mean())
            summary[name] = {"value": value, "interval": bounds[name], **entry}
    return {
        "format": FORMAT,
        "version": VERSION,
        "data": data.describe() | {"images_sha256": scores.images_sha256},
        **source,
        "protocol": describe_protocol(data, feature_library),
        "protocol_deviations": protocol_deviations(data, feature_library),
        "versions": versions(),
        "networks": dict(networks.weights),
        "requested": [name for name in METRICS if name in metrics],
        "complete": not scores.problems,
        "measured": len(scores.images),
        "problems": scores.problems,
        "unused_images": scores.unused,
        "metrics": summary,
        "unavailable": scores.unavailable,
        "images": scores.images,
        "timings": timings,
    }


def describe_protocol(data: EvaluationData, feature_library: FeatureLibrary) -> dict[str, Any]:
    """Description of how everything is measured, equal wherever numbers may be compared."""
    clean = "clean-fid, mode clean" if feature_library == "clean-fid" else "torchmetrics, torch-fidelity's Inception"
    return {
        "setting": data.setting,
        "height": data.size[1],
        "width": data.size[0],
        "images": "8-bit RGB; photos brought to the size by Pillow's Lanczos filter, results of exactly the size",
        "ssim": "torchmetrics, Gaussian window 11 x 11, sigma 1.5, data range 1.0; mean over images",
        "psnr": f"of each image, {PSNR_CAP:g} dB where nothing differs; mean over images",
        "region": "the agnostic mask's pixels; for SSIM the windows centred in it",
        "lpips": "torchmetrics, AlexNet; mean over images",
        "fid": f"{clean}, against the photos of the evaluated persons, each once, at the same size",
        "kid_x1000": f"{clean}, same photos; 100 subsets of at most 1000 images, seed 0; times 1000",
        "interval": f"{LEVEL:.0%}, percentile bootstrap over persons, {RESAMPLES} resamples",
    }


def protocol_deviations(data: EvaluationData, feature_library: FeatureLibrary) -> list[str]:
    """Differences from the protocol of the StableVITON family's published numbers; empty if there are none."""
    reasons = []
    if data.kind != "viton-hd":
        reasons.append(f"the data is {data.kind}, not VITON-HD's test split")
    elif len(data) != VITON_HD_TEST_PAIRS:
        reasons.append(f"{len(data)} pairs instead of {VITON_HD_TEST_PAIRS}")
    if data.size != PUBLISHED_SIZE:
        reasons.append(f"{data.size[0]} x {data.size[1]} pixels instead of {PUBLISHED_SIZE[0]} x {PUBLISHED_SIZE[1]}")
    if feature_library != "clean-fid":
        reasons.append(f"FID and KID by {feature_library} instead of clean-fid")
    return reasons


def versions(*, inference: bool = False) -> dict[str, str]:
    """Versions of the packages that numbers depend on; with `inference`, of those that images depend on."""
    found = {"stableviton_sdk": __version__}
    if not inference:
        found["python"] = platform.python_version()
    for package in INFERENCE_PACKAGES if inference else (*INFERENCE_PACKAGES, *MEASURING_PACKAGES):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def to_json(report: dict[str, Any]) -> str:
    """The report as JSON text; raises `ValueError` for a number that JSON can't hold, which is a defect."""
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def load_report(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A report that `evaluate` wrote.

    Raises:
        `InvalidInput`: if it's no report of this version.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "report.json"
    if not path.is_file():
        raise InvalidInput(f"there is no report {path}: check the path.")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{path} is damaged ({error}): evaluate again.") from error
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise InvalidInput(f"{path} is no report of `stableviton evaluate`: pass its report.json.")
    if report.get("version") != VERSION:
        raise InvalidInput(f"{path} is a report of version {report.get('version')}, not {VERSION}: evaluate again.")
    return report


def to_markdown(report: dict[str, Any]) -> str:
    """The report as Markdown: a table, what it leaves out, and the protocol."""
    data, lines = report["data"], []
    lines += [f"# Evaluation of {_subject(report)}", ""]
    lines.append(f"{data['kind']}, {data['setting']}, {data['width']} x {data['height']}: {_coverage(report)}")
    lines += ["", *_table(report), ""]
    persons = {image["person"] for image in report["images"]}
    if len(persons) < MIN_PERSONS:
        lines += [f"No intervals: {len(persons)} persons are too few to resample.", ""]
    if {"fid", "kid_x1000"} & set(report["metrics"]):
        lines.append("FID and KID belong to the whole set and have no interval here: resampling it would bias them.")
        lines += ["FID falls with the number of images; compare only where it's the same.", ""]
    for title, entries in (
        ("Not measured", {LABELS[name]: reason for name, reason in report["unavailable"].items()}),
        ("Pairs without a result", report["problems"]),
    ):
        if entries:
            lines += [f"## {title}", "", *(f"- {name}: {reason}" for name, reason in entries.items()), ""]
    lines += ["## Protocol", ""]
    if report["protocol_deviations"]:
        lines.append(f"Not the protocol of the published numbers: {'; '.join(report['protocol_deviations'])}.")
    else:
        lines.append("The protocol of the published StableVITON-family numbers, as far as it is published.")
    lines += ["", *(f"- {name}: {text}" for name, text in report["protocol"].items())]
    if "settings" in report:
        settings = ", ".join(f"{name} {value}" for name, value in report["settings"].items())
        lines.append(f"- settings: {settings}")
        lines.append(f"- weights: sha256 {report['model']['weights_sha256']} ({report['model']['dtype']})")
    lines += [f"- {name}: sha256 {digest}" for name, digest in report["networks"].items()]
    lines.append(f"- versions: {', '.join(f'{name} {version}' for name, version in report['versions'].items())}")
    if report["unused_images"]:
        lines.append(f"- {report['unused_images']} images in the folder of results belong to no pair")
    return "\n".join(lines) + "\n"


def format_value(name: str, value: float) -> str:
    """A metric's value as text, with as many digits as it deserves."""
    return f"{value:.{DIGITS[name]}f}"


def _table(report: dict[str, Any]) -> list[str]:
    rows = ["| metric | value | 95 % interval | better is |", "|---|---|---|---|"]
    for name, entry in report["metrics"].items():
        bounds = " to ".join(format_value(name, bound) for bound in entry["interval"] or ()) or "-"
        better = "higher" if entry["higher_is_better"] else "lower"
        rows.append(f"| {LABELS[name]} | {format_value(name, entry['value'])} | {bounds} | {better} |")
    rows += [f"| {LABELS[name]} | not measured | - | |" for name in report["unavailable"]]
    return rows


def _coverage(report: dict[str, Any]) -> str:
    count = report["data"]["pairs"]
    if report["complete"]:
        return f"all {count} pairs."
    left = count - report["measured"]
    return f"**incomplete: {left} of {count} pairs have no usable result, and all numbers are over the others.**"


def _subject(report: dict[str, Any]) -> str:
    if "model" in report:
        return report["model"]["name"] or f"weights {report['model']['weights_sha256'][:12]}"
    return f"the results in {report['results']}"
