"""Tables of rotary angles, read by position where a model's own code reads them by slot.

MiniMind's own `forward` has no `position_ids`: it takes the rows of `freqs_cos` and `freqs_sin` that follow the past.
With padding, or behind it, a token's slot is not its position. So the tables are exchanged for objects that give each
row of the batch the angles of its own positions, whatever slots are asked for; the model's code stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

TABLES = ("freqs_cos", "freqs_sin")


class Angles:
    """Angles that look like [S, D] to a model's code, and have an axis for the batch in front of it.

    Args:
        values: [B, S, D].
    """

    def __init__(self, values: torch.Tensor) -> None:
        self._values = values

    def unsqueeze(self, dim: int) -> torch.Tensor:
        """An axis for the heads: `unsqueeze(1)` gives [B, S, 1, D], which fits queries [B, S, H, D]."""
        return self._values.unsqueeze(dim if dim < 0 else dim + 1)

    def to(self, *arguments: Any, **keywords: Any) -> Angles:
        """See `torch.Tensor.to`."""
        return Angles(self._values.to(*arguments, **keywords))

    def __getitem__(self, key: Any) -> Angles | torch.Tensor:
        """A part of the last axis, an axis for the heads by None; all rows that are asked for are there."""
        keys = key if isinstance(key, tuple) else (key,)
        if keys[0] is Ellipsis:
            return Angles(self._values[keys])
        index = (slice(None), slice(None), *keys[1:])
        found = self._values[index]
        return found if found.dim() > self._values.dim() else Angles(found)


class PositionedTable:
    """A table whose rows are the angles of a batch's positions, whichever slice of slots is asked for.

    Args:
        table: Angles of all positions, [L, D].
        position_ids: [B, S] int64.
    """

    def __init__(self, table: torch.Tensor, position_ids: torch.Tensor) -> None:
        self._table = table
        self._rows = table[position_ids]

    def __getitem__(self, key: Any) -> Angles | float:
        """The batch's angles; for a single number, by which code tests whether the table is filled, 1."""
        return Angles(self._rows) if isinstance(key, slice) else 1.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)


def table_owners(model: nn.Module) -> list[nn.Module]:
    """The submodules that have both tables as buffers."""
    return [module for module in model.modules() if all(name in module._buffers for name in TABLES)]


@contextmanager
def positioned(owners: Sequence[nn.Module], position_ids: torch.Tensor) -> Iterator[None]:
    """Have the tables of these modules read by position within.

    Args:
        owners: See `table_owners`.
        position_ids: [B, S] int64.
    """
    taken = [(owner, name, owner._buffers.pop(name)) for owner in owners for name in TABLES]
    for owner, name, table in taken:
        assert table is not None
        owner.__dict__[name] = PositionedTable(table, position_ids)
    try:
        yield
    finally:
        for owner, name, table in taken:
            del owner.__dict__[name]
            owner._buffers[name] = table
