"""Connections with a time limit for requests that do not arrive whole and for answers that nobody reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .streaming import CONNECTION

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as _Protocol
except ImportError:  # httptools has no wheel everywhere
    from uvicorn.protocols.http.h11_impl import H11Protocol as _Protocol  # type: ignore[assignment]

if TYPE_CHECKING:
    from asyncio import TimerHandle

MAX_HEAD_BYTES = 65536
"""Most bytes of a request's first line and headers together."""

HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
REQUEST_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class TimedProtocol(_Protocol):
    """Uvicorn's protocol with the time limits that it lacks.

    A connection is closed when a request has not arrived whole in that time, headers and body together; when the client
    does not read an answer, so that the write buffer stays above its low mark; and when the last bytes of a closed
    connection are not taken. Its request, if one runs, then ends as by a disconnect.
    """

    patience_s: float = 60.0

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._arriving: TimerHandle | None = None
        self._unread: TimerHandle | None = None
        self._closing: TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._arriving = self.loop.call_later(self.patience_s, self._refuse, REQUEST_TOO_SLOW)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request, and watch how many and how late they are."""
        super().data_received(data)
        if self.transport.is_closing():
            self._close_late()
            return
        self._watch_head(len(data))
        if self._is_whole():
            self._arriving = _cancel(self._arriving)
        elif self._arriving is None:
            self._arriving = self.loop.call_later(self.patience_s, self._refuse, REQUEST_TOO_SLOW)

    def on_message_begin(self) -> None:
        """A request begins: give the application a way to write that is shorter than `send`."""
        super().on_message_begin()
        self.scope[CONNECTION] = self  # type: ignore[literal-required]

    @property
    def takes_chunks(self) -> bool:
        """Whether a chunk may be written now: a chunked answer has begun, goes on, and is being read."""
        cycle = self.cycle
        return bool(cycle.chunked_encoding) and not (
            cycle.response_complete or cycle.disconnected or self.flow.write_paused
        )

    def write_chunk(self, body: bytes) -> None:
        """Write a chunk of the running answer, not empty; only where `takes_chunks`."""
        self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))

    def pause_writing(self) -> None:
        """Begin to wait for the client to read: the write buffer is full."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.patience_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        self._unread = _cancel(self._unread)

    def on_response_complete(self) -> None:
        """The answer is written, but it may not be read yet."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._close_late()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle."""
        super().timeout_keep_alive_handler()
        self._close_late()

    def connection_lost(self, exc: Exception | None) -> None:
        """End all waiting."""
        for clock in (self._arriving, self._unread, self._closing):
            _cancel(clock)
        super().connection_lost(exc)
        self.when_lost()

    def when_lost(self) -> None:
        """Called after the connection has ended."""

    def _is_whole(self) -> bool:
        """Whether the latest request is here with its whole body, and is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body

    def _watch_head(self, size: int) -> None:
        """Count the bytes of a request until its headers are complete; those of a refused body are dropped."""
        answered = self.cycle is None or (self.cycle.response_complete and not self.cycle.more_body)
        self._head_bytes = self._head_bytes + size if answered else 0
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HEAD_TOO_LARGE)

    def _refuse(self, answer: bytes) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(answer)
        self.transport.close()
        self._close_late()

    def _close_late(self) -> None:
        """Close in any case after a while: `close` itself waits until the last bytes are taken."""
        if self._closing is None:
            self._closing = self.loop.call_later(self.patience_s, self.transport.abort)


def timed_protocol(patience_s: float, when_lost: Callable[[], None] | None = None) -> type[asyncio.Protocol]:
    """The protocol with a time limit.

    Args:
        patience_s: Seconds for a request to arrive, and for a full buffer to be read.
        when_lost: Called after a connection has ended.
    """
    members: dict[str, Any] = {"patience_s": patience_s}
    if when_lost is not None:
        members["when_lost"] = lambda _: when_lost()
    return type("TimedProtocol", (TimedProtocol,), members)


def _cancel(clock: TimerHandle | None) -> TimerHandle | None:
    """Cancel a clock; None, for the place where it was kept."""
    if clock is not None:
        clock.cancel()
    return None
