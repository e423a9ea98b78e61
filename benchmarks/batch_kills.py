"""Batches killed at random moments: is every image there once, and the same as without?

python -m benchmarks.batch_kills --work FOLDER [--engine local ray] [--pairs 400] [--kills 5] [--json FILE]

The reference is an uninterrupted run of the local engine. Each run after it is killed (SIGKILL to the first process
alone) at a random moment between its first image and the time that a fifth of the reference took; the last one ends by
itself.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import time
from pathlib import Path

import psutil

from benchmarks.batch_runs import count_images, differing, done_of, images_of, run_batch, start_batch, wait_for

ENGINES = {"local": [], "ray": ["--engine", "ray", "--actors", "2"]}


def kill_and_resume(pairs: Path, output: Path, options: list[str], kills: int, span: float, chance: random.Random):
    """Images that were there at each kill, and processes that outlived it by more than ten seconds."""
    found, survivors = [], 0
    for _ in range(kills):
        before = count_images(output)
        process = start_batch(pairs, output, *options)
        wait_for(lambda before=before: count_images(output) > before, process)
        time.sleep(chance.uniform(0, span))
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()
        process.communicate()
        _, alive = psutil.wait_procs(children, timeout=10)
        survivors += len(alive)
        found.append(count_images(output))
    return found, survivors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--engine", nargs="+", choices=tuple(ENGINES), default=tuple(ENGINES))
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="go on with the reference that is there")
    parser.add_argument("--span", type=float, help="seconds within which to kill; default: as above")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    from benchmarks.batch_runs import write_set

    side = math.isqrt(arguments.pairs)
    pairs = write_set(arguments.work / "data", side, side)
    reference = arguments.work / "uninterrupted"
    if not arguments.keep:
        shutil.rmtree(reference, ignore_errors=True)
    began = time.monotonic()
    status, said = run_batch(pairs, reference)
    seconds = time.monotonic() - began
    assert status == 0, said
    whole = images_of(reference)
    report = {"pairs": side * side, "uninterrupted_seconds": round(seconds, 1)}
    for engine in arguments.engine:
        output = arguments.work / engine
        shutil.rmtree(output, ignore_errors=True)
        chance = random.Random(arguments.seed)
        at_kills, survivors = kill_and_resume(
            pairs, output, ENGINES[engine], arguments.kills, arguments.span or seconds / (arguments.kills + 1), chance
        )
        status, said = run_batch(pairs, output, *ENGINES[engine])
        images = images_of(output)
        report[engine] = {
            "images_at_kills": at_kills,
            "processes_that_outlived_a_kill": survivors,
            "exit_status": status,
            "images": len(images),
            "done_in_manifest": done_of(output),
            "not_equal_to_uninterrupted": differing(images, whole),
        }
        print(json.dumps({engine: report[engine]}), flush=True)
        if status:
            print(said)
    print(json.dumps(report, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
