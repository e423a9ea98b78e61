"""A long list: memory while it is worked through, time to start, time to read the manifest.

python -m benchmarks.batch_scale --work FOLDER [--rows 100000] [--json FILE]

The painter stands in for a model: it returns one image again and again, so that everything else is what is measured.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from benchmarks.batch_stand_in import StandIn
from stableviton_sdk import batch
from stableviton_sdk.batch.ledger import Ledger


class Memory(threading.Thread):
    """Samples the memory of this process and of those below it, in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[int, float, float]] = []
        self.done = 0
        self.ended = threading.Event()

    def run(self) -> None:
        own = psutil.Process()
        while not self.ended.wait(1.0):
            below = 0
            for child in own.children(recursive=True):
                try:
                    below += child.memory_info().rss
                except psutil.Error:
                    continue
            self.samples.append((self.done, own.memory_info().rss / 1e6, below / 1e6))

    def at(self, share: float, total: int) -> list[float]:
        """Memory when that share was done."""
        sample = next(entry for entry in self.samples if entry[0] >= share * total)
        return [round(value, 1) for value in sample[1:]]


def write_list(work: Path, rows: int) -> Path:
    """A list of each of some persons with each of some garments."""
    side = math.ceil(math.sqrt(rows))
    for part in ("persons", "garments"):
        (work / part).mkdir(parents=True, exist_ok=True)
        for index in range(side):
            Image.new("RGB", (24, 32), (index % 256, 90, 120)).save(work / part / f"{index}.png")
    path = work / "pairs.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "person", "garment", "sku"])
        for number in range(rows):
            person, garment = divmod(number, side)
            writer.writerow([f"row-{number:07}", f"persons/{person}.png", f"garments/{garment}.png", f"SKU{number}"])
    return path


def run(pairs: Path, output: Path, memory: Memory) -> dict[str, Any]:
    """One run: time to its start and its first image, and all of it."""
    began = time.monotonic()
    times: dict[str, float] = {}

    def follow(event: Mapping[str, Any]) -> None:
        times.setdefault(event["event"], time.monotonic() - began)
        memory.done = event["done"]

    settings = batch.BatchSettings(threads=1, batch_size=8)
    engine = batch.LocalEngine(devices=("cpu",))
    summary = batch.run(pairs, output, settings, engine=engine, painter=StandIn, on_event=follow)
    return {
        "done": summary.done,
        "painted": summary.painted,
        "seconds": round(time.monotonic() - began, 1),
        "seconds_to_start": round(times["start"], 2),
        "seconds_to_first_image": round(times["image"], 2) if "image" in times else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    shutil.rmtree(arguments.work, ignore_errors=True)
    pairs = write_list(arguments.work / "data", arguments.rows)
    output = arguments.work / "out"
    memory = Memory()
    memory.start()
    report: dict[str, Any] = {"rows": arguments.rows, "first": run(pairs, output, memory)}
    memory.ended.set()
    report["megabytes_own_and_below"] = {
        f"{share:.0%}": memory.at(share, arguments.rows) for share in (0.05, 0.25, 0.5, 0.75, 0.98)
    }
    began = time.monotonic()
    records = len(Ledger(str(output)).read().records)
    report["manifest"] = {"rows": records, "seconds_to_read": round(time.monotonic() - began, 2)}
    # some images lost, so that the next run has something to begin with
    shards = sorted((output / "manifest").iterdir())
    lines = shards[0].read_text("utf-8").splitlines(keepends=True)
    shards[0].write_text("".join(lines[:-64]), encoding="utf-8")
    for line in lines[-64:]:
        (output / json.loads(line)["file"]).unlink(missing_ok=True)
    report["resumed"] = run(pairs, output, memory)
    print(json.dumps(report, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
