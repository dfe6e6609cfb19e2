"""An engine that answers by a script instead of a model, piece by piece on its own thread, as the real one does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from minimind_edge.runtime.batch.request import BatchRequest, EndReason, Piece, Ticket, TokenLogprobs
from minimind_edge.runtime.errors import ArtifactError, ContextLengthError, EdgeError
from minimind_edge.runtime.sampling import SamplingParams
from minimind_edge.runtime.text.chat_template import ChatTemplate
from minimind_edge.runtime.text.prompt import PromptBuilder
from minimind_edge.runtime.text.tokenizer import Tokenizer


@dataclass
class Script:
    """What the engine does with the next requests.

    The pieces of the answers, one list for each request in turn (the last one repeats); the reason of their ends; an
    error that refuses them; whether the model fails after the last piece; how many tokens of each prompt count as
    cached; and whether each piece waits for `go`.
    """

    pieces: list[list[str]] = field(default_factory=lambda: [["Hello", " world"]])
    reason: EndReason = "stop"
    refusal: EdgeError | None = None
    fails: bool = False
    cached_tokens: int = 0
    holds: bool = False


class ScriptedEngine:
    """Submitted requests are in `requests`, cancelled tickets in `cancelled`."""

    slots = 4
    max_length = 2048
    max_new_tokens = 100
    stop_token_ids = (2,)
    stop_strings: tuple[str, ...] = ()
    remark = None

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None, vocab_size: int = 6400) -> None:
        self.tokenizer = tokenizer
        self.prompts = PromptBuilder(tokenizer, template)
        self.default_params = SamplingParams()
        self.vocab_size = vocab_size
        self.script = Script()
        self.requests: list[BatchRequest] = []
        self.tickets: list[Ticket] = []
        self.cancelled: list[Ticket] = []
        self.go = threading.Semaphore(0)
        self._deliver: Callable[[Sequence[tuple[Ticket, Piece]]], None] = lambda pieces: None
        self._running: dict[Ticket, list[Piece]] = {}
        self._change = threading.Condition()
        self._is_closed = False

    def start(self, deliver: Callable[[Sequence[tuple[Ticket, Piece]]], None]) -> None:
        self._deliver = deliver
        threading.Thread(target=self._run, daemon=True).start()

    def reset(self, script: Script) -> None:
        """Forget what was asked, and follow another script."""
        with self._change:
            self.script = script
            self.requests.clear()
            self.tickets.clear()
            self.cancelled.clear()
            self._running.clear()
            held, self.go = self.go, threading.Semaphore(0)
            held.release(1000)  # the engine's thread may wait there

    def submit(self, request: BatchRequest) -> Ticket:
        script = self.script
        if script.refusal is not None:
            raise script.refusal
        if len(request.prompt.token_ids) >= self.max_length:
            raise ContextLengthError(f"the prompt has {len(request.prompt.token_ids)} tokens: expected fewer")
        ticket = Ticket(request, asked_at=perf_counter(), cached_tokens=script.cached_tokens)
        with self._change:
            pieces = script.pieces[min(len(self.requests), len(script.pieces) - 1)]
            self._running[ticket] = self._pieces(request, pieces, script)
            self.requests.append(request)
            self.tickets.append(ticket)
            self._change.notify()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        with self._change:
            self._running.pop(ticket, None)
            self.cancelled.append(ticket)

    def close(self, *, drain: bool, timeout_s: float | None = None) -> None:
        with self._change:
            self._is_closed = True
            self._change.notify()

    def _pieces(self, request: BatchRequest, texts: Sequence[str], script: Script) -> list[Piece]:
        pieces = [self._piece(request, text) for text in texts]
        if script.fails:
            return [*pieces, Piece("", finish_reason="error", error=ArtifactError("the model broke"))]
        ends = (2,) if script.reason == "stop" else ()
        logprobs = tuple(TokenLogprobs(token, -0.5, ()) for token in ends) if request.top_logprobs is not None else ()
        return [*pieces, Piece("", ends, logprobs, script.reason)]

    def _piece(self, request: BatchRequest, text: str) -> Piece:
        token_ids = tuple(self.tokenizer.encode(text, add_special_tokens=False))
        if request.top_logprobs is None:
            return Piece(text, token_ids)
        top = tuple((token, -token / 100) for token in range(300, 300 + request.top_logprobs))
        return Piece(text, token_ids, tuple(TokenLogprobs(token, -0.25, top) for token in token_ids))

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._running and not self._is_closed:
                    self._change.wait()
                if self._is_closed:
                    return
                holds = self.script.holds
            if holds:
                self.go.acquire()
            with self._change:
                step = [(ticket, pieces.pop(0)) for ticket, pieces in self._running.items()]
                for ticket, piece in step:
                    ticket.token_ids.extend(piece.token_ids)
                    if piece.finish_reason is not None:
                        del self._running[ticket]
            if step:
                self._deliver(step)
