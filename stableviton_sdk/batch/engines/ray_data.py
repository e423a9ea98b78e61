"""`RayEngine`: actors of a Ray cluster, through Ray Data.

Ray only spreads the work: what is done is known from the output, and each row's error is caught and comes back as its
result. Ray runs in a process of its own beside the caller's, whose environment switches its usage statistics off
before it is imported; the caller's environment stays as it is.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection as connections
from typing import Any

from ...choices import DtypeName
from ...errors import InvalidInput, MissingDependency, TryOnError, clipped
from ...validation import is_whole_number
from ..ledger import Shard
from ..plan import Batch, Plan
from ..worker import CannotGoOn, Counts, Job, Worker, run_lanes

BATCHES_PER_UNIT = 8  # what one task of an actor does: so much is looked at again when an actor dies
MOST_BLOCKS = 2000  # of a Ray dataset
CALLS_PER_ACTOR = 2  # one reads and prepares while the other paints
RESULT, FATAL, DEFECT, END = "result", "fatal", "defect", "end"
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # actors without a GPU see the machine's as they are
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what fails comes back as a sentence
}


@dataclass(frozen=True)
class RayEngine:
    """Paints on the actors of a Ray cluster.

    Args:
        actors (`int`, *optional*, defaults to 1): Processes.
        gpus_per_actor (`float`, *optional*, defaults to 0): GPUs of each, or a share of one.
        cpus_per_actor (`float`, *optional*, defaults to 0.5):
            CPUs of each in Ray's books. Less than one, so that Ray's own reading tasks aren't starved.
        address (`str`, *optional*): Of a running cluster, `"auto"` for the one of this machine; by default one is
            started here and ends with the run.
    """

    actors: int = 1
    gpus_per_actor: float = 0.0
    cpus_per_actor: float = 0.5
    address: str | None = None

    name = "ray"
    writes_manifest = True

    def __post_init__(self) -> None:
        if not is_whole_number(self.actors) or self.actors < 1:
            raise InvalidInput(f"actors is {self.actors!r}: pass a whole number from 1.")
        if not self.gpus_per_actor >= 0:
            raise InvalidInput(f"gpus_per_actor is {self.gpus_per_actor!r}: pass a number from 0.")
        if not self.cpus_per_actor > 0:
            raise InvalidInput(f"cpus_per_actor is {self.cpus_per_actor!r}: pass a number above 0.")

    def default_dtype(self) -> DtypeName:
        """Number type of the weights where none is named: half precision on GPUs, where it pays."""
        return "fp16" if self.gpus_per_actor else "fp32"

    def default_threads(self) -> int:
        """Threads for each actor where no number is named: of this machine the cores, shared out; of a cluster 1."""
        if self.gpus_per_actor or self.address is not None:
            return 1
        return max(1, (os.cpu_count() or 1) // self.actors)

    def run(
        self, plan: Plan, job: Job, stopping: Callable[[], bool], counts: list[Counts] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Paint what is planned.

        Args:
            plan (`Plan`): The batches.
            job (`Job`): The run's.
            stopping (`Callable`): Whether to begin no more, and finish what is in hand.
            counts (`list[Counts]`, *optional*): Stays as it is.

        Yields:
            `dict[str, Any]`: results, as they come.

        Raises:
            `MissingDependency`: without Ray.
            `CannotGoOn`: if the run can't go on.
        """
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_drive, args=(theirs, self, job), name="stableviton-ray", daemon=True)
        process.start()
        theirs.close()
        try:
            yield from _talk(ours, _units(plan), stopping)
        finally:
            with contextlib.suppress(OSError):
                ours.send(END)
            process.join(timeout=20)  # Ray's own processes end with it
            process.kill()
            process.join()
            ours.close()


def _units(plan: Plan) -> list[list[Batch]]:
    """What single tasks do: consecutive batches of one block."""
    units: list[list[Batch]] = []
    for batch in plan:
        if not units or len(units[-1]) == BATCHES_PER_UNIT or units[-1][0].block != batch.block:
            units.append([])
        units[-1].append(batch)
    return units


def _talk(connection: Any, units: list[list[Batch]], stopping: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Hand the units over, and take the results."""
    told = False
    try:
        for unit in units:
            connection.send(unit)
        connection.send(None)
        while True:
            if stopping() and not told:
                told = True
                connection.send(END)
            if not connection.poll(0.2):
                continue
            kind, content = connection.recv()
            if kind == RESULT:
                yield content
            elif kind == FATAL:
                raise CannotGoOn(content)
            elif kind == DEFECT:
                raise RuntimeError(f"Ray failed:\n{content}")
            else:
                return
    except (EOFError, OSError) as error:
        if isinstance(error, TryOnError):
            raise
        raise CannotGoOn("the process that leads Ray died: run the same command again to go on.") from error


def _drive(connection: Any, engine: RayEngine, job: Job) -> None:
    """Main function of the process that leads Ray."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # of this process, which is Ray's alone, and of those that Ray starts; they find the modules that this one finds
    os.environ.update(ENVIRONMENT, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    try:
        units = list(iter(connection.recv, None))
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise MissingDependency(
                f"the engine ray needs Ray ({error}): pip install 'stableviton-sdk[batch]'."
            ) from error
        for result in _results(ray, connection, engine, job, units):
            if "fatal" in result:
                connection.send((FATAL, result["fatal"]))
                return
            connection.send((RESULT, result))
        connection.send((END, None))
    except TryOnError as error:
        connection.send((FATAL, str(error)))
    except ConnectionError as error:
        connection.send((FATAL, f"the Ray cluster can't be reached ({clipped(str(error))}): check --address."))
    except BaseException:
        connection.send((DEFECT, traceback.format_exc()[-4000:]))


def _results(
    ray: Any, connection: Any, engine: RayEngine, job: Job, units: list[list[Batch]]
) -> Iterator[dict[str, Any]]:
    """Results of the units, from actors."""
    if engine.address is None:
        # logical CPUs: enough for the actors and for Ray Data's own tasks on a machine of any size
        cpus = max(os.cpu_count() or 1, int(engine.actors * engine.cpus_per_actor) + 2)
        ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="error")
    else:
        ray.init(address=engine.address, log_to_driver=False, logging_level="error")
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = False
        stop = ray.remote(num_cpus=0)(_Stop).remote()
        threading.Thread(target=_pass_on_stop, args=(connection, stop), daemon=True).start()
        items = [{"unit": pickle.dumps(unit)} for unit in units]
        rows = ray.data.from_items(items, override_num_blocks=min(len(items), MOST_BLOCKS)).map_batches(
            _Actor,
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(
                size=min(engine.actors, len(items)),
                max_tasks_in_flight_per_actor=CALLS_PER_ACTOR,
                max_concurrent_calls_per_actor=CALLS_PER_ACTOR,
                enable_true_multi_threading=True,
            ),
            num_cpus=engine.cpus_per_actor,
            num_gpus=engine.gpus_per_actor or None,
            fn_constructor_kwargs={"job": job, "on_gpu": engine.gpus_per_actor > 0, "stop": stop},
        )
        for table in rows.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
            for text in table["result"]:
                yield json.loads(str(text))
    finally:
        ray.shutdown()


class _Stop:
    """Says to all actors whether the run is to end."""

    def __init__(self):
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set


class _Actor:
    """A `Worker` in an actor of Ray Data; its errors come back as results, so that Ray sees none."""

    def __init__(self, job: Job, on_gpu: bool, stop: Any):
        import ray

        self._ray, self._stop = ray, stop
        self._failure: str | None = None
        try:
            self._worker = Worker(job, "cuda" if on_gpu else "cpu")
            name = ray.get_runtime_context().get_actor_id()[:12]
            self._shard = Shard(self._worker.store, job.run, f"ray-{name}")
        except (TryOnError, MemoryError) as error:
            self._failure = str(error)

    def __call__(self, table: dict[str, Any]) -> dict[str, list[str]]:
        results: list[dict[str, Any]] = []
        try:
            for unit in table["unit"]:
                self._process(pickle.loads(bytes(unit)), results)
        except (TryOnError, MemoryError) as error:
            results.append({"fatal": str(error)})
        except Exception as error:
            results.append({"fatal": f"{type(error).__name__}: {error}\n{traceback.format_exc()[-2000:]}"})
        return {"result": [json.dumps(result) for result in results]}

    def _process(self, unit: list[Batch], results: list[dict[str, Any]]) -> None:
        if self._failure is not None:
            raise CannotGoOn(self._failure)

        def unless_stopped() -> Iterator[Batch]:
            for batch in unit:
                if self._ray.get(self._stop.is_set.remote()):
                    return
                yield batch

        def report(batch: Batch, result: dict[str, Any] | None) -> None:
            if result is not None:
                self._shard.add(result)
                results.append(result)

        run_lanes(self._worker, unless_stopped(), report)
        self._shard.flush()


def _pass_on_stop(connection: Any, stop: Any) -> None:
    """Wait for the first process's word that the run is to end."""
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
        stop.set.remote()


def _end_with_parent() -> None:
    """End at once when the process that started this one is gone; Ray's processes end with this one."""
    connections.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
