"""The real service on a port of loopback, in a thread; and what tests send to it."""

import contextlib
import io
import json
import threading
import time

import httpx
from PIL import Image

from stableviton_sdk.pipelines.loading import BUNDLED
from stableviton_sdk.serving.api import ServiceOptions, create_app
from stableviton_sdk.serving.jobs import JobEngine
from stableviton_sdk.serving.server import listen, make_server

SAMPLES = BUNDLED / "samples"
ENDED = ("done", "failed", "cancelled")


@contextlib.contextmanager
def running_service(pipeline, limits=None, workers=1, **options):
    """Serve a pipeline; yields a client of it, whose `engine` is the service's."""
    engine = JobEngine([pipeline] * workers, limits)
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    identity = {"model": "bundled", "revision": "test"}
    server = make_server(create_app(engine, pipeline, ServiceOptions(identity=identity, **options)), engine)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            client.engine, client.port = engine, port
            wait_until(lambda: server.started)
            yield client
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
        assert not thread.is_alive()


def wait_until(condition, seconds=60):
    """Wait for something that happens elsewhere."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)
    return found


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def sample(name):
    return (SAMPLES / f"{name}.png").read_bytes()


def images(**changes):
    """Files of a try-on, as httpx takes them."""
    return {"person": sample("person_1"), "garment": sample("garment_1"), **changes}


def submit(client, files=None, **texts):
    answer = client.post("/v1/try-on", files=files or images(), data=texts)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def finished(client, job):
    """A job's JSON at its end."""
    return wait_until(
        lambda: (found := client.get(f"/v1/jobs/{job}").json()).get("status", "gone") in (*ENDED, "gone") and found
    )


def result(client, job, **query):
    answer = client.get(f"/v1/jobs/{job}/result", params=query)
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


def events(client, job):
    """All events of a job, to its end: pairs of name and data."""
    with client.stream("GET", f"/v1/jobs/{job}/events") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = answer.read().decode()
    blocks = [block.split("\n") for block in text.strip().split("\n\n") if not block.startswith(":")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def refused(answer, status, code):
    """Check that an answer is one sentence under a code; returns the sentence."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    content = answer.json()
    assert set(content) == {"error"}
    assert set(content["error"]) == {"code", "message"}
    assert content["error"]["code"] == code, content
    message = content["error"]["message"]
    assert message.endswith(".")
    assert "\n" not in message
    return message
