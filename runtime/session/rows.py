"""Rows of a batch: which of their tokens are real, and how many."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .session import TokenIds


class Rows:
    """Which tokens of each row are real.

    A session counts slots with padding, the same for every row. In a static cache real tokens alone take slots, each
    row by its own count, so that a row's positions are its slots.

    Args:
        batch_size: B.
        max_length: Most tokens of a row, padding included.

    Attributes:
        counts: `[B]` int64, each row's real tokens: position of its next one.
    """

    def __init__(self, batch_size: int, max_length: int) -> None:
        self._real = np.zeros((batch_size, max_length), np.bool_)
        self.counts: TokenIds = np.zeros(batch_size, np.int64)

    def append(self, length: int, mask: NDArray[np.bool_]) -> None:
        """Count a chunk that has run.

        Args:
            length: Tokens before it, padding included.
            mask: `[B, S]`, where it is no padding.
        """
        self._real[:, length : length + mask.shape[1]] = mask
        self.counts += mask.sum(1)

    def append_step(self, length: int) -> None:
        """Count one real token a row that has run."""
        self._real[:, length] = True
        self.counts += 1

    def mask(self, length: int) -> NDArray[np.bool_]:
        """Which of the first `length` tokens are real, `[B, length]`; a view."""
        return self._real[:, :length]

    def spread(self, cache: NDArray[np.floating[Any]], length: int) -> NDArray[np.floating[Any]]:
        """Move what is cached to the slots that count padding.

        Args:
            cache: `[B, H_kv, capacity, D]`, real tokens alone.
            length: Tokens, padding included.

        Returns:
            `[B, H_kv, length, D]`, zeros where there is padding.
        """
        result = np.zeros((*cache.shape[:2], length, cache.shape[3]), cache.dtype)
        for row, real in enumerate(self._real[:, :length]):
            result[row][:, real] = cache[row, :, : np.count_nonzero(real)]
        return result

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens, padding included."""
        self.counts = self._real[:, :length].sum(1)


def left_aligned(input_ids: TokenIds, mask: NDArray[np.bool_]) -> tuple[TokenIds, TokenIds]:
    """Move each row's real tokens to its beginning, wherever its padding was.

    Args:
        input_ids: `[B, S]`.
        mask: `[B, S]`, where they are no padding.

    Returns:
        The ids, `[B, W]`, W the most real tokens of a row and at least 1, padding last; each row's real tokens, `[B]`.
    """
    counts = mask.sum(1)
    width = max(1, int(counts.max()))
    order = np.argsort(~mask, axis=1, kind="stable")[:, :width]
    return np.take_along_axis(input_ids, order, axis=1), counts
