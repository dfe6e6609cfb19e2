"""What all sessions have in common whose cache is written in place, each row at an index of its own."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from .chunk_session import ChunkSession
from .rows import left_aligned
from .session import Logits, TokenIds


class StaticSession(ChunkSession):
    """A `Session` over graphs of target `tensorrt` with a static cache: real tokens alone take its slots.

    Such a graph knows no padding on the left, and none between chunks: rows are moved to the left before they run, and
    what lies behind a row's real tokens is written into slots that its next tokens overwrite.

    Args:
        vocab_size: V.
        max_length: Most slots, padding included.
        chunk: Most prompt tokens of a row in one run.
        remedy: What makes room, for the error at the limit.

    Raises:
        UsageError: A number is less than 1.
    """

    @abstractmethod
    def _run(self, tokens: TokenIds, written: TokenIds, last: TokenIds) -> Logits:
        """Run a chunk.

        Args:
            tokens: `[B, S]`.
            written: `[B]`, slot of each row's first token; `written + S` is at most `max_length`.
            last: `[B]`, of which token the logits are wanted.

        Returns:
            `[B, V]`, valid until the next run.
        """

    def reset(self, batch_size: int = 1) -> None:
        """See `Session.reset`."""
        super().reset(batch_size)
        self._first = np.zeros(batch_size, np.int64)

    def _run_prompt(self, tokens: TokenIds, mask: NDArray[np.bool_]) -> Logits:
        """See `ChunkSession._run_prompt`."""
        aligned, counts = left_aligned(tokens, mask)
        before = self._rows.counts

        def run(part: slice, last: TokenIds) -> Logits:
            # A row that has ended goes on with padding behind its last token.
            return self._run(aligned[:, part], before + np.minimum(counts, part.start), last)

        return self._in_chunks(aligned.shape[1], np.maximum(counts, 1) - 1, run)

    def _run_step(self, tokens: TokenIds) -> Logits:
        """See `ChunkSession._run_step`."""
        return self._run(tokens, self._rows.counts, self._first)
