"""How a weight may be stored as integers."""

from __future__ import annotations

from dataclasses import dataclass

BLOCKS = (128, 64, 32, 16)
"""Inputs that may share a scale."""


@dataclass(frozen=True)
class Format:
    """How a weight is stored.

    Attributes:
        bits: 4 or 8.
        block: Most inputs that share a scale; a weight whose width is no multiple of it gets the next smaller one of
            `BLOCKS` that divides it.
        symmetric: Whether no zero points are stored.
    """

    bits: int
    block: int
    symmetric: bool

    def block_of(self, inputs: int) -> int | None:
        """The block for a weight of so many inputs; None where none divides them: it stays float."""
        return next((block for block in BLOCKS if block <= self.block and inputs % block == 0), None)
