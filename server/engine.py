"""The interface of the engine that a model is served by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from minimind_edge.runtime.batch.request import BatchRequest, Piece, Ticket
from minimind_edge.runtime.batch.scheduler import BatchCounts
from minimind_edge.runtime.sampling import SamplingParams
from minimind_edge.runtime.text.prompt import PromptBuilder
from minimind_edge.runtime.text.tokenizer import Tokenizer

Deliver: TypeAlias = Callable[[Sequence[tuple[Ticket, Piece]]], None]
"""Takes the pieces of one step, on the engine's thread."""


class BatchEngine(Protocol):
    """A model that completes many prompts at once."""

    prompts: PromptBuilder
    tokenizer: Tokenizer | None
    default_params: SamplingParams
    max_new_tokens: int
    stop_token_ids: tuple[int, ...]
    stop_strings: tuple[str, ...]
    slots: int
    max_length: int
    vocab_size: int
    remark: str | None

    def start(self, deliver: Deliver) -> None:
        """Start the thread that runs the model."""
        ...

    def submit(self, request: BatchRequest) -> Ticket:
        """Take a request, or refuse it at once.

        Raises:
            QueueFullError: As many requests wait as may.
            EngineClosedError: The engine is being closed.
            ContextLengthError: The prompt is longer than the context.
            PromptError: The prompt has unknown tokens.
            UsageError: A parameter does not fit the model.
        """
        ...

    def cancel(self, ticket: Ticket) -> None:
        """End a request within a step."""
        ...

    def close(self, *, drain: bool, timeout_s: float | None = None) -> None:
        """Take no more requests, and end."""
        ...

    def counts(self) -> BatchCounts:
        """What the engine has done so far and does now."""
        ...
