"""What `test_loading_processes.py` runs in processes of their own, where the Hub's address comes from the environment.

    python loading_process.py PLACE

Two processes load both layouts at the same moment and write PLACE/0.json and 1.json; a third, with PLACE/killed for
its cache, is killed in the middle of its conversion.
"""

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from safetensors import torch as safetensors_torch

from stableviton_sdk import TryOnPipeline
from stableviton_sdk.conversion import cache as converted_weights
from support.stand_ins import ARCHITECTURE

AUTHORS = "rlawjdghek/StableVITON"


def fingerprint(pipe: TryOnPipeline) -> str:
    """A checksum of all weights."""
    digest = hashlib.sha256()
    for name in ("vae", "garment_encoder", "spatial_encoder", "unet"):
        for key, value in sorted(getattr(pipe, name).state_dict().items()):
            digest.update(key.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def wait_for(paths: list[Path]) -> None:
    deadline = time.monotonic() + 120
    while not all(path.exists() for path in paths):
        if time.monotonic() > deadline:
            sys.exit(f"{paths} didn't come")
        time.sleep(0.01)


def load(place: Path, number: int) -> None:
    conversions = []
    convert = converted_weights.convert_checkpoint

    def count(source, target, **options):
        conversions.append(str(target))
        return convert(source, target, **options)

    converted_weights.convert_checkpoint = count
    (place / f"{number}.ready").touch()
    wait_for([place / "0.ready", place / "1.ready"])
    authors = TryOnPipeline.from_pretrained(AUTHORS, architecture=ARCHITECTURE)
    ours = TryOnPipeline.from_pretrained("me/mine")
    result = {"weights": [fingerprint(authors), fingerprint(ours)], "conversions": conversions}
    (place / f"{number}.json").write_text(json.dumps(result))


def stop(place: Path) -> None:
    save_file = safetensors_torch.save_file

    def save_and_stop(state, path, **options):
        save_file(state, path, **options)
        (place / "stopped").touch()
        time.sleep(600)

    safetensors_torch.save_file = save_and_stop
    TryOnPipeline.from_pretrained(AUTHORS, architecture=ARCHITECTURE, cache_dir=place / "killed")


def fork(task: Callable, *arguments: object) -> int:
    """Run a task in a process that needn't import everything again."""
    process = os.fork()
    if process == 0:
        try:
            task(*arguments)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return process


def main(place: Path) -> None:
    doomed = fork(stop, place)
    loading = [fork(load, place, number) for number in range(2)]
    try:
        wait_for([place / "stopped"])
    finally:
        os.kill(doomed, signal.SIGKILL)
        os.waitpid(doomed, 0)
    if any(os.waitpid(process, 0)[1] for process in loading):
        sys.exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
