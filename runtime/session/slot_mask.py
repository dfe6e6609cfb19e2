"""Which cache slots of a batch hold real tokens, and which position each token has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ort.buffers import grown_capacity
from .session import TokenIds

PAGE = 32
"""Attention masks that are made at a time: one alone, between two runs, costs several times as much."""


class SlotMask:
    """The `attention_mask` and `position_ids` of a batch.

    Every row takes a slot with every token, padding included; a position counts a row's real tokens alone.

    Args:
        put: Makes a value of ONNX Runtime over an array in the host's memory.
        batch_size: B.
        limit: Most slots there can ever be.
    """

    def __init__(self, put: Callable[[NDArray[Any]], Any], batch_size: int, limit: int) -> None:
        self._put = put
        self._batch_size = batch_size
        self._limit = limit
        self._capacity = 0
        self._flat: TokenIds = np.ones(0, np.int64)  # where every attention mask begins, whatever its length
        self._real: TokenIds | None = None  # [B, capacity]; None as long as no row has padding
        self._page: list[tuple[TokenIds, Any]] = []
        self._page_start = 0
        self._counts: TokenIds = np.zeros(batch_size, np.int64)  # [B], of the first `_counted` slots
        self._counted = 0

    def prefill(self, length: int, mask: NDArray[np.bool_]) -> TokenIds:
        """Put a chunk behind `length` slots.

        Args:
            length: Slots in use.
            mask: `[B, S]`, where its tokens are no padding.

        Returns:
            Its position ids, `[B, S]` int64.
        """
        total = length + mask.shape[1]
        self._reserve(total)
        if self._real is not None and self._real[:, :length].all():
            self._real = None
            self._flat.fill(1)
        if self._real is None:
            if mask.all():
                return np.tile(np.arange(length, total), (self._batch_size, 1))
            self._real = np.ones((self._batch_size, self._capacity), np.int64)
            self._counted = -1
        self._real[:, length:total] = mask
        before = self._count(length)
        positions: TokenIds = np.maximum(before[:, None] + mask.cumsum(1) - 1, 0)
        return positions

    def step(self, length: int, positions: memoryview[int]) -> None:
        """Put one real token a row behind `length` slots.

        Args:
            length: Slots in use.
            positions: `[B]` int64: is filled with the tokens' position ids.
        """
        if length >= self._capacity:
            self._reserve(length + 1)
        if self._real is None:
            for row in range(self._batch_size):
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
        """Real tokens of each row in its first `length` slots; no less after a roll-back."""
        assert self._real is not None
        if self._counted != length:
            self._counts = self._real[:, :length].sum(1)
            self._counted = length
        return self._counts

    def _turn_page(self, start: int) -> None:
        rows = self._batch_size
        lengths = range(start, min(start + PAGE, self._capacity + 1))
        arrays = [self._flat[: rows * length].reshape(rows, length) for length in lengths]
        self._page = [(array, self._put(array)) for array in arrays]
        self._page_start = start

    def _reserve(self, total: int) -> None:
        if total <= self._capacity:
            return
        capacity = grown_capacity(total, self._limit)
        if self._real is not None:
            fresh = np.ones((self._batch_size, capacity), np.int64)
            fresh[:, : self._capacity] = self._real
            self._real = fresh
        self._flat = np.ones(self._batch_size * capacity, np.int64)
        self._page = []
        self._capacity = capacity
