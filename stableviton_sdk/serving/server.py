"""The server's process: where it listens, how long it waits for slow clients, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import InvalidInput
from .jobs import JobEngine

if TYPE_CHECKING:
    from starlette.types import ASGIApp

HEADER_SECONDS = 10.0  # for a request's head to arrive
STOP_SECONDS = 60.0  # for what runs to end: a step of a large model on a CPU takes long
MAX_CONNECTIONS = 1024
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's alone.

    Raises:
        `InvalidInput`: if it can't be resolved.
    """
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in _resolve(host))


def listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections, at once.

    Args:
        host (`str`): Name or address.
        port (`int`): 0 for any that is free.

    Raises:
        `InvalidInput`: if it can't be had.
    """
    address = _resolve(host)[0]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise InvalidInput(f"{host}:{port} can't be listened on ({error.strerror}): pass another --port.") from error
    return listener


def make_server(app: ASGIApp, engine: JobEngine) -> uvicorn.Server:
    """A server whose `run([listener])` serves until the process is interrupted (Ctrl-C or SIGTERM).

    It ends well then: a second Ctrl-C doesn't wait for what runs.

    Args:
        app (`ASGIApp`): From `create_app`.
        engine (`JobEngine`): Its engine.
    """
    config = uvicorn.Config(
        app,
        http=_PatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # addresses hold jobs' ids
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=10,
        limit_concurrency=MAX_CONNECTIONS,
    )
    return _Server(config, engine)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, engine: JobEngine):
        super().__init__(config)
        self.engine = engine

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # streams of events end with their jobs, and only then can their connections be closed
        await asyncio.to_thread(self.engine.stop, 0.0 if self.force_exit else STOP_SECONDS)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but an interrupted server has ended well: the signal isn't raised again."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


class _PatientProtocol(H11Protocol):
    """uvicorn's, with a bound on the time that a request's head may take."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop_watching()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


def _resolve(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InvalidInput(f"--host {host} can't be resolved: pass an address of this machine.") from error
    return sorted({str(entry[4][0]) for entry in found}, key=lambda address: ":" in address)  # IPv4 first
