"""Tables of rotary angles that are read by position, for model code that reads them by slot.

MiniMind's own `forward` has no `position_ids`: it takes the rows of `freqs_cos` and `freqs_sin` that follow the past.
With padding, the slot of a token is not its position. So the tables are replaced by objects that give each row of the
batch the angles of its own positions, whichever slots are asked for; the model's code stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

TABLES = ("freqs_cos", "freqs_sin")


class Angles:
    """Angles that look like [S, D] to a model's code, and have an axis for the batch before these.

    Args:
        values: The angles' cosines or sines, [B, S, D].
    """

    def __init__(self, values: torch.Tensor) -> None:
        self._values = values

    def unsqueeze(self, dim: int) -> torch.Tensor:
        """Add an axis for the heads: `unsqueeze(1)` gives [B, S, 1, D], which fits queries [B, S, H, D]."""
        return self._values.unsqueeze(dim if dim < 0 else dim + 1)

    def to(self, *arguments: Any, **keywords: Any) -> Angles:
        """See `torch.Tensor.to`."""
        return Angles(self._values.to(*arguments, **keywords))

    def __getitem__(self, key: Any) -> Angles | torch.Tensor:
        """A slice of the last axis, or with None an axis for the heads; a slice of rows gives all rows."""
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
        """The batch's angles; 1 for a single element, which upstream's code reads to see if the table is filled."""
        return Angles(self._rows) if isinstance(key, slice) else 1.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)


def table_owners(model: nn.Module) -> list[nn.Module]:
    """The submodules that have both `freqs_cos` and `freqs_sin` as buffers."""
    return [module for module in model.modules() if all(name in module._buffers for name in TABLES)]


@contextmanager
def positioned(owners: Sequence[nn.Module], position_ids: torch.Tensor) -> Iterator[None]:
    """Have the tables of these modules read by position inside of the `with` block.

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
