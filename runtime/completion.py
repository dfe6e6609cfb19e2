"""A completion: the text of one generation, piece by piece, and its result with counts and timings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from inspect import GEN_CLOSED, getgeneratorstate
from time import perf_counter
from typing import Any, Literal

from .decode import FinishReason, Generation
from .errors import EngineBusyError
from .text.answer import AnswerText
from .text.prompt import Prompt
from .text.tokenizer import Tokenizer

BUSY = (
    "two threads use one Engine at once, which serves one caller at a time: take turns by a lock, or load one Engine "
    "for each thread"
)
"""The error message for the second of two threads that use an engine at once."""


@dataclass(frozen=True)
class CompletionTimings:
    """The time that the stages of a completion took, in seconds.

    Attributes:
        load_s: Time to load the model, once for all its completions.
        prefill_s: Time to run the part of the prompt that was not cached.
        decode_s: Time after the first token, without the time that the consumer took.
        decode_tokens_per_s: Tokens after the first one, divided by `decode_s`; 0 where there are none.
        time_to_first_token_s: Time from the call that asked for the completion to its first token.
    """

    load_s: float
    prefill_s: float
    decode_s: float
    decode_tokens_per_s: float
    time_to_first_token_s: float


@dataclass(frozen=True)
class CompletionResult:
    """The result of a completion, complete or cut off.

    Attributes:
        text: Text of the answer; empty for a model without a tokenizer.
        token_ids: Token ids of the answer, including the stop token or those of the stop string.
        prompt_tokens: Number of tokens of the prompt, cached ones included.
        completion_tokens: Number of `token_ids`.
        finish_reason: "stop" at a stop token or a stop string, "length" at the limit of tokens or of the context,
            "cancelled" where it was not run to its end.
        timings: Seconds that the stages took.
        drafted_tokens: Number of tokens that speculative decoding drafted.
        accepted_tokens: Number of drafted tokens that were accepted, each of which saved a run of the model.
    """

    text: str
    token_ids: list[int]
    prompt_tokens: int
    completion_tokens: int
    finish_reason: Literal["stop", "length", "cancelled"]
    timings: CompletionTimings
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return asdict(self)


class Completion(Iterator[str]):
    """An iterator over the pieces of text that a model writes, none of them empty; made by `Engine.stream`.

    Args:
        generation: The decode loop's steps, for one row.
        prompt: The prompt.
        tokenizer: The tokenizer; None for a model without one, whose completions have no text.
        stop: Strings that end the text and are not part of it.
        load_s: Seconds that loading the model took, for the timings.
        asked_at: `perf_counter()` of the call that asked for it.
        on_end: Called once with the result when a completion that has begun ends, also by an error.
    """

    def __init__(
        self,
        generation: Generation,
        prompt: Prompt,
        tokenizer: Tokenizer | None,
        stop: Sequence[str] = (),
        *,
        load_s: float = 0.0,
        asked_at: float | None = None,
        on_end: Callable[[CompletionResult], None] | None = None,
    ) -> None:
        self.prompt = prompt
        self.token_ids: list[int] = []
        self._generation = generation
        self._answer = AnswerText(tokenizer, stop)
        self._load_s = load_s
        self._asked_at = perf_counter() if asked_at is None else asked_at
        self._first_token_at = self._asked_at
        self._on_end = on_end
        self._text: list[str] = []
        self._finish_reason: FinishReason | None = None
        self._has_begun = False
        self._turn = threading.RLock()  # Ctrl-C may leave it taken, and must not keep this thread from closing
        self._ended_by: int | None = None
        self._pieces = self._run()

    def __next__(self) -> str:
        """Wait for the next piece.

        Raises:
            EngineBusyError: Another thread waits for one, or has begun another completion of the same engine.
        """
        if not self._turn.acquire(blocking=False):
            raise EngineBusyError(BUSY)
        try:
            return next(self._pieces)
        except StopIteration:
            if self._ended_by not in {None, threading.get_ident()}:
                raise EngineBusyError(BUSY) from None
            raise
        finally:
            self._turn.release()

    def close(self) -> None:
        """End the completion; may be called at any time, and more than once.

        Raises:
            EngineBusyError: Another thread waits for a piece of it.
        """
        with self._own_turn():
            if getgeneratorstate(self._pieces) != GEN_CLOSED:
                self._ended_by = threading.get_ident()
            self._pieces.close()

    def run(self) -> CompletionResult:
        """Run to the end, and return the result.

        Raises:
            EngineBusyError: Another thread waits for a piece of it, or has begun another completion of the engine.
        """
        with self._own_turn():
            for _ in self._pieces:
                pass
            if self._ended_by not in {None, threading.get_ident()}:
                raise EngineBusyError(BUSY)
        return self.result

    @contextmanager
    def _own_turn(self) -> Iterator[None]:
        if not self._turn.acquire(blocking=False):
            raise EngineBusyError(BUSY)
        try:
            yield
        finally:
            self._turn.release()

    @property
    def has_begun(self) -> bool:
        """Whether the completion has used the session."""
        return self._has_begun

    @property
    def result(self) -> CompletionResult:
        """The result so far, final when the iteration has ended; also valid after Ctrl-C."""
        timings = self._generation.timings
        return CompletionResult(
            text="".join(self._text),
            token_ids=list(self.token_ids),
            prompt_tokens=len(self.prompt.token_ids),
            completion_tokens=len(self.token_ids),
            finish_reason=self._finish_reason or "cancelled",
            timings=CompletionTimings(
                load_s=self._load_s,
                prefill_s=timings.prefill_s,
                decode_s=timings.decode_s,
                decode_tokens_per_s=timings.decode_steps / timings.decode_s if timings.decode_steps else 0.0,
                time_to_first_token_s=self._first_token_at - self._asked_at,
            ),
            drafted_tokens=timings.drafted,
            accepted_tokens=timings.accepted,
        )

    def _run(self) -> Generator[str, None, None]:
        self._has_begun = True
        answer = self._answer
        try:
            for step in self._generation:
                token_id, self._finish_reason = step.token_ids[0], step.finish_reasons[0]
                assert token_id is not None  # the generation ends with its only row
                if not self.token_ids:
                    self._first_token_at = perf_counter()
                self.token_ids.append(token_id)
                if self._finish_reason == "stop":
                    continue
                if piece := answer.push(token_id):
                    self._text.append(piece)
                    yield piece
                if answer.is_stopped:
                    break
            piece = answer.finish()
            if answer.is_stopped:
                self._finish_reason = "stop"
            if piece:
                self._text.append(piece)
                yield piece
        finally:
            self._generation.close()
            if self._on_end is not None:
                self._on_end(self.result)
