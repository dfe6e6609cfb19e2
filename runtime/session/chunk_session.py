"""What all sessions over graphs of target `tensorrt` have in common: they check, count, and run prompts in chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..errors import PromptError, UsageError
from .rows import Rows
from .session import Logits, TokenIds
from .token_checks import check_positive, check_prompt, check_room, check_step


class ChunkSession(ABC):
    """A `Session` over graphs that give one row of logits for each row of a chunk.

    Args:
        vocab_size: V.
        max_length: Most slots, padding included.
        chunk: Most prompt tokens of a row in one run.
        remedy: What makes room, for the error at the limit.

    Raises:
        UsageError: A number is less than 1.
    """

    can_verify = False
    """See `Session.can_verify`; graphs of target `tensorrt` give the logits of one token of a chunk."""

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
    def _run_prompt(self, tokens: TokenIds, mask: NDArray[np.bool_]) -> Logits:
        """Run a prompt behind what is cached.

        Args:
            tokens: `[B, S]`.
            mask: `[B, S]`, where it is no padding.

        Returns:
            `[B, V]`, of each row's last real token, valid until the next run.
        """

    @abstractmethod
    def _run_step(self, tokens: TokenIds) -> Logits:
        """Run one real token a row, `[B, 1]`; the logits are `[B, V]`, valid until the next run."""

    @property
    def batch_size(self) -> int:
        """See `Session.batch_size`."""
        return self._batch_size

    @property
    def length(self) -> int:
        """See `Session.length`."""
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

    def verify(self, tokens: TokenIds) -> Logits:
        """See `Session.verify`: such a graph cannot.

        Raises:
            UsageError: Always.
        """
        raise UsageError("a graph of target tensorrt gives one row of logits: it cannot verify several tokens")

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
        logits = self._run_prompt(input_ids, mask)
        self._rows.append(self._length, mask)
        self._length += input_ids.shape[1]
        return logits

    def decode(self, tokens: TokenIds) -> Logits:
        """See `Session.decode`."""
        check_step(tokens, self._batch_size, self._vocab_size)
        check_room(self._length, 1, self._max_length, self._remedy)
        logits = self._run_step(tokens[:, None])
        self._rows.append_step(self._length)
        self._length += 1
        return logits

    def _in_chunks(self, width: int, last: TokenIds, run: Callable[[slice, TokenIds], Logits]) -> Logits:
        """Run a prompt part by part; the logits of each row's token `last`, `[B, V]`.

        Args:
            width: Tokens of a row, at least 1.
            last: `[B]`.
            run: Takes the part's columns and, `[B]`, of which of its tokens the logits are wanted; 0 for a row whose
                last token is elsewhere.
        """
        result: Logits | None = None
        for start in range(0, width, self._chunk):
            part = slice(start, min(start + self._chunk, width))
            ends_here = (part.start <= last) & (last < part.stop)
            logits = run(part, np.where(ends_here, last - start, 0))
            if part == slice(0, width):
                return logits
            result = np.empty_like(logits) if result is None else result
            result[ends_here] = logits[ends_here]
        assert result is not None  # there is at least one token
        return result
