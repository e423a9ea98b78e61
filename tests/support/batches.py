"""Batches with a painter that needs no model: its images follow from photo, garment and seed, in a moment."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from stableviton_sdk import batch
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.images import load_image

SIZE = (12, 16)
ROOT = Path(__file__).parents[1]


class StandIn:
    """Paints the mean colours of person and garment, and the seed's noise.

    Args:
        device (`str`), threads (`int`, *optional*): As for every painter.
        strength (`int`, *optional*): Another one is another model.
        seconds (`float`, *optional*): Time that an image takes.
    """

    def __init__(self, device, threads=None, *, strength=1, seconds=0.0):
        self.device, self.strength, self.seconds = device, strength, seconds

    def describe(self):
        return {"model": {"weights_sha256": f"{self.strength:064}"}}

    def prepare_person(self, person, maps, category):
        return self._prepare(person, "person")

    def prepare_garment(self, garment, garment_photo, category):
        return self._prepare(garment, "garment")

    def paint(self, persons, garments, seeds):
        time.sleep(self.seconds * len(seeds))
        images = []
        for person, garment, seed in zip(persons, garments, seeds, strict=True):
            noise = np.random.default_rng(seed).integers(0, 30, (*SIZE[::-1], 3))
            # as a network's, an image depends a little on how many are painted with it
            colour = (np.asarray(person[0]) + np.asarray(garment[0])) / 2 * 0.8 + self.strength + len(seeds)
            images.append(Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8)))
        return images

    def settings_of(self, seed):
        return {"model": "stand-in", "seed": seed, "strength": self.strength}

    @staticmethod
    def _prepare(source, name):
        image = load_image(source, name=name)
        if image.size == (1, 1):
            raise InvalidInput("the photo shows nobody: pass another one.")
        return [np.asarray(image).mean(axis=(0, 1))]


class Slow(StandIn):
    def __init__(self, device, threads=None):
        super().__init__(device, threads, seconds=0.05)


class Strong(StandIn):
    def __init__(self, device, threads=None):
        super().__init__(device, threads, strength=9)


class Once(StandIn):
    """Kills its process while it paints, the first time only.

    Args:
        device (`str`), threads (`int`, *optional*): As for every painter.
        flag (`str`): File that says that it has done so, and whether Ray's statistics were on in that process.
    """

    def __init__(self, device, threads=None, *, flag):
        super().__init__(device, threads)
        self.flag = Path(flag)

    def paint(self, persons, garments, seeds):
        if not self.flag.exists():
            self.flag.write_text(os.environ.get("RAY_USAGE_STATS_ENABLED", "unset"))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().paint(persons, garments, seeds)


class Poisoned(StandIn):
    """Dies of the person p1."""

    def paint(self, persons, garments, seeds):
        if any(abs(person[0][0] - 10) < 1 for person in persons):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().paint(persons, garments, seeds)


class Failing(StandIn):
    """Has a defect."""

    def paint(self, persons, garments, seeds):
        raise ZeroDivisionError("division by zero")


class Starved(StandIn):
    """Has enough memory for all but the person p3, who comes last."""

    def paint(self, persons, garments, seeds):
        if any(abs(person[0][0] - 30) < 1 for person in persons):
            time.sleep(0.5)  # the other lanes have nothing left to do
            raise MemoryError("512 GB")
        return super().paint(persons, garments, seeds)


def write_pairs(folder, persons=4, garments=3, *, columns=()):
    """Images of persons and garments, and a list of each with each."""
    folder = Path(folder)
    for part, count in (("persons", persons), ("garments", garments)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            colour = (10 * index, 200 - 20 * index, 90) if part == "persons" else (200, 15 * index, 30)
            Image.new("RGB", SIZE, colour).save(folder / part / f"{part[0]}{index}.png")
    path = folder / "pairs.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "person", "garment", *columns])
        for person in range(persons):
            for garment in range(garments):
                cells = [f"{column}{person}{garment}" for column in columns]
                writer.writerow([f"{person}-{garment}", f"persons/p{person}.png", f"garments/g{garment}.png", *cells])
    return path


def images_of(output):
    """Bytes of all images by name; what is hidden isn't one."""
    return {path.name: path.read_bytes() for path in (Path(output) / "images").glob("[!.]*")}


def manifest_of(output):
    """Lines of the manifest."""
    paths = sorted((Path(output) / "manifest").glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines() if line]


def errors_of(output):
    """Rows of errors.csv."""
    return list(csv.DictReader(io.StringIO((Path(output) / "errors.csv").read_text("utf-8"))))


def make(pairs, output, *, painter=StandIn, settings=None, **options):
    """Run a batch on the CPU."""
    settings = settings or batch.BatchSettings(batch_size=2, threads=1)
    options.setdefault("engine", batch.LocalEngine(devices=("cpu",)))
    return batch.run(pairs, output, settings, painter=painter, **options)


def start(script, *arguments, **options):
    """Start Python code in a process of its own, in this tree."""
    own = [str(ROOT), str(ROOT.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, own))}
    environment |= options.pop("environment", {})
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
