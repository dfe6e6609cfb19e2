"""Logits processors that depend on the tokens so far, with the results of transformers' own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Scores: TypeAlias = NDArray[np.float32]
"""The logits of one row, `[V]` float32."""


class History(Protocol):
    """The tokens of one row so far."""

    @property
    def tokens(self) -> list[int]:
        """The token ids of prompt and answer, in order."""

    @property
    def answer_length(self) -> int:
        """The number of tokens of the answer, which are the last of `tokens`."""


class LogitsProcessor(Protocol):
    """A rule that changes the logits of the next token."""

    def __call__(self, scores: Scores, history: History) -> None:
        """Change the scores in place."""


class OccurrencePenalty:
    """Presence and frequency penalty: makes tokens that occur in the answer less likely.

    Args:
        presence: Number subtracted from the logit of each token that occurs.
        frequency: Number subtracted for each occurrence.

    Source:
        OpenAI's API reference, "Frequency and presence penalties": mu[j] - c[j] * frequency - (c[j] > 0) * presence,
        where c[j] counts the token in the text that was sampled.
    """

    def __init__(self, presence: float, frequency: float) -> None:
        self._presence = presence
        self._frequency = frequency

    def __call__(self, scores: Scores, history: History) -> None:
        """Change the scores in place."""
        if history.answer_length:
            answer = np.asarray(history.tokens[-history.answer_length :], dtype=np.int64)
            ids, counts = np.unique(answer, return_counts=True)
            scores[ids] -= (counts * self._frequency + self._presence).astype(np.float32)


class NoRepeatNGram:
    """Forbids each token that would complete an n-gram that occurs in the prompt or the answer already.

    Args:
        size: Length of the n-gram in tokens, at least 1.
    """

    def __init__(self, size: int) -> None:
        self._size = size

    def __call__(self, scores: Scores, history: History) -> None:
        """Change the scores in place."""
        tokens = np.asarray(history.tokens, dtype=np.int64)
        if len(tokens) >= self._size:
            windows = np.lib.stride_tricks.sliding_window_view(tokens, self._size)
            begun = tokens[len(tokens) - self._size + 1 :]
            scores[windows[(windows[:, :-1] == begun).all(axis=1), -1]] = -math.inf


class BadWords:
    """Forbids each token that would complete one of the given sequences; a sequence of one token always.

    Args:
        words: Sequences of token ids, at least one token each.
        eos_token_ids: Token ids that end a text; as in transformers, a sequence of one of them alone has no effect.
    """

    def __init__(self, words: Sequence[Sequence[int]], eos_token_ids: Sequence[int]) -> None:
        self._always = np.array([word[0] for word in words if len(word) == 1 and word[0] not in eos_token_ids], int)
        self._longer = [list(word) for word in words if len(word) > 1]

    def __call__(self, scores: Scores, history: History) -> None:
        """Change the scores in place."""
        completed = [word[-1] for word in self._longer if history.tokens[1 - len(word) :] == word[:-1]]
        _forbid(scores, np.append(self._always, np.array(completed, int)))


class MinNewTokens:
    """Forbids the tokens that end a text while the answer is shorter than a minimum.

    Args:
        least: Least tokens of the answer.
        eos_token_ids: Token ids that end a text.
    """

    def __init__(self, least: int, eos_token_ids: Sequence[int]) -> None:
        self._least = least
        self._eos = np.array(eos_token_ids, int)

    def __call__(self, scores: Scores, history: History) -> None:
        """Change the scores in place."""
        if history.answer_length < self._least:
            _forbid(scores, self._eos)


class ForcedEos:
    """Forbids all except the given tokens where the answer has room for only one more token.

    Args:
        token_ids: Token ids of which one is to be the last.
        max_new_tokens: Most tokens of the answer.
    """

    def __init__(self, token_ids: Sequence[int], max_new_tokens: int) -> None:
        self._ids = np.array(token_ids, int)
        self._last = max_new_tokens - 1

    def __call__(self, scores: Scores, history: History) -> None:
        """Change the scores in place."""
        known = self._ids[self._ids < scores.size]
        if history.answer_length == self._last and known.size:
            scores[:] = -math.inf
            scores[known] = 0.0


class SuppressTokens:
    """Forbids the given tokens always.

    Args:
        token_ids: Token ids to forbid.
    """

    def __init__(self, token_ids: Sequence[int]) -> None:
        self._ids = np.array(token_ids, int)

    def __call__(self, scores: Scores, history: History) -> None:
        """Change the scores in place."""
        _forbid(scores, self._ids)


def _forbid(scores: Scores, token_ids: NDArray[np.int64]) -> None:
    """Set the logits of tokens to minus infinity; ids outside of the vocabulary are skipped."""
    scores[token_ids[token_ids < scores.size]] = -math.inf
