"""One process's work, the same in every engine: read and prepare, paint, encode and write, in several lanes at once.

A lane takes one batch from its files to its images; only painting is done by one lane at a time. So while the device
paints, other lanes read, prepare and write.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput, TryOnError, WeightsUnavailable, clipped
from ..files import differences
from ..pipelines.seeds import pair_seed
from ..provenance import read_settings, save_image
from .ledger import DONE, FAILED, IMAGES
from .painters import Painter
from .pairs import Pair
from .plan import Batch
from .stores import Folder, ObjectStore, open_store, read_image_file

LANES = 3
HELPERS = 8  # threads that read, prepare, encode and write
PERSONS_KEPT, GARMENTS_KEPT = 64, 256
BYTES_KEPT = 2**30  # of pixels, of persons and of garments each
FORMATS = {"png": "PNG", "webp": "WEBP", "jpg": "JPEG"}


class CannotGoOn(TryOnError):
    """What failed isn't one row's fault: the run stops, and can be started again."""


@dataclass(frozen=True)
class Job:
    """What the processes of one run have to know; can be pickled.

    Args:
        output (`str`): Folder, or address of an object store.
        painter (`Callable[..., Painter]`): Makes the painter: takes `device` and `threads`.
        description (`Mapping[str, Any]`): What the painter says of itself; each process's has to say the same.
        fingerprint (`str`): Of the settings.
        seed (`int`): Seed of the run.
        threads (`int`): Threads of each process's operations.
        run (`int`): Number of the run.
        format (`str`): `"png"`, `"webp"` or `"jpg"`.
        metadata (`bool`): Whether images say how they were made.
    """

    output: str
    painter: Callable[..., Painter]
    description: Mapping[str, Any]
    fingerprint: str
    seed: int = 0
    threads: int = 1
    run: int = 1
    format: str = "png"
    metadata: bool = True

    def image_name(self, pair: Pair) -> str:
        """Name of a pair's image in the output."""
        return f"{IMAGES}/{pair.name}.{self.format}"

    def seed_of(self, pair: Pair) -> int:
        """A pair's own seed."""
        return pair_seed(self.seed, pair.id) if pair.seed is None else pair.seed


@dataclass
class Counts:
    """How often a process prepared something, however often it occurred.

    Args:
        persons (`int`): Persons that were prepared.
        garments (`int`): Garments that were prepared.
        images (`int`): Images that were painted, those included that were needed for a batch's composition only.
    """

    persons: int = 0
    garments: int = 0
    images: int = 0


class Kept:
    """Prepared persons or garments by what they follow from; those that were used longest ago make room.

    Args:
        most (`int`): Entries to keep.
        most_bytes (`int`): Bytes of their pixels to keep.
    """

    def __init__(self, most: int, most_bytes: int):
        self._most, self._most_bytes = most, most_bytes
        self._entries: OrderedDict[Hashable, Future] = OrderedDict()
        self._bytes: dict[Hashable, int] = {}
        self._lock = threading.Lock()
        self.made = 0

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The entry of a key, made once whichever threads ask for it; so is the error that making it ended with."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
            else:
                self._entries[key] = future = Future()
                self.made += 1
        if entry is not None:
            return entry.result()
        try:
            value = make()
        except TryOnError as error:
            future.set_exception(error)
            raise
        except BaseException as error:
            with self._lock:
                del self._entries[key]
            future.set_exception(error)
            raise
        future.set_result(value)
        with self._lock:
            self._bytes[key] = pixel_bytes(value)
            self._make_room()
        return value

    def _make_room(self) -> None:
        for key in list(self._entries):
            if len(self._entries) <= self._most and sum(self._bytes.values()) <= self._most_bytes:
                break
            if self._entries[key].done() and len(self._entries) > 1:
                del self._entries[key]
                self._bytes.pop(key, None)


class Worker:
    """Paints batches on one device.

    Args:
        job (`Job`): The run's.
        device (`str`, *optional*, defaults to `"cpu"`): Where it paints.

    Raises:
        `CannotGoOn`: if its model isn't the run's.
    """

    def __init__(self, job: Job, device: str = "cpu"):
        self.job = job
        self.device = device
        self.store: Folder | ObjectStore = open_store(job.output)
        self.painter: Painter = job.painter(device=device, threads=job.threads)
        for name, first, own in differences(dict(job.description), as_json(self.painter.describe())):
            raise CannotGoOn(
                f"a process's {name} is {clipped(str(own), most=80)}, and the run's {clipped(str(first), most=80)}: "
                "give all machines the same model."
            )
        self.model: str = str(job.description.get("model", {}).get("weights_sha256", ""))
        self.counts = Counts()
        self._persons = Kept(PERSONS_KEPT, BYTES_KEPT)
        self._garments = Kept(GARMENTS_KEPT, BYTES_KEPT)
        self._painting = threading.Lock()
        self._helpers = ThreadPoolExecutor(HELPERS, thread_name_prefix="batch")

    def process(self, batch: Batch) -> Iterator[dict[str, Any]]:
        """Make the images of a batch that are missing.

        Args:
            batch (`Batch`): The batch.

        Yields:
            `dict[str, Any]`: a result for each of them, as it stands in the manifest.

        Raises:
            `CannotGoOn`, `OutputUnwritable`: if the run can't go on.
        """
        missing = [pair for pair, is_missing in zip(batch.pairs, batch.missing, strict=True) if is_missing]
        still = []
        for pair, result in zip(missing, self._helpers.map(self._settle, missing), strict=True):
            if result is None:
                still.append(pair)
            else:
                yield result
        prepared = self._prepare(still)
        for pair in still:
            if isinstance(prepared[pair.id], TryOnError):
                yield self._result(pair, FAILED, error=str(prepared[pair.id]))
        wanted = {pair.id for pair in still if not isinstance(prepared[pair.id], TryOnError)}
        if not wanted:
            return
        # the others of the batch are painted along: another composition would round differently
        prepared |= self._prepare([pair for pair in batch.pairs if pair.id not in prepared])
        usable = [pair for pair in batch.pairs if not isinstance(prepared[pair.id], TryOnError)]
        chosen = usable + usable[:1] * (len(batch.pairs) - len(usable))  # and so would fewer of them
        try:
            images, seconds = self._paint(chosen, prepared)
        except TryOnError as error:
            if isinstance(error, CannotGoOn):
                raise
            for pair in usable:
                if pair.id in wanted:
                    yield self._result(pair, FAILED, error=str(error))
            return
        made = [(pair, image) for pair, image in zip(usable, images, strict=False) if pair.id in wanted]
        yield from self._helpers.map(lambda entry: self._write(*entry, seconds), made)

    def close(self) -> Counts:
        """End the helping threads; returns what was counted."""
        self._helpers.shutdown()
        self.counts.persons, self.counts.garments = self._persons.made, self._garments.made
        return self.counts

    def _settle(self, pair: Pair) -> dict[str, Any] | None:
        """The result of an image that is there although nothing says so; None if it has to be made.

        It is there after a kill between writing and noting, or where another process was quicker.
        """
        name = self.job.image_name(pair)
        if not self.store.exists(name):
            return None
        content = self.store.read(name)
        try:
            settings = read_settings(content) if content else None
        except InvalidInput:  # damaged, as after a power cut
            return None
        if settings is None or (settings.get("batch"), settings.get("row")) != (self.job.fingerprint, pair.digest):
            return None
        return self._result(pair, DONE, sha256=hashlib.sha256(content).hexdigest())

    def _prepare(self, pairs: Iterable[Pair]) -> dict[str, tuple[Any, Any] | TryOnError]:
        """Person and garment of each pair, by id, or what is wrong with one of them."""
        pairs = list(pairs)
        works: dict[Hashable, Callable[[], Any]] = {}
        for pair in pairs:
            works.setdefault((0, pair.person_key), lambda pair=pair: self._person_of(pair))
            works.setdefault((1, pair.garment_key), lambda pair=pair: self._garment_of(pair))
        values = dict(zip(works, self._helpers.map(_or_error, works.values()), strict=True))
        prepared: dict[str, tuple[Any, Any] | TryOnError] = {}
        for pair in pairs:
            both = values[0, pair.person_key], values[1, pair.garment_key]
            prepared[pair.id] = next((value for value in both if isinstance(value, TryOnError)), both)
        return prepared

    def _person_of(self, pair: Pair) -> Any:
        def make() -> Any:
            maps = {name: read_image_file(address) for name, address in pair.maps}
            with _named("person"):
                return self.painter.prepare_person(read_image_file(pair.person), maps, pair.category)

        return self._persons.get(pair.person_key, make)

    def _garment_of(self, pair: Pair) -> Any:
        def make() -> Any:
            with _named("garment"):
                return self.painter.prepare_garment(read_image_file(pair.garment), pair.garment_photo, pair.category)

        return self._garments.get(pair.garment_key, make)

    def _paint(self, pairs: list[Pair], prepared: dict[str, Any]) -> tuple[list[Any], float]:
        """Images of pairs, and seconds that each took.

        Raises:
            `CannotGoOn`: if there isn't enough memory.
            `TryOnError`: if they can't be painted.
        """
        persons, garments = zip(*(prepared[pair.id] for pair in pairs), strict=True)
        seeds = [self.job.seed_of(pair) for pair in pairs]
        with self._painting:
            began = time.monotonic()
            try:
                images = self.painter.paint(persons, garments, seeds)
            except TryOnError:
                raise
            except Exception as error:
                if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
                    raise CannotGoOn(
                        f"there isn't enough memory for {len(pairs)} images at once ({clipped(str(error))}): begin "
                        "again in a new folder with a smaller --batch-size."
                    ) from error
                raise TryOnError(f"painting failed ({type(error).__name__}: {clipped(str(error))}).") from error
            self.counts.images += len(pairs)
            return images, (time.monotonic() - began) / len(pairs)

    def _write(self, pair: Pair, image: Any, seconds: float) -> dict[str, Any]:
        """Write an image, whole or not at all."""
        seed = self.job.seed_of(pair)
        settings = None
        if self.job.metadata:
            settings = {
                **self.painter.settings_of(seed),
                "category": pair.category,
                "garment_photo": pair.garment_photo,
                "id": pair.id,
                "row": pair.digest,
                "batch": self.job.fingerprint,
            }
        encoded = io.BytesIO()
        save_image(image, encoded, settings, format=FORMATS[self.job.format], metadata=self.job.metadata)
        content = encoded.getvalue()
        self.store.write(self.job.image_name(pair), content)
        return self._result(pair, DONE, seconds=round(seconds, 4), sha256=hashlib.sha256(content).hexdigest())

    def _result(self, pair: Pair, status: str, **more: Any) -> dict[str, Any]:
        result = {
            "id": pair.id,
            "status": status,
            "file": self.job.image_name(pair),
            "seconds": None,
            "seed": self.job.seed_of(pair),
            "fingerprint": self.job.fingerprint,
            "model": self.model,
            "sha256": None,
            "error": None,
            "row": pair.digest,
            "line": pair.line,
            "person": pair.person,
            "garment": pair.garment,
            "columns": dict(pair.columns),
            "device": self.device,
            "at": round(time.time(), 3),
        }
        return {**result, **more}


def run_lanes(
    worker: Worker, batches: Iterable[Batch], report: Callable[[Batch, dict[str, Any] | None], None]
) -> None:
    """Process batches in several lanes.

    Args:
        worker (`Worker`): The process's.
        batches (`Iterable[Batch]`): The batches; the next is asked for when a lane is free.
        report (`Callable`): Takes each batch's results, and None when it is finished; from several threads.

    Raises:
        `CannotGoOn`, `OutputUnwritable`: if the run can't go on.
    """
    asking = threading.Lock()
    source = iter(batches)
    stopped = threading.Event()

    def lane() -> None:
        try:
            while not stopped.is_set():
                with asking:
                    batch = next(source, None)
                if batch is None:
                    return
                for result in worker.process(batch):
                    report(batch, result)
                report(batch, None)
        except BaseException:
            stopped.set()
            raise

    lanes = ThreadPoolExecutor(LANES, thread_name_prefix="lane")
    futures = [lanes.submit(lane) for _ in range(LANES)]
    finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
    lanes.shutdown(wait=False)  # after an error others may wait for a batch that nobody will hand out
    for future in finished:
        future.result()


def pixel_bytes(value: Any) -> int:
    """Bytes of the images that an object holds, about."""
    parts = vars(value).values() if hasattr(value, "__dict__") else [value]
    sizes = (getattr(part, "size", None) for part in parts)
    return sum(size[0] * size[1] * 3 for size in sizes if isinstance(size, tuple) and len(size) == 2)


def as_json(value: Any) -> Any:
    """A value as it comes back from JSON."""
    return json.loads(json.dumps(value))


def _or_error(work: Callable[[], Any]) -> Any:
    """What a function returns, or the error of this package that it raises."""
    try:
        return work()
    except WeightsUnavailable as error:  # no row's fault
        raise CannotGoOn(str(error)) from error
    except TryOnError as error:
        return error


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    """Turn what a library raises on an image into one sentence; a defect must not stop the other rows."""
    try:
        yield
    except (TryOnError, MemoryError):
        raise
    except Exception as error:
        raise TryOnError(f"{what} can't be prepared ({type(error).__name__}: {clipped(str(error))}).") from error
