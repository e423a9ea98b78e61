"""`run`: the pairs of a list, or of two folders, made into images; whatever interrupts it, the same call goes on."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from ..choices import DtypeName
from ..errors import InvalidInput, TryOnError
from ..validation import check_choice
from .engines.local import LocalEngine
from .engines.ray_data import RayEngine
from .ledger import DONE, FAILED, Ledger, Shard, State, note
from .painters import Painter, PipelinePainter
from .pairs import Pairs, pair_folders, read_pairs
from .plan import Plan, unfinished
from .progress import Speed
from .settings import BatchSettings, Folders
from .worker import Counts, Job, as_json

COMPOSITION = 1  # of batches; another rule would round the images otherwise
WATCH_INTERVAL = 5.0  # seconds between two looks at a folder
STILL_GROWING = 2.0  # seconds that a new file has to rest before it is read
PAINTING_OPTIONS = ("quality", "detail", "steps", "guidance_scale", "init_from")
MODEL_OPTIONS = ("model", "checkpoint", "dtype")


class TooManyErrors(TryOnError):
    """More rows failed than was allowed."""


class Engine(Protocol):
    """Spreads a batch's work; see `LocalEngine` and `RayEngine`."""

    name: str
    writes_manifest: bool

    def default_dtype(self) -> DtypeName:
        """Number type of the weights where none is named."""
        ...

    def default_threads(self) -> int:
        """Threads for each process where no number is named."""
        ...

    def run(
        self, plan: Plan, job: Job, stopping: Callable[[], bool], counts: list[Counts] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Paint what is planned."""
        ...


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Args:
        output (`str`): Where the images are.
        total (`int`): Rows, those included that can't be read.
        done (`int`): Rows whose images are there.
        failed (`int`): Rows that can't be made; `errors.csv` has a sentence on each.
        painted (`int`): Images that this run made.
        seconds (`float`): From the first image to the last.
        per_hour (`float`, *optional*): Images an hour, of the last minutes.
        interrupted (`bool`): Whether it was stopped.
        counts (`tuple[Counts, ...]`): What each process prepared and painted, where the engine says.
    """

    output: str
    total: int
    done: int
    failed: int
    painted: int
    seconds: float
    per_hour: float | None
    interrupted: bool
    counts: tuple[Counts, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The summary, of JSON's types."""
        return asdict(self)


def run(
    pairs: str | os.PathLike[str] | Folders,
    output: str | os.PathLike[str],
    settings: BatchSettings | None = None,
    *,
    engine: Literal["local", "ray"] | LocalEngine | RayEngine = "local",
    limit: int | None = None,
    redo: bool = False,
    max_errors: int | None = None,
    watch: bool = False,
    on_event: Callable[[Mapping[str, Any]], None] | None = None,
    painter: Callable[..., Painter] | None = None,
) -> Summary:
    """Make the images of a list of pairs that an output lacks.

    The output is the checkpoint: the same call again makes what is missing, with the same bytes as if nothing had
    interrupted it. In the main thread, Ctrl-C ends it when the images in hand are finished; a second one at once.

    Args:
        pairs (`str`, `os.PathLike` or `Folders`): A list in CSV, JSON lines or Parquet, or two folders.
        output (`str` or `os.PathLike`): Folder, or address of an object store.
        settings (`BatchSettings`, *optional*): What the images follow from.
        engine (`str`, `LocalEngine` or `RayEngine`, *optional*, defaults to `"local"`): Who does the work.
        limit (`int`, *optional*): Number of rows, from the first.
        redo (`bool`, *optional*, defaults to `False`): Make images again that are of other settings or other rows.
        max_errors (`int`, *optional*): Rows that may fail before the run stops.
        watch (`bool`, *optional*, defaults to `False`): Go on with new files of two folders until it is interrupted.
        on_event (`Callable`, *optional*): Called with a dictionary after each image, at the start and at the end:
            `event` (`"start"`, `"image"` or `"end"`), `done`, `failed`, `total`, `per_hour`, `seconds_left`, `id`.
        painter (`Callable`, *optional*): Makes who paints, instead of a pipeline, in each process: takes `device` and
            `threads`, returns a `Painter`; can be pickled.

    Returns:
        `Summary`

    Raises:
        `InvalidInput`: if the list can't be read, or the output holds images of other settings.
        `TooManyErrors`: if more rows failed than may.
        `TryOnError`: if it can't go on, with what to do.
    """
    settings = settings or BatchSettings()
    if watch and not isinstance(pairs, Folders):
        raise InvalidInput("watch looks for new files of folders: pass two folders, not a list.")
    if isinstance(engine, str):
        check_choice("engine", engine, tuple(ENGINES))
        engine = ENGINES[engine]()
    batch = _Run(pairs, os.fspath(output), settings, engine, limit, redo, max_errors, on_event, painter)
    with _interruptible() as interrupted:
        summary = batch.paint(interrupted.is_set, time.time() - STILL_GROWING if watch else None)
        while watch and not interrupted.is_set():
            interrupted.wait(WATCH_INTERVAL)
            if not interrupted.is_set():
                summary = batch.paint(interrupted.is_set, time.time() - STILL_GROWING, first=False)
    return summary


ENGINES: dict[str, Callable[[], LocalEngine | RayEngine]] = {"local": LocalEngine, "ray": RayEngine}


class _Run:
    """A run's state between two looks at the list."""

    def __init__(
        self,
        pairs: str | os.PathLike[str] | Folders,
        output: str,
        settings: BatchSettings,
        engine: Engine,
        limit: int | None,
        redo: bool,
        max_errors: int | None,
        on_event: Callable[[Mapping[str, Any]], None] | None,
        painter: Callable[..., Painter] | None,
    ):
        self.source, self.settings, self.engine, self.limit, self.redo = pairs, settings, engine, limit, redo
        self.max_errors, self.on_event = max_errors, on_event or (lambda event: None)
        self.ledger = Ledger(output)
        self.ledger.store.check()
        self.pairs = self._read_pairs(None) if not isinstance(pairs, Folders) else None
        self.state: State = self.ledger.read()
        self.job = self._job(painter)
        self.speed = Speed()
        self.counts: list[Counts] = []
        self.painted = 0
        self.numbers: dict[str, int] = {}

    def paint(self, stopping: Callable[[], bool], changed_before: float | None, *, first: bool = True) -> Summary:
        """Make what is missing of what the list or the folders hold now.

        Args:
            stopping (`Callable`): Whether to finish what is in hand.
            changed_before (`float`, *optional*): As for `pair_folders`.
            first (`bool`, *optional*, defaults to `True`): Whether it is this run's first look.
        """
        began = time.monotonic()
        pairs = self.pairs or self._read_pairs(changed_before)
        done = self._done(pairs)
        failed = self._failed_before(pairs)
        self.ledger.add_part(self.state, pairs.rows)
        plan = unfinished(self._parts(pairs), self.settings.batch_size, done | failed)
        self.numbers = {
            "done": len(done),
            "failed": len(failed) + len(pairs.bad),
            "total": len(pairs.rows) + len(pairs.bad),
        }
        if first or len(plan):
            self._tell("start")
            if len(plan):
                self._paint(pairs, plan, stopping)
            self.ledger.write_errors(self.state, pairs.rows, pairs.bad)
            self._tell("end")
        return Summary(
            output=self.ledger.output,
            **self.numbers,
            painted=self.painted,
            seconds=round(time.monotonic() - began, 3),
            per_hour=self.speed.per_hour(),
            interrupted=stopping(),
            counts=tuple(self.counts),
        )

    def _paint(self, pairs: Pairs, plan: Plan, stopping: Callable[[], bool]) -> None:
        shard = None if self.engine.writes_manifest else Shard(self.ledger.store, self.job.run, self.engine.name)
        seen: set[str] = set()

        def too_many() -> bool:
            return self.max_errors is not None and self.numbers["failed"] > self.max_errors

        try:
            results = self.engine.run(plan, self.job, lambda: stopping() or too_many(), self.counts)
            with contextlib.closing(results):
                for result in results:
                    if shard is not None:
                        shard.add(result)
                    note(self.state.records, result, self.job.run, result["at"])
                    if result["id"] not in seen:  # an actor that died may have been heard before
                        seen.add(result["id"])
                        self._count(result)
            if shard is not None:
                shard.close()
        except BaseException:
            with contextlib.suppress(TryOnError):  # on a full disk, which is what is being raised
                self.ledger.write_errors(self.state, pairs.rows, pairs.bad)
            raise
        if too_many():
            self.ledger.write_errors(self.state, pairs.rows, pairs.bad)
            raise TooManyErrors(
                f"{self.numbers['failed']} rows failed, and {self.max_errors} may: see errors.csv in "
                f"{self.ledger.output}, mend them, and run the same command again to go on."
            )

    def _count(self, result: Mapping[str, Any]) -> None:
        if result["status"] == DONE:
            self.numbers["done"] += 1
            self.painted += 1
            self.speed.add(result["at"])
        else:
            self.numbers["failed"] += 1
        self._tell("image", result["id"])

    def _read_pairs(self, changed_before: float | None) -> Pairs:
        options = {
            "category": self.settings.category,
            "garment_photo": self.settings.garment_photo,
            "limit": self.limit,
        }
        if isinstance(self.source, Folders):
            folders = self.source
            return pair_folders(
                folders.persons, folders.garments, folders.how, changed_before=changed_before, **options
            )
        return read_pairs(os.fspath(self.source), **options)

    def _job(self, painter: Callable[..., Painter] | None) -> Job:
        """What the processes have to know; the output is begun, or found to be of these settings."""
        settings = self.settings
        if painter is None:
            dtype = settings.dtype or self.engine.default_dtype()
            given = {name: getattr(settings, name) for name in (*MODEL_OPTIONS, *PAINTING_OPTIONS)}
            painter = functools.partial(PipelinePainter, **{**given, "dtype": dtype})
        description = as_json(painter(device="cpu", threads=None).describe())
        before = self.state.settings or {}
        threads = settings.threads or before.get("threads") or self.engine.default_threads()
        content = {
            **description,
            "seed": settings.seed,
            "batch_size": settings.batch_size,
            "format": settings.format,
            "metadata": settings.metadata,
            "threads": threads,
            "composition": COMPOSITION,
        }
        return Job(
            output=self.ledger.output,
            painter=painter,
            description=description,
            fingerprint=self.ledger.open(self.state, content, redo=self.redo),
            seed=settings.seed,
            threads=threads,
            run=self.state.run + 1,
            format=settings.format,
            metadata=settings.metadata,
        )

    def _done(self, pairs: Pairs) -> set[str]:
        """Ids whose images are there, of these settings.

        Raises:
            `InvalidInput`: if rows have changed since their images were made.
        """
        done, changed = set(), []
        for row in pairs.rows:
            record = self.state.records.get(row.id)
            if record is not None and record.status == DONE and record.fingerprint == self.job.fingerprint:
                if record.digest == row.digest:
                    done.add(row.id)
                else:
                    changed.append(row.id)
        if changed and not self.redo:
            raise InvalidInput(
                f"{len(changed)} rows have changed since their images were made, the first {changed[0]!r}: pass "
                "--redo to make those again, or give them other ids."
            )
        return done

    def _failed_before(self, pairs: Pairs) -> set[str]:
        """Ids that failed in this very run, and aren't tried again in it."""
        records = self.state.records
        return {
            row.id
            for row in pairs.rows
            if (record := records.get(row.id)) and record.status == FAILED and record.run == self.job.run
        }

    def _parts(self, pairs: Pairs) -> list[list[Any]]:
        """Rows in the order in which they became known."""
        rows = {row.id: row for row in pairs.rows}
        return [[rows[id_] for id_ in part if id_ in rows] for part in self.state.parts]

    def _tell(self, event: str, id_: str | None = None) -> None:
        per_hour = self.speed.per_hour()
        left = self.numbers["total"] - self.numbers["done"] - self.numbers["failed"]
        seconds_left = None if not per_hour else round(left / per_hour * 3600, 1)
        rounded = None if per_hour is None else round(per_hour, 1)
        self.on_event({"event": event, **self.numbers, "per_hour": rounded, "seconds_left": seconds_left, "id": id_})


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, in the main thread; the second one interrupts as usual."""
    interrupted = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    # a process that was started in the background may be one that Ctrl-C is not meant for
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield interrupted
        return

    def handle(number: int, frame: Any) -> None:
        if interrupted.is_set():
            signal.signal(signal.SIGINT, before)
            raise KeyboardInterrupt
        interrupted.set()

    signal.signal(signal.SIGINT, handle)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
