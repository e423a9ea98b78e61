"""Every kind of hostile request: one sentence, the right status, nothing read and nothing left."""

import socket
import tempfile

import pytest
from support.service import images, refused, running_service, wait_until

from benchmarks.hostile_requests import KINDS, MEGAPIXELS, UPLOAD_MIB, Target, canaries
from stableviton_sdk.serving import server
from stableviton_sdk.serving.guard import Access
from stableviton_sdk.serving.uploads import UploadLimits

TOKEN = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def target(bundled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("canaries")
    temporary = tmp_path_factory.mktemp("temporary")
    limits = UploadLimits(bytes=UPLOAD_MIB * 2**20, pixels=MEGAPIXELS * 10**6, idle_seconds=0.3)
    patch = pytest.MonkeyPatch()
    patch.setattr(server, "HEADER_SECONDS", 0.5)
    patch.setattr("stableviton_sdk.serving.guard.DRAIN_SECONDS", 0.5)
    patch.setattr(tempfile, "tempdir", str(temporary))
    access = Access(token=TOKEN, requests_a_minute=0)
    try:
        with (
            canaries(folder) as (secret, url, fetched),
            running_service(bundled, access=access, uploads=limits) as client,
        ):
            yield Target("127.0.0.1", client.port, TOKEN, secret, url, fetched)
        assert list(temporary.iterdir()) == []
    finally:
        patch.undo()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_hostile_requests_are_refused(kind, target, caplog):
    assert kind.check(target) is None
    defects = [record for record in caplog.records if record.levelname == "ERROR"]
    assert defects == []


def test_an_honest_request_is_served_afterwards(target):
    assert target.try_on().status == 202


def test_one_address_may_not_ask_for_work_without_end(bundled):
    with running_service(bundled, access=Access(requests_a_minute=8)) as client:
        answers = [client.post("/v1/try-on", files=images(person=b"no image")) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [415, 415, 429]
        assert answers[-1].json()["error"]["code"] == "too_many_requests"
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert client.get("/v1/info").status_code == 200


def test_uploads_that_arrive_at_once_are_bounded(bundled):
    limits = UploadLimits(at_once=1, idle_seconds=5.0)
    with running_service(bundled, uploads=limits) as client:
        head = f"POST /v1/try-on HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nContent-Length: 9999\r\n"
        with socket.create_connection(("127.0.0.1", client.port)) as slow:
            slow.sendall(f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n--b".encode())
            answer = wait_until(lambda: (found := try_on(client)).status_code == 429 and found)
        refused(answer, 429, "queue_full")
        assert answer.headers["retry-after"] == "2"
        assert wait_until(lambda: try_on(client).status_code == 202)  # it has gone


def try_on(client):
    return client.post("/v1/try-on", files=images())


def test_the_page_and_what_says_that_a_token_is_missing_are_open(target):
    for path in ("/", "/static/main.js", "/v1/info", "/healthz", "/openapi.json"):
        assert target.send("GET", path, headers={"Authorization": None}).status == 200


def test_a_browser_on_the_own_page_is_welcome(target):
    own = {"Origin": f"http://127.0.0.1:{target.port}", "Sec-Fetch-Site": "same-origin"}
    assert target.try_on(headers=own).status == 202
    assert target.send("GET", "/v1/info", headers={"Host": f"localhost:{target.port}"}).status == 200


def test_a_server_for_all_addresses_goes_by_addresses_and_its_own_names_alone(bundled):
    access = Access(token=TOKEN, hosts={"try.example"}, any_address=True)
    with running_service(bundled, access=access) as client:
        statuses = {
            host: client.get("/v1/info", headers={"Host": host}).status_code
            for host in ("192.0.2.7:8000", "[2001:db8::1]:8000", "try.example", "evil.example")
        }
    assert list(statuses.values()) == [200, 200, 200, 421]
