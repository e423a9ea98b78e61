"""Many clients at once: each gets its own request's answer, a full queue says so, and memory stays flat.

Run: python -m benchmarks.service_load [--requests 1000] [--clients 50] [--workers 1]

Starts the app with the bundled model and a queue shorter than the number of clients. Every answer is compared, pixel
by pixel, with what the pipeline makes of the same person, garment and seed in this process.
"""

from __future__ import annotations

import argparse
import io
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from PIL import Image

from benchmarks.app_process import SAMPLES, running_app
from stableviton_sdk import TryOnPipeline
from stableviton_sdk.provenance import read_settings

SEEDS = 3
TURNS = (0, 40, 80, 120, 160, 200)  # of the garments' hues, of 256


@dataclass(frozen=True)
class Case:
    """A request, and what its answer must be.

    Args:
        person (`bytes`), garment (`bytes`): PNG files.
        seed (`int`): Of the noise.
        expected (`np.ndarray`): The result.
    """

    person: bytes
    garment: bytes
    seed: int
    expected: np.ndarray


@dataclass
class Report:
    """What happened.

    Args:
        right (`int`): Answers that were their request's own.
        wrong (`list[str]`): What was wrong with the others.
        statuses (`Counter[int]`): Of all answers to submissions.
        without_retry_after (`int`): 429s that didn't say when to come again.
        seconds (`list[float]`): From each accepted submission to its result.
    """

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    without_retry_after: int = 0
    seconds: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def make_cases(pipeline: TryOnPipeline, turns: tuple[int, ...] = TURNS, seeds: int = SEEDS) -> list[Case]:
    """Every person in every garment of every hue, with every seed: all different."""
    cases = []
    for number in (1, 2):
        person = (SAMPLES / f"person_{number}.png").read_bytes()
        for other in (1, 2):
            garment = Image.open(SAMPLES / f"garment_{other}.png").convert("RGB")
            for turn in turns:
                hue, saturation, value = garment.convert("HSV").split()
                hue = hue.point(lambda degree, turn=turn: (degree + turn) % 256)
                file = io.BytesIO()
                Image.merge("HSV", (hue, saturation, value)).convert("RGB").save(file, "PNG")
                for seed in range(seeds):
                    generator = torch.Generator().manual_seed(seed)
                    image = pipeline(person, file.getvalue(), generator=generator, quality="balanced").images[0]
                    cases.append(Case(person, file.getvalue(), seed, np.asarray(image)))
    return cases


def run_load(
    url: str,
    headers: dict[str, str],
    cases: list[Case],
    *,
    requests: int,
    clients: int,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Send requests from several clients, each of which sends its next one when it has its answer.

    Args:
        url (`str`), headers (`dict[str, str]`): Of the server.
        cases (`list[Case]`): What is sent, in turn.
        requests (`int`), clients (`int`): How many.
        progress (`Callable[[int], None]`, *optional*): Called with the number of answers so far.
    """
    report, numbers = Report(), iter(range(requests))

    def work() -> None:
        with httpx.Client(base_url=url, headers=headers, timeout=300, trust_env=False) as client:
            while True:
                with report.lock:
                    number = next(numbers, None)
                if number is None:
                    return
                try:
                    problem = _ask(client, cases[number % len(cases)], report, random.Random(number))
                except Exception as error:
                    problem = repr(error)
                with report.lock:
                    report.right += problem is None
                    report.wrong += [] if problem is None else [f"request {number}: {problem}"]
                    if progress is not None:
                        progress(report.right + len(report.wrong))

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return report


def _ask(client: httpx.Client, case: Case, report: Report, chance: random.Random) -> str | None:
    """One request to its end; what is wrong with its answer, or None."""
    files, texts = {"person": case.person, "garment": case.garment}, {"seed": str(case.seed)}
    while True:
        start = time.monotonic()
        answer = client.post("/v1/try-on", files=files, data=texts)
        with report.lock:
            report.statuses[answer.status_code] += 1
            report.without_retry_after += answer.status_code == 429 and "retry-after" not in answer.headers
        if answer.status_code == 202:
            break
        if answer.status_code != 429:
            return f"{answer.status_code}: {answer.text[:200]}"
        time.sleep(float(answer.headers.get("retry-after", 1)) * chance.uniform(0.5, 1.5))
    address = answer.headers["location"]
    with client.stream("GET", f"{address}/events") as events:
        last = [line for line in events.iter_lines() if line][-2:]  # asking again and again would be the larger load
    if last[0] != "event: done":
        return f"it ended as {last}"
    content = client.get(f"{address}/result").content
    with report.lock:
        report.seconds.append(time.monotonic() - start)
    client.delete(address)
    if read_settings(content)["seed"] != case.seed:
        return "it has another seed"
    found = np.asarray(Image.open(io.BytesIO(content)))
    return None if np.array_equal(found, case.expected) else "it is another image"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--max-queue", type=int, default=16)
    chosen = parser.parse_args(arguments)
    pipeline = TryOnPipeline.from_bundled()
    pipeline.set_progress_bar_config(disable=True)
    cases = make_cases(pipeline)
    print(f"{len(cases)} different requests", flush=True)
    memory: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as place:
        options: list[Any] = ["--rate", 0, "--workers", chosen.workers, "--max-queue", chosen.max_queue]
        with running_app(Path(place), *map(str, options)) as app:
            there = set(app.left_behind())
            memory.append((0, app.memory()))

            def progress(count: int) -> None:
                if count % max(1, chosen.requests // 10) == 0:
                    memory.append((count, app.memory()))
                    print(f"{count} answers, {memory[-1][1]:.0f} MB", flush=True)

            start = time.monotonic()
            report = run_load(
                app.url, app.headers, cases, requests=chosen.requests, clients=chosen.clients, progress=progress
            )
            seconds = time.monotonic() - start
            left, log = set(app.left_behind()) - there, app.log
    print(f"right: {report.right} of {chosen.requests}; wrong: {report.wrong or 'none'}")
    print(f"submissions by status: {dict(report.statuses)}; 429 without Retry-After: {report.without_retry_after}")
    print(f"{seconds:.0f} s, {chosen.requests / seconds:.2f} answers a second")
    if report.seconds:
        print(
            f"from acceptance to result: median {statistics.median(report.seconds):.1f} s, "
            f"longest {max(report.seconds):.1f} s"
        )
    print(f"memory in MB by answers: {', '.join(f'{count}: {size:.0f}' for count, size in memory)}")
    print(f"left behind: {left or 'nothing'}; log: {log or 'empty'}")
    return 1 if report.wrong or report.without_retry_after or log or left else 0


if __name__ == "__main__":
    sys.exit(main())
