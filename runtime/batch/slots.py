"""The interface of a session whose rows have lives of their own: slots that prompts join and leave at any step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..session.contract import GraphFacts
from ..session.model import Logits, TokenIds


class SlotSession(Protocol):
    """A causal language model whose KV cache has `slots` rows, each with its own length.

    An array of logits is a view of the session's memory, valid until the next call. A call that fails leaves the
    lengths as they were.

    Attributes:
        facts: The sizes and types of the model's inputs and outputs.
        slots: Number of rows.
        max_length: Most positions of a row.
        vocab_size: Size V of the vocabulary.
        lengths: Positions in use of each row, `[slots]` int64; to be read only.
        remark: What a user should know about how this model is served, None where there is nothing.
        run_s: Seconds spent so far inside the model's own runs.
    """

    facts: GraphFacts
    slots: int
    max_length: int
    vocab_size: int
    lengths: TokenIds
    remark: str | None

    @property
    def run_s(self) -> float:
        """Seconds spent so far inside the model's own runs."""
        ...

    @property
    def kv_cache_bytes(self) -> int:
        """The bytes of the KV cache's buffers, of which untouched pages take no memory."""
        ...

    def prefill(self, slot: int, token_ids: TokenIds) -> Logits:
        """Run tokens of a prompt after the cached ones of a slot, in a single run.

        Args:
            slot: The row.
            token_ids: Token ids, `[S]` int64, S at least 1.

        Returns:
            The logits of the last token, `[V]` float32.

        Raises:
            ContextLengthError: The row has no room for them; nothing has been run.
            ArtifactError: The model failed.
        """
        ...

    def decode(self, tokens: TokenIds, active: NDArray[np.bool_]) -> Logits:
        """Append one token to each active row of the slots 0 to n - 1.

        Args:
            tokens: Token ids, `[n]` int64; those of inactive rows are ignored.
            active: Whether each of the rows takes its token, `[n]` bool; the others keep their cache.

        Returns:
            Logits, `[n, V]` float32; those of inactive rows have no meaning.

        Raises:
            ContextLengthError: An active row is full; nothing has been run.
            ArtifactError: The model failed.
        """
        ...

    def truncate(self, slot: int, length: int) -> None:
        """Drop all positions of a row from `length` on."""
        ...

    def copy(self, source: int, target: int, length: int) -> None:
        """Replace a row's positions by the first `length` of another row."""
        ...

    def read(self, slot: int, length: int) -> list[NDArray[Any]]:
        """A copy of a row's first `length` positions: key and value of each layer, `[H_kv, length, D]`."""
        ...

    def write(self, slot: int, cache: Sequence[NDArray[Any]], length: int) -> None:
        """Replace a row's positions by the first `length` of what `read` gave."""
        ...


def check_slot(session: SlotSession, slot: int) -> None:
    """Check the index of a slot.

    Raises:
        UsageError: There is no such slot.
    """
    if not 0 <= slot < session.slots:
        raise UsageError(f"there is no slot {slot} among {session.slots}, which are counted from 0")


def check_held(session: SlotSession, slot: int, length: int) -> None:
    """Check that a slot holds positions.

    Raises:
        UsageError: There is no such slot, or it holds less than `length` positions.
    """
    check_slot(session, slot)
    if not 0 <= length <= session.lengths[slot]:
        raise UsageError(f"expected 0 to {session.lengths[slot]} positions, which slot {slot} holds, found {length}")


def check_cache(session: SlotSession, cache: Sequence[NDArray[Any]], length: int) -> None:
    """Check positions that are to be written into a slot.

    Raises:
        UsageError: They are another model's, or not `length` of them, or do not fit.
    """
    facts = session.facts
    held = cache[0].shape[1] if cache and cache[0].ndim == 3 else 0
    shape = (facts.num_key_value_heads, held, facts.head_dim)
    if len(cache) != 2 * facts.num_layers or any(each.shape != shape for each in cache):
        raise UsageError(f"expected a cache of {2 * facts.num_layers} arrays of shape {shape}, as read gives it")
    if not 0 <= length <= min(held, session.max_length):
        raise UsageError(f"cannot write {length} of {held} positions into a slot of {session.max_length}")
