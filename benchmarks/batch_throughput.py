"""How fast a batch is, against the same images made in memory, and against a plain loop.

python -m benchmarks.batch_throughput --work FOLDER [--rounds 2] [--loop 60] [--json FILE]

20 persons x 20 garments, the bundled model, one thread. In turns, in each round:

- *memory*: batches of prepared persons and garments, composed as the batch composes them, painted and thrown away;
- *batch*: `stableviton batch` into a folder, from its first image to its last (and from its start); and the share of
  that time in which it painted, which doesn't depend on what else the machine does;
- *loop*: `pipe(person, garment).images[0].save(...)`, file by file, for the first pairs.

The numbers are the best of the rounds, each in images an hour: what else runs on the machine only ever takes away.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

import torch

from benchmarks.batch_runs import run_batch, write_set
from stableviton_sdk import TryOnPipeline
from stableviton_sdk.batch.ledger import MANIFEST
from stableviton_sdk.batch.pairs import read_pairs
from stableviton_sdk.batch.plan import compose
from stableviton_sdk.pipelines.seeds import pair_generator

BATCH_SIZE = 4


def in_memory(pipeline: TryOnPipeline, pairs: Path) -> float:
    """Images an hour of batches of what is prepared."""
    rows = read_pairs(str(pairs)).rows
    persons = {name: pipeline.prepare_persons(name)[0] for name in dict.fromkeys(row.person for row in rows)}
    garments = {name: pipeline.prepare_garment(name) for name in dict.fromkeys(row.garment for row in rows)}
    batches = [[rows[place] for place in places] for _, places in compose(rows, BATCH_SIZE)]
    began = time.monotonic()
    for batch in batches:
        pipeline(
            [persons[row.person] for row in batch],
            [garments[row.garment] for row in batch],
            generator=[pair_generator(0, row.id) for row in batch],
        )
    return len(rows) / (time.monotonic() - began) * 3600


def by_batch(pairs: Path, output: Path) -> dict[str, float]:
    """Images an hour from the first image to the last, and from the start; the share of painting."""
    shutil.rmtree(output, ignore_errors=True)
    began = time.monotonic()
    status, said = run_batch(pairs, output)
    seconds = time.monotonic() - began
    assert status == 0, said
    lines = [line for path in (output / MANIFEST).iterdir() for line in path.read_text("utf-8").splitlines()]
    results = sorted((json.loads(line) for line in lines if line), key=lambda result: result["at"])
    # the first images come together, as one batch
    span = results[-1]["at"] - results[BATCH_SIZE - 1]["at"]
    return {
        "batch": (len(results) - BATCH_SIZE) / span * 3600,
        "batch_with_start": len(results) / seconds * 3600,
        "share_of_painting": sum(result["seconds"] for result in results[BATCH_SIZE:]) / span,
    }


def by_loop(pipeline: TryOnPipeline, pairs: Path, output: Path, count: int) -> float:
    """Images an hour of a plain loop."""
    rows = read_pairs(str(pairs)).rows[:count]
    output.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for row in rows:
        pipeline(row.person, row.garment).images[0].save(output / f"{row.id}.png")
    return len(rows) / (time.monotonic() - began) * 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--side", type=int, default=20, help="persons, and garments (20)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--loop", type=int, default=60)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pairs = write_set(arguments.work / "data", arguments.side, arguments.side)
    pipeline = TryOnPipeline.from_bundled()
    pipeline.set_progress_bar_config(disable=True)
    rounds = []
    for _ in range(arguments.rounds):
        memory = in_memory(pipeline, pairs)
        batch = by_batch(pairs, arguments.work / "batch")
        loop = by_loop(pipeline, pairs, arguments.work / "loop", arguments.loop)
        rounds.append({"memory": memory, "loop": loop, **batch})
        print(json.dumps({name: round(value, 3) for name, value in rounds[-1].items()}), flush=True)
    best = {name: max(entry[name] for entry in rounds) for name in rounds[0]}
    report = {
        "images_an_hour": {name: round(value) for name, value in best.items() if name != "share_of_painting"},
        "share_of_painting": round(best["share_of_painting"], 3),
        "batch_of_memory": round(best["batch"] / best["memory"], 3),
        "batch_of_loop": round(best["batch"] / best["loop"], 3),
        "rounds": rounds,
    }
    print(json.dumps(report, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
