"""The response of a request to the batch: whole, or as server-sent events, ended by a client that goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from minimind_edge.runtime.batch.request import BatchRequest, Piece, Ticket
from minimind_edge.runtime.errors import EdgeError

from .delivery import FAILURES, Delivery, Inbox
from .errors import ApiError, api_error
from .settings import ServerSettings

DONE = b"data: [DONE]\n\n"

KEEPALIVE = b": keepalive\n\n"
"""A comment, which clients skip.

Source: the section on parsing an event stream of the HTML standard: a line that begins with a colon is ignored.
"""

CONNECTION = "minimind.connection"
"""The key of a request's `Connection` in its scope, where the server has one."""

_EVENT_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would collect a stream otherwise
]


class AnswerWriter(Protocol):
    """Writes the answers of one request in the form of its endpoint.

    Attributes:
        streams: Whether each piece becomes an event; otherwise `close` gives the whole answer.
        is_lazy: Whether the pieces may come all together at the end.
        finished: Indices of answers that need no more tokens although the model would go on.
    """

    streams: bool
    is_lazy: bool
    finished: set[int]

    def open(self, tickets: Sequence[Ticket]) -> bytes:
        """The first event of a stream."""
        ...

    def feed(self, index: int, piece: Piece) -> bytes:
        """Take a piece of the answer with this index; the events of a stream."""
        ...

    def close(self) -> bytes:
        """The end of a stream, or the body of a whole answer."""
        ...


class Connection(Protocol):
    """A connection that takes chunks of an answer past the layers around `send`, which cost every token their share."""

    @property
    def takes_chunks(self) -> bool:
        """Whether a chunk may be written now."""
        ...

    def write_chunk(self, body: bytes) -> None:
        """Write a chunk."""
        ...


class AnswerResponse(Response):
    """Submits requests to the batch when it is sent, and sends what the writer makes of their pieces.

    A client that goes away, a cancelled task and an error end the requests within a step of the model. A request that
    fails before anything was sent raises an `ApiError`; later, the stream ends with an event that holds the error. A
    stream of which nothing comes for a while, the first event included, gets comments meanwhile.

    Args:
        delivery: The way of the model's pieces.
        requests: The requests.
        writer: Makes bytes of the pieces.
        model: The name of the model, for the access log.
        param: The field of the request that holds the prompt, for errors.
        settings: The settings of the server.
    """

    def __init__(
        self,
        delivery: Delivery,
        requests: list[BatchRequest],
        writer: AnswerWriter,
        *,
        model: str,
        param: str,
        settings: ServerSettings,
    ) -> None:
        super().__init__(media_type="application/json")
        self._delivery = delivery
        self._requests = requests
        self._writer = writer
        self._model = model
        self._param = param
        self._settings = settings
        self._has_started = False
        self._is_quiet = True
        self._clock: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        inbox = Inbox(lazy=self._writer.is_lazy)
        try:
            self._delivery.submit(self._requests, inbox)
        except EdgeError as error:
            raise api_error(error, self._param, self._settings.retry_after_s) from error
        watcher = asyncio.ensure_future(_watch(receive, inbox))
        if self._writer.streams and self._settings.keepalive_s:
            self._wait_for_silence(inbox)
        try:
            await self._answer(inbox, send, scope.get(CONNECTION))
        finally:
            watcher.cancel()
            if self._clock is not None:
                self._clock.cancel()
            self._delivery.release(inbox)
            scope.get("state", {}).get("log", {}).update(self._facts(inbox.tickets))

    def _wait_for_silence(self, inbox: Inbox) -> None:
        """Wake the coroutine at the end of every interval in which nothing was sent."""

        def end_interval() -> None:
            if self._is_quiet:
                inbox.nudge()
            self._is_quiet = True
            self._wait_for_silence(inbox)

        self._clock = asyncio.get_running_loop().call_later(self._settings.keepalive_s, end_interval)

    def _facts(self, tickets: Sequence[Ticket]) -> dict[str, Any]:
        """What the access log tells about the request."""
        waits = [ticket.first_token_at - ticket.asked_at for ticket in tickets if ticket.first_token_at]
        return {
            "model": self._model,
            "stream": self._writer.streams,
            "prompt_tokens": sum(len(ticket.request.prompt.token_ids) for ticket in tickets),
            "cached_tokens": sum(ticket.cached_tokens for ticket in tickets),
            "completion_tokens": sum(len(ticket.token_ids) for ticket in tickets),
            "reason": ",".join(sorted({ticket.finish_reason or "cancelled" for ticket in tickets})),
            "first_token_ms": round(min(waits) * 1e3, 1) if waits else None,
        }

    async def _answer(self, inbox: Inbox, send: Send, connection: Connection | None) -> None:
        writer = self._writer
        opening = writer.open(inbox.tickets)
        while inbox.has_more and not inbox.is_abandoned:
            try:
                pieces = await inbox.take()
                events = self._feed(inbox, pieces)
            except ApiError as error:
                if not self._has_started:
                    raise
                await send({"type": "http.response.body", "body": b"data: " + error.body + b"\n\n"})
                return
            if not writer.streams or inbox.is_abandoned:
                continue
            if events:
                await self._send_events(send, opening + events)
                opening = b""
                if connection is not None:
                    inbox.shorten(partial(self._write, inbox, connection))
            elif not pieces and inbox.has_more:
                await self._send_events(send, KEEPALIVE)
        if not inbox.is_abandoned:
            await self._end(send, opening)

    def _feed(self, inbox: Inbox, pieces: list[tuple[int, Piece]]) -> bytes:
        writer = self._writer
        events = []
        for index, piece in pieces:
            if index in writer.finished:
                continue
            if piece.finish_reason in FAILURES:
                raise _failure(piece)
            events.append(writer.feed(index, piece))
            if index in writer.finished:
                self._delivery.cancel(inbox.tickets[index])
        return b"".join(events)

    def _write(self, inbox: Inbox, connection: Connection, index: int, piece: Piece) -> bool:
        """Write the events of a piece without waking the coroutine; false where the connection has to wait."""
        if not connection.takes_chunks:
            return False
        events = self._feed(inbox, [(index, piece)])
        if events:
            self._is_quiet = False
            connection.write_chunk(events)
        return True

    async def _send_events(self, send: Send, events: bytes) -> None:
        self._is_quiet = False
        if not self._has_started:
            self._has_started = True
            await send({"type": "http.response.start", "status": 200, "headers": _EVENT_HEADERS})
        await send({"type": "http.response.body", "body": events, "more_body": True})

    async def _end(self, send: Send, opening: bytes) -> None:
        body = self._writer.close()
        if self._writer.streams:
            await self._send_events(send, opening + body)
            await send({"type": "http.response.body", "body": b""})
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _watch(receive: Receive, inbox: Inbox) -> None:
    """Wait for the client to go away."""
    while (await receive())["type"] != "http.disconnect":
        pass
    inbox.abandon()


def _failure(piece: Piece) -> ApiError:
    """The error of an answer that the model or the end of the server cut off."""
    if piece.finish_reason == "error":
        return ApiError(500, str(piece.error or "the model failed"), code="model_failed")
    return ApiError(503, "the server is being shut down, and this answer was cut off", code="shutting_down")
