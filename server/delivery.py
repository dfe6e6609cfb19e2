"""Delivery: the pieces of answers, from the engine's thread to the requests that wait for them on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from minimind_edge.runtime.batch.request import BatchRequest, EndReason, Piece, Ticket

from .engine import BatchEngine

FAILURES = frozenset({"error", "cancelled"})
"""The reasons of an answer's end that leave it incomplete."""


class Observer(Protocol):
    """Is told about every answer that ends, on the event loop."""

    def ended(self, model: str, ticket: Ticket, reason: EndReason) -> None:
        """An answer ended.

        Args:
            model: The name under which the model is served.
            ticket: The request with its times and its tokens.
            reason: The reason why it ended.
        """
        ...


class Inbox:
    """The pieces of one HTTP request's answers, which its coroutine takes whenever it is ready for them.

    Args:
        lazy: Whether the coroutine wakes up only when all answers have ended, or one has failed.

    Attributes:
        tickets: The requests to the batch, in the order of their indices.
        running: Number of answers that have not ended.
        is_abandoned: Whether nobody waits for the answers any more.
    """

    def __init__(self, *, lazy: bool = False) -> None:
        self.tickets: list[Ticket] = []
        self.running = 0
        self.is_abandoned = False
        self._lazy = lazy
        self._shortcut: Callable[[int, Piece], bool] | None = None
        self._failure: Exception | None = None
        self._pieces: list[tuple[int, Piece]] = []
        self._is_ready = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def has_more(self) -> bool:
        """Whether there are pieces to take, now or later."""
        return bool(self.running or self._pieces)

    def put(self, index: int, piece: Piece) -> None:
        """Add a piece of the answer with this index."""
        if self._shortcut is not None and self._waiter is not None and piece.finish_reason is None:
            try:
                if self._shortcut(index, piece):
                    return
            except Exception as error:  # the other requests' pieces are still to be spread
                self._failure = error
                self._wake()
                return
        self._pieces.append((index, piece))
        if piece.finish_reason is not None:
            self.running -= 1
        if not self._lazy or not self.running or piece.finish_reason in FAILURES:
            self._wake()

    def shorten(self, shortcut: Callable[[int, Piece], bool]) -> None:
        """Offer the next pieces to a callable while the coroutine waits, instead of waking it for each.

        Args:
            shortcut: Takes the piece of the answer with an index, or returns false. What it raises, `take` raises.
        """
        self._shortcut = shortcut

    def leave(self) -> None:
        """Note that an answer ends without a piece that says so."""
        self.running -= 1
        if not self.running:
            self._wake()

    def nudge(self) -> None:
        """Wake the coroutine although there may be no piece."""
        self._wake()

    def abandon(self) -> None:
        """Wake the coroutine because nobody waits for the answers any more."""
        self.is_abandoned = True
        self._wake()

    async def take(self) -> list[tuple[int, Piece]]:
        """Wait, and take the pieces that have come since the last call."""
        if not self._is_ready:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._is_ready = False
        if self._failure is not None:
            raise self._failure
        pieces, self._pieces = self._pieces, []
        return pieces

    def _wake(self) -> None:
        self._is_ready = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Delivery:
    """Connects one engine with the event loop; all methods except `deliver` belong to the loop's thread.

    Args:
        name: The name under which the model is served.
        engine: The engine.
        observer: Is told about every answer that ends.
    """

    def __init__(self, name: str, engine: BatchEngine, observer: Observer | None = None) -> None:
        self._name = name
        self._engine = engine
        self._observer = observer
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inboxes: dict[Ticket, tuple[Inbox, int]] = {}

    def start(self) -> None:
        """Start the engine; its pieces come to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._engine.start(self.deliver)

    def deliver(self, pieces: Sequence[tuple[Ticket, Piece]]) -> None:
        """Hand the pieces of one step over, from the engine's thread, by a single wake-up of the loop."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._spread, pieces)

    def submit(self, requests: list[BatchRequest], inbox: Inbox) -> None:
        """Submit requests, whose pieces come to an inbox; where one is refused, none remains.

        Raises:
            EdgeError: A request was refused.
        """
        try:
            for request in requests:
                ticket = self._engine.submit(request)
                # The loop spreads pieces only after this coroutine has waited, so none can come before this line.
                self._inboxes[ticket] = inbox, len(inbox.tickets)
                inbox.tickets.append(ticket)
                inbox.running += 1
        except BaseException:
            self.release(inbox)
            raise

    def release(self, inbox: Inbox) -> None:
        """Cancel the answers of an inbox that have not ended."""
        for ticket in inbox.tickets:
            self.cancel(ticket)

    def cancel(self, ticket: Ticket) -> None:
        """End an answer within a step; no more pieces of it reach its inbox."""
        entry = self._inboxes.pop(ticket, None)
        if entry is not None:
            entry[0].leave()
            self._engine.cancel(ticket)
            self._tell(ticket, "cancelled")

    def _spread(self, pieces: Sequence[tuple[Ticket, Piece]]) -> None:
        inboxes = self._inboxes
        for ticket, piece in pieces:
            entry = inboxes.get(ticket)
            if entry is None:
                continue
            if piece.finish_reason is not None:
                del inboxes[ticket]
                self._tell(ticket, piece.finish_reason)
            entry[0].put(entry[1], piece)

    def _tell(self, ticket: Ticket, reason: EndReason) -> None:
        ticket.finish_reason = reason
        if self._observer is not None:
            self._observer.ended(self._name, ticket, reason)
