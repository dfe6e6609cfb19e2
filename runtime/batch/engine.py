"""The engine of continuous batching: many requests at once from any thread, answered by one thread of its own."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from ..artifact.folder import Artifact
from ..errors import EngineClosedError, UsageError
from ..model_text import ModelText
from ..options import GenerationFields, GenerationOptions
from ..sampling import SamplingParams
from ..session.session import check_positive
from ..text.prompt import PromptLike
from .request import BatchRequest, Piece, Ticket, TokenConstraint
from .scheduler import BatchCounts, Scheduler
from .slots import SlotSession

if TYPE_CHECKING:
    from typing_extensions import Unpack

PREFIX_CACHE_MIB = 256
"""The default for the memory that prefixes of finished requests may take, in MiB."""

LEAST_QUEUE, QUEUE_PER_SLOT = 64, 4
"""The default for the most requests that wait: so many for each slot, and at least so many."""

Deliver = Callable[[Sequence[tuple[Ticket, Piece]]], None]
"""Takes what one step adds to the answers, on the engine's thread."""


class BatchEngine:
    """A loaded model that answers many requests at once; made by `BatchEngine.load`.

    Requests may be submitted and cancelled from any thread. Each ends with exactly one piece that has a
    `finish_reason`. A program without threads of its own iterates over `generate_all`:

        engine = BatchEngine.load("artifact/", slots=8)
        requests = [engine.request(prompt, max_new_tokens=64) for prompt in prompts]
        answers = {id(request): "" for request in requests}
        for ticket, piece in engine.generate_all(requests):
            answers[id(ticket.request)] += piece.text

    and a server starts the engine's thread, which hands every step's pieces to a callable:

        engine.start(lambda pieces: loop.call_soon_threadsafe(hand_out, pieces))
        ticket = engine.submit(engine.request("Why is the sky blue?"))
        ...
        engine.close(drain=True)

    Args:
        session: The session that runs the model.
        text: The model's tokenizer, chat template and defaults.
        step_ms: Milliseconds of prompt work in a step while other requests wait for their next token; None for a fixed
            number of prompt tokens.
        queue: Most requests that wait for a slot; None for 4 for each slot, and at least 64.
        even_chunks: Whether prompts run in even chunks, which quantized weights need for the same text in any company.
        exact_reuse: Whether reused prefixes must give the same logits, to the last bit, as those that are run again.
        prefix_cache_mib: Memory for the prefixes of finished requests, in MiB; 0 keeps only what the slots hold.

    Attributes:
        prompts: The builder of prompts.
        tokenizer: The tokenizer; None for a model without one, which takes and gives token ids.
        default_params: Sampling parameters of the model's own configuration.
        max_new_tokens: Default for the most tokens of an answer.
        stop_token_ids: Token ids that end a text.
        stop_strings: Strings that end every answer; empty without a tokenizer.
        facts: The sizes and types of the model's inputs and outputs.
        slots: Most requests that run at once.
        queue: Most requests that wait for a slot.
        max_length: Most tokens of prompt and answer together.
        vocab_size: Size V of the vocabulary; token ids are 0 to `vocab_size - 1`.
        remark: What a user should know about how this model is served, None where there is nothing.

    Raises:
        ArtifactError: A default of the model is out of its range.
        UsageError: An argument is out of range.
    """

    def __init__(
        self,
        session: SlotSession,
        text: ModelText,
        *,
        step_ms: float | None = None,
        queue: int | None = None,
        even_chunks: bool = False,
        exact_reuse: bool = True,
        prefix_cache_mib: float = PREFIX_CACHE_MIB,
    ) -> None:
        self.queue = max(LEAST_QUEUE, QUEUE_PER_SLOT * session.slots) if queue is None else queue
        self._scheduler = Scheduler(
            session,
            text.tokenizer,
            step_ms=step_ms,
            queue=self.queue,
            even_chunks=even_chunks,
            exact_reuse=exact_reuse,
            prefix_bytes=round(prefix_cache_mib * (1 << 20)),
        )
        self._text = text
        self.tokenizer = text.tokenizer
        self.prompts = text.prompts
        self.default_params = text.sampling_params()
        self.max_new_tokens = text.max_new_tokens
        self.stop_token_ids = text.stop_token_ids
        self.stop_strings = text.stop_strings
        self.facts = session.facts
        self.slots = session.slots
        self.max_length = session.max_length
        self.vocab_size = session.vocab_size
        self.remark = session.remark
        self._wake = threading.Condition()
        self._inbox: list[tuple[Callable[[Ticket], None], Ticket]] = []
        self._in_flight = 0
        self._is_started = self._is_closing = self._is_abandoned = False
        self._thread: threading.Thread | None = None

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        slots: int = 4,
        threads: int | None = None,
        max_length: int | None = None,
        precision: str | None = None,
        device: str = "auto",
        step_ms: float | None = None,
        queue: int | None = None,
        invariant: bool | None = None,
        prefix_cache_mib: float = PREFIX_CACHE_MIB,
    ) -> BatchEngine:
        """Load an artifact.

        Args:
            path: An artifact folder, or an `.onnx` graph or a `.plan` inside or outside of one.
            slots: Most requests that run at once; a model that cannot take as many has fewer, and a `remark`.
            threads: Threads for one operator; None for the physical cores.
            max_length: Most tokens of prompt and answer together; None for the model's own limit.
            precision: Precision of the graph to run, as in `Engine.load`.
            device: `auto`, `cpu`, `cuda`, `tensorrt` or `rtx`.
            step_ms: Milliseconds of prompt work in a step while other requests wait for their next token; None for a
                fixed number of prompt tokens.
            queue: Most requests that wait for a slot; None for 4 for each slot, and at least 64.
            invariant: Whether a request's tokens must be the same whatever runs at the same time or ran before; None
                for true with more than one slot. It costs quantized weights an idle row now and then, and conversations
                another run of the last answer, since positions that were decoded are not reused.
            prefix_cache_mib: Memory for the prefixes of finished requests, in MiB; 0 keeps only what the slots hold.

        Raises:
            ArtifactError: A file of the artifact is missing, broken or of another kind.
            MissingError: The environment lacks a package, driver or device.
            UsageError: An argument is out of range.
        """
        from .loading import load_slots

        check_positive("slots", slots)
        artifact = Artifact.open(path, precision)
        text = ModelText.load(artifact)
        limit = artifact.max_length if max_length is None else max_length
        if invariant is None:
            invariant = slots > 1
        even = invariant and (artifact.entry is None or artifact.entry.precision != "fp32")
        session = load_slots(
            artifact.graph, slots=slots, max_length=limit, threads=threads, device=device, even_rows=even
        )
        return cls(
            session,
            text.completed(session.facts.eos_token_ids),
            step_ms=step_ms,
            queue=queue,
            even_chunks=even,
            exact_reuse=invariant,
            prefix_cache_mib=prefix_cache_mib,
        )

    def request(
        self,
        prompt: PromptLike,
        options: GenerationOptions | None = None,
        *,
        params: SamplingParams | None = None,
        top_logprobs: int | None = None,
        constraint: TokenConstraint | None = None,
        **fields: Unpack[GenerationFields],
    ) -> BatchRequest:
        """Make a request with the model's own defaults.

        Args:
            prompt: Text, messages, token ids, or a `Prompt`.
            options: Options of the completion; None for the model's own defaults.
            params: Sampling parameters, in place of those in the options.
            top_logprobs: Number of likeliest tokens whose log probabilities come with each token; 0 for the chosen
                token's alone, None for none at all.
            constraint: Rule that the answer keeps.
            fields: Fields of `GenerationOptions`, in place of those of `options`.

        Raises:
            PromptError: The prompt is empty, or the model lacks the tokenizer or template for it.
            ArtifactError: The chat template is broken.
            UsageError: An option is out of its range or does not fit the prompt.
        """
        wanted = replace(options or GenerationOptions(), **fields)
        ready = self.prompts.build(
            prompt, raw=wanted.raw, system=wanted.system, tools=wanted.tools, thinking=wanted.thinking
        )
        return BatchRequest(
            ready,
            params or wanted.sampling_params(self.default_params),
            self.max_new_tokens if wanted.max_new_tokens is None else wanted.max_new_tokens,
            frozenset(() if wanted.ignore_eos else self.stop_token_ids),
            self._text.all_stop_strings(wanted.stop),
            top_logprobs,
            constraint,
        )

    def start(self, deliver: Deliver) -> None:
        """Start the engine's thread.

        Args:
            deliver: Called on that thread once for each step that adds to an answer; it must not block.

        Raises:
            UsageError: The engine has been started, or is being used by `generate_all`.
            EngineClosedError: The engine has been closed.
        """
        self._claim()
        self._thread = threading.Thread(target=self._serve, args=(deliver,), name="batch-engine", daemon=True)
        self._thread.start()

    def check(self, request: BatchRequest) -> None:
        """Check a request as `submit` and `generate_all` do; any thread may call it.

        Raises:
            PromptError: The prompt is empty, or has a token id that the model does not know.
            ContextLengthError: The prompt is longer than the context.
            UsageError: A limit is out of range, or a stop string is empty or needs a tokenizer.
        """
        self._scheduler.check(request)

    def submit(self, request: BatchRequest) -> Ticket:
        """Take a request; its pieces are delivered under the ticket that this returns. Any thread may call it.

        Raises:
            QueueFullError: As many requests wait as may.
            EngineClosedError: The engine is being closed.
            PromptError: The prompt is empty, or has a token id that the model does not know.
            ContextLengthError: The prompt is longer than the context.
            UsageError: A limit is out of range, or a stop string is empty or needs a tokenizer.
        """
        self._scheduler.check(request)
        ticket = Ticket(request, asked_at=perf_counter())
        with self._wake:
            if self._is_closing:
                raise EngineClosedError("the engine is being closed and takes no more requests")
            self._scheduler.check_room(self._in_flight)
            self._in_flight += 1
            self._inbox.append((self._scheduler.add, ticket))
            self._wake.notify()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """End a request with "cancelled" before its next token, unless it has ended; any thread may call it."""
        with self._wake:
            self._inbox.append((self._scheduler.cancel, ticket))
            self._wake.notify()

    def close(self, *, drain: bool, timeout_s: float | None = None) -> None:
        """Take no more requests, end those that were taken, and wait for the engine's thread to end.

        May be called more than once, from any thread. Called by `deliver`, it does not wait.

        Args:
            drain: Whether to answer them to their ends; otherwise they end with "cancelled".
            timeout_s: Seconds after which those that still run are cancelled; None for no limit.
        """
        with self._wake:
            self._is_closing = True
            self._is_abandoned |= not drain
            self._wake.notify()
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        thread.join(timeout_s)
        if thread.is_alive():
            self.close(drain=False)

    def generate_all(self, requests: Iterable[BatchRequest]) -> Iterator[tuple[Ticket, Piece]]:
        """Answer requests on the caller's own thread, for an engine that has not been started.

        Args:
            requests: Requests, taken from the iterable only as slots and queue have room for them.

        Yields:
            Each piece of an answer as it comes, with its ticket, whose `request` is the very object that was given.

        Raises:
            UsageError: The engine has been started; or a request is out of range, as in `submit`.
            PromptError: A prompt cannot be run.
        """
        self._claim()
        scheduler, pending = self._scheduler, iter(requests)
        try:
            while True:
                while scheduler.has_room and (request := next(pending, None)) is not None:
                    scheduler.check(request)
                    scheduler.add(Ticket(request, asked_at=perf_counter()))
                if scheduler.is_idle:
                    return
                yield from scheduler.step()
        finally:
            scheduler.cancel_all()
            scheduler.step()
            self._is_started = False

    def counts(self) -> BatchCounts:
        """What the engine has done so far and does now; any thread may call it."""
        counts = self._scheduler.counts()
        return counts._replace(waiting=max(counts.waiting, self._in_flight - counts.running))

    def _claim(self) -> None:
        """Note that somebody runs the scheduler, which must be one only."""
        with self._wake:
            if self._is_closing:
                raise EngineClosedError("the engine has been closed: load another one")
            if self._is_started:
                raise UsageError("the engine has been started, and one thread runs it: submit the requests to it")
            self._is_started = True

    def _serve(self, deliver: Deliver) -> None:
        """Run steps until the engine is closed; no failure ends it sooner."""
        while self._is_wanted():
            pieces = self._step()
            ended = sum(piece.finish_reason is not None for _, piece in pieces)
            if ended:
                with self._wake:
                    self._in_flight -= ended
            if pieces:
                _guarded(deliver, pieces)

    def _is_wanted(self) -> bool:
        """Wait for work, and give it to the scheduler; false when the engine is closed and all has ended."""
        with self._wake:
            while not self._inbox and self._scheduler.is_idle:
                if self._is_closing:
                    return False
                self._wake.wait()
            inbox, self._inbox = self._inbox, []
        for change, ticket in inbox:
            change(ticket)
        if self._is_abandoned:
            self._scheduler.cancel_all()
        return True

    def _step(self) -> list[tuple[Ticket, Piece]]:
        try:
            return self._scheduler.step()
        except Exception as error:
            logging.getLogger(__name__).exception("a step failed outside of the model")
            return self._scheduler.fail_all(error)


def _guarded(deliver: Deliver, pieces: Sequence[tuple[Ticket, Piece]]) -> None:
    """Deliver; what the callable raises is logged, since the other requests' pieces are still to come."""
    try:
        deliver(pieces)
    except Exception:
        logging.getLogger(__name__).exception("the pieces of a step could not be delivered")
