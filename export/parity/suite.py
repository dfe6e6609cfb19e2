"""Which cases a comparison runs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .case import Case, Integers, layout_of, unpadded

SEED = 20250426
"""Of all token ids: two runs of a comparison compare the same."""

PROMPT_LENGTHS = (1, 7, 65)
"""65 is one past the block of 64 in which kernels like to work."""

THOROUGH_PROMPT_LENGTHS = (1, 2, 7, 16, 63, 64, 65, 129, 257)

SPLITS = ((1, 23), (5, 1, 11, 7))
"""Chunks of a prompt of 24 tokens: several tokens behind a past of one, and uneven ones."""

THOROUGH_SPLITS = (*SPLITS, (23, 1), (16, 4, 4), (1,) * 24)

PADDED_LENGTHS = (9, 4, 1)
TAIL = ((1, 1, 1), "left")
"""One more token in every row of a batch of three: a decode step."""

FAR_TOKENS = 12

BEHIND_FAR = (51, 1)
"""Chunks behind a long prompt."""

GREEDY_PROMPT = 16


class Suite:
    """Draws the cases of one comparison.

    Args:
        vocab_size: Token ids are 0 to `vocab_size - 1`.
        max_length: Cache slots and positions the graph has; longer cases are left out.
        thorough: More lengths and more ways to cut a prompt.
        long_prompt: Tokens to run before a few others, where that fits, for a candidate that counts positions by itself
            and so cannot be shown far ones by `positions`; None for no such case.
    """

    def __init__(
        self, vocab_size: int, max_length: int, thorough: bool = False, *, long_prompt: int | None = None
    ) -> None:
        self._vocab_size = vocab_size
        self._max_length = max_length
        self._thorough = thorough
        self._long_prompt = long_prompt
        self._random = np.random.default_rng(SEED)

    def cases(self) -> Iterator[Case]:
        """All cases that are known before the model runs, those that fit."""
        return (case for case in self._all_cases() if case.slots <= self._max_length)

    def greedy_prompt(self) -> Integers:
        """The prompt that eager continues, [n] int64."""
        return self._draw(min(GREEDY_PROMPT, self._max_length))

    def greedy_steps(self, wanted: int) -> int:
        """Steps that fit behind the greedy prompt: the last one's token needs no slot."""
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
            splits = (self._long_prompt, *BEHIND_FAR)
            yield unpadded(f"behind {self._long_prompt} tokens", self._draw(sum(splits)), splits)

    def _padded(self, name: str, blocks: list[tuple[tuple[int, ...], str]]) -> Case:
        """A batch of rows of different lengths, one chunk a block."""
        layout = layout_of(blocks)
        rows = tuple(self._draw(int(row.max()) + 1) for row in layout)
        return Case(name, rows, layout, tuple(max(lengths) for lengths, _ in blocks))

    def _far(self) -> Case:
        """A few tokens spread over all positions, the last one included.

        Position ids need not be neighbours, so that long distances, the end of a table of angles and YaRN past its
        original context are reached without thousands of tokens.
        """
        length = min(FAR_TOKENS, self._max_length)
        positions = np.linspace(0, self._max_length - 1, length).astype(np.int64)
        splits = (length - 2, 1, 1) if length > 2 else (length,)
        return unpadded("far positions", self._draw(length), splits, positions)

    def _draw(self, length: int) -> Integers:
        return self._random.integers(0, self._vocab_size, length)
