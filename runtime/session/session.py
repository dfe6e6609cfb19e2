"""The one thing the decode loop knows about a model: token ids go in, next-token logits come out."""

from __future__ import annotations

from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

TokenIds: TypeAlias = NDArray[np.int64]
"""Token ids, `[B, S]` or `[B]` int64."""

Logits: TypeAlias = NDArray[np.float32]
"""Next-token logits, `[B, V]` float32, or `[B, S, V]` for those of several tokens."""


class Session(Protocol):
    """A causal language model with a key/value cache, run one chunk or one token at a time.

    Positions are cache slots, the same for every row of a batch: a chunk of S tokens takes S slots in each row, padding
    included. Where a row's padding lies is told by the attention mask, once, when the chunk is prefilled; its tokens'
    position ids count real tokens only.

    A logits array is a view of the session's memory: it is valid until the next call.
    """

    @property
    def batch_size(self) -> int:
        """Rows, B."""
        ...

    @property
    def length(self) -> int:
        """Cache slots in use, padding included."""
        ...

    @property
    def max_length(self) -> int:
        """Cache slots there can ever be."""
        ...

    @property
    def vocab_size(self) -> int:
        """Token ids are 0 to `vocab_size - 1`; V of the logits."""
        ...

    @property
    def can_verify(self) -> bool:
        """Whether `verify` works: the model gives the logits of every token of a chunk."""
        ...

    def prefill(self, input_ids: TokenIds, attention_mask: TokenIds | None = None) -> Logits:
        """Run a chunk of prompt tokens behind what is cached.

        Args:
            input_ids: `[B, S]` int64, S at least 1; B is the session's batch size, or, where nothing is cached, any.
            attention_mask: `[B, S]` int64 of 0 and 1, this chunk's part only; None where no token is padding.

        Returns:
            `[B, V]` float32: the logits of each row's last real token of this chunk (of its last token, where a row has
            none).

        Raises:
            PromptError: a shape, a mask value or a token id is out of range.
            ContextLengthError: `length + S` is past `max_length`; nothing has been run.
        """
        ...

    def decode(self, tokens: TokenIds) -> Logits:
        """Append one token to every row.

        Args:
            tokens: `[B]` int64.

        Returns:
            `[B, V]` float32.

        Raises:
            PromptError: the shape or a token id is out of range.
            ContextLengthError: `length` is `max_length` already; nothing has been run.
        """
        ...

    def verify(self, tokens: TokenIds) -> Logits:
        """Append tokens to every row, as that many calls of `decode` would, in one run.

        Args:
            tokens: `[B, S]` int64, S at least 1.

        Returns:
            `[B, S, V]` float32: the logits behind each of them. They differ from those of single steps by rounding.

        Raises:
            PromptError: the shape or a token id is out of range.
            ContextLengthError: `length + S` is past `max_length`; nothing has been run.
            UsageError: `can_verify` is false.
        """
        ...

    def truncate(self, length: int) -> None:
        """Forget all slots from `length` on; costs nothing until the next call.

        Args:
            length: slots to keep, 0 to the current length.

        Raises:
            UsageError: `length` is out of range.
        """
        ...

    def reset(self, batch_size: int = 1) -> None:
        """Forget everything and take `batch_size` rows from here on.

        Raises:
            UsageError: `batch_size` is less than 1.
        """
        ...
