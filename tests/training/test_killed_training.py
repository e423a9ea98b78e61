"""Trainings in processes of their own: killed at any moment, and several for one training."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support.tiny_training import assert_equal_weights, tiny_components, weights

import stableviton_sdk
from stableviton_sdk import files
from stableviton_sdk.training.loop import checkpoints
from stableviton_sdk.training.loop.run_log import read_metrics

pytestmark = pytest.mark.slow

DRIVER = Path(__file__).parents[1] / "support" / "training_process.py"
STEPS = 6
KILLS = 5
PATIENCE = 120  # seconds until a training that doesn't move fails the test


class Trainings:
    """Starts them, one after the other or some together."""

    def __init__(self):
        own = [str(DRIVER.parents[1]), str(Path(stableviton_sdk.__file__).parents[1])]  # of this tree, not of another
        path = os.pathsep.join([*own, *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, DRIVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        )

    def start(self, *jobs):
        self._tell(json.dumps(jobs))
        assert self.process.stdout.readline().strip() == "started"

    def wait(self):
        """Their exit codes."""
        self._tell("wait")
        return json.loads(self.process.stdout.readline())

    def kill(self):
        """Likewise, after a SIGKILL to all that still run."""
        self._tell("kill")
        return json.loads(self.process.stdout.readline())

    def _tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def close(self):
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def trainings():
    made = Trainings()
    yield made
    made.close()


def job(output, environment=None, **changes):
    return {"output": str(output), "environment": environment or {}, "changes": changes}


def state_of(output):
    """Changes with every file that a run touches."""
    return sorted((str(path), path.stat().st_mtime_ns) for path in Path(output).rglob("*"))


def move_then_wait(output, before, seconds):
    """Return `seconds` after the training has written something new."""
    deadline = time.monotonic() + PATIENCE
    while state_of_safely(output) in (before, None):
        assert time.monotonic() < deadline, "the training doesn't move"
        time.sleep(0.001)
    time.sleep(seconds)


def state_of_safely(output):
    """Files come and go while they are looked at."""
    try:
        return state_of(output)
    except FileNotFoundError:
        return None


def test_a_training_killed_again_and_again_ends_with_the_weights_of_one_that_was_not(trainings, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = {"steps": STEPS, "checkpoint_every": 1, "keep_checkpoints": 1}
    began = time.monotonic()
    trainings.start(job(whole, **options))
    assert trainings.wait() == [0]
    step = (time.monotonic() - began) / STEPS / 2  # the other half is the start and the end

    moments, codes, progress = random.Random(), [], []
    for _ in range(KILLS):
        before = state_of_safely(killed)
        trainings.start(job(killed, **options))
        # at once, which is while a file is written, or up to a step later
        move_then_wait(killed, before, 0.0 if moments.random() < 0.5 else moments.uniform(0, step))
        codes += trainings.kill()
        found = checkpoints.list_checkpoints(killed / "checkpoints")
        for path in found:
            assert checkpoints.read_checkpoint_tensors(path, checkpoints.read_checkpoint_state(path)["files"])
        progress.append(int(found[-1].name[5:]) if found else 0)
    assert codes.count(-signal.SIGKILL) >= 2
    assert progress == sorted(progress)
    trainings.start(job(killed, **options))
    assert trainings.wait() == [0]

    assert_equal_weights(killed / "pipeline", whole / "pipeline")
    assert read_metrics(killed / "metrics.jsonl") == read_metrics(whole / "metrics.jsonl")
    assert [path.name for path in (killed / "checkpoints").iterdir()] == [f"step-{STEPS:08d}"]
    ours, theirs = (
        checkpoints.read_checkpoint_tensors(output / "checkpoints" / f"step-{STEPS:08d}", 1)
        for output in (killed, whole)
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def joined(state):
    return torch.cat([state[name].double().flatten() for name in sorted(state)])


def test_two_processes_train_what_one_does_with_their_batches_together(trainings, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"steps": 2, "stage": "base", "loss": {}}
    # what `torchrun --nproc_per_node 2` tells its processes; `accelerate launch --cpu` would start one only
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    trainings.start(
        *(
            job(tmp_path / "two", address | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, batch_size=2, **options)
            for rank in range(2)
        )
    )
    assert trainings.wait() == [0, 0]
    trainings.start(job(tmp_path / "one", batch_size=4, **options))
    assert trainings.wait() == [0]
    one, two = (joined(weights(tmp_path / name / "pipeline")) for name in ("one", "two"))
    start = joined(
        {
            f"{component}.{key}": value
            for component, network in tiny_components().items()
            if isinstance(network, torch.nn.Module)
            for key, value in network.state_dict().items()
        }
    )
    assert float((one - start).norm()) > 0.02
    assert float((one - two).norm()) < 1e-3 * float((one - start).norm())
    assert not torch.equal(one, two)  # the same sums, in another order
    lines = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two")]
    assert [line["step"] for line in lines[1]] == [1, 2]
    for ours, theirs in zip(*lines, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_no_half_written_or_half_deleted_checkpoint_is_ever_listed(tmp_path, monkeypatch):
    folder, moments = tmp_path / "checkpoints", []
    tensors = {f"weights/{index}": torch.full((250,), float(index)) for index in range(3)}  # a file each

    def watched(owner, name):
        original = getattr(owner, name)

        def call(*arguments, **options):
            photograph()
            result = original(*arguments, **options)
            photograph()
            return result

        monkeypatch.setattr(owner, name, call)

    def photograph():
        """What a run would find if this one died now."""
        with monkeypatch.context() as quiet:
            quiet.undo()
            copy = tmp_path / f"moment-{len(moments)}"
            shutil.copytree(folder, copy)
            moments.append(copy)

    def save(step):
        state = {"value": step}
        checkpoints.save_checkpoint(
            folder, step, {name: tensor + step for name, tensor in tensors.items()}, state, keep=1, max_file_bytes=1200
        )

    save(1)
    for owner, name in ((files, "_flush"), (os, "rename"), (os, "replace"), (os, "unlink"), (os, "rmdir")):
        watched(owner, name)
    for step in (2, 3):
        save(step)
    monkeypatch.undo()
    assert len(moments) > 20

    seen = []
    for moment in moments:
        found = checkpoints.list_checkpoints(moment)
        assert found, moment
        for path in found:
            state = checkpoints.read_checkpoint_state(path)
            read = checkpoints.read_checkpoint_tensors(path, state["files"])
            assert read.keys() == tensors.keys()
            assert all(torch.equal(read[name], tensors[name] + state["value"]) for name in tensors)
        seen.append(state["value"])
        files.remove_leftovers(moment)
        assert sorted(moment.iterdir()) == sorted(found)
    assert seen == sorted(seen)
    assert set(seen) == {1, 2, 3}
