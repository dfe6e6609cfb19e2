"""What all sessions have in common whose graph joins past and chunk, padding included."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from .chunk_session import ChunkSession
from .session import Logits, TokenIds


class GrowingSession(ChunkSession):
    """A `Session` over graphs of target `tensorrt` with a growing cache: every token of a chunk takes a slot.

    A mask tells real tokens from padding, and a token's position counts its row's real ones.

    Args:
        vocab_size: V.
        max_length: Most slots, padding included.
        chunk: Most prompt tokens of a row in one run.
        remedy: What makes room, for the error at the limit.

    Raises:
        UsageError: A number is less than 1.
    """

    @abstractmethod
    def _run(self, tokens: TokenIds, mask: NDArray[np.bool_], positions: TokenIds, last: TokenIds) -> Logits:
        """Run a chunk behind the first P slots; what the cache holds behind those is forgotten.

        Args:
            tokens: `[B, S]`.
            mask: `[B, P + S]`, where slots hold real tokens; `P + S` is at most `max_length`.
            positions: `[B, S]`.
            last: `[B]`, of which token the logits are wanted.

        Returns:
            `[B, V]`, valid until the next run.
        """

    def _run_prompt(self, tokens: TokenIds, mask: NDArray[np.bool_]) -> Logits:
        """See `ChunkSession._run_prompt`."""
        past, width = self._length, tokens.shape[1]
        real = np.concatenate([self._rows.mask(past), mask], axis=1)
        positions = np.maximum(real.cumsum(axis=1)[:, past:] - 1, 0)
        last = np.where(mask.any(axis=1), width - 1 - mask[:, ::-1].argmax(axis=1), width - 1)

        def run(part: slice, last: TokenIds) -> Logits:
            return self._run(tokens[:, part], real[:, : past + part.stop], positions[:, part], last)

        return self._in_chunks(width, last, run)

    def _run_step(self, tokens: TokenIds) -> Logits:
        """See `ChunkSession._run_step`."""
        rows = len(tokens)
        real = np.concatenate([self._rows.mask(self._length), np.ones((rows, 1), np.bool_)], axis=1)
        return self._run(tokens, real, self._rows.counts[:, None], np.zeros(rows, np.int64))
