"""What a job is: its work, its result, its state at one moment, its bounds, and what can be said against it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ..errors import TryOnError

Status = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")


class QueueFull(TryOnError):
    """No more jobs can wait; `retry_after` is in how many seconds it's worth trying again."""

    def __init__(self, retry_after: int):
        self.retry_after = retry_after
        super().__init__(f"the queue is full: try again in {retry_after} seconds.")


class UnknownJob(TryOnError):
    """There is no job of this id, or there is none any more."""

    def __init__(self) -> None:
        super().__init__("there is no such job: it was deleted, or its time has passed.")


class JobTimedOut(TryOnError):
    """A job took longer than it may."""


class EngineStopped(TryOnError):
    """No jobs are taken any more."""

    def __init__(self) -> None:
        super().__init__("the server is stopping: try again when it is back.")


class Running(Protocol):
    """A job under way, as its work sees it."""

    cancel_event: threading.Event

    @property
    def is_watched(self) -> bool:
        """Whether anybody follows the job, so that a preview is of use."""
        ...

    def check(self) -> None:
        """
        Raises:
            `CallCancelled`: if the job was cancelled.
        """
        ...

    def report(self, step: int, steps: int, preview: str | None = None) -> None:
        """Publish how far the job is; without a preview the last one stays."""
        ...


class Work(Protocol):
    """What a job does. It is let go of when the job has ended."""

    @property
    def nbytes(self) -> int:
        """Memory that it holds while it waits."""
        ...

    def run(self, device: Any, running: Running) -> Result:
        """Do it, on one of the engine's devices; from time to time call `running.report`."""
        ...


class Result(Protocol):
    """What a job leaves, until it's forgotten."""

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        ...


@dataclass(frozen=True)
class Limits:
    """
    Args:
        queue (`int`, *optional*, defaults to 32): Jobs that may wait.
        seconds (`float`, *optional*, defaults to 600.0): Time that a job may run.
        keep_seconds (`float`, *optional*, defaults to 1800.0): Time that a job is kept after its end.
        keep_count (`int`, *optional*, defaults to 256): Ended jobs that are kept.
        keep_bytes (`int`, *optional*, defaults to 2 GiB): Memory that all jobs' works and results may hold.
    """

    queue: int = 32
    seconds: float = 600.0
    keep_seconds: float = 1800.0
    keep_count: int = 256
    keep_bytes: int = 2 * 2**30


@dataclass(frozen=True)
class Snapshot:
    """A job at one moment.

    Args:
        id (`str`): Of the job.
        status (`str`): `"queued"`, `"running"`, `"done"`, `"failed"` or `"cancelled"`.
        place (`int`, *optional*): In the queue, from 1; None where it doesn't wait.
        step (`int`), steps (`int`, *optional*): Steps done, and how many there are, as far as known.
        seconds (`float`): Time that it has been running, or ran.
        preview (`str`, *optional*): The newest preview.
        error (`Exception`, *optional*): Why it failed.
        result (`Result`, *optional*): What it made.
        details (`Mapping[str, Any]`): What was submitted along with its work.
    """

    id: str
    status: Status
    place: int | None
    step: int
    steps: int | None
    seconds: float
    preview: str | None
    error: Exception | None
    result: Any
    details: Mapping[str, Any]
