"""Lossless speculation: a session's decode steps, run ahead of themselves where the text seems to repeat itself."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

import numpy as np

from .draft_length import DraftLength
from .prompt_lookup import PromptLookup
from .session.model import Logits, TokenIds
from .session.session import Session


def changes_no_token(target: str, precision: str | None, *, int8_cache: bool = False) -> bool:
    """Whether a graph's logits of several tokens are those of single steps but for float32's last digits.

    Where activations are rounded, to float16 or to the eight bits of target `ort`'s integer kernels, a last digit can
    tip a rounding, and what follows differs as much as by any other rounding. So it is for keys and values that are
    rounded for the cache.

    Args:
        target: Of the graph.
        precision: Of its weights, None where it doesn't tell.
        int8_cache: Whether the graph rounds what it caches to eight bits.
    """
    if int8_cache:
        return False
    return precision == "fp32" or (target == "portable" and precision in ("int8", "int4"))


class Speculation:
    """Gives what `Session.decode` gives, token by token, from fewer runs of the model.

    A draft is run together with the token in front of it. As long as the caller then asks for what was drafted, the
    logits are there; another token rolls the session back to where they part. So the caller chooses every token itself,
    from the logits of plain decoding and with the random numbers of plain decoding.

    Args:
        session: One row, with the prompt in it; `gives_all_logits` must be true.
        prompt: The tokens that it holds.
        limit: Slots that may ever be asked for.

    Attributes:
        length: Slots that plain decoding would have in use; the session may hold a draft behind them.
        drafted: Tokens that were drafted.
        accepted: Those of them that were asked for: runs of the model that were saved.

    Source:
        Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding", algorithm 1; where a draft
        proposes one token for certain, to draw the token as ever and to compare does what their rejection rule does.
    """

    def __init__(self, session: Session, prompt: Iterable[int], limit: int) -> None:
        self.length = session.length
        self.drafted = 0
        self.accepted = 0
        self._session = session
        self._limit = min(limit, session.max_length)
        self._lookup = PromptLookup(prompt)
        self._lengths = DraftLength()
        self._draft: list[int] = []
        self._match_length = 0
        self._right = 0
        self._rows: Logits | None = None  # [1, S, V] of the run with the draft; None where it was not run

    def decode(self, tokens: TokenIds) -> Logits:
        """See `Session.decode`; valid until the next call."""
        token = int(tokens[0])
        self._lookup.add(token)
        if self._right < len(self._draft) and self._draft[self._right] == token:
            self._right += 1
            if self._rows is not None:
                self.length += 1
                self.accepted += 1
                return self._rows[:, self._right]
        return self._run(tokens, behind_draft=self.settle())

    def settle(self) -> bool:
        """Learn from the draft, and roll the session back to `length`; whether it held more."""
        if self._draft:
            self._lengths.judged(self._match_length, len(self._draft), self._right)
            if self._rows is not None:
                self._lengths.saved_steps(self._right)
        self._draft, self._right, self._rows = [], 0, None
        if self._session.length <= self.length:
            return False
        self._session.truncate(self.length)
        return True

    def _run(self, tokens: TokenIds, *, behind_draft: bool) -> Logits:
        """Run a token, with a draft behind it where one promises to pay."""
        match = self._lookup.find()
        count = 0
        if match is not None:
            self._match_length = match.length
            count = self._lengths.choose(match.length, self._limit - self.length - 1)
            self._draft = self._lookup.draft(match, max(count, 1))
        started = perf_counter()
        if count == 0:
            logits = self._session.decode(tokens)
            self._lengths.took_step(perf_counter() - started, behind_draft=behind_draft)
        else:
            self._rows = self._session.forward(np.concatenate([tokens, self._draft])[None])
            self._lengths.took_draft(perf_counter() - started, count)
            self.drafted += count
            logits = self._rows[:, 0]
        self.length += 1
        return logits
