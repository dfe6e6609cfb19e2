"""A language model small enough to compute by hand, as a session with slots and as one for a single row.

Its KV cache holds the token ids themselves, so a position that was copied, kept or overwritten wrongly changes every
token after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minimind_edge.runtime.errors import ContextLengthError
from minimind_edge.runtime.session.contract import GraphFacts

KV_BYTES = 8
"""Bytes of a position: one key and one value of one float32."""


def toy_facts(vocab_size: int) -> GraphFacts:
    return GraphFacts("ort", 1, 1, 1, np.dtype(np.float32), vocab_size, None, "fp32", None, (), "shared")


def toy_logits(vocab_size: int) -> Callable[[Sequence[int]], np.ndarray]:
    """Logits that depend on every token before and its place: those of a random table at a place that these tell."""
    table = np.random.default_rng(0).normal(0, 2, (997, vocab_size)).astype(np.float32)

    def logits(tokens: Sequence[int]) -> np.ndarray:
        place = 0
        for token in tokens:
            place = (place * 31 + token + 1) % 997
        return table[place]

    return logits


class ToySlots:
    """Slots of the toy model.

    Attributes:
        calls: What was called: `("prefill", slot, count)`, `("decode", [active slots])`, `("copy", source, target,
            length)`, `("write", slot, length)`.
        fail: Called with the name and the arguments of each run before it; raises what the run shall raise.
    """

    remark = None

    def __init__(self, slots: int = 4, max_length: int = 1024, vocab_size: int = 50, logits: Any = None) -> None:
        self.slots, self.max_length, self.vocab_size = slots, max_length, vocab_size
        self.facts = toy_facts(vocab_size)
        self.lengths = np.zeros(slots, np.int64)
        self.run_s = 0.0
        self.calls: list[tuple[Any, ...]] = []
        self.fail: Callable[..., None] = lambda *_: None
        self._logits = logits or toy_logits(vocab_size)
        self._cache = np.full((slots, max_length), -1, np.int64)

    @property
    def kv_cache_bytes(self) -> int:
        return self.slots * self.max_length * KV_BYTES

    def prefill(self, slot, token_ids):
        assert token_ids.dtype == np.int64
        assert len(token_ids)
        self.calls.append(("prefill", slot, len(token_ids)))
        self.fail("prefill", slot, len(token_ids))
        self._append(slot, token_ids)
        return self._next(slot)

    def decode(self, tokens, active):
        assert tokens.dtype == np.int64
        assert active.dtype == np.bool_
        assert tokens.shape == active.shape
        slots = np.flatnonzero(active).tolist()
        self.calls.append(("decode", slots))
        self.fail("decode", slots)
        rows = np.full((len(tokens), self.vocab_size), np.nan, np.float32)
        for slot in slots:
            self._append(slot, tokens[slot : slot + 1])
            rows[slot] = self._next(slot)
        return rows

    def truncate(self, slot, length):
        assert 0 <= length <= self.lengths[slot]
        self.lengths[slot] = length

    def copy(self, source, target, length):
        assert source != target
        assert length <= self.lengths[source]
        self.calls.append(("copy", source, target, length))
        self._cache[target, :length] = self._cache[source, :length]
        self.lengths[target] = length

    def read(self, slot, length):
        assert length <= self.lengths[slot]
        return [self._cache[slot, :length].copy()]

    def write(self, slot, cache, length):
        self.calls.append(("write", slot, length))
        self._cache[slot, :length] = cache[0][:length]
        self.lengths[slot] = length

    def _append(self, slot, token_ids):
        start, end = int(self.lengths[slot]), int(self.lengths[slot]) + len(token_ids)
        if end > self.max_length:
            raise ContextLengthError("the row is full")
        self._cache[slot, start:end] = token_ids
        self._cache[slot, end:] = -1
        self.lengths[slot] = end

    def _next(self, slot):
        return self._logits(self._cache[slot, : self.lengths[slot]].tolist())


class ToySession:
    """The toy model as the session of an `Engine`, which runs one row alone."""

    gives_all_logits = True
    device = "cpu"
    batch_size = 1

    def __init__(self, max_length: int = 1024, vocab_size: int = 50, logits: Any = None) -> None:
        self.max_length, self.vocab_size = max_length, vocab_size
        self.facts = toy_facts(vocab_size)
        self._slots = ToySlots(1, max_length, vocab_size, logits)

    @property
    def length(self) -> int:
        return int(self._slots.lengths[0])

    def reset(self, batch_size=1):
        assert batch_size == 1
        self._slots.truncate(0, 0)

    def truncate(self, length):
        self._slots.truncate(0, length)

    def prefill(self, input_ids, attention_mask=None):
        assert attention_mask is None
        return self._slots.prefill(0, input_ids[0])[None]

    def decode(self, tokens):
        return self._slots.decode(tokens, np.array([True]))
