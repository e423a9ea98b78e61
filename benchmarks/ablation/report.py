"""The stored numbers of runs -> table, steps between variants, and plots."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.files import write_text_atomically

from .drawing import draw_chart, draw_sheet
from .variants import STEPS, SUPERVISED_STEPS, VARIANTS

STYLES = {"studio": "trained on, other figures and garments", "shifted": "never trained on"}
# What a column shows: its head, where it is found, its digits, and whether more is better (None: neither).
COLUMNS = (
    ("paired PSNR", ("paired", "psnr"), 2, True),
    ("paired SSIM", ("paired", "ssim"), 3, True),
    ("unpaired PSNR", ("unpaired", "psnr"), 2, True),
    ("unpaired SSIM", ("unpaired", "ssim"), 3, True),
    ("worn PSNR", ("unpaired", "worn_psnr"), 2, True),
    ("error", ("unpaired", "block", "mean"), 1, False),
    ("error 90 %", ("unpaired", "block", "percentile_90"), 1, False),
    ("entropy", ("unpaired", "block", "entropy"), 2, None),
    ("ATV", ("unpaired", "block", "total_variation"), 2, None),
)
COMPARED = ("unpaired PSNR", "unpaired SSIM", "error", "entropy", "ATV")
# Student's t at 97.5 %, by the number of values; two seeds have to agree almost perfectly.
STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31}

Run = dict[str, Any]


def write_report(results: Path, work: Path | None = None) -> None:
    """Write `table.md`, `summary.json` and the plots into the folder of results.

    Args:
        results (`Path`): As `Experiment` fills it.
        work (`Path`, *optional*): Where its images are, for the sheet; without them there is none.

    Raises:
        `InvalidInput`: if there is nothing to report.
    """
    runs = read_runs(results)
    baselines = json.loads((results / "baselines.json").read_text(encoding="utf-8"))
    summary = {style: summarise_style(runs, style) for style in STYLES}
    write_text_atomically(results / "summary.json", json.dumps(summary, indent=1) + "\n")
    parts = [describe(runs, results)]
    for style, meaning in STYLES.items():
        parts += [f"## {style} ({meaning})", table(summary[style], baselines[style], constant_error(runs, style))]
    for style in STYLES:
        parts += [f"## What each step changes: {style}", steps_table(runs, style)]
    write_text_atomically(results / "table.md", "\n\n".join(parts) + "\n")
    for style in STYLES:
        draw_chart(chart_panels(runs, style, baselines[style]), results / f"chart-{style}.png")
        if work is not None:
            draw_sheet(
                results / f"sheet-{style}.png", work, [run for run in runs if run["seed"] == runs[0]["seed"]], style
            )


def read_runs(results: Path) -> list[Run]:
    """All runs in a folder, by seed and in the variants' order.

    Raises:
        `InvalidInput`: if there is none, or one that doesn't belong there.
    """
    order = list(VARIANTS)
    runs = []
    for path in results.glob("*-seed-*.json"):
        run = json.loads(path.read_text(encoding="utf-8"))
        if run.get("variant") not in VARIANTS:
            raise InvalidInput(f"{path} is no run of a known variant: remove it.")
        runs.append(run)
    if not runs:
        raise InvalidInput(f"{results} holds no run yet: run the benchmark without --report-only.")
    return sorted(runs, key=lambda run: (run["seed"], order.index(run["variant"])))


def best_block(run: Run) -> str | None:
    """The block that stands for a run everywhere: of those at the latents' resolution, whose cells are the same in all
    runs, the one with the smallest error on paired figures of the trained style."""
    blocks = run["measured"]["studio"]["paired"].get("blocks")
    if not blocks:
        return None
    finest = max(block["query_size"] for block in blocks.values())
    return min(
        (block for block in blocks if blocks[block]["query_size"] == finest), key=lambda block: blocks[block]["mean"]
    )


def value_of(run: Run, style: str, place: Sequence[str]) -> float | None:
    """One number of a run; None where there is no attention."""
    setting, *names = place
    found = run["measured"][style][setting]
    if names[0] == "block":
        block = best_block(run)
        return None if block is None else found["blocks"][block][names[1]]
    return found[names[0]]


def summarise_style(runs: Sequence[Run], style: str) -> dict[str, dict[str, Any]]:
    """By variant and column: mean, sample standard deviation over seeds (None for one seed), and all values."""
    summary: dict[str, dict[str, Any]] = {}
    for name in VARIANTS:
        own = [run for run in runs if run["variant"] == name]
        if not own:
            continue
        summary[name] = {"seeds": [run["seed"] for run in own]}
        for head, place, _, _ in COLUMNS:
            values = [value_of(run, style, place) for run in own]
            if None not in values:
                summary[name][head] = {
                    "mean": float(np.mean(values)),
                    "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
                    "values": values,
                }
    return summary


def constant_error(runs: Sequence[Run], style: str) -> tuple[float, float] | None:
    """Mean and 90th percentile of an attention that is spread evenly: the same for all runs."""
    for run in runs:
        if (block := best_block(run)) is not None:
            found = run["measured"][style]["unpaired"]["blocks"][block]
            return found["constant_mean"], found["constant_percentile_90"]
    return None


def table(
    summary: Mapping[str, Mapping[str, Any]], baselines: Mapping[str, Any], constant: tuple[float, float] | None
) -> str:
    """Markdown: a row for each variant, then the baselines."""
    heads = [head for head, *_ in COLUMNS]
    lines = ["| variant | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, row in summary.items():
        cells = []
        for head, _, digits, _ in COLUMNS:
            found = row.get(head)
            if found is None:
                cells.append("–")
            elif found["deviation"] is None:
                cells.append(f"{found['mean']:.{digits}f}")
            else:
                cells.append(f"{found['mean']:.{digits}f} ± {found['deviation']:.{digits}f}")
        lines.append(f"| **{VARIANTS[name].label}** {VARIANTS[name].title} | " + " | ".join(cells) + " |")
    if constant is not None:
        cells = {"error": f"{constant[0]:.1f}", "error 90 %": f"{constant[1]:.1f}"}
        lines.append("| *even attention* | " + " | ".join(cells.get(head, "–") for head in heads) + " |")
    for name, scores in baselines.items():
        cells = [
            f"{scores[place[0]][place[1]]:.{digits}f}" if place[1] != "block" else "–"
            for _, place, digits, _ in COLUMNS
        ]
        lines.append(f"| *{name}* | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def differences(runs: Sequence[Run], style: str, before: str, after: str, head: str) -> list[float]:
    """after - before, for every seed that has both."""
    place = next(place for name, place, *_ in COLUMNS if name == head)
    by_seed: dict[int, dict[str, Run]] = {}
    for run in runs:
        by_seed.setdefault(run["seed"], {})[run["variant"]] = run
    found = []
    for seed in sorted(by_seed):
        pair = [by_seed[seed].get(name) for name in (before, after)]
        values = [None if run is None else value_of(run, style, place) for run in pair]
        if None not in values:
            found.append(values[1] - values[0])
    return found


def verdict(changes: Sequence[float], better: bool | None) -> str:
    """What differences of the same seeds allow to say: whether their mean's 95 % interval (Student's t) has a sign.

    Args:
        changes (`Sequence[float]`): One for each seed.
        better (`bool`, *optional*): Whether more is better; None if that can't be said.
    """
    if len(changes) < 2:
        return "one seed"
    mean = float(np.mean(changes))
    error = float(np.std(changes, ddof=1)) / np.sqrt(len(changes))
    if abs(mean) <= STUDENT.get(len(changes), 2.26) * error:
        return "within the spread"
    if better is None:
        return "rises" if mean > 0 else "falls"
    return "better" if (mean > 0) == better else "worse"


def steps_table(runs: Sequence[Run], style: str) -> str:
    """Markdown: the difference that every step makes, and whether it is more than the seeds' spread."""
    kinds = {head: (digits, better) for head, _, digits, better in COLUMNS}
    lines = ["| step | " + " | ".join(COMPARED) + " |", "|---" * (len(COMPARED) + 1) + "|"]
    for before, after in (*STEPS, *SUPERVISED_STEPS):
        cells = []
        for head in COMPARED:
            changes = differences(runs, style, before, after, head)
            digits, better = kinds[head]
            cells.append(f"{np.mean(changes):+.{digits}f}, {verdict(changes, better)}" if changes else "–")
        if set(cells) != {"–"}:
            lines.append(f"| {VARIANTS[before].label} → {VARIANTS[after].label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def describe(runs: Sequence[Run], results: Path) -> str:
    """Markdown: how the numbers were made."""
    protocol = json.loads((results / "protocol.json").read_text(encoding="utf-8"))
    command = (results / "command.txt").read_text(encoding="utf-8").strip()
    seeds = sorted({run["seed"] for run in runs})
    counts = {
        name: sum(run["variant"] == name for run in runs)
        for name in VARIANTS
        if any(run["variant"] == name for run in runs)
    }
    width, height = protocol["width"], protocol["height"]
    sizes = {run["variant"]: sum(run["parameters"].values()) for run in runs}
    first, second = runs[0]["optimizer_steps"]
    return "\n".join(
        [
            "# The paper's ablations, reproduced small",
            "",
            f"- command: `{command}`",
            f"- seeds: {', '.join(map(str, seeds))} "
            f"({', '.join(f'{VARIANTS[name].label}: {count}' for name, count in counts.items())} runs)",
            f"- device: {', '.join(sorted({run['device'] for run in runs}))}",
            f"- training: {protocol['samples']} samples a run ({first} + {second} steps of {protocol['batch_size']}), "
            f"of {protocol['figures']} rendered figures in two garments each, {width} x {height}",
            f"- measured on {protocol['test_figures']} other figures of either style, denoising steps: "
            f"{protocol['steps']}; PSNR (dB) and SSIM inside the mask, worn PSNR on the worn garment's pixels",
            "- parameters: " + ", ".join(f"{VARIANTS[name].label} {sizes[name]:,}" for name in counts),
            "- error: distance in garment pixels between where a cell's attention looks on average and the truth, "
            "unpaired, of the better one (on paired studio figures) of the blocks at the latents' resolution; entropy "
            f"in nats (even: {np.log(height * width // 64):.2f}); ATV in cells",
            "- ± is the sample standard deviation over seeds; differences between variants are taken seed by seed; "
            "one counts where the 95 % interval of its mean (Student's t) leaves out 0",
        ]
    )


def chart_panels(runs: Sequence[Run], style: str, baselines: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What `draw_chart` draws: a panel for each compared column, a dot for each run."""
    summary = summarise_style(runs, style)
    constant = constant_error(runs, style)
    lines = {
        "unpaired PSNR": ("mean colour", baselines["mean colour"]["unpaired"]["psnr"]),
        "unpaired SSIM": ("mean colour", baselines["mean colour"]["unpaired"]["ssim"]),
    }
    if constant is not None:
        lines["error"] = ("even attention", constant[0])
    panels = []
    for head, _, digits, better in COLUMNS:
        if head in COMPARED:
            arrow = {True: " (higher is better)", False: " (lower is better)", None: ""}[better]
            dots = {VARIANTS[name].label: row[head]["values"] if head in row else [] for name, row in summary.items()}
            panels.append(
                {"title": f"{style}: {head}{arrow}", "dots": dots, "line": lines.get(head), "digits": digits}
            )
    return panels
