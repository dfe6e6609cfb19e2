"""A single slot over an ordinary session, for models whose rows cannot have lives of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PromptError
from ..session.model import Logits, TokenIds
from ..session.session import Session
from .slots import check_cache, check_held, check_slot


class SingleSlot:
    """One slot, which is a session's only row; see `SlotSession`.

    A prompt runs in the session's own chunks.

    Args:
        session: The session, whose row belongs to the slot from now on.
        remark: What a user should know about how this model is served.

    Attributes:
        facts: The sizes and types of the model's inputs and outputs.
        slots: 1.
        max_length: Most positions of the slot.
        vocab_size: Size V of the vocabulary.
        lengths: Positions in use, `[1]` int64; to be read only.
        remark: What a user should know about how this model is served, None where there is nothing.
    """

    def __init__(self, session: Session, remark: str | None = None) -> None:
        session.reset()
        self.facts = session.facts
        self.slots = 1
        self.max_length = session.max_length
        self.vocab_size = session.vocab_size
        self.lengths: TokenIds = np.zeros(1, np.int64)
        self.remark = remark
        self._session = session

    @property
    def run_s(self) -> float:
        """Seconds spent so far inside the model's own runs."""
        return self._session.run_s

    @property
    def kv_cache_bytes(self) -> int:
        """The bytes of the KV cache's buffers."""
        return self._session.kv_cache_bytes

    def prefill(self, slot: int, token_ids: TokenIds) -> Logits:
        """Run tokens of a prompt after the cached ones; see `SlotSession.prefill`."""
        check_slot(self, slot)
        if token_ids.ndim != 1:
            raise PromptError(f"expected token ids [S], found {token_ids.shape}")
        logits: Logits = self._session.prefill(token_ids[None])[0]
        self._count()
        return logits

    def decode(self, tokens: TokenIds, active: NDArray[np.bool_]) -> Logits:
        """Append a token if the row is active; see `SlotSession.decode`."""
        if tokens.shape != (1,) or active.shape != (1,) or active.dtype != np.bool_:
            raise PromptError(f"expected one token id and its flag, found {tokens.shape} and {active.shape}")
        if not active[0]:
            return np.zeros((1, self.vocab_size), np.float32)
        logits = self._session.decode(tokens)
        self._count()
        return logits

    def truncate(self, slot: int, length: int) -> None:
        """Drop all positions from `length` on."""
        check_held(self, slot, length)
        self._session.truncate(length)
        self._count()

    def copy(self, source: int, target: int, length: int) -> None:
        """Keep the first `length` positions: there is no other slot to copy."""
        check_slot(self, target)
        self.truncate(source, length)

    def read(self, slot: int, length: int) -> list[NDArray[Any]]:
        """A copy of the first `length` positions: key and value of each layer, `[H_kv, length, D]`."""
        check_held(self, slot, length)
        return [each[0, :, :length].copy() for each in self._session.cache()]

    def write(self, slot: int, cache: Sequence[NDArray[Any]], length: int) -> None:
        """Replace all positions by the first `length` of what `read` gave."""
        check_slot(self, slot)
        check_cache(self, cache, length)
        self._session.restore([each[None, :, :length] for each in cache])
        self._count()

    def _count(self) -> None:
        self.lengths[0] = self._session.length
