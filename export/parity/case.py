"""The cases of a comparison: rows of random tokens, how they are padded, and how they are cut into chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Integers: TypeAlias = NDArray[np.int64]

PADDING = -1
"""The entry of a layout for a slot that holds no token."""

SEED = 20250426
"""Seed of the random token ids, so that two runs of a comparison compare the same."""

PROMPT_LENGTHS = (1, 7, 65)
"""Lengths of single prompts, in tokens; 65 is one more than the 64 that kernels often process as a block."""

THOROUGH_PROMPT_LENGTHS = (1, 2, 7, 16, 63, 64, 65, 129, 257)

SPLITS = ((1, 23), (5, 1, 11, 7))
"""Ways to cut a prompt of 24 tokens into chunks: many tokens after a past of one token, and uneven chunks."""

THOROUGH_SPLITS = (*SPLITS, (23, 1), (16, 4, 4), (1,) * 24)

PADDED_LENGTHS = (9, 4, 1)
TAIL = ((1, 1, 1), "left")
"""A decode step: one more token in every row of a batch of three."""

FAR_TOKENS = 12

AFTER_LONG_PROMPT = (51, 1)
"""Chunks that follow a long prompt."""

GREEDY_PROMPT = 16


@dataclass(frozen=True)
class Chunk:
    """The inputs of one call of a graph; every array is int64.

    Args:
        start: Cache slots that were filled before this chunk, P.
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
    """Rows of tokens, placed in the cache slots of one batch.

    Args:
        name: The case's name in reports, such as `padded left`.
        rows: Each row's real tokens, [n_b] int64, n_b at least 1.
        layout: [B, T] int64: the index of the slot's token in its row, ascending, or `PADDING`.
        splits: The number of slots in each chunk; their sum is T.
        positions: Position ids of each row, [n_b] int64; None to count from 0.
        greedy_from: In a row that eager continued greedily, the index of the token that the first new one was predicted
            from; None in all other cases.
    """

    name: str
    rows: tuple[Integers, ...]
    layout: Integers
    splits: tuple[int, ...]
    positions: tuple[Integers, ...] | None = None
    greedy_from: int | None = None

    @property
    def slots(self) -> int:
        """The number of cache slots that the case fills, T."""
        return int(self.layout.shape[1])

    @property
    def tokens(self) -> int:
        """The number of real tokens in all rows."""
        return sum(len(row) for row in self.rows)

    def row_positions(self, row: int) -> Integers:
        """Position ids of one row's real tokens, [n_b]."""
        return np.arange(len(self.rows[row])) if self.positions is None else self.positions[row]

    def chunks(self) -> Iterator[Chunk]:
        """The inputs of each call of the graph, in order."""
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
    """Lay rows out block after block, each block padded to its longest row.

    Args:
        blocks: For each block the number of tokens of each row, and the side its padding is on, `left` or `right`.

    Returns:
        The layout, [B, T] int64; see `Case.layout`.
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


class Suite:
    """The cases of one comparison, drawn at random from a fixed seed.

    Args:
        vocab_size: Token ids are 0 to `vocab_size - 1`.
        max_length: Cache slots and positions that the graph has; longer cases are left out.
        thorough: Whether to draw more lengths and more ways to cut a prompt.
        long_prompt: Length of a prompt that reaches far positions, where it fits, for a candidate that counts positions
            by itself and so cannot be given far ones by `Case.positions`; None for no such case.
        max_batch: The most rows of a batch, where the candidate has such a limit; larger cases are left out.
    """

    def __init__(
        self,
        vocab_size: int,
        max_length: int,
        thorough: bool = False,
        *,
        long_prompt: int | None = None,
        max_batch: int | None = None,
    ) -> None:
        self._vocab_size = vocab_size
        self._max_length = max_length
        self._thorough = thorough
        self._long_prompt = long_prompt
        self._max_batch = max_batch
        self._random = np.random.default_rng(SEED)

    def cases(self) -> Iterator[Case]:
        """The cases that are known before the model runs and that fit."""
        return (case for case in self._all_cases() if self._fits(case))

    def _fits(self, case: Case) -> bool:
        return case.slots <= self._max_length and (self._max_batch is None or len(case.rows) <= self._max_batch)

    def greedy_prompt(self) -> Integers:
        """The prompt that eager continues, [n] int64."""
        return self._draw(min(GREEDY_PROMPT, self._max_length))

    def greedy_steps(self, wanted: int) -> int:
        """The number of steps that fit after the greedy prompt; the last token needs no slot."""
        return min(wanted, self._max_length - min(GREEDY_PROMPT, self._max_length) + 1)

    def _all_cases(self) -> Iterator[Case]:
        for length in THOROUGH_PROMPT_LENGTHS if self._thorough else PROMPT_LENGTHS:
            yield unpadded(f"prompt of {length}", self._draw(length))
        for splits in THOROUGH_SPLITS if self._thorough else SPLITS:
            name = "chunks of " + "+".join(map(str, splits)) if len(set(splits)) > 1 else "token by token"
            yield unpadded(name, self._draw(sum(splits)), splits)
        yield self._padded("padded left", [(PADDED_LENGTHS, "left"), TAIL, TAIL])
        yield self._padded("padded right", [(PADDED_LENGTHS, "right"), TAIL, TAIL])
        yield self._padded("padded between chunks", [((5, 2, 3), "left"), ((1, 4, 2), "right"), TAIL])
        yield self._far()
        if self._long_prompt is not None:
            splits = (self._long_prompt, *AFTER_LONG_PROMPT)
            yield unpadded(f"after {self._long_prompt} tokens", self._draw(sum(splits)), splits)

    def _padded(self, name: str, blocks: list[tuple[tuple[int, ...], str]]) -> Case:
        """A batch of rows of different lengths, one chunk for each block."""
        layout = layout_of(blocks)
        rows = tuple(self._draw(int(row.max()) + 1) for row in layout)
        return Case(name, rows, layout, tuple(max(lengths) for lengths, _ in blocks))

    def _far(self) -> Case:
        """A few tokens spread over all positions, the last one included.

        Position ids need not follow each other, so this reaches long distances, the end of the RoPE tables and YaRN
        past its original context without thousands of tokens.
        """
        length = min(FAR_TOKENS, self._max_length)
        positions = np.linspace(0, self._max_length - 1, length).astype(np.int64)
        splits = (length - 2, 1, 1) if length > 2 else (length,)
        return unpadded("far positions", self._draw(length), splits, positions)

    def _draw(self, length: int) -> Integers:
        return self._random.integers(0, self._vocab_size, length)
