"""Small versions of what is measured of the service and done to it."""

import sys

import pytest
from support.service import running_service

from benchmarks.killed_service import kill_in_the_middle
from benchmarks.service_load import make_cases, run_load
from stableviton_sdk import TryOnPipeline
from stableviton_sdk.serving.guard import Access
from stableviton_sdk.serving.job import Limits


@pytest.fixture(scope="module")
def pipeline():
    bundled = TryOnPipeline.from_bundled()
    bundled.set_progress_bar_config(disable=True)
    return bundled


@pytest.fixture(scope="module")
def cases(pipeline):
    return make_cases(pipeline, turns=(0, 120), seeds=1)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_every_client_gets_its_own_requests_answer(pipeline, cases, workers, caplog):
    access = Access(requests_a_minute=0)
    with running_service(pipeline, Limits(queue=3), workers=workers, access=access) as client:
        report = run_load(str(client.base_url), {}, cases, requests=20, clients=10)
    assert report.wrong == []
    assert report.right == 20
    assert report.statuses[202] == 20
    assert report.statuses[429] > 0
    assert set(report.statuses) == {202, 429}
    assert report.without_retry_after == 0
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_an_answer_that_is_anothers_is_noticed(pipeline, cases):
    swapped = [case.__class__(case.person, case.garment, case.seed, cases[-1].expected) for case in cases[:1]]
    with running_service(pipeline) as client:
        report = run_load(str(client.base_url), {}, swapped, requests=1, clients=1)
    assert report.wrong == ["request 0: it is another image"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_server_leaves_nothing_and_starts_again(tmp_path):
    assert kill_in_the_middle(tmp_path, delay=0.2) == []
