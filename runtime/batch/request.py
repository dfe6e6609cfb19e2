"""Requests to the batch, and the pieces of their answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import EdgeError
from ..sampling import SamplingParams
from ..text.prompt import Prompt

EndReason: TypeAlias = Literal["stop", "length", "cancelled", "error"]
"""The reason why an answer ended: a stop token, a stop string or the end of the grammar; the limit of tokens or of the
context; the caller; a failure of the model."""


class TokenConstraint(Protocol):
    """A rule that allows some tokens at each step, such as a grammar; it belongs to one answer."""

    def allowed(self) -> NDArray[np.bool_] | None:
        """The tokens that may come next, `[V]` bool; None where all may."""
        ...

    def accept(self, token_id: int) -> bool:
        """Take the token that was chosen.

        Returns:
            Whether the answer is complete with it.
        """
        ...


@dataclass(frozen=True)
class BatchRequest:
    """A prompt to complete.

    Attributes:
        prompt: The prompt.
        params: Sampling parameters.
        max_new_tokens: Most tokens of the answer, at least 1; the context may end it sooner.
        stop_token_ids: Token ids that end the answer.
        stop: Strings that end the answer and are not part of it.
        top_logprobs: Number of likeliest tokens whose log probabilities come with each token; 0 for the chosen token's
            alone, None for none at all.
        constraint: Rule that the answer keeps.
    """

    prompt: Prompt
    params: SamplingParams
    max_new_tokens: int
    stop_token_ids: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    constraint: TokenConstraint | None = None


class TokenLogprobs(NamedTuple):
    """The log probabilities of one step, in the model's own distribution, before penalties, temperature and filters.

    Attributes:
        token_id: The chosen token.
        logprob: Its natural log probability.
        top: The likeliest tokens and their log probabilities, likeliest first.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


class Piece(NamedTuple):
    """What one step adds to one answer.

    Attributes:
        text: Text that is certain now; may be empty.
        token_ids: Token ids of the step, also those of a stop token.
        logprobs: Their log probabilities, where they were asked for.
        finish_reason: The reason why the answer ends with this piece, None while it goes on.
        error: The failure that ended the answer.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: EndReason | None = None
    error: EdgeError | None = None


@dataclass(eq=False)
class Ticket:
    """A request that was taken; the scheduler fills in what becomes of it.

    Attributes:
        request: The request.
        asked_at: `perf_counter()` of its submission.
        begun_at: `perf_counter()` when it got a slot; 0 before.
        first_token_at: `perf_counter()` of its first token; 0 before.
        ended_at: `perf_counter()` of its end; 0 before.
        cached_tokens: Number of its prompt's tokens whose positions were copied instead of run.
        token_ids: Token ids of the answer so far.
        finish_reason: Reason why the answer ended, None before.
    """

    request: BatchRequest
    asked_at: float = 0.0
    begun_at: float = 0.0
    first_token_at: float = 0.0
    ended_at: float = 0.0
    cached_tokens: int = 0
    token_ids: list[int] = field(default_factory=list)
    finish_reason: EndReason | None = None
