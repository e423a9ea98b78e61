"""`LocalEngine`: one process for each device of this machine.

The processes end with the one that started them, however it ends. One that dies itself is replaced, and what it had in
hand is handed out again.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import connection as connections
from typing import Any

from ...choices import DtypeName
from ...errors import InvalidInput, TryOnError
from ...validation import is_whole_number
from ..ledger import FAILED
from ..plan import Batch, Plan
from ..worker import LANES, CannotGoOn, Counts, Job, Worker, run_lanes

IN_HAND = LANES + 2  # batches that a process holds
DEATHS = 3  # of processes without a batch finished in between, until the run stops
DEATHS_OF_BATCH = 2  # until its rows count as failed
READY, RESULT, FINISHED, STOPPED, FATAL, DEFECT = "ready", "result", "finished", "stopped", "fatal", "defect"


@dataclass(frozen=True)
class LocalEngine:
    """Paints on this machine's devices.

    Args:
        devices (`tuple[str, ...]`, *optional*): Such as `("cuda:0", "cuda:1")`; by default all of the best kind.
        workers (`int`, *optional*): Processes on each device; 1 by default.
    """

    devices: tuple[str, ...] = ()
    workers: int = 1

    name = "local"
    writes_manifest = False

    def __post_init__(self) -> None:
        if not is_whole_number(self.workers) or self.workers < 1:
            raise InvalidInput(f"workers is {self.workers!r}: pass a whole number from 1.")

    def places(self) -> list[str]:
        """The device of each process."""
        return [device for device in self.devices or all_devices() for _ in range(self.workers)]

    def default_dtype(self) -> DtypeName:
        """Number type of the weights where none is named: half precision on CUDA, where it pays."""
        return "fp16" if self.places()[0].startswith("cuda") else "fp32"

    def default_threads(self) -> int:
        """Threads for each process where no number is named: on CPUs the machine's cores are shared out."""
        places = self.places()
        return max(1, (os.cpu_count() or 1) // len(places)) if places[0].startswith("cpu") else 1

    def run(
        self, plan: Plan, job: Job, stopping: Callable[[], bool], counts: list[Counts] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Paint what is planned.

        Args:
            plan (`Plan`): The batches; emptied.
            job (`Job`): The run's.
            stopping (`Callable`): Whether to hand out no more, and finish what is in hand.
            counts (`list[Counts]`, *optional*): Gets each process's, when it ends.

        Yields:
            `dict[str, Any]`: results, as they come.

        Raises:
            `CannotGoOn`: if the run can't go on.
        """
        places = self.places()[: max(1, len(plan))]
        pool = _Pool(plan, job, counts if counts is not None else [])
        try:
            for device in places:
                pool.start(device)
            yield from pool.results(stopping)
        finally:
            pool.kill()


def all_devices() -> tuple[str, ...]:
    """All GPUs of this machine, or its CPU."""
    import torch

    if torch.cuda.is_available():
        return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    return ("mps",) if torch.backends.mps.is_available() else ("cpu",)


@dataclass(eq=False)
class _Process:
    process: Any
    connection: Any
    device: str
    in_hand: dict[int, Batch] = field(default_factory=dict)
    reported: dict[int, set[str]] = field(default_factory=dict)
    block: int | None = None
    ready: bool = False
    ending: bool = False


class _Pool:
    """The processes of a run, and what each has in hand."""

    def __init__(self, plan: Plan, job: Job, counts: list[Counts]):
        self.plan, self.job, self.counts = plan, job, counts
        self.processes: list[_Process] = []
        self.deaths = 0
        self.deaths_of: dict[int, int] = {}
        self.stopping = False

    def start(self, device: str) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self.job, device), name="stableviton-batch", daemon=True)
        process.start()
        theirs.close()
        self.processes.append(_Process(process, ours, device))

    def results(self, stopping: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        while self.processes:
            self.stopping = stop = stopping()
            for process in self.processes:
                self._hand_out(process, stop)
            waited = connections.wait([process.connection for process in self.processes], timeout=0.2)
            for process in [entry for entry in self.processes if entry.connection in waited]:
                try:
                    message = process.connection.recv()
                except (EOFError, OSError):  # it died
                    yield from self._bury(process)
                    continue
                if (result := self._take(process, message)) is not None:
                    yield result

    def kill(self) -> None:
        for entry in self.processes:
            entry.process.kill()
        for entry in self.processes:
            entry.process.join()
            entry.connection.close()
        self.processes = []

    def _hand_out(self, process: _Process, stop: bool) -> None:
        """Keep a process's hands full, or let it go when there is nothing left for it."""
        with contextlib.suppress(OSError):  # it just died; its messages' end says so
            while not process.ending and len(process.in_hand) < IN_HAND and not self._suspects(process):
                batch = None if stop else self.plan.take(process.block)
                if batch is None:
                    # what another process has in hand may come back if it dies, so the last ones stay
                    if stop or not any(entry.in_hand for entry in self.processes):
                        process.ending = True
                        process.connection.send(None)
                    return
                if batch.number in self.deaths_of and process.in_hand:  # by itself, to see whether it's the cause
                    self.plan.put_back(batch)
                    return
                process.block = batch.block
                process.in_hand[batch.number] = batch
                process.reported[batch.number] = set()
                process.connection.send(batch)

    def _suspects(self, process: _Process) -> bool:
        """Whether a process has a batch in hand that another one died with."""
        return any(number in self.deaths_of for number in process.in_hand)

    def _take(self, process: _Process, message: tuple) -> dict[str, Any] | None:
        kind, number, content = message
        if kind == READY:
            process.ready = True
        elif kind == RESULT:
            process.reported[number].add(content["id"])
            return content
        elif kind == FINISHED:
            self.deaths = 0
            del process.in_hand[number], process.reported[number]
        elif kind == STOPPED:
            self.counts.append(content)
            process.process.join()
            process.connection.close()
            self.processes.remove(process)
        elif kind == FATAL:
            raise CannotGoOn(content)
        else:
            raise RuntimeError(f"a process of the batch failed:\n{content}")
        return None

    def _bury(self, process: _Process) -> Iterator[dict[str, Any]]:
        """Start another one in a dead process's place, and hand its batches out again."""
        process.process.join()
        process.connection.close()
        self.processes.remove(process)
        if self.stopping or (process.ending and not process.in_hand):
            return
        self.deaths += 1
        code = process.process.exitcode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with status {code}"
        if self.deaths >= DEATHS:
            raise CannotGoOn(
                f"processes on {process.device} died {self.deaths} times in a row, the last {how}: if memory ran out, "
                "begin in a new folder with a smaller --batch-size, or use fewer --workers."
            )
        for number, batch in process.in_hand.items():
            times = self.deaths_of[number] = self.deaths_of.get(number, 0) + 1
            done = process.reported[number]
            missing = tuple(
                is_missing and pair.id not in done for pair, is_missing in zip(batch.pairs, batch.missing, strict=True)
            )
            if not any(missing):
                continue
            if times >= DEATHS_OF_BATCH and len(process.in_hand) == 1:
                for pair, is_missing in zip(batch.pairs, missing, strict=True):
                    if is_missing:
                        yield {
                            **failure(self.job, pair),
                            "error": f"the process that painted it died {times} times, the last {how}.",
                        }
                continue
            self.plan.put_back(Batch(number, batch.block, batch.pairs, missing))
        self.start(process.device)


def failure(job: Job, pair: Any) -> dict[str, Any]:
    """The result of a row that no process could be asked about."""
    return {
        "id": pair.id,
        "status": FAILED,
        "file": job.image_name(pair),
        "seed": job.seed_of(pair),
        "fingerprint": job.fingerprint,
        "row": pair.digest,
        "line": pair.line,
        "person": pair.person,
        "garment": pair.garment,
        "columns": dict(pair.columns),
        "at": round(time.time(), 3),
    }


def _work(connection: Any, job: Job, device: str) -> None:
    """Main function of a process: batches come in, results go out, until None comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all: the first process says what follows
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sending = threading.Lock()

    def send(kind: str, number: int | None = None, content: Any = None) -> None:
        with sending:
            connection.send((kind, number, content))

    inbox: queue.SimpleQueue = queue.SimpleQueue()

    def receive() -> None:
        with contextlib.suppress(EOFError, OSError):
            while (batch := connection.recv()) is not None:
                inbox.put(batch)
        inbox.put(None)

    threading.Thread(target=receive, daemon=True).start()
    try:
        worker = Worker(job, device)
        send(READY)
        run_lanes(
            worker,
            iter(inbox.get, None),
            lambda batch, result: send(RESULT if result is not None else FINISHED, batch.number, result),
        )
        send(STOPPED, None, worker.close())
    except TryOnError as error:
        send(FATAL, None, str(error))
    except MemoryError as error:
        send(FATAL, None, f"there isn't enough memory ({error}): use fewer --workers, or a smaller --batch-size.")
    except Exception:
        send(DEFECT, None, traceback.format_exc())


def _end_with_parent() -> None:
    """End at once when the process that started this one is gone, even if it was killed."""
    parent = multiprocessing.parent_process()
    connections.wait([parent.sentinel])
    os._exit(1)
