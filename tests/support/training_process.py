"""Runs tiny trainings in processes of their own, which may be killed; everything is imported once for all of them.

    python training_process.py

A line of its input is a JSON list of jobs that start together: `output`, `changes` to the configuration, and
`environment`. The next line, `wait` or `kill`, is answered with their exit codes when all have ended (-9: killed).
"""

import json
import os
import signal
import sys
import traceback

import accelerate  # noqa: F401 - a training imports these three when it starts
import peft  # noqa: F401
import torch
import torch.utils.tensorboard

from support.tiny_training import config_of, run


def train(job: dict) -> int:
    os.environ.update(job["environment"])
    try:
        run(config_of(job["output"], **job["changes"]))
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def fork(job: dict) -> int:
    child = os.fork()
    if child == 0:
        os._exit(train(job))
    return child


def main() -> None:
    torch.set_num_threads(1)  # a fork has none of its parent's threads
    for line in sys.stdin:
        children = [fork(job) for job in json.loads(line)]
        print("started", flush=True)
        if sys.stdin.readline().strip() == "kill":
            for child in children:
                os.kill(child, signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)


if __name__ == "__main__":
    main()
