"""Batches in trouble: a Ray worker killed, the Ray driver killed, a full disk, unreadable photos.

python -m benchmarks.batch_faults --work FOLDER [--pairs 100] [--only CASE …] [--json FILE]

The full disk is a small tmpfs, which only root can mount; without root this case is left out, and said to be.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil

from benchmarks.batch_runs import (
    count_images,
    differing,
    images_of,
    run_batch,
    start_batch,
    wait_for,
    write_set,
)

RAY = ["--engine", "ray", "--actors", "2"]


def errors_of(output: Path) -> list[dict[str, str]]:
    with (output / "errors.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def kill_one(process: subprocess.Popen, what: str) -> str:
    """Kill a process below another by what its command says; returns that."""
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            command = " ".join(child.cmdline())
        except psutil.Error:
            continue
        if what in command:
            child.kill()
            return command[:120]
    raise RuntimeError(f"no process of {what!r}")


def ray_worker(pairs: Path, work: Path, whole: dict[str, bytes]) -> dict[str, Any]:
    output = work / "ray-worker"
    process = start_batch(pairs, output, *RAY)
    wait_for(lambda: count_images(output) >= len(whole) // 4, process)
    killed = kill_one(process, "ray::MapWorker")
    _, error = process.communicate()
    return {
        "killed": killed,
        "exit_status": process.returncode,
        "images": count_images(output),
        "not_equal": differing(images_of(output), whole),
        "errors": len(errors_of(output)),
        "said": error.splitlines()[-1:] if process.returncode else [],
        "resumed": run_batch(pairs, output, *RAY)[0],
    }


def ray_driver(pairs: Path, work: Path, whole: dict[str, bytes]) -> dict[str, Any]:
    output = work / "ray-driver"
    process = start_batch(pairs, output, *RAY)
    wait_for(lambda: count_images(output) >= len(whole) // 4, process)
    # the process that leads Ray is started by multiprocessing, as nothing else below this one is
    killed = kill_one(process, "multiprocessing.spawn")
    _, error = process.communicate()
    first = {"killed": killed, "exit_status": process.returncode, "said": error.splitlines()[-1:]}
    images = count_images(output)
    status, _ = run_batch(pairs, output, *RAY)
    return {
        **first,
        "images_then": images,
        "resumed": status,
        "images": count_images(output),
        "not_equal": differing(images_of(output), whole),
    }


def full_disk(pairs: Path, work: Path, whole: dict[str, bytes]) -> dict[str, Any]:
    if os.geteuid() != 0:
        return {"left_out": "only root can mount a tmpfs"}
    disk = work / "disk"
    disk.mkdir(parents=True, exist_ok=True)
    room = sum(map(len, whole.values())) // 2  # for about half of the images
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(disk)], check=True)
    try:
        output = disk / "out"
        status, said = run_batch(pairs, output)
        images = images_of(output)
        report = {
            "exit_status": status,
            "said": said.splitlines()[-1:],
            "images_then": len(images),
            "half_or_wrong": [name for name, content in images.items() if whole[name] != content],
        }
        subprocess.run(["mount", "-o", f"remount,size={room * 50}", str(disk)], check=True)
        report["resumed"], said = run_batch(pairs, output)
        report["images"] = count_images(output)
        report["not_equal"] = differing(images_of(output), whole)
        report["errors"] = len(errors_of(output))
        return report
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def unreadable(pairs: Path, work: Path, whole: dict[str, bytes], options: list[str]) -> dict[str, Any]:
    """Every tenth row has a photo that can't be read; then the photo is put back."""
    data = work / "unreadable"
    shutil.copytree(pairs.parent, data, dirs_exist_ok=True)
    rows = list(csv.reader((data / "pairs.csv").open(newline="")))
    (data / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot at all")
    spoilt = [[row[0], "broken.png", *row[2:]] if number % 10 == 0 else row for number, row in enumerate(rows)]
    spoilt[0] = rows[0]
    with (data / "spoilt.csv").open("w", newline="") as file:
        csv.writer(file).writerows(spoilt)
    output = work / f"unreadable-{'ray' if options else 'local'}"
    status, said = run_batch(data / "spoilt.csv", output, *options)
    expected = {row[0] for number, row in enumerate(rows) if number % 10 == 0 and number}
    errors = errors_of(output)
    images = images_of(output)
    report = {
        "exit_status": status,
        "said": said.splitlines()[-1:],
        "images": len(images),
        "rest_equal": all(whole[name] == content for name, content in images.items()),
        "errors_right": {row["id"] for row in errors} == expected and all(row["error"] for row in errors),
        "example": errors[0]["error"] if errors else None,
    }
    report["resumed"], _ = run_batch(data / "pairs.csv", output, *options)
    report["not_equal_when_resumed"] = differing(images_of(output), whole)
    report["errors_when_resumed"] = len(errors_of(output))
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--only", nargs="+", metavar="CASE", help="some of the cases")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    side = math.isqrt(arguments.pairs)
    shutil.rmtree(arguments.work, ignore_errors=True)
    pairs = write_set(arguments.work / "data", side, side)
    status, said = run_batch(pairs, arguments.work / "whole")
    assert status == 0, said
    whole = images_of(arguments.work / "whole")
    cases = {
        "full_disk": lambda: full_disk(pairs, arguments.work, whole),
        "unreadable_local": lambda: unreadable(pairs, arguments.work, whole, []),
        "ray_worker_killed": lambda: ray_worker(pairs, arguments.work, whole),
        "ray_driver_killed": lambda: ray_driver(pairs, arguments.work, whole),
        "unreadable_ray": lambda: unreadable(pairs, arguments.work, whole, RAY),
    }
    report: dict[str, Any] = {"pairs": side * side}
    for name in arguments.only or cases:
        report[name] = cases[name]()
        print(json.dumps({name: report[name]}), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
