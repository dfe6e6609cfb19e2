"""`minimind-run --prompts FILE`: many prompts, one JSON object a line in and one out, answered as a batch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from minimind_edge.runtime.completion import CompletionResult, CompletionTimings
from minimind_edge.runtime.errors import InputError, UsageError

from .entry import BAD_INPUT
from .json_output import print_json
from .progress import progress_display
from .run_complete import described

if TYPE_CHECKING:
    from minimind_edge.runtime.batch.engine import BatchEngine
    from minimind_edge.runtime.batch.request import BatchRequest, Piece, Ticket

    from .prompt_files import PromptLine
    from .run_request import RunRequest

SLOTS = 8
"""The most prompts that run at once."""


def answer_prompts(engine: BatchEngine, lines: Sequence[PromptLine], request: RunRequest, load_s: float) -> int:
    """Answer prompts as a batch, and print each answer when those of the prompts before it are printed.

    A prompt that cannot be run, such as one that is longer than the context, gets a line with `error` in place of an
    answer, and the others are answered all the same.

    Args:
        engine: The engine that answers.
        lines: The prompts, each with its options.
        request: The options of the command.
        load_s: Seconds that loading took, for the timings.

    Returns:
        The exit code: 0, or that of bad input where a prompt could not be run.
    """
    answers = Answers(engine, lines, request, load_s)
    failed = 0
    with progress_display(for_program=True, shares_terminal=True) as progress:
        for number, (line, answer) in enumerate(zip(lines, answers, strict=True), 1):
            failed += "error" in answer
            print_json(answer if line.id is None else {"id": line.id, **answer})
            progress(f"{number} of {len(lines)} answers", number / len(lines))
    if failed:
        print(f"error: {failed} of {len(lines)} prompts could not be run; their lines say why", file=sys.stderr)
    return BAD_INPUT if failed else 0


class Answers:
    """An iterator over the answers to prompts in their order, each an object of JSON.

    Args:
        engine: The engine that answers.
        lines: The prompts, each with its options.
        request: The options of the command.
        load_s: Seconds that loading took, for the timings.
    """

    def __init__(self, engine: BatchEngine, lines: Sequence[PromptLine], request: RunRequest, load_s: float) -> None:
        self._engine = engine
        self._lines = lines
        self._request = request
        self._load_s = load_s
        self._places: dict[int, int] = {}  # by the identity of a request that runs, since two may be equal
        self._texts: dict[int, str] = {}
        self._ready: dict[int, dict[str, Any]] = {}
        self._given = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Answer the prompts; an answer waits for those before it."""
        for ticket, piece in self._engine.generate_all(self._requests()):
            self._take(ticket, piece)
            yield from self._next()
        yield from self._next()

    def _requests(self) -> Iterator[BatchRequest]:
        """The requests, made when there is room for them; a prompt that cannot be run has its answer here."""
        for place, line in enumerate(self._lines):
            try:
                request = self._engine.request(line.prompt, line.options)
                self._engine.check(request)
            except (InputError, UsageError) as error:
                self._ready[place] = {"error": str(error)}
                continue
            self._places[id(request)] = place
            self._texts[place] = ""
            yield request

    def _take(self, ticket: Ticket, piece: Piece) -> None:
        """Add a piece to its answer, which is ready with the last one."""
        place = self._places[id(ticket.request)]
        self._texts[place] += piece.text
        if piece.finish_reason is None:
            return
        del self._places[id(ticket.request)]
        text = self._texts.pop(place)
        if piece.error is not None:
            self._ready[place] = {"error": str(piece.error)}
            return
        result = result_of(ticket, text, "length" if piece.finish_reason == "length" else "stop", self._load_s)
        self._request.tell_stats(result, self._engine.facts.operators)
        self._ready[place] = described(result, ticket.request.prompt, self._lines[place].options)

    def _next(self) -> Iterator[dict[str, Any]]:
        while self._given in self._ready:
            yield self._ready.pop(self._given)
            self._given += 1


def result_of(ticket: Ticket, text: str, finish_reason: Literal["stop", "length"], load_s: float) -> CompletionResult:
    """The result of a request that has ended, in the form of a single completion's.

    Args:
        ticket: The request.
        text: Its whole answer.
        finish_reason: The reason why it ended.
        load_s: Seconds that loading took.
    """
    count = len(ticket.token_ids)
    first = ticket.first_token_at or ticket.ended_at
    decode_s = ticket.ended_at - first
    return CompletionResult(
        text=text,
        token_ids=list(ticket.token_ids),
        prompt_tokens=len(ticket.request.prompt.token_ids),
        completion_tokens=count,
        finish_reason=finish_reason,
        timings=CompletionTimings(
            load_s=load_s,
            prefill_s=first - ticket.begun_at,
            decode_s=decode_s,
            decode_tokens_per_s=(count - 1) / decode_s if count > 1 and decode_s > 0 else 0.0,
            time_to_first_token_s=first - ticket.asked_at,
        ),
    )


def load_batch(path: Any, lines: Sequence[PromptLine], **options: Any) -> tuple[BatchEngine, float]:
    """Load an artifact for prompts that run at once, and the seconds that it took.

    Args:
        path: The artifact.
        lines: The prompts.
        options: The options of `BatchEngine.load`.

    Raises:
        EdgeError: See `BatchEngine.load`.
    """
    from minimind_edge.runtime.batch.engine import BatchEngine

    began = perf_counter()
    engine = BatchEngine.load(path, slots=max(1, min(SLOTS, len(lines))), **options)
    return engine, perf_counter() - began
