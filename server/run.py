"""Serving an application by uvicorn: the listening socket, the drain at the end, and the logs."""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
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

TICKS_A_SECOND = 10
"""How often a second uvicorn asks whether to end."""

LAST_SECONDS = 2
"""Seconds for the last answers' bytes after the drain."""


def nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Hooks:
    """What is called at the turns of a server's life, on its event loop.

    Attributes:
        ready: Requests are accepted from now on.
        lost: A connection has ended.
        second: Another second has passed, in which each model with running requests has ended a step.
        late: The time for running requests is over: what still runs is to be ended.
        leaving: No more connections are accepted; the end comes in a moment.
    """

    ready: Callable[[], None] = nothing
    lost: Callable[[], None] = nothing
    second: Callable[[], None] = nothing
    late: Callable[[], None] = nothing
    leaving: Callable[[], None] = nothing


class DrainingServer(uvicorn.Server):
    """A server that refuses new requests after SIGTERM or Ctrl-C, and ends when the running ones have, or are late.

    A second Ctrl-C ends it at once.

    Attributes:
        interrupted: Whether it was ended by Ctrl-C.
    """

    def __init__(self, config: uvicorn.Config, presence: Presence, drain_s: float, hooks: Hooks) -> None:
        super().__init__(config)
        self._presence = presence
        self._drain_s = drain_s
        self._hooks = hooks
        self._ends_at: float | None = None
        self._leaves_at: float | None = None
        self.interrupted = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and tell so."""
        await super().startup(sockets)
        if self.started:
            self._hooks.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End; the application ends its engines even where nobody waits for the requests."""
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; at a second Ctrl-C, end. A second SIGTERM may come from whoever signals a whole group."""
        if self._ends_at is None:
            self.interrupted = sig == signal.SIGINT
            self.drain()
        elif sig == signal.SIGINT:
            self.should_exit = self.force_exit = True

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
        if counter % TICKS_A_SECOND == 0:
            self._hooks.second()
        return await super().on_tick(counter)

    def _leave(self, now: float) -> None:
        """Accept no more connections, and end in a moment."""
        self._leaves_at = now + GRACE_S
        for server in self.servers:
            server.close()
        if self._presence.running:
            self._hooks.late()
        self._hooks.leaving()


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


def make_server(app: ASGIApp, presence: Presence, timeout_s: float, hooks: Hooks) -> DrainingServer:
    """A server of an application.

    Args:
        app: The application, which counts its requests in `presence`.
        presence: The running requests.
        timeout_s: Seconds for a request to arrive, for a full buffer to be read, and for the drain.
        hooks: What is called at the turns of its life.
    """
    config = uvicorn.Config(
        app,
        http=timed_protocol(timeout_s, hooks.lost),
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
    return DrainingServer(config, presence, timeout_s, hooks)
