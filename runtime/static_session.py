"""What all sessions have in common whose cache is written in place, each row at an index of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from .errors import PromptError, UsageError
from .rows import Rows, left_aligned
from .session import Logits, TokenIds
from .token_checks import check_positive, check_prompt, check_room, check_step


class StaticSession(ABC):
    """A `Session` over graphs of target `tensorrt`: real tokens alone take slots of the cache.

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

    def __init__(self, *, vocab_size: int, max_length: int, chunk: int, remedy: str) -> None:
        check_positive("max_length", max_length)
        check_positive("prefill_chunk", chunk)
        self._vocab_size = vocab_size
        self._max_length = max_length
        self._chunk = chunk
        self._remedy = remedy
        self.reset()

    @abstractmethod
    def _reserve(self, batch_size: int) -> None:
        """Get ready for so many rows."""

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

    @property
    def batch_size(self) -> int:
        """See `Session.batch_size`."""
        return self._batch_size

    @property
    def length(self) -> int:
        """See `Session.length`; the cache itself holds no padding."""
        return self._length

    @property
    def max_length(self) -> int:
        """See `Session.max_length`."""
        return self._max_length

    @property
    def vocab_size(self) -> int:
        """See `Session.vocab_size`."""
        return self._vocab_size

    def reset(self, batch_size: int = 1) -> None:
        """See `Session.reset`."""
        check_positive("batch_size", batch_size)
        self._reserve(batch_size)
        self._length = 0
        self._batch_size = batch_size
        self._rows = Rows(batch_size, self._max_length)
        self._first = np.zeros(batch_size, np.int64)

    def truncate(self, length: int) -> None:
        """See `Session.truncate`."""
        if not 0 <= length <= self._length:
            raise UsageError(f"cannot keep {length} positions of a session that holds {self._length}")
        self._length = length
        self._rows.truncate(length)

    def prefill(self, input_ids: TokenIds, attention_mask: TokenIds | None = None) -> Logits:
        """See `Session.prefill`; a long prompt is run in chunks."""
        input_ids, mask = check_prompt(input_ids, attention_mask, self._vocab_size)
        if self._length and len(input_ids) != self._batch_size:
            raise PromptError(f"expected a chunk for {self._batch_size} rows, found {len(input_ids)}; reset first")
        check_room(self._length, input_ids.shape[1], self._max_length, self._remedy)
        if len(input_ids) != self._batch_size:
            self.reset(len(input_ids))
        logits = self._run_prompt(*left_aligned(input_ids, mask))
        self._rows.append(self._length, mask)
        self._length += input_ids.shape[1]
        return logits

    def decode(self, tokens: TokenIds) -> Logits:
        """See `Session.decode`."""
        check_step(tokens, self._batch_size, self._vocab_size)
        check_room(self._length, 1, self._max_length, self._remedy)
        logits = self._run(tokens[:, None], self._rows.counts, self._first)
        self._rows.append_step(self._length)
        self._length += 1
        return logits

    def _run_prompt(self, tokens: TokenIds, counts: TokenIds) -> Logits:
        """Run rows that begin with their real tokens; the logits of each row's last one, `[B, V]`.

        Args:
            tokens: `[B, W]`.
            counts: `[B]`, real tokens of each row.
        """
        before, last = self._rows.counts, np.maximum(counts, 1) - 1
        result: Logits | None = None
        for start in range(0, tokens.shape[1], self._chunk):
            part = tokens[:, start : start + self._chunk]
            ends_here = (start <= last) & (last < start + part.shape[1])
            # A row that has ended goes on with padding behind its last token.
            written = before + np.minimum(counts, start)
            logits = self._run(part, written, np.where(ends_here, last - start, 0))
            if part.shape == tokens.shape:
                return logits
            result = np.empty_like(logits) if result is None else result
            result[ends_here] = logits[ends_here]
        assert result is not None  # there is at least one token
        return result
