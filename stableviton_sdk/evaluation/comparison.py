"""Comparison of two reports by the paired bootstrap over persons."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ..choices import IMAGE_METRICS, METRICS, SET_METRICS
from ..errors import InvalidInput
from ..files import differences
from .bootstrap import LEVEL, MIN_PERSONS, RESAMPLES, has_enough_persons, intervals, resampled_means
from .report import LABELS, format_value, load_report

NO_DIFFERENCE = "no difference shown"
TOO_FEW = "too few persons to tell"
NO_INTERVAL = "can't be told from two reports"


def compare(
    first: str | os.PathLike[str] | dict[str, Any], second: str | os.PathLike[str] | dict[str, Any]
) -> dict[str, Any]:
    """Differences between two reports, and whether they are more than chance.

    A difference counts as real if the 95 % interval of the mean difference, pair by pair, leaves out zero. Persons are
    resampled, not pairs (see `resampled_means`). With several metrics, one of twenty will look real by chance.

    Args:
        first (`str`, `os.PathLike` or `dict`), second (`str`, `os.PathLike` or `dict`): Two `report.json`.

    Returns:
        `dict`: `pairs`, `persons`; `metrics`, by name `first` and `second` (means), `difference` (second - first),
        `interval`, `real` (None where it can't be told) and `verdict`; `missing`, metrics that one of them lacks.

    Raises:
        `InvalidInput`: if they measure different pairs, images, or by different protocols.
    """
    a, b = (report if isinstance(report, dict) else load_report(report) for report in (first, second))
    check_comparable(a, b)
    images = [{image["name"]: image for image in report["images"]} for report in (a, b)]
    names = sorted(images[0])
    persons = [images[0][name]["person"] for name in names]
    common = [metric for metric in METRICS if metric in a["metrics"] and metric in b["metrics"]]
    paired = [metric for metric in common if metric in IMAGE_METRICS]
    gains = np.array([[images[1][name][metric] - images[0][name][metric] for metric in paired] for name in names])
    bounds = {}
    if has_enough_persons(persons):
        bounds = dict(zip(paired, intervals(resampled_means(gains, persons)), strict=True))
    metrics: dict[str, Any] = {}
    for metric in common:
        means = [report["metrics"][metric]["value"] for report in (a, b)]
        entry = {"first": means[0], "second": means[1], "difference": means[1] - means[0]}
        entry |= {"interval": None, "real": None, "verdict": TOO_FEW if metric in paired else NO_INTERVAL}
        if metric in bounds:
            low, high = bounds[metric]
            better = a["metrics"][metric]["higher_is_better"] == (low > 0)
            entry |= {"interval": [low, high], "real": low > 0 or high < 0}
            entry["verdict"] = f"{'second' if better else 'first'} is better" if entry["real"] else NO_DIFFERENCE
        metrics[metric] = entry
    missing = [name for name in METRICS if (name in a["metrics"]) != (name in b["metrics"])]
    return {"pairs": len(names), "persons": len(set(persons)), "metrics": metrics, "missing": missing}


def check_comparable(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Check that two reports measure the same pairs by the same protocol.

    Raises:
        `InvalidInput`: naming the first difference.
    """
    for name, before, now in differences(a["protocol"], b["protocol"]):
        raise InvalidInput(f"the reports can't be compared: their protocols' {name} is {before} and {now}.")
    if {image["name"] for image in a["images"]} != {image["name"] for image in b["images"]}:
        raise InvalidInput(
            f"the reports can't be compared: they measure different pairs ({a['measured']} and {b['measured']}); "
            "evaluate both on the same ones."
        )
    if a["data"]["images_sha256"] != b["data"]["images_sha256"]:
        raise InvalidInput("the reports can't be compared: their photos differ, though the pairs' names are the same.")
    for network, digest in a["networks"].items():
        if b["networks"].get(network, digest) != digest:
            raise InvalidInput(f"the reports can't be compared: they were measured with different {network} weights.")
    if not any(name in b["metrics"] for name in a["metrics"]):
        raise InvalidInput("the reports can't be compared: they have no metric in common.")


def comparison_table(comparison: dict[str, Any]) -> str:
    """A comparison as Markdown."""
    lines = [
        f"{comparison['pairs']} pairs of {comparison['persons']} persons; differences are second minus first.",
        "",
        "| metric | first | second | difference | 95 % interval | |",
        "|---|---|---|---|---|---|",
    ]
    for name, entry in comparison["metrics"].items():
        bounds = " to ".join(_signed(name, bound) for bound in entry["interval"] or ()) or "-"
        values = " | ".join(format_value(name, entry[which]) for which in ("first", "second"))
        difference = _signed(name, entry["difference"])
        lines.append(f"| {LABELS[name]} | {values} | {difference} | {bounds} | {entry['verdict']} |")
    lines.append("")
    if comparison["missing"]:
        lines.append(f"Only in one of them: {', '.join(LABELS[name] for name in comparison['missing'])}.")
    if set(SET_METRICS) & set(comparison["metrics"]):
        lines.append("FID and KID belong to whole sets: two reports don't tell how much of a difference is chance.")
    if comparison["persons"] < MIN_PERSONS:
        lines.append(f"Fewer than {MIN_PERSONS} persons are too few to resample.")
    lines.append(f"{LEVEL:.0%} percentile bootstrap over persons, {RESAMPLES} resamples, pairs matched by name.")
    return "\n".join(lines) + "\n"


def _signed(name: str, value: float) -> str:
    text = format_value(name, value)
    return text if text.startswith("-") else f"+{text}"
