"""Requests that mean harm, or know no better: each gets one sentence and the right status; nothing is read or left.

Run: python -m benchmarks.hostile_requests

Starts the app with a token and small bounds, sends every kind, and prints a table. A file and a server that no request
may reach are watched.
"""

from __future__ import annotations

import http.server
import io
import json
import os
import socket
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from benchmarks.app_process import SAMPLES, running_app

UPLOAD_MIB, MEGAPIXELS = 4, 8
NO_HTTP = "Invalid HTTP request received."  # uvicorn's own word for what is no HTTP
TEXTS = ("category", "garment_photo", "quality", "detail", "seed", "steps", "guidance_scale")


@dataclass
class Target:
    """Where to send, and what must not be reached.

    Args:
        host (`str`), port (`int`), token (`str`, *optional*): Of the server.
        canary_file (`Path`): A file that no request may have read.
        canary_url (`str`): An address that no request may have fetched.
    """

    host: str
    port: int
    token: str | None
    canary_file: Path
    canary_url: str
    fetched: list[str] = field(default_factory=list)

    def send(self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any) -> Answer:
        """A request with the token, unless the headers say otherwise."""
        given = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        given.update(headers or {})
        with httpx.Client(timeout=60, trust_env=False) as client:
            answer = client.request(
                method,
                f"http://{self.host}:{self.port}{path}",
                headers={name: value for name, value in given.items() if value is not None},
                **options,
            )
        return Answer(answer.status_code, answer.content)

    def try_on(
        self, files: dict[str, Any] | None = None, texts: dict[str, Any] | None = None, **options: Any
    ) -> Answer:
        return self.send("POST", "/v1/try-on", files=good_files() if files is None else files, data=texts, **options)

    def raw(self, data: bytes, *, wait: float = 20.0) -> Answer:
        """Bytes as they are; a connection that is closed without an answer is status 0."""
        with socket.create_connection((self.host, self.port), timeout=wait) as connection:
            connection.sendall(data)
            received = b""
            try:
                while chunk := connection.recv(65536):
                    received += chunk
            except ConnectionResetError:
                pass
        if not received:
            return Answer(0, b"")
        head, _, body = received.partition(b"\r\n\r\n")
        return Answer(int(head.split()[1]), body)

    def head(self, method: str = "POST", path: str = "/v1/try-on", **headers: str) -> bytes:
        """The head of a request, without its end."""
        given = {"Host": f"{self.host}:{self.port}"}
        if self.token is not None:
            given["Authorization"] = f"Bearer {self.token}"
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items() if value)]
        return "\r\n".join(lines).encode() + b"\r\n"

    @property
    def was_read(self) -> bool:
        """Whether anything that no request may reach was reached."""
        return bool(self.fetched) or self.canary_file.stat().st_atime > 1.0


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    @property
    def code(self) -> str | None:
        """The error's code; None where there is no JSON."""
        try:
            return json.loads(self.body)["error"]["code"]
        except (ValueError, KeyError, TypeError):
            return None

    @property
    def is_one_sentence(self) -> bool:
        """Whether it is `{error: {code, message}}`, with one sentence that says nothing of the server's insides."""
        try:
            message = json.loads(self.body)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            return False
        return message.endswith(".") and "\n" not in message and "Traceback" not in message and "/site-" not in message


@dataclass(frozen=True)
class Kind:
    """One kind of hostile request.

    Args:
        name (`str`): What it is.
        send (`Callable[[Target], Answer | list[Answer]]`): Sends it, or several of the kind.
        status (`int`): Of every answer.
        code (`str`, *optional*): Of every answer; None where HTTP itself was broken and the answer is plain.
    """

    name: str
    send: Callable[[Target], Any]
    status: int
    code: str | None

    def check(self, target: Target) -> str | None:
        """Send it; what was wrong with an answer, or None."""
        answers = self.send(target)
        for answer in answers if isinstance(answers, list) else [answers]:
            if answer.status != self.status or answer.code != self.code:
                return f"answered {answer.status} {answer.code}: {answer.body[:200]!r}"
            if self.code is not None and not answer.is_one_sentence:
                return f"said {answer.body[:200]!r}"
        return "something was read that may not be" if target.was_read else None


def good_files(**changes: Any) -> dict[str, Any]:
    """Files of an honest try-on."""
    files = {name: (SAMPLES / f"{name}_1.png").read_bytes() for name in ("person", "garment")}
    return {**files, **changes}


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A small PNG file of very many pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes((width // 8 + 1) * 1000), 9) * 4
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def text_bomb() -> bytes:
    """A small PNG file whose metadata unfolds to 200 MB."""
    image = io.BytesIO()
    Image.new("RGB", (64, 64)).save(image, "PNG")
    content = image.getvalue()
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200 * 2**20), 9))
    return content[:33] + text + content[33:]


def colourful(size: tuple[int, int] = (192, 256)) -> bytes:
    """A PNG file of coloured noise."""
    file = io.BytesIO()
    Image.merge("RGB", [Image.effect_noise(size, 90) for _ in range(3)]).save(file, "PNG")
    return file.getvalue()


def multipart(*parts: tuple[str, bytes], boundary: str = "b") -> bytes:
    """A form of parts: what stands in the Content-Disposition, and the content."""
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"
        for disposition, content in parts
    )
    return body + f"--{boundary}--\r\n".encode()


def _every_text(value: Callable[[Target], str]) -> Callable[[Target], list[Answer]]:
    return lambda target: [target.try_on(texts={name: value(target)}) for name in TEXTS]


def _slow_upload(target: Target) -> Answer:
    head = target.head(Content_Type="multipart/form-data; boundary=b", Content_Length="5000") + b"\r\n"
    return target.raw(head + multipart(('name="person"; filename="p.png"', b"x" * 100))[:100], wait=60)


def _endless(target: Target) -> Answer:
    """A body without a length that is too large."""

    def parts() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="person"; filename="p"\r\n\r\n'
        for _ in range(UPLOAD_MIB * 4):
            yield bytes(2**18 + 2**10)

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    return target.send("POST", "/v1/try-on", headers=headers, content=parts())


def _others_job(target: Target) -> list[Answer]:
    """A job's id with another last letter, and the beginning of it."""
    made = json.loads(target.try_on().body)["id"]
    guesses = [made[:-1] + ("A" if made[-1] != "A" else "B"), made[:20], "*", "%00" + made, made.swapcase()]
    answers = [target.send("GET", f"/v1/jobs/{guess}/result") for guess in guesses]
    answers += [target.send("DELETE", f"/v1/jobs/{guess}") for guess in guesses]
    target.send("DELETE", f"/v1/jobs/{made}")
    return answers


def _traversal_in_names(target: Target) -> Answer:
    """Nothing is wrong with these: files' names are never looked at."""
    names = ["../../../../tmp/evil.png", "/etc/passwd", "..\\..\\evil.png", "a\0b.png", str(target.canary_file)]
    answers = []
    for name in names:
        files = {key: (name, content) for key, content in good_files().items()}
        answers.append(target.try_on(files))
        if answers[-1].status == 202:
            target.send("DELETE", f"/v1/jobs/{json.loads(answers[-1].body)['id']}")
    return [answer if answer.status != 202 else Answer(202, b"") for answer in answers]


def _smuggled(target: Target) -> Answer:
    head = target.head(Content_Length="4", Transfer_Encoding="chunked", Connection="close")
    return target.raw(head + b"\r\n0\r\n\r\n")


def _foreign_hosts(target: Target) -> list[Answer]:
    hosts = ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", f"evil.example:{target.port}")
    return [target.send("GET", path, headers={"Host": host}) for host in hosts for path in ("/", "/v1/info")]


def _unreadable_hosts(target: Target) -> list[Answer]:
    hosts = ("user@localhost", "localhost:port", "[::1", "localhost/path")
    return [target.send("GET", "/v1/info", headers={"Host": host}) for host in hosts]


def _foreign_pages(target: Target) -> list[Answer]:
    own = f"http://{target.host}:{target.port}"
    pages = ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": own + ".evil.example"})
    pages += ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"})
    return [target.try_on(headers=page) for page in pages]


def _bad_tokens(target: Target) -> list[Answer]:
    given = (None, "Bearer", "Bearer wrong", f"Basic {target.token}", str(target.token), f"Bearer {target.token}x")
    paths = (("POST", "/v1/try-on"), ("POST", "/v1/prepare"), ("GET", "/v1/jobs/a"), ("DELETE", "/v1/jobs/a"))
    return [target.send(*path, headers={"Authorization": value}) for value in given for path in paths]


def _unknown_jobs(target: Target) -> list[Answer]:
    paths = ("", "/events", "/result", "/source?x=1&y=1", "/attended?x=1&y=1")
    return [target.send("GET", f"/v1/jobs/{'x' * 43}{path}") for path in paths]


def _paths_outside(target: Target) -> list[Answer]:
    paths = ("/static/../api.py", "/static/%2e%2e/api.py", "/static/..%2f..%2ferrors.py", "/v1/jobs/../../etc/passwd")
    paths += ("/static//etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/v1", "/.git/config", "/docs")
    return [target.raw(target.head("GET", path, Connection="close") + b"\r\n") for path in paths]


def _damaged(target: Target) -> list[Answer]:
    whole = good_files()["person"]
    return [target.try_on(good_files(person=whole[: len(whole) // 2])), target.try_on(good_files(garment=whole[:60]))]


def _no_images(target: Target) -> list[Answer]:
    kinds = (b"a text about a shirt", b"", b"%PDF-1.7 ...", b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    kinds += (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"GIF87a", b"\xd7\xcd\xc6\x9a" + bytes(40))
    return [target.try_on(good_files(person=kind)) for kind in kinds]


def _numbers(target: Target) -> list[Answer]:
    wrong = {
        "seed": ("-1", "1e3", "9" * 60, "٣"),
        "steps": ("0", "1.5", "1001"),
        "detail": ("nan", "inf", "-0.1", "2"),
    }
    wrong |= {"guidance_scale": ("nan", "-1", "1e9", "0x1"), "category": ("UPPER", "upper\0", "[]")}
    return [target.try_on(texts={name: text}) for name, texts in wrong.items() for text in texts]


def _files_as_texts(target: Target) -> list[Answer]:
    """Addresses and paths where files belong, as texts; and a file where a text belongs."""
    content = "multipart/form-data; boundary=b"
    answers = []
    for value in (
        target.canary_url,
        f"file://{target.canary_file}",
        str(target.canary_file),
        "data:image/png;base64,AA",
    ):
        body = multipart(('name="person"', value.encode()), ('name="garment"; filename="g"', good_files()["garment"]))
        answers.append(target.send("POST", "/v1/try-on", headers={"Content-Type": content}, content=body))
    answers.append(target.try_on(good_files(category=b"upper")))
    return answers


def _in_form(
    *parts: tuple[str, bytes], content: str = "multipart/form-data; boundary=b"
) -> Callable[[Target], Answer]:
    return lambda target: target.send(
        "POST", "/v1/try-on", headers={"Content-Type": content}, content=multipart(*parts)
    )


KINDS = (
    Kind("no file", lambda target: target.try_on({"garment": good_files()["garment"]}), 422, "missing_field"),
    Kind("an empty form", _in_form(), 422, "missing_field"),
    Kind(
        "a huge file",
        lambda target: target.try_on(good_files(person=bytes(UPLOAD_MIB * 2**20 + 1))),
        413,
        "too_large",
    ),
    Kind("a huge body of unknown length", _endless, 413, "too_large"),
    Kind("a decompression bomb", lambda target: target.try_on(good_files(person=bomb())), 413, "too_many_pixels"),
    Kind("a bomb as mask", lambda target: target.try_on(good_files(mask=bomb(9000, 1000))), 413, "too_many_pixels"),
    Kind("a bomb in metadata", lambda target: target.try_on(good_files(person=text_bomb())), 422, "invalid_image"),
    Kind("what is no image", _no_images, 415, "unsupported_image"),
    Kind("damaged images", _damaged, 422, "invalid_image"),
    Kind("a photo as mask", lambda target: target.try_on(good_files(mask=colourful())), 422, "invalid_image"),
    Kind("a body that is no form", lambda t: t.send("POST", "/v1/try-on", json={}), 415, "unsupported_media_type"),
    Kind(
        "a form without a boundary",
        _in_form(content="multipart/form-data"),
        400,
        "bad_request",
    ),
    Kind(
        "a form that ends early",
        lambda t: t.send(
            "POST",
            "/v1/try-on",
            headers={"Content-Type": "multipart/form-data; boundary=b"},
            content=b"--b\r\nContent",
        ),
        422,
        "missing_field",
    ),
    Kind("a path in every text field", _every_text(lambda target: str(target.canary_file)), 422, "invalid_field"),
    Kind("a URL in every text field", _every_text(lambda target: target.canary_url), 422, "invalid_field"),
    Kind("a file URL in every text field", _every_text(lambda t: f"file://{t.canary_file}"), 422, "invalid_field"),
    Kind("addresses instead of files", _files_as_texts, 422, "invalid_field"),
    Kind("traversal in files' names", _traversal_in_names, 202, None),
    Kind("traversal in addresses", _paths_outside, 404, "not_found"),
    Kind("numbers that are none", _numbers, 422, "invalid_field"),
    Kind("a text that is too long", lambda t: t.try_on(texts={"category": "x" * 2**20}), 400, "bad_request"),
    Kind("fields that there are not", _in_form(('name="url"', b"http://evil.example")), 422, "unknown_field"),
    Kind("a field sent twice", _in_form(('name="seed"', b"1"), ('name="seed"', b"2")), 422, "repeated_field"),
    Kind("a hundred fields", _in_form(*((f'name="f{n}"', b"1") for n in range(100))), 400, "bad_request"),
    Kind("a hundred files", _in_form(*((f'name="f{n}"; filename="x"', b"1") for n in range(100))), 400, "bad_request"),
    Kind("a slow upload", _slow_upload, 408, "slow_upload"),
    Kind("a slow head", lambda target: target.raw(target.head("GET", "/v1/info"), wait=60), 0, None),
    Kind("a bad token, or none", _bad_tokens, 401, "unauthorized"),
    Kind("a foreign Host", _foreign_hosts, 421, "wrong_host"),
    Kind("an unreadable Host", _unreadable_hosts, 400, "bad_host"),
    Kind("another site's page", _foreign_pages, 403, "foreign_origin"),
    Kind("an unknown job", _unknown_jobs, 404, "unknown_job"),
    Kind("another's job", _others_job, 404, "unknown_job"),
    Kind("a wrong method", lambda t: [t.send(m, "/v1/try-on") for m in ("PUT", "GET")], 405, "method_not_allowed"),
    Kind("a smuggled second request", _smuggled, 400, "bad_request"),
    Kind("what is no HTTP", lambda target: target.raw(b"\x16\x03\x01\x02\x00 hello\r\n\r\n"), 400, None),
    Kind("an endless head", lambda t: t.raw(t.head("GET", "/", X_Long="x" * 200_000) + b"\r\n"), 400, None),
)


@contextmanager
def canaries(folder: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """A file whose reading shows, and a server that keeps what was fetched from it."""
    fetched: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fetched.append(self.path)
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            """Prints nothing."""

    secret = folder / "secret.png"
    secret.write_bytes(good_files()["person"])
    os.utime(secret, (1.0, time.time()))  # an access time before the modification is updated by any reading
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield secret, f"http://127.0.0.1:{server.server_address[1]}/secret.png", fetched
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> int:
    failures = 0
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as outside:
        folder = Path(place)
        options = (
            "--token",
            "new",
            "--max-upload",
            str(UPLOAD_MIB),
            "--max-megapixels",
            str(MEGAPIXELS),
            "--rate",
            "0",
        )
        with canaries(Path(outside)) as (secret, url, fetched), running_app(folder, *options) as app:
            target = Target(app.host, app.port, app.token, secret, url, fetched)
            before, there = app.memory(), set(app.left_behind())  # onnxruntime leaves a file when it is imported
            for kind in KINDS:
                start = time.monotonic()
                problem = kind.check(target)
                failures += problem is not None
                print(
                    f"{kind.name:32} {kind.status} {kind.code or '-':24} {problem or 'as it should be'}"
                    f" ({time.monotonic() - start:.1f} s)",
                    flush=True,
                )
            honest = target.try_on()
            left, log = set(app.left_behind()) - there, app.log.replace(NO_HTTP, "")
            print(f"honest request afterwards: {honest.status}")
            print(f"left behind: {left or 'nothing'}")
            print(f"memory: {before:.0f} MB before, {app.memory():.0f} MB after")
            print(f"log: {log.strip() or 'empty'}")
            failures += honest.status != 202 or bool(left) or bool(log.strip())
    print(f"{len(KINDS)} kinds, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
