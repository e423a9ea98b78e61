"""What the benchmarks of batches share: rendered persons and garments, and batches in processes of their own."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from stableviton_sdk.batch.ledger import Ledger
from stableviton_sdk.data.synthetic import render_pair

SEED = 11  # of the renderer


def write_set(folder: Path, persons: int = 20, garments: int = 20) -> Path:
    """Rendered persons and garments, and a list of each with each."""
    for part in ("persons", "garments"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for index in range(max(persons, garments)):
        sample = render_pair(SEED, index)
        if index < persons:
            Image.fromarray(sample.person).save(folder / "persons" / f"p{index:02}.png")
        if index < garments:
            Image.fromarray(sample.garment_other).save(folder / "garments" / f"g{index:02}.png")
    path = folder / "pairs.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "person", "garment"])
        for person in range(persons):
            for garment in range(garments):
                cells = f"p{person:02}-g{garment:02}", f"persons/p{person:02}.png", f"garments/g{garment:02}.png"
                writer.writerow(cells)
    return path


def start_batch(
    pairs: str | Path, output: str | Path, *options: str, environment: dict[str, str] | None = None
) -> subprocess.Popen:
    """Start `stableviton batch` with the bundled model, one thread, on the CPU."""
    command = [sys.executable, "-m", "stableviton_sdk", "batch", str(pairs), "--output", str(output)]
    command += ["--model", "bundled", "--threads", "1", "--json", *options]
    if "ray" not in options:
        command += ["--device", "cpu"]
    return subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_batch(pairs: str | Path, output: str | Path, *options: str, **more: Any) -> tuple[int, str]:
    """Run it to its end: exit status, and what it said."""
    process = start_batch(pairs, output, *options, **more)
    out, error = process.communicate()
    return process.returncode, out + error


def images_of(output: Path) -> dict[str, bytes]:
    """Bytes of all images by name; what is hidden isn't one."""
    folder = output / "images"
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")} if folder.is_dir() else {}


def count_images(output: Path) -> int:
    """Number of images."""
    folder = output / "images"
    return sum(not name.startswith(".") for name in os.listdir(folder)) if folder.is_dir() else 0


def wait_for(
    condition: Callable[[], bool], process: subprocess.Popen, patience: float = 900.0, interval: float = 0.02
) -> None:
    """Wait until something holds, or a process has ended."""
    deadline = time.monotonic() + patience
    while not condition() and process.poll() is None:
        if time.monotonic() > deadline:
            raise TimeoutError("it doesn't get on")
        time.sleep(interval)


def done_of(output: Path) -> int:
    """Rows that the manifest calls done."""
    return sum(record.status == "done" for record in Ledger(str(output)).read().records.values())


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Names of images that are in one set only, or not equal."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
