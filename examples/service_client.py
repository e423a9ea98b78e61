"""Try a garment on over HTTP: upload, follow the progress, save the result. Needs `pip install httpx`.

Start the server with `stableviton app`, then:

    python examples/service_client.py person.jpg garment.jpg --output result.png
"""

import argparse
import json
import os
import time
from pathlib import Path

import httpx


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("person", type=Path)
    parser.add_argument("garment", type=Path)
    parser.add_argument("--mask", type=Path, help="white = repainted; derived by default")
    parser.add_argument("--category", default="upper")
    parser.add_argument("--quality", default="balanced")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--output", type=Path, default=Path("result.png"))
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    arguments = parser.parse_args()

    token = os.environ.get("STABLEVITON_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=arguments.url, headers=headers, timeout=60) as client:
        job = submit(client, arguments)
        try:
            follow(client, job)
            answer = client.get(f"/v1/jobs/{job}/result")
            check(answer)
            arguments.output.write_bytes(answer.content)
        finally:
            client.delete(f"/v1/jobs/{job}")  # cancels it, and has its images forgotten now, not in half an hour
    print(arguments.output)


def submit(client: httpx.Client, arguments: argparse.Namespace) -> str:
    """The id of a new job; waits where the queue is full."""
    files = {name: getattr(arguments, name) for name in ("person", "garment", "mask")}
    files = {name: path.read_bytes() for name, path in files.items() if path is not None}
    texts = {name: getattr(arguments, name) for name in ("category", "quality", "seed")}
    texts = {name: str(value) for name, value in texts.items() if value is not None}
    while True:
        answer = client.post("/v1/try-on", files=files, data=texts)
        if answer.status_code != 429:
            check(answer)
            return answer.json()["id"]
        time.sleep(int(answer.headers["Retry-After"]))


def follow(client: httpx.Client, job: str) -> None:
    """Print a job's events until it ends."""
    name = None
    with client.stream("GET", f"/v1/jobs/{job}/events") as answer:
        for line in answer.iter_lines():
            key, _, value = line.partition(": ")
            if key == "event":
                name = value
            elif key == "data":
                data = json.loads(value)
                if name == "queued":
                    print(f"place {data['place']} in the queue")
                elif name == "progress":
                    print(f"step {data['step']} of {data['steps'] or '?'}")
                elif name != "done":
                    raise SystemExit(data["error"]["message"] if data["error"] else name)


def check(answer: httpx.Response) -> None:
    """End with the server's own sentence where it refused."""
    if answer.is_error:
        raise SystemExit(answer.json()["error"]["message"])


if __name__ == "__main__":
    main()
