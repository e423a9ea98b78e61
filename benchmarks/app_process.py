"""`stableviton app` as a process of its own, for what is measured of it and done to it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

SAMPLES = Path(__file__).parents[1] / "stableviton_sdk" / "bundled" / "samples"
START_SECONDS = 120


@dataclass
class AppProcess:
    """A running app.

    Args:
        process (`subprocess.Popen`): The process.
        host (`str`), port (`int`), token (`str`, *optional*): From the address that it printed.
        folder (`Path`): Its working directory, with `tmp` for its temporary files and `log.txt` for its messages.
    """

    process: subprocess.Popen
    host: str
    port: int
    token: str | None
    folder: Path
    headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def log(self) -> str:
        """What it has printed as messages; other libraries' warnings at import are left out."""
        lines = (self.folder / "log.txt").read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if "torch" not in line)

    def left_behind(self) -> list[str]:
        """Files that it has made, and files that it holds open though they are deleted."""
        made = [str(path) for path in self.folder.rglob("*") if path.is_file() and path.name != "log.txt"]
        descriptors = Path(f"/proc/{self.process.pid}/fd")
        if descriptors.is_dir():
            for descriptor in descriptors.iterdir():
                with contextlib.suppress(OSError):
                    target = os.readlink(descriptor)
                    made += [target] if target.endswith("(deleted)") else []
        return made

    def memory(self) -> float:
        """Resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


@contextlib.contextmanager
def running_app(folder: Path, *options: str) -> Iterator[AppProcess]:
    """Start `stableviton app` with the bundled model on a free port; ends it at last.

    Args:
        folder (`Path`): New or empty: its working directory.
        options (`str`): Further arguments.
    """
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "stableviton_sdk", "app", "--port", "0", "--device", "cpu", *options]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = process.stdout.readline()
        if not line.startswith("http"):
            process.wait(START_SECONDS)
            raise RuntimeError(f"the app didn't start: {(folder / 'log.txt').read_text()}")
        parts = urlsplit(line.split()[0])
        token = parts.fragment.removeprefix("token=") or None
        yield AppProcess(process, parts.hostname, parts.port, token, folder)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(START_SECONDS)
        process.stdout.close()


def wait_for(condition, seconds: float = START_SECONDS, every: float = 0.02):
    """The first true value of a function."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > until:
            raise TimeoutError("it never happened")
        time.sleep(every)
    return found
