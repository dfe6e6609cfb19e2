"""Serving an application by uvicorn: the listening socket, the drain at the end, and the logs."""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from minimind_edge.runtime.errors import MissingError

from .connections import timed_protocol
from .middleware import Presence

BACKLOG = 2048
"""Most connections that the system holds until they are accepted."""

KEEP_ALIVE_S = 15
"""Seconds that a connection may be idle between two requests."""

SEND_BUFFER = 65536
"""Bytes of an answer that the system takes before the client does; it would grow to megabytes by itself."""

GRACE_S = 0.3
"""Seconds after the last running request in which connections that were just accepted get their refusal."""

LAST_SECONDS = 2
"""Seconds for the last answers' bytes after the drain."""


class DrainingServer(uvicorn.Server):
    """A server that refuses new requests after SIGTERM or Ctrl-C, and ends when the running ones have.

    A second signal ends it at once, and so does the time limit; `interrupted` tells whether the first one was Ctrl-C.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        presence: Presence,
        drain_s: float,
        *,
        when_ready: Callable[[], None],
        when_leaving: Callable[[], None] | None,
        on_second: Callable[[], None] | None,
    ) -> None:
        super().__init__(config)
        self._when_leaving = when_leaving
        self._leaves_at: float | None = None
        self._presence = presence
        self._drain_s = drain_s
        self._when_ready = when_ready
        self._on_second = on_second
        self._ends_at: float | None = None
        self.interrupted = False

    def _leave(self, now: float) -> None:
        """Accept no more connections, and end in a moment."""
        self._leaves_at = now + GRACE_S
        for server in self.servers:
            server.close()
        if self._when_leaving is not None:
            self._when_leaving()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and tell so."""
        await super().startup(sockets)
        if self.started:
            self._when_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; at the second signal, end."""
        if self._ends_at is not None:
            self.should_exit = self.force_exit = True
            return
        self.interrupted = sig == signal.SIGINT
        self.drain()

    def drain(self) -> None:
        """Refuse new requests, and end when the running ones have."""
        self._presence.draining = True
        self._ends_at = time.monotonic() + self._drain_s

    async def on_tick(self, counter: int) -> bool:
        """Whether to end now; called ten times a second."""
        now = time.monotonic()
        if self._leaves_at is not None:
            self.should_exit |= now > self._leaves_at
        elif self._ends_at is not None and (not self._presence.running or now > self._ends_at):
            self._leave(now)
        if self._on_second is not None and counter % 10 == 0:
            self._on_second()
        return await super().on_tick(counter)


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: Name or address of this machine.
        port: Port; 0 for any that is free.

    Raises:
        MissingError: The host is not one of this machine's, or the port is taken or reserved.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise MissingError(f"--host {host} is no address of this machine: {error}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # its connections inherit this
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise MissingError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; choose another with --port or --host"
        ) from error
    listener.setblocking(False)
    return listener


def allow_many_connections() -> None:
    """Let this process, and those that it starts, have as many files open as the system allows them."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limit
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def address_of(listener: socket.socket) -> str:
    """The address of a listening socket, as a browser takes it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's own loopback, which no other machine reaches."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def make_server(
    app: ASGIApp,
    presence: Presence,
    timeout_s: float,
    when_ready: Callable[[], None],
    *,
    when_lost: Callable[[], None] | None = None,
    on_second: Callable[[], None] | None = None,
    when_leaving: Callable[[], None] | None = None,
) -> DrainingServer:
    """A server of an application.

    Args:
        app: The application, which counts its requests in `presence`.
        presence: The running requests.
        timeout_s: Seconds for a request to arrive, for a full buffer to be read, and for the drain.
        when_ready: Called when requests are accepted.
        when_lost: Called after a connection has ended.
        on_second: Called every second.
        when_leaving: Called when the drain is over, a moment before the end.
    """
    config = uvicorn.Config(
        app,
        http=timed_protocol(timeout_s, when_lost),
        loop="uvloop" if importlib.util.find_spec("uvloop") else "asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=LAST_SECONDS,
    )
    return DrainingServer(
        config, presence, timeout_s, when_ready=when_ready, when_leaving=when_leaving, on_second=on_second
    )
