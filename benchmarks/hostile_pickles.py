"""Whether a pickle can run anything, wherever weights are read from: callables in every place, and changed files.

    python -m benchmarks.hostile_pickles [--mutations 2000] [--seed 0]

Each file would leave a trace if any of it ran. It is read as a checkpoint, as a pipeline's network, as adapters, and
as DensePose's and the joints' weights. Prints the counts; the exit code is 1 if a file left a trace, or caused any
other error than one of this package's.
"""

from __future__ import annotations

import argparse
import builtins
import collections
import functools
import importlib
import io
import operator
import os
import pickle
import random
import runpy
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging
from tqdm import tqdm

from stableviton_sdk.conversion.reading import read_checkpoint
from stableviton_sdk.errors import TryOnError
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.pipelines.saved_weights import read_headers
from stableviton_sdk.preprocessing.analyzers.openpose import _read_tensors
from stableviton_sdk.preprocessing.densepose.weights import load_network

MODULE = "hostile_module_of_the_benchmark"
READERS: dict[str, Callable[[Path], Any]] = {
    "checkpoint": read_checkpoint,
    "network": lambda path: read_headers(path.parent, [path.name]),
    "adapters": TryOnPipeline.lora_state_dict,
    "DensePose": load_network,
    "joints": _read_tensors,
}


class Call:
    """Pickled, it is a call of a function, or of a state's setter."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


class SetState:
    """Pickled, it is an object whose state is set by running code."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __setstate__(self, state: Any) -> None:
        Path(state["trace"]).touch()


def calls(trace: Path, folder: Path) -> dict[str, Any]:
    """Objects that leave a trace if what they name is called or imported, by a name."""
    code = f"open({os.fspath(trace)!r}, 'w').close()"
    (folder / f"{MODULE}.py").write_text(code)
    nested = pickle.dumps(Call(exec, code))
    return {
        "os.system": Call(os.system, f"touch '{trace}'"),
        "subprocess": Call(subprocess.Popen, ["touch", os.fspath(trace)]),
        "exec": Call(exec, code),
        "eval": Call(eval, f"open({os.fspath(trace)!r}, 'w')"),
        "open": Call(open, os.fspath(trace), "w"),
        "touch": Call(Path.touch, trace),
        "copy": Call(shutil.copyfile, __file__, os.fspath(trace)),
        "import": Call(importlib.import_module, MODULE),
        "__import__": Call(builtins.__import__, MODULE),
        "run_path": Call(runpy.run_path, os.fspath(folder / f"{MODULE}.py")),
        "pickle in a pickle": Call(pickle.loads, nested),
        "partial": Call(functools.partial(os.system, f"touch '{trace}'")),
        "map": Call(list, Call(map, exec, [code])),
        "method": Call(operator.call, Call(operator.methodcaller, "touch"), trace),
        "getattr": Call(operator.call, Call(getattr, trace, "touch")),
        "torch's own": Call(torch.storage._load_from_bytes, nested),
        "setstate": SetState(trace),
        "state": Call(collections.OrderedDict, state={"x": Call(exec, code)}),
    }


def files(hostile: Any, name: str) -> Iterator[tuple[str, bytes]]:
    """A hostile object in the places of a weights file, in torch's two formats and in pickle's protocols."""
    tensors = {"weight": torch.ones(2), "bias": torch.zeros(2)}
    contents = {
        "alone": hostile,
        "a tensor": {**tensors, "more": hostile},
        "beside": {"state_dict": tensors, "callbacks": hostile},
        "a list": [tensors, hostile],
        "a key": {**tensors, Hashable(hostile): 1},
    }
    for place, content in contents.items():
        for zipped in (True, False):
            stream = io.BytesIO()
            torch.save(content, stream, _use_new_zipfile_serialization=zipped)
            yield f"{name} as {place}, torch, {'zipped' if zipped else 'older'}", stream.getvalue()
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            yield f"{name} as {place}, protocol {protocol}", pickle.dumps(content, protocol=protocol)


class Hashable:
    """Pickled, it is what it holds; unlike that it may be a key."""

    def __init__(self, value: Any):
        self.value = value

    def __reduce__(self) -> Any:
        return tuple, ([self.value],)


def changed(whole: list[tuple[str, bytes]], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Some of the files with bytes changed, cut off, repeated or taken out."""
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        name, content = chance.choice(whole)
        data = bytearray(content)
        for _ in range(chance.choice((1, 2, 8))):
            place = chance.randrange(len(data)) if data else 0
            change = chance.randrange(4)
            if change == 0 and data:
                data[place] = chance.randrange(256)
            elif change == 1:
                del data[place : place + chance.choice((1, 4, 64))]
            elif change == 2:
                data[place:place] = data[place : place + chance.choice((1, 4, 64))]
            else:
                del data[max(place, 2) :]
        yield f"change {number} of {name}", bytes(data)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutations", type=int, default=2000, metavar="N", help="changed files (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the changes (%(default)s)")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as place:
        counts, problems = try_all(Path(place), arguments.mutations, arguments.seed)
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()))
    print("\n".join(problems))
    return bool(problems)


def try_all(folder: Path, mutations: int, seed: int) -> tuple[collections.Counter[str], list[str]]:
    """How many readings ended in what, and a line on each that ran something or wasn't handled."""
    trace = folder / "trace"
    sys.path.insert(0, os.fspath(folder))
    try:
        whole = [file for name, hostile in calls(trace, folder).items() for file in files(hostile, name)]
        trace.unlink(missing_ok=True)
        counts: collections.Counter[str] = collections.Counter()
        problems = []
        for name, content in tqdm([*whole, *changed(whole, mutations, seed)]):
            for reader, read in READERS.items():
                path = folder / "weights.bin"
                path.write_bytes(content)
                outcome = read_outcome(read, path, trace)
                counts[outcome] += 1
                if outcome not in ("read", "refused"):
                    problems.append(f"{name}, as {reader}: {outcome}")
        return counts, problems
    finally:
        sys.path.remove(os.fspath(folder))


def read_outcome(read: Callable[[Path], Any], path: Path, trace: Path) -> str:
    """What reading a file ends in: "read", "refused", "executed", or "unhandled" and the error."""
    outcome = "read"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(path)
    except TryOnError:
        outcome = "refused"
    except Exception as error:
        outcome = f"unhandled {type(error).__name__}: {error}"
    if trace.exists() or MODULE in sys.modules:
        trace.unlink(missing_ok=True)
        sys.modules.pop(MODULE, None)
        return "executed"
    return outcome


if __name__ == "__main__":
    sys.exit(main())
