"""The queue: order, bounds, cancelling, time limits, what is kept and what is forgotten."""

import gc
import threading
import weakref
from dataclasses import dataclass, field

import pytest
import torch
from support.service import wait_until

from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.serving.answers import error_of
from stableviton_sdk.serving.job import EngineStopped, JobTimedOut, Limits, QueueFull, UnknownJob
from stableviton_sdk.serving.jobs import JobEngine


@dataclass
class Made:
    name: str
    nbytes: int = 0


@dataclass
class Task:
    """Waits until it is let go, step by step or at once."""

    name: str = ""
    nbytes: int = 0
    result_bytes: int = 0
    error: Exception | None = None
    steps: int = 1
    begun: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    devices: list = field(default_factory=list)

    def run(self, device, running):
        self.devices.append(device)
        self.begun.set()
        for step in range(self.steps):
            while not self.go_on.wait(0.005):
                running.check()
            running.check()
            running.report(step + 1, self.steps, f"preview {step}")
        if self.error:
            raise self.error
        return Made(self.name, self.result_bytes)


def free(**options):
    task = Task(**options)
    task.go_on.set()
    return task


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def engine():
    with JobEngine(["cpu"], Limits(queue=3)) as made:
        yield made


def ended(engine, id):
    return wait_until(lambda: (job := engine.get(id)).status in ("done", "failed", "cancelled") and job)


def test_a_job_waits_runs_and_is_done(engine):
    task = Task("it", steps=3)
    job = engine.submit(task, details={"seed": 5})
    assert job.details == {"seed": 5}
    task.begun.wait(10)
    assert engine.get(job.id).status == "running"
    task.go_on.set()
    job = ended(engine, job.id)
    assert (job.status, job.step, job.steps, job.result.name) == ("done", 3, 3, "it")
    assert job.error is None
    assert job.place is None
    assert task.devices == ["cpu"]


def test_jobs_run_in_their_order_and_know_their_places(engine):
    first = Task()
    engine.submit(first)
    first.begun.wait(10)
    jobs = [engine.submit(free(name=str(number))).id for number in range(3)]
    assert [engine.get(job).place for job in jobs] == [1, 2, 3]
    engine.forget(jobs[0])
    assert [engine.get(job).place for job in jobs[1:]] == [1, 2]
    urgent = engine.submit(free(name="urgent"), first=True)
    assert urgent.place == 1
    assert [engine.get(job).place for job in jobs[1:]] == [2, 3]
    first.go_on.set()
    assert [ended(engine, job).result.name for job in (urgent.id, *jobs[1:])] == ["urgent", "1", "2"]


def test_a_full_queue_refuses_and_says_when_to_come_again(engine):
    running = Task()
    engine.submit(running)
    running.begun.wait(10)
    for _ in range(3):
        engine.submit(free())
    for refuse in (lambda: engine.submit(free()), engine.check_room):
        with pytest.raises(QueueFull, match="try again in") as caught:
            refuse()
        assert caught.value.retry_after >= 1
    running.go_on.set()
    wait_until(lambda: engine.counts()["done"] == 4)
    engine.submit(free())


def test_a_running_job_is_cancelled_from_another_thread_and_the_next_one_goes_on(engine):
    stuck = Task()
    job, other = engine.submit(stuck).id, engine.submit(free(name="next")).id
    stuck.begun.wait(10)
    thread = threading.Thread(target=engine.forget, args=(job,))
    thread.start()
    thread.join(10)
    with pytest.raises(UnknownJob):
        engine.get(job)
    assert ended(engine, other).result.name == "next"


def test_a_waiting_job_that_is_cancelled_never_runs(engine):
    first, never = Task(), free()
    engine.submit(first)
    first.begun.wait(10)
    job = engine.submit(never).id
    engine.forget(job)
    first.go_on.set()
    ended(engine, engine.submit(free()).id)
    assert never.devices == []
    with pytest.raises(UnknownJob):
        engine.forget(job)


def test_what_fails_fails_its_own_job_alone(engine, caplog):
    wrong = ended(engine, engine.submit(free(error=InvalidInput("no."))).id)
    assert (wrong.status, str(wrong.error)) == ("failed", "no.")
    assert caplog.records == []
    defect = ended(engine, engine.submit(free(error=ZeroDivisionError())).id)
    assert isinstance(defect.error, ZeroDivisionError)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert ended(engine, engine.submit(free(name="fine")).id).result.name == "fine"


def test_a_job_that_takes_too_long_is_stopped_and_says_so():
    with JobEngine(["cpu"], Limits(seconds=0.05)) as engine:
        stuck = Task()
        job = ended(engine, engine.submit(stuck).id)
        assert job.status == "failed"
        assert isinstance(job.error, JobTimedOut)
        assert ended(engine, engine.submit(free(name="next")).id).result.name == "next"


def test_results_are_forgotten_after_their_time():
    clock = Clock()
    with JobEngine(["cpu"], Limits(keep_seconds=10), clock=clock) as engine:
        first = engine.submit(free()).id
        ended(engine, first)
        clock.now = 9.0
        second = engine.submit(free()).id
        ended(engine, second)
        assert engine.get(first).status == "done"
        clock.now = 11.0
        engine.submit(free())  # the clock stands still by itself, so the janitor is woken
        wait_until(lambda: first not in engine._jobs)
        assert engine.get(second).status == "done"


def test_only_so_many_results_are_kept_the_newest():
    with JobEngine(["cpu"], Limits(keep_count=2)) as engine:
        jobs = []
        for number in range(4):
            jobs.append(engine.submit(free(name=str(number))).id)
            ended(engine, jobs[-1])
        for job in jobs[:2]:
            with pytest.raises(UnknownJob):
                engine.get(job)
        assert [engine.get(job).result.name for job in jobs[2:]] == ["2", "3"]


def test_results_give_way_to_new_works_and_works_never_take_more_memory_than_there_is():
    with JobEngine(["cpu"], Limits(keep_bytes=100)) as engine:
        old = engine.submit(free(result_bytes=60)).id
        ended(engine, old)
        running = Task(nbytes=50)
        engine.submit(running)
        with pytest.raises(UnknownJob):
            engine.get(old)
        running.begun.wait(10)
        engine.submit(free(nbytes=50))
        with pytest.raises(QueueFull):
            engine.submit(free(nbytes=1))
        running.go_on.set()


def test_nothing_of_a_forgotten_job_stays_in_memory(engine):
    class Picture:
        nbytes = 0

    class Paint:
        nbytes = 0

        def __init__(self):
            self.upload = Picture()

        def run(self, device, running):
            return Picture()

    work = Paint()
    upload = weakref.ref(work.upload)
    job = engine.submit(work).id
    del work
    made = weakref.ref(ended(engine, job).result)
    gc.collect()
    assert upload() is None
    assert made() is not None
    engine.forget(job)
    wait_until(lambda: gc.collect() >= 0 and made() is None)


def test_listeners_hear_of_every_change_until_they_leave(engine):
    heard = []
    first = Task()
    engine.submit(first)
    first.begun.wait(10)
    task = Task(steps=2)
    job = engine.submit(task).id
    leave = engine.follow(job, lambda: heard.append((engine.get(job).status, engine.get(job).step)))
    first.go_on.set()
    task.begun.wait(10)
    task.go_on.set()
    wait_until(lambda: ("done", 2) in heard)
    assert heard[0] == ("running", 0)
    assert {("running", 1), ("running", 2)} <= set(heard)
    leave()
    leave()
    count = len(heard)
    engine.forget(job)
    assert len(heard) == count
    with pytest.raises(UnknownJob):
        engine.follow(job, lambda: None)


def test_several_devices_work_at_once_one_job_each():
    with JobEngine(["first", "second"]) as engine:
        tasks = [Task(), Task(), Task()]
        for task in tasks:
            engine.submit(task)
        for task in tasks[:2]:
            assert task.begun.wait(10)
        assert not tasks[2].begun.is_set()
        assert sorted(tasks[0].devices + tasks[1].devices) == ["first", "second"]
        for task in tasks:
            task.go_on.set()
        wait_until(lambda: engine.counts()["done"] == 3)


def test_stopping_cancels_everything_and_takes_nothing_more():
    engine = JobEngine(["cpu"])
    running, waiting = Task(), free()
    heard = threading.Event()
    job = engine.submit(running).id
    engine.submit(waiting)
    running.begun.wait(10)
    engine.follow(job, heard.set)
    assert engine.stop(10)
    assert heard.is_set()
    assert waiting.devices == []
    assert engine.is_stopping
    with pytest.raises(EngineStopped):
        engine.submit(free())
    assert engine.stop(10)


def test_ids_are_unguessable(engine):
    jobs = {engine.submit(free()).id for _ in range(1)} | {engine.submit(free()).id}
    assert len(jobs) == 2
    assert all(len(job) == 43 for job in jobs)  # 256 bits in base64


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_too_little_memory_has_a_code_of_its_own(engine, error):
    problem = error_of(ended(engine, engine.submit(free(error=error)).id))
    assert (problem.code, problem.status) == ("out_of_memory", 503)
    assert "CUDA" not in problem.message
