"""The app, killed in the middle of uploads and jobs: it starts again clean, with nothing left of what was sent.

Run: python -m benchmarks.killed_service [--times 10]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.app_process import SAMPLES, AppProcess, running_app, wait_for

MARKER = b"a person that nobody else may see"


def kill_in_the_middle(folder: Path, delay: float, *options: str) -> list[str]:
    """Start the app, keep it busy with a job, a finished result and half an upload, and kill it.

    Args:
        folder (`Path`): New or empty.
        delay (`float`): Seconds between the job's first step and the end.
        options (`str`): Further arguments of the app.

    Returns:
        `list[str]`: what is wrong with what it left; empty if nothing is.
    """
    with running_app(folder, "--rate", "0", *options) as app:
        there = {path.name for path in folder.rglob("*") if path.is_file()}
        port = app.port
        files = {name: (SAMPLES / f"{name}_1.png").read_bytes() for name in ("person", "garment")}
        with httpx.Client(base_url=app.url, timeout=60, trust_env=False) as client:
            done = client.post("/v1/try-on", files=files).headers["location"]
            wait_for(lambda: client.get(done).json()["status"] == "done")
            running = client.post("/v1/try-on", files=files, data={"steps": "100"}).headers["location"]
            client.post("/v1/try-on", files=files)  # waits
            wait_for(lambda: client.get(running).json()["step"] >= 1)
            with _half_an_upload(app):
                time.sleep(delay)
                os.kill(app.process.pid, signal.SIGKILL)
                app.process.wait()
    problems = []
    left = [path for path in folder.rglob("*") if path.is_file() and path.name not in there]
    problems += [f"it left {path}" for path in left]
    problems += [f"{path} holds an upload" for path in folder.rglob("*") if path.is_file() and _holds_upload(path)]
    with running_app(folder, "--rate", "0", "--port", str(port), *options) as app:
        with httpx.Client(base_url=app.url, timeout=60, trust_env=False) as client:
            if client.get(done).status_code != 404:
                problems.append("it still has the job of before")
            address = client.post("/v1/try-on", files=files).headers["location"]
            wait_for(lambda: client.get(address).json()["status"] == "done")
        problems += [f"it said: {app.log}"] if app.log else []
    return problems


@contextlib.contextmanager
def _half_an_upload(app: AppProcess):
    head = (
        f"POST /v1/try-on HTTP/1.1\r\nHost: {app.host}:{app.port}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        'Content-Length: 20000000\r\n\r\n--b\r\nContent-Disposition: form-data; name="person"; filename="p"\r\n\r\n'
    )
    with socket.create_connection((app.host, app.port)) as connection:
        connection.sendall(head.encode() + MARKER * 200_000)  # more than a usual server keeps in memory
        yield


def _holds_upload(path: Path) -> bool:
    content = path.read_bytes()
    return MARKER in content or content.startswith((b"\x89PNG", b"\xff\xd8"))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10)
    chosen = parser.parse_args(arguments)
    chance, failures = random.Random(0), 0
    for number in range(chosen.times):
        delay = chance.uniform(0.0, 1.0)
        with tempfile.TemporaryDirectory() as folder:
            problems = kill_in_the_middle(Path(folder), delay)
        failures += bool(problems)
        print(f"{number + 1}: killed {delay:.2f} s after the first step: {problems or 'clean'}", flush=True)
    print(f"{chosen.times} kills, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
