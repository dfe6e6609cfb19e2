"""Prefix reuse: a new prompt takes the positions that a slot, or a store of finished requests, holds for its start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..session.model import TokenIds
from .slots import SlotSession

LEAST_REUSED = 16
"""The least positions worth copying: fewer cost less to run than to look after, such as the beginning of a template."""

LEAST_STORED = 32
"""The least positions that nobody else holds for which a slot's content is stored before it is overwritten."""

STORED_ENTRIES = 48
"""The most entries of the store, whose tokens are compared with each new prompt's."""

Cache: TypeAlias = list[NDArray[Any]]


class Prefixes:
    """The tokens that each slot and each entry of the store holds, and the reuse of their positions.

    All holders' tokens lie in one table, a row each, first the slots' and then the store's, so that one comparison
    finds the longest common prefix with a prompt.

    Positions that a decode step wrote differ in their last bits from those that a prompt's chunk writes for the same
    tokens. With `exact`, only the latter are reused, and at least two tokens of each prompt are left to run, because
    sessions may run one token as a decode step does: then an answer does not depend on what ran before.

    Args:
        session: The session whose slots these are.
        exact: Whether logits after a reused prefix must be the very bits of those without reuse.
        even: Whether the reused lengths must be even.
        store_bytes: Most bytes of the store's positions; the least recently used entries leave first.
    """

    def __init__(self, session: SlotSession, *, exact: bool, even: bool, store_bytes: int) -> None:
        rows = session.slots + (STORED_ENTRIES if store_bytes else 0)
        self.stored_bytes = 0
        self._session = session
        self._slots = session.slots
        self._exact = exact
        self._even = even
        self._store_bytes = store_bytes
        self._position_bytes = session.facts.kv_bytes_per_slot
        self._tokens = np.zeros((rows, session.max_length), np.int32)
        self._lengths = np.zeros(rows, np.int64)
        self._used_at = [0] * rows
        self._clock = 0
        self._rows = np.arange(rows)
        self._caches: dict[int, Cache] = {}

    def place(self, prompt: TokenIds, free: Sequence[int], view: int) -> tuple[int, int]:
        """Choose the slot of a new prompt, and fill it with the longest prefix of the prompt that is held anywhere.

        A free slot that holds the longest prefix itself is only truncated, where that keeps the rows low; otherwise the
        lowest free slot gets a copy. What is lost by that goes to the store first, if nobody else holds it.

        Args:
            prompt: The prompt's token ids, `[S]` int64.
            free: Free slots, ascending, at least one.
            view: Number of the slots that decode steps run, from 0 on.

        Returns:
            The slot, and the number of positions that it holds then, which is less than S.
        """
        length, holders = self._longest(prompt)
        own = [holder for holder in holders if holder in free and (holder < view or holder == free[0])]
        slot = own[0] if own else free[0]
        source = slot if own else holders[0] if holders else None
        cache = None if source is None else self._caches.get(source)
        self._clock += 1
        if source is not None:
            self._used_at[source] = self._clock
        self._save(slot, length if own else 0)
        self._lengths[slot] = 0  # in case that copying fails
        self._fill(slot, source, cache, length)
        self._tokens[slot, :length] = prompt[:length]
        self._lengths[slot] = length
        self._used_at[slot] = self._clock
        is_kept = source is not None and cache is not None and self._caches.get(source) is cache
        if source is not None and is_kept and self._lengths[source] - length < LEAST_STORED:
            self._drop(source)  # the slot holds nearly all of it now
        return slot, length

    def extend(self, slot: int, tokens: TokenIds) -> None:
        """Note that a chunk of a prompt was run after what a slot held."""
        start = int(self._lengths[slot])
        self._tokens[slot, start : start + len(tokens)] = tokens
        self._lengths[slot] = start + len(tokens)

    def append(self, slots: TokenIds, tokens: TokenIds) -> None:
        """Note that a decode step ran one token in each of some slots.

        Args:
            slots: The slots, `[N]` int64.
            tokens: Their token ids, `[N]` int64.
        """
        if not self._exact:
            self._tokens[slots, self._lengths[slots]] = tokens
            self._lengths[slots] += 1

    def move(self, source: int, target: int, length: int) -> None:
        """Move a row to a free slot.

        Args:
            source: The row's slot.
            target: The free slot.
            length: The row's positions.
        """
        self._save(target, 0)
        self._lengths[target] = 0
        self._session.copy(source, target, length)
        held = self._held(source)
        self._tokens[target, : len(held)] = held
        self._lengths[target] = len(held)
        self._used_at[target] = self._used_at[source]

    def forget(self, slot: int) -> None:
        """Drop what a slot holds, which is not to be trusted after a failure."""
        self._session.truncate(slot, 0)
        self._lengths[slot] = 0

    def _longest(self, prompt: TokenIds) -> tuple[int, list[int]]:
        """The length of the longest prefix that can be reused, and who holds it; 0 where it is not worth it."""
        limit = len(prompt) - (2 if self._exact else 1)
        usable = np.minimum(self._common(prompt), limit)
        if self._even:
            usable &= ~1
        longest = int(usable.max())
        return (longest, np.flatnonzero(usable == longest).tolist()) if longest >= LEAST_REUSED else (0, [])

    def _common(self, tokens: NDArray[Any]) -> TokenIds:
        """The length of the common prefix of some tokens with those of each holder, `[rows]` int64."""
        width = min(len(tokens), int(self._lengths.max()))
        if width == 0:
            return np.zeros_like(self._lengths)
        differs = self._tokens[:, :width] != tokens[:width].astype(np.int32)
        first = differs.argmax(axis=1)
        common = np.where(differs[self._rows, first], first, width)
        return np.minimum(common, self._lengths)

    def _held(self, holder: int) -> NDArray[np.int32]:
        held: NDArray[np.int32] = self._tokens[holder, : self._lengths[holder]]
        return held

    def _fill(self, slot: int, source: int | None, cache: Cache | None, length: int) -> None:
        """Let a slot hold the first `length` positions of a source: another slot, a stored cache, or itself."""
        if cache is not None:
            self._session.write(slot, cache, length)
        elif source is None or source == slot:
            self._session.truncate(slot, length)
        else:
            self._session.copy(source, slot, length)

    def _save(self, slot: int, kept: int) -> None:
        """Store what a slot holds, if it is about to lose more than others hold of it.

        Args:
            slot: The slot.
            kept: Number of its positions that stay in the slot.
        """
        held = self._held(slot)
        size = len(held) * self._position_bytes
        if len(held) - kept < LEAST_STORED or size > self._store_bytes:
            return
        common = self._common(held)
        common[slot] = kept
        if len(held) - common.max() < LEAST_STORED:
            return
        for entry in [entry for entry in self._caches if common[entry] == self._lengths[entry]]:
            self._drop(entry)
        while self._caches and (self.stored_bytes + size > self._store_bytes or len(self._caches) == STORED_ENTRIES):
            self._drop(min(self._caches, key=self._used_at.__getitem__))
        entry = next(row for row in range(self._slots, len(self._lengths)) if row not in self._caches)
        self._caches[entry] = self._session.read(slot, len(held))
        self._tokens[entry, : len(held)] = held
        self._lengths[entry] = len(held)
        self._used_at[entry] = self._used_at[slot]
        self.stored_bytes += size

    def _drop(self, entry: int) -> None:
        del self._caches[entry]
        self.stored_bytes -= int(self._lengths[entry]) * self._position_bytes
        self._lengths[entry] = 0
