"""The scheduler of continuous batching: which tokens run in the next step, and what becomes of each request."""

from __future__ import annotations

import logging
from bisect import insort
from collections import deque
from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np

from ..decode import check_prompt
from ..errors import ArtifactError, EdgeError, QueueFullError, UsageError
from ..session.model import TokenIds
from ..text.tokenizer import Tokenizer
from .prefixes import Prefixes
from .request import BatchRequest, Piece, Ticket
from .row import Row
from .row_sampler import RowSampler, SampledToken, sample_rows
from .slots import SlotSession

SHARE_PER_ROW = 4
"""The prompt tokens of a step for each answer that is being decoded, where no time is set for them.

The more answers there are, the more end at each step, and the more prompts come.
"""

USUAL_SHARES = 64, 128
"""The bounds of these tokens: fewer run at a lower rate, and more stretch the step too long."""

LEAST_SHARE, MOST_SHARE = 16, 256
"""The bounds of a step's prompt tokens by time. A step in which nothing is decoded takes the most."""

NEW_RATE_WEIGHT = 0.2
"""The weight of the newest chunk in the measured rate of prompt tokens."""

PATIENCE = 8
"""The steps for which a hole among the rows stays open for the next request, before a row is moved into it."""

MOVED_PER_STEP = 128
"""The positions that may be moved for each token that a row may still get: the step costs more for a row than that."""


class BatchCounts(NamedTuple):
    """What a batch has done so far and does now.

    Attributes:
        running: Requests that have a slot.
        waiting: Requests that wait for one.
        slots: Slots there are.
        kv_positions: Positions of the KV cache that running requests use.
        kv_capacity: Positions of the KV cache there are.
        stored_bytes: Bytes of the stored prefixes of finished requests.
        prompt_tokens: Tokens of all prompts so far whose requests got a slot, cached ones included.
        cached_tokens: Tokens of these whose positions were copied instead of run.
        generated_tokens: Tokens of all answers so far.
        steps: Number of steps so far.
        step_s: Seconds that these took.
        model_s: Seconds of these inside the model's own runs.
    """

    running: int
    waiting: int
    slots: int
    kv_positions: int
    kv_capacity: int
    stored_bytes: int
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    steps: int
    step_s: float
    model_s: float


class Scheduler:
    """Runs requests in the slots of a session, a step at a time; not safe for use by several threads, except as noted.

    A step decodes one token for every running row, then runs a bounded share of prompt tokens, first come first
    served. Each request ends with exactly one piece that has a `finish_reason`.

    Args:
        session: The session.
        tokenizer: The tokenizer; None for a model without one, whose answers have no text.
        step_ms: Milliseconds of prompt work in a step that also decodes, by the measured rate; None for
            64 to 128 tokens, 4 for each answer.
        queue: Most requests that wait for a slot.
        even_chunks: Whether chunks of prompts and reused prefixes have even lengths, except for a prompt's last chunk.
        exact_reuse: Whether answers after a reused prefix must be the same as those without, to the last bit.
        prefix_bytes: Most bytes of the stored prefixes of finished requests.

    Raises:
        UsageError: An argument is out of range.
    """

    def __init__(
        self,
        session: SlotSession,
        tokenizer: Tokenizer | None,
        *,
        step_ms: float | None = None,
        queue: int = 64,
        even_chunks: bool = False,
        exact_reuse: bool = True,
        prefix_bytes: int = 0,
    ) -> None:
        for name, value, is_legal in (
            ("step_ms", step_ms, step_ms is None or step_ms > 0),
            ("queue", queue, queue >= 0),
            ("the memory for prefixes", prefix_bytes, prefix_bytes >= 0),
        ):
            if not is_legal:
                raise UsageError(f"{name} is {value}: it must be {'more than 0' if name == 'step_ms' else '0 or more'}")
        self._session = session
        self._tokenizer = tokenizer
        self._step_s = None if step_ms is None else step_ms / 1000
        self._most = session.slots + queue
        self._even = even_chunks
        self._prefixes = Prefixes(session, exact=exact_reuse, even=even_chunks, store_bytes=prefix_bytes)
        self._waiting: deque[Ticket] = deque()
        self._running: dict[Ticket, Row] = {}
        self._joining: Row | None = None
        self._free = list(range(session.slots))
        self._is_busy = np.zeros(session.slots, np.bool_)
        # The rows that decode, by slot.
        self._rows: list[Row | None] = [None] * session.slots
        self._samplers: list[RowSampler | None] = [None] * session.slots
        self._tokens: TokenIds = np.zeros(session.slots, np.int64)
        self._is_active = np.zeros(session.slots, np.bool_)
        self._active: TokenIds = np.flatnonzero(self._is_active)
        self._view = 0
        self._sparse_steps = 0
        self._prompt_rate = 0.0
        self._out: list[tuple[Ticket, Piece]] = []
        self._steps = self._prompt_tokens = self._cached_tokens = self._generated_tokens = 0
        self._total_s = 0.0

    def check(self, request: BatchRequest) -> None:
        """Check a request; any thread may call it.

        Raises:
            PromptError: The prompt is empty, or has a token id that the model does not know.
            ContextLengthError: The prompt is longer than the context.
            UsageError: A limit is out of range, or a stop string is empty or needs a tokenizer.
        """
        if request.max_new_tokens < 1:
            raise UsageError(f"max_new_tokens is {request.max_new_tokens}: it must be 1 or more")
        if request.top_logprobs is not None and request.top_logprobs < 0:
            raise UsageError(f"top_logprobs is {request.top_logprobs}: it must be 0 or more")
        if request.stop and self._tokenizer is None:
            raise UsageError("stop strings need a tokenizer, which this model came without")
        if not all(request.stop):
            raise UsageError("a stop string is empty: expected at least one character")
        request.params.check_vocabulary(self._session.vocab_size)
        check_prompt(request.prompt.token_ids, self._session.max_length, self._session.vocab_size)

    def check_room(self, in_flight: int) -> None:
        """Check that one more request may come to so many that have not ended; any thread may call it.

        Raises:
            QueueFullError: As many wait as may.
        """
        if in_flight >= self._most:
            raise QueueFullError(
                f"{self._session.slots} requests run and {self._most - self._session.slots} wait, which is the most: "
                "try again in a moment"
            )

    @property
    def has_room(self) -> bool:
        """Whether `add` takes one more request."""
        return len(self._running) + len(self._waiting) < self._most

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do: no request, and no piece that `step` has not returned."""
        return not (self._running or self._waiting or self._out)

    def add(self, ticket: Ticket) -> None:
        """Take a request that `check` has passed.

        Raises:
            QueueFullError: As many wait as may.
        """
        self.check_room(len(self._running) + len(self._waiting))
        self._waiting.append(ticket)

    def cancel(self, ticket: Ticket) -> None:
        """End a request before the next step; nothing happens if it has ended."""
        piece = Piece("", finish_reason="cancelled")
        if (row := self._running.get(ticket)) is not None:
            self._leave(row, piece)
        elif ticket in self._waiting:
            self._waiting.remove(ticket)
            self._end(ticket, piece)

    def cancel_all(self) -> None:
        """End all requests."""
        for ticket in (*self._running, *self._waiting):
            self.cancel(ticket)

    def fail_all(self, error: Exception) -> list[tuple[Ticket, Piece]]:
        """End all requests that have a slot with an error, after a step that raised it; returns the pieces so far."""
        self._fail(list(self._running.values()), error)
        return self._given()

    def step(self) -> list[tuple[Ticket, Piece]]:
        """Run one step.

        Returns:
            The pieces since the last step, those of cancelled requests included, each with its ticket.
        """
        if self._running or self._waiting:
            started = perf_counter()
            share = self._share() if self._view else MOST_SHARE
            self._close_holes()
            self._decode()
            self._run_prompts(share)
            self._steps += 1
            self._total_s += perf_counter() - started
        return self._given()

    def counts(self) -> BatchCounts:
        """What the batch has done so far and does now; any thread may call it."""
        session = self._session
        return BatchCounts(
            running=len(self._running),
            waiting=len(self._waiting),
            slots=session.slots,
            kv_positions=int(session.lengths[self._is_busy].sum()),
            kv_capacity=session.slots * session.max_length,
            stored_bytes=self._prefixes.stored_bytes,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            generated_tokens=self._generated_tokens,
            steps=self._steps,
            step_s=self._total_s,
            model_s=session.run_s,
        )

    def _given(self) -> list[tuple[Ticket, Piece]]:
        given, self._out = self._out, []
        return given

    def _share(self) -> int:
        """The prompt tokens that may run in a step which also decodes."""
        if self._step_s is None or not self._prompt_rate:
            least, most = USUAL_SHARES
            return min(most, max(least, SHARE_PER_ROW * len(self._active)))
        tokens = round(self._step_s * self._prompt_rate)
        return max(LEAST_SHARE, min(MOST_SHARE, tokens - tokens % 2))

    def _decode(self) -> None:
        """Decode one token for every running row."""
        view = self._view
        if not view:
            return
        rows, tokens = self._rows[:view], self._tokens[:view]
        try:
            logits = self._session.decode(tokens, self._is_active[:view])
            self._prefixes.append(self._active, tokens[self._active])
            sampled = sample_rows(logits, self._samplers[:view])
        except Exception as error:
            self._fail([row for row in rows if row is not None], error)
            return
        for row, token in zip(rows, sampled, strict=True):
            if row is not None and token is not None:
                self._take(row, token)

    def _run_prompts(self, share: int) -> None:
        """Run prompts in the order in which they came, as far as a step's share allows."""
        while share > 0:
            row = self._joining or self._begin()
            if row is None:
                return
            left = len(row.prompt) - row.done
            if share < min(left, LEAST_SHARE):
                return
            count = self._chunk(left, share)
            self._run_chunk(row, count)
            share -= max(count, LEAST_SHARE)  # a short run takes hardly less time than one of so many

    def _chunk(self, left: int, share: int) -> int:
        """The length of a prompt's next chunk: never all but one token, which may run as a decode step does."""
        if left <= share:
            return left
        count = share - share % 2 if self._even else share
        if left - count == 1:
            count -= 2 if self._even else 1
        return count

    def _begin(self) -> Row | None:
        """Give the next request a slot; None where there is no request or no slot."""
        while self._waiting and self._free:
            ticket = self._waiting.popleft()
            ticket.begun_at = perf_counter()
            try:
                row = Row(ticket, self._tokenizer, self._session.vocab_size, self._session.max_length)
                row.slot, row.done = self._prefixes.place(row.prompt, self._free, self._view)
            except Exception as error:
                self._end(ticket, _piece_of(error))
                continue
            self._free.remove(row.slot)
            self._is_busy[row.slot] = True
            self._running[ticket] = self._joining = row
            ticket.cached_tokens = row.done
            self._prompt_tokens += len(row.prompt)
            self._cached_tokens += row.done
            return row
        return None

    def _run_chunk(self, row: Row, count: int) -> None:
        """Run a chunk of a prompt, and take the first token of the answer after its last one."""
        chunk = row.prompt[row.done : row.done + count]
        started = perf_counter()
        try:
            logits = self._session.prefill(row.slot, chunk)
            self._measure(count, perf_counter() - started)
            self._prefixes.extend(row.slot, chunk)
            row.done += count
            if row.done < len(row.prompt):
                return
            (sampled,) = sample_rows(logits[None], [row.sampler])
        except Exception as error:
            self._fail([row], error)
            return
        assert sampled is not None  # the row has a sampler
        row.ticket.first_token_at = perf_counter()
        self._joining = None
        self._set(row.slot, row)
        self._take(row, sampled)

    def _measure(self, count: int, seconds: float) -> None:
        """Follow the rate of prompt tokens, by chunks that are long enough to tell."""
        if count >= LEAST_SHARE and seconds > 0:
            rate = count / seconds
            self._prompt_rate += (rate - self._prompt_rate) * (NEW_RATE_WEIGHT if self._prompt_rate else 1.0)

    def _take(self, row: Row, sampled: SampledToken) -> None:
        """Add a token to a row's answer, whose end frees the slot."""
        if sampled.error is not None:
            self._fail([row], sampled.error)
            return
        try:
            piece = row.take(sampled)
        except EdgeError as error:
            self._fail([row], error)
            return
        self._generated_tokens += 1
        if piece.finish_reason is None:
            self._tokens[row.slot] = sampled.token_id
            self._out.append((row.ticket, piece))
        else:
            self._leave(row, piece)

    def _fail(self, rows: Sequence[Row], error: Exception) -> None:
        """End rows with an error, and forget what their slots hold."""
        piece = _piece_of(error)
        for row in rows:
            self._prefixes.forget(row.slot)
            self._leave(row, piece)

    def _leave(self, row: Row, piece: Piece) -> None:
        """Free a row's slot, and end its request."""
        del self._running[row.ticket]
        if row is self._joining:
            self._joining = None
        else:
            self._set(row.slot, None)
        insort(self._free, row.slot)
        self._is_busy[row.slot] = False
        self._end(row.ticket, piece)

    def _end(self, ticket: Ticket, piece: Piece) -> None:
        ticket.ended_at = perf_counter()
        self._out.append((ticket, piece))

    def _set(self, slot: int, row: Row | None) -> None:
        """Let a row decode in a slot from the next step on, or none."""
        self._rows[slot] = row
        self._samplers[slot] = None if row is None else row.sampler
        self._is_active[slot] = row is not None
        self._active = np.flatnonzero(self._is_active)
        self._view = int(self._active[-1]) + 1 if len(self._active) else 0

    def _close_holes(self) -> None:
        """Move the top row into the lowest free slot where decode steps run many more rows than there are.

        Only once no request has come to fill the hole for a while, and where the row may get enough tokens to pay.
        """
        count = len(self._active)
        if self._waiting or self._joining is not None or self._rounded(count) >= self._rounded(self._view):
            self._sparse_steps = 0
            return
        self._sparse_steps += 1
        row = self._rows[self._view - 1]
        assert row is not None  # the view ends with it
        length = int(self._session.lengths[row.slot])
        if self._sparse_steps <= PATIENCE or length > row.left * MOVED_PER_STEP:
            return
        source, target = row.slot, self._free[0]
        try:
            self._prefixes.move(source, target, length)
        except Exception as error:
            self._fail([row], error)
            return
        self._free[0] = source
        self._free.sort()
        self._is_busy[source], self._is_busy[target] = False, True
        self._tokens[target] = self._tokens[source]
        row.slot = target
        self._set(source, None)
        self._set(target, row)

    def _rounded(self, rows: int) -> int:
        """The rows that a decode step of so many runs."""
        return rows + rows % 2 if self._even else rows


def _piece_of(error: Exception) -> Piece:
    """The last piece of an answer that an error ended; one that no user can act on is logged with its traceback."""
    if not isinstance(error, EdgeError):
        logging.getLogger(__name__).error("a step failed", exc_info=error)
        error = ArtifactError(f"the model failed in the middle of a step: {type(error).__name__}: {error}")
    return Piece("", finish_reason="error", error=error)
