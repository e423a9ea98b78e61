"""One queue for all devices: jobs wait, run, can be cancelled at any time, and are forgotten after a while."""

from __future__ import annotations

import itertools
import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from ..errors import CallCancelled, TryOnError
from .job import ENDED, EngineStopped, JobTimedOut, Limits, QueueFull, Snapshot, Status, UnknownJob, Work

USUAL_SECONDS = 2.0  # of a job, before any has run
ID_BYTES = 32  # unguessable: who has a job's id has the job

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Job:
    id: str
    work: Any
    nbytes: int
    details: Mapping[str, Any]
    status: Status = "queued"
    step: int = 0
    steps: int | None = None
    preview: str | None = None
    started: float | None = None
    ended: float | None = None
    error: Exception | None = None
    result: Any = None
    cancel_event: threading.Event = field(default_factory=threading.Event)
    listeners: list[Callable[[], None]] = field(default_factory=list)


class _Running:
    """What a work gets, see `Running`."""

    def __init__(self, engine: JobEngine, job: _Job):
        self._engine = engine
        self._job = job
        self.cancel_event: threading.Event = job.cancel_event

    @property
    def is_watched(self) -> bool:
        return bool(self._job.listeners)

    def check(self) -> None:
        if self.cancel_event.is_set():
            raise CallCancelled("the job was cancelled.")

    def report(self, step: int, steps: int, preview: str | None = None) -> None:
        self._engine._report(self._job, step, steps, preview)


class JobEngine:
    """Jobs for one or several devices, each with a thread of its own that works on one job at a time.

    All methods may be called from any thread.

    Args:
        devices (`Sequence[Any]`): One for each thread: what a work gets, such as a pipeline.
        limits (`Limits`, *optional*): Bounds of the queue, of a job's time, and of what is kept.
        clock (`Callable[[], float]`, *optional*): Seconds that only go forward.
    """

    def __init__(
        self, devices: Sequence[Any], limits: Limits | None = None, *, clock: Callable[[], float] = time.monotonic
    ):
        self.limits: Limits = limits or Limits()
        self._clock = clock
        self._changed = threading.Condition()
        self._jobs: dict[str, _Job] = {}  # in the order of their submission
        self._waiting: list[_Job] = []
        self._usual_seconds = USUAL_SECONDS
        self._stopping = False
        self._workers = [
            threading.Thread(target=self._serve, args=(device,), name=f"try-on-{number}", daemon=True)
            for number, device in enumerate(devices)
        ]
        self._janitor = threading.Thread(target=self._tidy, name="try-on-janitor", daemon=True)
        for thread in (*self._workers, self._janitor):
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_stopping(self) -> bool:
        """Whether no more jobs are taken."""
        return self._stopping

    def counts(self) -> dict[Status, int]:
        """How many jobs there are, by status."""
        with self._changed:
            statuses = [job.status for job in self._jobs.values()]
        return {status: statuses.count(status) for status in ("queued", "running", *ENDED)}

    def check_room(self) -> None:
        """
        Raises:
            `QueueFull`, `EngineStopped`: if a job that came now would not be taken.
        """
        with self._changed:
            self._refuse_if_full()

    def submit(self, work: Work, *, details: Mapping[str, Any] | None = None, first: bool = False) -> Snapshot:
        """Queue a work.

        Args:
            work (`Work`): What is to be done.
            details (`Mapping[str, Any]`, *optional*): What is to be known of the job from its beginning to its end.
            first (`bool`, *optional*, defaults to `False`): Put it before all others that wait: for short ones.

        Returns:
            `Snapshot`: the new job.

        Raises:
            `QueueFull`: if too many wait, or their images take too much memory.
            `EngineStopped`: after `stop`.
        """
        job = _Job(secrets.token_urlsafe(ID_BYTES), work, work.nbytes, dict(details or {}))
        with self._changed:
            self._refuse_if_full()
            gone = self._make_room(job.nbytes)
            if sum(other.nbytes for other in self._jobs.values()) + job.nbytes > self.limits.keep_bytes:
                raise QueueFull(self._retry_after())
            self._jobs[job.id] = job
            self._waiting.insert(0 if first else len(self._waiting), job)
            self._changed.notify_all()
            snapshot = self._snapshot(job)
            others = list(self._waiting) if first else []
        _tell([*gone, *others])
        return snapshot

    def get(self, id: str) -> Snapshot:
        """A job as it is now.

        Raises:
            `UnknownJob`: if there is none.
        """
        with self._changed:
            return self._snapshot(self._find(id))

    def follow(self, id: str, listener: Callable[[], None]) -> Callable[[], None]:
        """Have a function called, from any thread, whenever a job changes.

        Args:
            id (`str`): Of the job.
            listener (`Callable[[], None]`): Returns at once, and raises nothing.

        Returns:
            `Callable[[], None]`: ends it.

        Raises:
            `UnknownJob`: if there is no such job.
        """
        with self._changed:
            job = self._find(id)
            job.listeners.append(listener)

        def leave() -> None:
            with self._changed:
                if listener in job.listeners:
                    job.listeners.remove(listener)

        return leave

    def forget(self, id: str) -> None:
        """Cancel a job, if it hasn't ended, and delete it with all that belongs to it.

        Raises:
            `UnknownJob`: if there is none.
        """
        with self._changed:
            job = self._find(id)
            behind = self._cancel(job)
            del self._jobs[job.id]
        _tell([job, *behind])

    def stop(self, timeout: float | None = 30.0) -> bool:
        """Cancel everything and take no more jobs; a call that runs ends before its next step.

        Args:
            timeout (`float`, *optional*, defaults to 30.0): Seconds to wait for what runs; None waits to its end.

        Returns:
            `bool`: whether all threads have ended.
        """
        with self._changed:
            self._stopping = True
            jobs = [job for job in self._jobs.values() if job.status not in ENDED]
            for job in jobs:
                self._cancel(job)
            self._changed.notify_all()
        _tell(jobs)
        until = None if timeout is None else time.monotonic() + timeout
        threads = (*self._workers, self._janitor)
        for thread in threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))
        with self._changed:
            self._jobs.clear()
        return not any(thread.is_alive() for thread in threads)

    def _serve(self, device: Any) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if self._stopping:
                    return
                job = self._waiting.pop(0)
                job.status, job.started = "running", self._clock()
                behind = list(self._waiting)
                self._changed.notify_all()  # the janitor has a deadline to watch
            _tell([job, *behind])
            self._run(device, job)
            del job, behind  # this thread waits now, and nothing may be kept by it

    def _run(self, device: Any, job: _Job) -> None:
        result, error, status = None, None, "done"
        try:
            result = job.work.run(device, _Running(self, job))
            job_bytes = result.nbytes
        except CallCancelled:
            status = "cancelled"
        except Exception as caught:
            status, error = "failed", caught.with_traceback(None)
            if not isinstance(caught, TryOnError):
                logger.exception("a job failed for a reason that isn't its user's")
        with self._changed:
            if job.status != "running":  # cancelled, forgotten or timed out meanwhile
                return
            job.status, job.error, job.result = status, error, result
            self._end(job)
            self._usual_seconds += 0.2 * (job.ended - job.started - self._usual_seconds)
            job.nbytes = 0 if result is None else job_bytes
            gone = self._make_room(0)
            self._changed.notify_all()
        _tell([job, *gone])

    def _report(self, job: _Job, step: int, steps: int, preview: str | None) -> None:
        with self._changed:
            if job.status != "running":
                return
            job.step, job.steps = step, steps
            job.preview = preview or job.preview
        _tell([job])

    def _cancel(self, job: _Job) -> list[_Job]:
        """End a job that hasn't ended; returns those that it stood before. The lock is held."""
        job.cancel_event.set()
        if job.status in ENDED:
            return []
        behind = []
        if job in self._waiting:
            place = self._waiting.index(job)
            del self._waiting[place]
            behind = self._waiting[place:]
        job.status = "cancelled"
        self._end(job)
        return behind

    def _end(self, job: _Job) -> None:
        job.ended = self._clock()
        job.work, job.preview, job.nbytes = None, None, 0

    def _tidy(self) -> None:
        """Watch the running jobs' time, and forget those that ended long ago."""
        while True:
            with self._changed:
                if self._stopping:
                    return
                wait, changed = self._end_what_is_due()
                if not changed:
                    self._changed.wait(wait)
            _tell(changed)
            del changed

    def _end_what_is_due(self) -> tuple[float | None, list[_Job]]:
        """Seconds until the next job is due, None for never, and those that were. The lock is held."""
        now, deadline, changed = self._clock(), math.inf, []
        for job in list(self._jobs.values()):
            due = self._due(job)
            if due > now:
                deadline = min(deadline, due)
                continue
            changed.append(job)
            if job.status != "running":
                del self._jobs[job.id]
                continue
            job.cancel_event.set()
            job.status = "failed"
            job.error = JobTimedOut(
                f"the job took longer than {self.limits.seconds:g} seconds and was stopped: ask for fewer steps or a "
                "faster quality."
            )
            self._end(job)
        return None if deadline == math.inf else max(0.01, deadline - now), changed

    def _due(self, job: _Job) -> float:
        """When something has to be done about a job unless it changes."""
        if job.status == "running":
            return job.started + self.limits.seconds
        return math.inf if job.ended is None else job.ended + self.limits.keep_seconds

    def _make_room(self, nbytes: int) -> list[_Job]:
        """Forget the oldest ended jobs until the bounds are kept with `nbytes` more. The lock is held."""
        ended = sorted((job for job in self._jobs.values() if job.status in ENDED), key=lambda job: job.ended)
        held = sum(job.nbytes for job in self._jobs.values()) + nbytes
        gone = []
        for job in ended:
            if len(ended) - len(gone) <= self.limits.keep_count and held <= self.limits.keep_bytes:
                break
            held -= job.nbytes
            gone.append(job)
            del self._jobs[job.id]
        return gone

    def _refuse_if_full(self) -> None:
        if self._stopping:
            raise EngineStopped
        if len(self._waiting) >= self.limits.queue:
            raise QueueFull(self._retry_after())

    def _retry_after(self) -> int:
        """Seconds until about half of the queue will have been served."""
        rounds = math.ceil(len(self._waiting) / 2 / max(1, len(self._workers)))
        return min(600, max(1, math.ceil(rounds * self._usual_seconds)))

    def _find(self, id: str) -> _Job:
        job = self._jobs.get(id)
        if job is None:
            raise UnknownJob
        return job

    def _snapshot(self, job: _Job) -> Snapshot:
        place = next(itertools.compress(itertools.count(1), (other is job for other in self._waiting)), None)
        seconds = 0.0
        if job.started is not None:
            seconds = (self._clock() if job.ended is None else job.ended) - job.started
        return Snapshot(
            id=job.id,
            status=job.status,
            place=place,
            step=job.step,
            steps=job.steps,
            seconds=seconds,
            preview=job.preview,
            error=job.error,
            result=job.result,
            details=job.details,
        )


def _tell(jobs: Iterable[_Job]) -> None:
    """Call the listeners of jobs that changed; never with the lock held."""
    for job in jobs:
        for listener in list(job.listeners):
            listener()
