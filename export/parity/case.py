"""What is run through the model and the graph: rows of tokens, how they are padded, how they are cut into chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Integers: TypeAlias = NDArray[np.int64]

PADDING = -1
"""In a layout: this slot holds no token."""


@dataclass(frozen=True)
class Chunk:
    """What one call of a graph is given, all int64.

    Args:
        start: Slots before this chunk, P.
        input_ids: [B, S].
        attention_mask: [B, P+S].
        position_ids: [B, S].
        layout: [B, S], the index of the slot's token in its row, or `PADDING`.
    """

    start: int
    input_ids: Integers
    attention_mask: Integers
    position_ids: Integers
    layout: Integers


@dataclass(frozen=True)
class Case:
    """Rows of tokens that lie in the cache slots of one batch.

    Args:
        name: For people, such as `padded left`.
        rows: Each row's real tokens, [n_b] int64, n_b at least 1.
        layout: [B, T] int64: the index of the slot's token in its row, ascending, or `PADDING`.
        splits: Slots of each chunk; they add up to T.
        positions: Position ids of each row, [n_b] int64; None counts from 0.
        greedy_from: Where the row is eager's own greedy text: the index of the first token that was predicted from.
    """

    name: str
    rows: tuple[Integers, ...]
    layout: Integers
    splits: tuple[int, ...]
    positions: tuple[Integers, ...] | None = None
    greedy_from: int | None = None

    @property
    def slots(self) -> int:
        """Cache slots the case fills, T."""
        return int(self.layout.shape[1])

    @property
    def tokens(self) -> int:
        """Real tokens of all rows."""
        return sum(len(row) for row in self.rows)

    def row_positions(self, row: int) -> Integers:
        """Position ids of one row's real tokens, [n_b]."""
        return np.arange(len(self.rows[row])) if self.positions is None else self.positions[row]

    def chunks(self) -> Iterator[Chunk]:
        """The calls of a graph, in order."""
        real = self.layout != PADDING
        ids, positions = self._filled()
        start = 0
        for length in self.splits:
            here = slice(start, start + length)
            mask = real[:, : start + length].astype(np.int64)
            yield Chunk(start, ids[:, here], mask, positions[:, here], self.layout[:, here])
            start += length

    def _filled(self) -> tuple[Integers, Integers]:
        """Token ids and position ids of every slot, [B, T]; padding repeats a row's last token: it must not matter."""
        ids, positions = np.empty_like(self.layout), np.zeros_like(self.layout)
        for row, tokens in enumerate(self.rows):
            real = self.layout[row] != PADDING
            ids[row] = tokens[self.layout[row]]
            positions[row, real] = self.row_positions(row)
        return ids, positions


def unpadded(name: str, tokens: Integers, splits: Sequence[int] = (), positions: Integers | None = None) -> Case:
    """One row, in one chunk or in `splits`."""
    layout = np.arange(len(tokens))[None]
    return Case(name, (tokens,), layout, tuple(splits) or (len(tokens),), None if positions is None else (positions,))


def layout_of(blocks: Sequence[tuple[Sequence[int], str]]) -> Integers:
    """Lay rows out block after block, each padded to its longest part.

    Args:
        blocks: For each block the number of tokens of each row, and the side its padding is on, `left` or `right`.

    Returns:
        [B, T] int64.
    """
    filled = np.zeros(len(blocks[0][0]), dtype=np.int64)
    columns = []
    for lengths, side in blocks:
        width = max(lengths)
        block = np.full((len(lengths), width), PADDING, dtype=np.int64)
        for row, length in enumerate(lengths):
            first = width - length if side == "left" else 0
            block[row, first : first + length] = filled[row] + np.arange(length)
        filled += lengths
        columns.append(block)
    return np.concatenate(columns, axis=1)
