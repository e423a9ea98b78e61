"""What every request has to pass before it is looked at: host, origin, rate, token; and what every answer carries."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
import time
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .problems import Problem, problem_of, too_many_requests, unexpected

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
OPEN_PATHS = ("/v1/info",)  # what is needed to say that a token is missing
MAX_CLIENTS = 4096  # whose rates are remembered
DRAIN_SECONDS, DRAIN_BYTES = 3.0, 128 * 2**20  # of a refused request that are still read
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), geolocation=(), microphone=()",
}


@dataclass(frozen=True)
class Access:
    """Who may ask for what.

    Args:
        token (`str`, *optional*): What requests to `/v1/` must bring, as `Authorization: Bearer`.
        hosts (`Collection[str]`, *optional*): Names that the server goes by.
        any_address (`bool`, *optional*, defaults to `False`):
            Whether it also goes by any IP address: where it listens on all of a machine's.
        requests_a_minute (`float`, *optional*, defaults to 120.0): Of one address that start work; 0 for no bound.
    """

    token: str | None = None
    hosts: Collection[str] = LOCAL_NAMES
    any_address: bool = False
    requests_a_minute: float = 120.0


class Guard:
    """ASGI middleware that checks requests, completes answers, and turns exceptions into sentences.

    Args:
        app (`ASGIApp`): The application.
        access (`Access`): Who may ask for what.
    """

    def __init__(self, app: ASGIApp, access: Access):
        self.app = app
        self.access = access
        self._rates = _Rates(access.requests_a_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await (self.app(scope, receive, send) if scope["type"] == "lifespan" else _refuse_socket(send))
            return
        body = _Body(scope, receive)
        answer = _Answer(send, body, is_page=not scope["path"].startswith("/v1/"))
        try:
            self._check(scope)
            await self.app(scope, body.receive, answer.send)
        except Exception as error:
            if answer.has_ended:
                return  # it was answered as unexpected, and logged
            if answer.has_started:
                raise  # the server closes the connection, so that nobody takes the answer for whole
            await _refuse(problem_of(error) or unexpected(error), answer.send)

    def _check(self, scope: Scope) -> None:
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        if b"content-length" in headers and b"transfer-encoding" in headers:
            raise Problem("bad_request", "the request has two lengths, which proxies read differently: send one.")
        host = self._check_host(headers.get(b"host", []))
        self._check_origin(scope, headers, host)
        path, method = scope["path"], scope["method"]
        if path.startswith("/v1/") and path not in OPEN_PATHS:
            self._check_token(headers.get(b"authorization", []))
        if method == "POST":
            client = scope.get("client") or ("", 0)
            self._rates.take(client[0])

    def _check_host(self, values: list[bytes]) -> str:
        """The host with its port, as the client calls it."""
        if len(values) != 1:
            raise Problem("bad_host", "the request names no host, or several: send one Host header.")
        text = values[0].decode("latin-1")
        try:
            parts = urlsplit(f"//{text}")
            name, _ = parts.hostname, parts.port
        except ValueError:
            name = None
        if not name or parts.path or parts.query or "@" in text:
            raise Problem("bad_host", "the request's Host header can't be read: send a name and a port.")
        # a name that isn't ours may be a foreign page's, which had it point here; an address can't be
        if name not in self.access.hosts and not (self.access.any_address and _is_address(name)):
            raise Problem("wrong_host", "the server doesn't go by this name: use the address that it printed.")
        return text.lower()

    def _check_origin(self, scope: Scope, headers: dict[bytes, list[bytes]], host: str) -> None:
        """Refuse what a page of another site has a browser send."""
        is_foreign = any(
            urlsplit(value.decode("latin-1").lower()).netloc != host for value in headers.get(b"origin", [])
        )
        if scope["path"].startswith("/v1/"):
            is_foreign |= headers.get(b"sec-fetch-site", [b"none"])[0] not in (b"same-origin", b"none")
        if is_foreign:
            raise Problem("foreign_origin", "the request comes from another site's page: use this server's own page.")

    def _check_token(self, values: list[bytes]) -> None:
        if self.access.token is None:
            return
        kind, _, token = (values[0] if len(values) == 1 else b"").partition(b" ")
        if kind.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self.access.token.encode()):
            raise Problem(
                "unauthorized",
                "the token is missing or wrong: send the one that the server was started with as a bearer token.",
                {"WWW-Authenticate": "Bearer"},
            )


class _Rates:
    """How often each address may begin something: a bucket that fills again."""

    def __init__(self, requests_a_minute: float):
        self.a_second = requests_a_minute / 60
        self.room = max(1.0, requests_a_minute / 4)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and since when

    def take(self, client: str) -> None:
        if not self.a_second:
            return
        now = time.monotonic()
        left, since = self._buckets.pop(client, (self.room, now))
        left = min(self.room, left + (now - since) * self.a_second)
        is_refused = left < 1
        self._buckets[client] = (left if is_refused else left - 1, now)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        if is_refused:
            raise too_many_requests((1 - left) / self.a_second)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _refuse(problem: Problem, send: Send) -> None:
    body = json.dumps(problem.as_json()).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **problem.headers}
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


class _Answer:
    """An answer on its way, with the headers that all have."""

    def __init__(self, send: Send, body: _Body, *, is_page: bool):
        self._send = send
        self._body = body
        self._extra = {**HEADERS, "cache-control": "no-cache" if is_page else "no-store"}
        self.has_started = self.has_ended = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_started = True
            given = {name.lower() for name, _ in message["headers"]}
            extra = [(name.encode(), value.encode()) for name, value in self._extra.items()]
            await self._body.drain()
            if not self._body.has_ended:
                extra.append((b"connection", b"close"))
            message["headers"] = [*message["headers"], *(header for header in extra if header[0] not in given)]
        elif message["type"] == "http.response.body":
            self.has_ended = not message.get("more_body", False)
        await self._send(message)


class _Body:
    """A request's body, of which it's known whether all of it has come."""

    def __init__(self, scope: Scope, receive: Receive):
        headers = {name.lower(): value for name, value in scope["headers"]}
        self._receive = receive
        self._is_awaited = b"expect" in headers  # the client sends nothing before it is read
        self.has_ended = headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers

    async def receive(self) -> Message:
        message = await self._receive()
        self._is_awaited = False
        self.has_ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """Read on for a moment: a client that is cut off while it sends doesn't see the answer."""
        if self._is_awaited:
            return
        received = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self.has_ended and received < DRAIN_BYTES:
                    received += len((await self.receive()).get("body", b""))


async def _refuse_socket(send: Send) -> None:
    await send({"type": "websocket.close", "code": 1008})
