"""The layouts of a batch in the KV cache: padded, with a slot for every token, or compact, without padding.

`PaddedLayout` serves graphs that take an attention mask and position ids, `CompactLayout` graphs that write each row at
its own index, `RowLayout` graphs that take each row's length from its mask. They learn once, when a chunk is prefilled,
where its padding is, and fill the arrays of its runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .model import Logits, Model, RunArrays, TokenIds, grown_capacity

PAGE = 32
"""The number of attention masks made at once: making a single one between two runs costs several times as much."""


@dataclass(frozen=True)
class Prompt:
    """The tokens of a prefill, in the columns in which a layout runs them.

    Attributes:
        ids: Token ids, `[B, W]` int64.
        mask: Attention mask as the caller gave it, `[B, S]` bool: False for padding.
        counts: Number of real tokens of each row, `[B]` int64.
        last: Column of each row's last real token, or the last column in a row without one, `[B]` int64.
        length: Cache slots in use before the prefill, padding included.
        positions: Position ids that the caller chose, `[B, S]` int64; None counts each row's real tokens.
    """

    ids: TokenIds
    mask: NDArray[np.bool_]
    counts: TokenIds
    last: TokenIds
    length: int
    positions: TokenIds | None = None

    def parts(self, chunk: int) -> Iterator[slice]:
        """The columns of each run, at most `chunk`."""
        width = self.ids.shape[1]
        for start in range(0, width, chunk):
            yield slice(start, min(start + chunk, width))


class PaddedLayout:
    """Every token takes a slot in each row, padding included; a mask tells which slots hold real tokens.

    Args:
        model: The session's model, with memory reserved for the batch.
        batch_size: Number of rows B.
        limit: Most cache slots.
    """

    def __init__(self, model: Model, batch_size: int, limit: int) -> None:
        self._model = model
        self._slots = SlotMask(model.put, batch_size, limit)
        self._step = model.arrays(1)
        # Memory views, because writing an integer into one is many times faster than into an array.
        self._step_ids = self._step.inputs["input_ids"][:, 0].data
        self._step_positions = self._step.inputs["position_ids"][:, 0].data

    def arrange(self, ids: TokenIds, mask: NDArray[np.bool_], length: int, positions: TokenIds | None) -> Prompt:
        """Arrange a prompt `[B, S]` after `length` slots, one column for each slot."""
        width = ids.shape[1]
        last = np.where(mask.any(1), width - 1 - mask[:, ::-1].argmax(1), width - 1)
        return Prompt(ids, mask, mask.sum(1), last, length, positions)

    def fill(self, prompt: Prompt, part: slice, first: int) -> RunArrays:
        """Fill the arrays of the run of the columns `part`, with logits from its column `first` on."""
        arrays = self._model.arrays(part.stop - part.start, first)
        arrays.past = prompt.length + part.start
        arrays.total = prompt.length + part.stop
        arrays.inputs["input_ids"][:] = prompt.ids[:, part]
        counted = self._slots.prefill(arrays.past, prompt.mask[:, part])
        arrays.inputs["position_ids"][:] = counted if prompt.positions is None else prompt.positions[:, part]
        arrays.mask = self._slots.value(arrays.total)
        return arrays

    def last_logits(self, arrays: RunArrays, last: TokenIds) -> Logits:
        """The logits of each row's column `last`, `[B, V]` float32; of some other column if the run lacks that one."""
        return _column(arrays, last)

    def all_logits(self, prompt: Prompt, arrays: RunArrays) -> Logits:
        """The logits of each token of a prompt that was one run, `[B, S, V]` float32."""
        return arrays.logits

    def append(self, length: int, mask: NDArray[np.bool_]) -> None:
        """Record that a chunk `[B, S]` has run after `length` slots; here the mask has it already."""

    def step(self, tokens: list[int], length: int) -> RunArrays:
        """Fill the arrays of a run of one real token in each row, after `length` slots."""
        step = self._step
        for row, token in enumerate(tokens):
            self._step_ids[row] = token
        self._slots.step(length, self._step_positions)
        step.past, step.total = length, length + 1
        step.mask = self._slots.value(length + 1)
        return step

    def append_step(self, length: int) -> None:
        """Record that the step after `length` slots has run; here the mask has it already."""

    def truncate(self, length: int) -> None:
        """Drop all slots from `length` on; here the next run sets how many are read."""

    def restore(self, length: int) -> None:
        """Record that the cache holds `length` real tokens in each row and nothing else."""
        self._slots.prefill(0, np.ones((self._slots.batch_size, length), np.bool_))

    def cache(self, length: int) -> list[NDArray[Any]]:
        """A copy of the KV cache: key and value of each layer, `[B, H_kv, length, D]`."""
        return self._model.cache(length)

    def experts(self, prompt: Prompt, chosen: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """The experts chosen for each token of a prompt, `[B, S, k]` int64 for each layer."""
        return chosen


class CompactLayout:
    """Only real tokens take slots, and each row has its own length, so that a row's positions are its slots.

    Such a model supports padding neither on the left nor between chunks: rows are moved to the left before they run,
    and the padding after a row's real tokens is written to slots that its next tokens overwrite.

    Args:
        model: The session's model, with memory reserved for the batch.
        batch_size: Number of rows B.
        limit: Most tokens of a row, padding included.

    Attributes:
        lengths: Number of real tokens of each row, which is the slot of its next one, `[B]` int64.
    """

    def __init__(self, model: Model, batch_size: int, limit: int) -> None:
        self.lengths: TokenIds = np.zeros(batch_size, np.int64)
        self._model = model
        self._real = np.zeros((batch_size, limit), np.bool_)

    def arrange(self, ids: TokenIds, mask: NDArray[np.bool_], length: int, positions: TokenIds | None) -> Prompt:
        """Arrange a prompt `[B, S]` in as many columns as the longest row has real tokens, with padding at the end.

        Raises:
            UsageError: The caller chose positions, which this model counts by itself.
        """
        if positions is not None:
            raise UsageError("a graph with a length for each row counts positions by itself: leave position_ids out")
        counts = mask.sum(1)
        order = _left_order(mask, max(1, int(counts.max())))
        return Prompt(np.take_along_axis(ids, order, axis=1), mask, counts, np.maximum(counts, 1) - 1, length)

    def fill(self, prompt: Prompt, part: slice, first: int) -> RunArrays:
        """Fill the arrays of the run of the columns `part`; rows that have ended get padding after their last token."""
        size = part.stop - part.start
        arrays = self._model.arrays(size, first)
        written = self.lengths + np.minimum(prompt.counts, part.start)
        ends_here = (part.start <= prompt.last) & (prompt.last < part.stop)
        arrays.inputs["input_ids"][:] = prompt.ids[:, part]
        arrays.inputs["write_indices"][:] = written
        arrays.inputs["last_index"][:] = np.where(ends_here, prompt.last - part.start, 0)
        arrays.past = int(written.max())
        arrays.total = arrays.past + size
        return arrays

    def last_logits(self, arrays: RunArrays, last: TokenIds) -> Logits:
        """The logits of each row's column `last`, `[B, V]` float32, which the model selects."""
        return arrays.logits[:, 0]

    def all_logits(self, prompt: Prompt, arrays: RunArrays) -> Logits:
        """The logits of each token of a prompt that was one run, `[B, S, V]` float32; zeros for padding."""
        if prompt.mask.all():
            return arrays.logits
        logits = np.zeros((*prompt.mask.shape, arrays.logits.shape[2]), arrays.logits.dtype)
        for row, real in enumerate(prompt.mask):
            logits[row, real] = arrays.logits[row, : prompt.counts[row]]
        return logits

    def append(self, length: int, mask: NDArray[np.bool_]) -> None:
        """Record that a chunk `[B, S]` has run, whose tokens count from `length` on, padding included."""
        self._real[:, length : length + mask.shape[1]] = mask
        self.lengths += mask.sum(1)

    def step(self, tokens: list[int], length: int) -> RunArrays:
        """Fill the arrays of a run of one real token in each row."""
        arrays = self._model.arrays(1)
        arrays.inputs["input_ids"][:, 0] = tokens
        arrays.inputs["write_indices"][:] = self.lengths
        arrays.inputs["last_index"][:] = 0
        arrays.past = int(self.lengths.max())
        arrays.total = arrays.past + 1
        return arrays

    def append_step(self, length: int) -> None:
        """Record that the step after `length` tokens has run."""
        self._real[:, length] = True
        self.lengths += 1

    def truncate(self, length: int) -> None:
        """Drop all tokens from `length` on, padding included."""
        self.lengths = self._real[:, :length].sum(1)

    def restore(self, length: int) -> None:
        """Record that the cache holds `length` real tokens in each row and nothing else."""
        self._real[:, :length] = True
        self.truncate(length)

    def cache(self, length: int) -> list[NDArray[Any]]:
        """A copy of the KV cache, as `PaddedLayout.cache` gives it, with zeros in the slots of padding."""
        spread = []
        for tensor in self._model.cache(int(self.lengths.max())):
            result = np.zeros((*tensor.shape[:2], length, tensor.shape[3]), tensor.dtype)
            for row, real in enumerate(self._real[:, :length]):
                result[row][:, real] = tensor[row, :, : np.count_nonzero(real)]
            spread.append(result)
        return spread

    def experts(self, prompt: Prompt, chosen: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """The experts chosen for each token of a prompt, `[B, S, k]` int64 for each layer; -1 for padding."""
        order = _left_order(prompt.mask, prompt.ids.shape[1])
        moved = [np.full((*prompt.mask.shape, each.shape[-1]), -1, np.int64) for each in chosen]
        for result, each in zip(moved, chosen, strict=True):
            np.put_along_axis(result, order[:, :, None], each.reshape(*order.shape, -1), axis=1)
        return moved


class RowLayout(CompactLayout):
    """`CompactLayout` for a graph that takes each row's length from its mask, and may give several tokens' logits.

    Args:
        model: See `CompactLayout`.
        batch_size: See `CompactLayout`.
        limit: See `CompactLayout`.
    """

    def __init__(self, model: Model, batch_size: int, limit: int) -> None:
        super().__init__(model, batch_size, limit)
        self._ones = SlotMask(model.put, batch_size, limit)
        self._unused: memoryview[int] = np.zeros(batch_size, np.int64).data

    def fill(self, prompt: Prompt, part: slice, first: int) -> RunArrays:
        """Fill the arrays of the run of the columns `part`, with logits from its column `first` on."""
        arrays = self._model.arrays(part.stop - part.start, first)
        arrays.inputs["input_ids"][:] = prompt.ids[:, part]
        return self._place(arrays, self.lengths + np.minimum(prompt.counts, part.start))

    def last_logits(self, arrays: RunArrays, last: TokenIds) -> Logits:
        """See `PaddedLayout.last_logits`."""
        return _column(arrays, last)

    def step(self, tokens: list[int], length: int) -> RunArrays:
        """Fill the arrays of a run of one real token in each row."""
        arrays = self._model.arrays(1)
        arrays.inputs["input_ids"][:, 0] = tokens
        return self._place(arrays, self.lengths)

    def _place(self, arrays: RunArrays, past: TokenIds) -> RunArrays:
        """Fill the arrays of a run with the places of its tokens, after `past` slots of each row, `[B]`."""
        size = arrays.inputs["input_ids"].shape[1]
        np.add(past[:, None], np.arange(size), out=arrays.inputs["position_ids"])
        arrays.past = int(past.max())
        arrays.total = arrays.past + size
        if (past == arrays.past).all():
            self._ones.step(arrays.total - 1, self._unused)  # makes room
            arrays.mask = self._ones.value(arrays.total)
        else:
            arrays.mask = self._model.put((np.arange(arrays.total) < past[:, None] + size).astype(np.int64))
        return arrays


Layout: TypeAlias = PaddedLayout | CompactLayout


class SlotMask:
    """The `attention_mask` and `position_ids` of a batch; positions count only a row's real tokens.

    Args:
        put: Function that makes a model's handle for a host array.
        batch_size: Number of rows B.
        limit: Most cache slots.

    Attributes:
        batch_size: Number of rows B.
    """

    def __init__(self, put: Callable[[NDArray[Any]], Any], batch_size: int, limit: int) -> None:
        self._put = put
        self.batch_size = batch_size
        self._limit = limit
        self._capacity = 0
        self._flat: TokenIds = np.ones(0, np.int64)  # the memory in which every attention mask begins
        self._real: TokenIds | None = None  # [B, capacity], 1 for real tokens; None while no row has padding
        self._page: list[tuple[TokenIds, Any]] = []
        self._page_start = 0
        self._counts: TokenIds = np.zeros(batch_size, np.int64)  # [B], real tokens in the first `_counted` slots
        self._counted = 0

    def prefill(self, length: int, mask: NDArray[np.bool_]) -> TokenIds:
        """Record a chunk after `length` slots.

        Args:
            length: Cache slots in use.
            mask: Attention mask of the chunk, `[B, S]` bool.

        Returns:
            The chunk's position ids, `[B, S]` int64.
        """
        total = length + mask.shape[1]
        self._reserve(total)
        if self._real is not None and self._real[:, :length].all():
            self._real = None
            self._flat.fill(1)
        if self._real is None:
            if mask.all():
                return np.tile(np.arange(length, total), (self.batch_size, 1))
            self._real = np.ones((self.batch_size, self._capacity), np.int64)
            self._counted = -1
        self._real[:, length:total] = mask
        before = self._count(length)
        positions: TokenIds = np.maximum(before[:, None] + mask.cumsum(1) - 1, 0)
        return positions

    def step(self, length: int, positions: memoryview[int]) -> None:
        """Record one real token in each row after `length` slots.

        Args:
            length: Cache slots in use.
            positions: Array `[B]` int64 that receives the tokens' position ids.
        """
        if length >= self._capacity:
            self._reserve(length + 1)
        if self._real is None:
            for row in range(self.batch_size):
                positions[row] = length
            return
        self._real[:, length] = 1
        counts = self._count(length)
        for row, count in enumerate(counts.tolist()):
            positions[row] = count
        counts += 1
        self._counted = length + 1

    def value(self, total: int) -> Any:
        """The attention mask of the first `total` slots, `[B, total]` int64, valid until the next call."""
        index = total - self._page_start
        if not 0 <= index < len(self._page):
            index = 0
            self._turn_page(total)
        array, value = self._page[index]
        if self._real is not None:
            array[:] = self._real[:, :total]
        return value

    def _count(self, length: int) -> TokenIds:
        """The number of real tokens in the first `length` slots of each row, also after a roll-back."""
        assert self._real is not None
        if self._counted != length:
            self._counts = self._real[:, :length].sum(1)
            self._counted = length
        return self._counts

    def _turn_page(self, start: int) -> None:
        rows = self.batch_size
        lengths = range(start, min(start + PAGE, self._capacity + 1))
        arrays = [self._flat[: rows * length].reshape(rows, length) for length in lengths]
        self._page = [(array, self._put(array)) for array in arrays]
        self._page_start = start

    def _reserve(self, total: int) -> None:
        if total <= self._capacity:
            return
        capacity = grown_capacity(total, self._limit)
        if self._real is not None:
            fresh = np.ones((self.batch_size, capacity), np.int64)
            fresh[:, : self._capacity] = self._real
            self._real = fresh
        self._flat = np.ones(self.batch_size * capacity, np.int64)
        self._page = []
        self._capacity = capacity


def _column(arrays: RunArrays, column: TokenIds) -> Logits:
    """The logits of one column of each row, `[B, V]` float32; of some other column if the run lacks that one."""
    index = np.clip(column - arrays.first, 0, arrays.logits.shape[1] - 1)
    return arrays.logits[np.arange(len(index)), index]


def _left_order(mask: NDArray[np.bool_], width: int) -> TokenIds:
    """The source columns, `[B, width]` int64, that move each row's real tokens to the left."""
    return np.argsort(~mask, axis=1, kind="stable")[:, :width]
