"""A request that has a slot: its prompt, its sampler, its text, and where it ends."""

from __future__ import annotations

import numpy as np

from ..session.model import TokenIds
from ..text.answer import AnswerText
from ..text.tokenizer import Tokenizer
from .request import EndReason, Piece, Ticket
from .row_sampler import RowSampler, SampledToken


class Row:
    """A request that has a slot.

    Args:
        ticket: The request's ticket.
        tokenizer: The tokenizer; None for a model without one.
        vocab_size: Size V of the vocabulary.
        max_length: Most positions of a slot.

    Attributes:
        ticket: The request's ticket.
        prompt: The prompt's token ids, `[S]` int64.
        sampler: The row's sampler.
        slot: The row's slot, once it has one.
        done: Number of the prompt's tokens whose positions the slot holds.
    """

    def __init__(self, ticket: Ticket, tokenizer: Tokenizer | None, vocab_size: int, max_length: int) -> None:
        request = ticket.request
        self.ticket = ticket
        self.prompt: TokenIds = np.asarray(request.prompt.token_ids, dtype=np.int64)
        self.sampler = RowSampler(request, vocab_size)
        self.slot = -1
        self.done = 0
        self._text = AnswerText(tokenizer, request.stop)
        self._stop_token_ids = request.stop_token_ids
        # The last token is not run, so it needs no position.
        self._most = min(request.max_new_tokens, max_length - len(self.prompt) + 1)

    @property
    def left(self) -> int:
        """Most tokens that the answer may still get."""
        return self._most - len(self.ticket.token_ids)

    def take(self, sampled: SampledToken) -> Piece:
        """Add the next token to the answer.

        Returns:
            What it adds to the text; with a `finish_reason` where the answer ends with it.

        Raises:
            ArtifactError: The tokenizer's decoder fails.
        """
        text, token_id = self._text, sampled.token_id
        token_ids = self.ticket.token_ids
        token_ids.append(token_id)
        reason: EndReason | None = None
        if token_id in self._stop_token_ids:
            reason, piece = "stop", ""
        else:
            piece = text.push(token_id)
            if text.is_stopped or sampled.is_last:
                reason = "stop"
            elif len(token_ids) >= self._most:
                reason = "length"
        if reason is not None:
            piece += text.finish()
            if text.is_stopped:
                reason = "stop"
        return Piece(piece, (token_id,), () if sampled.logprobs is None else (sampled.logprobs,), reason)
