"""The two optimization profiles of a plan: a chunk of a prompt (prefill), and one token (decode)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minimind_edge.runtime.session.contract import cache_names
from minimind_edge.runtime.tensorrt.plan import CacheLayout

TYPICAL_PROMPT = 128
"""Tokens of each row that the prefill profile is tuned for, where its limit allows."""

VARYING_ROWS = 2
"""Fewest rows that both profiles allow as their maximum. Where the number of rows varies in one profile only, or in
neither, TensorRT lays the weights out differently for each profile, and the plan holds them twice."""

Shape = tuple[int, ...]
Range = tuple[int, int, int]
"""Minimum, optimum and maximum of one axis."""


@dataclass(frozen=True)
class Limits:
    """The largest input that a plan takes.

    Attributes:
        batch_size: Most rows.
        length: Most positions of a row, which is the number of its cache slots.
        chunk: Most tokens of a row in one run.
    """

    batch_size: int
    length: int
    chunk: int


@dataclass(frozen=True)
class Profile:
    """The ranges of input shapes that a plan is built for.

    Attributes:
        name: `prefill` or `decode`.
        shapes: Minimum, optimum and maximum shape of each input.
    """

    name: str
    shapes: dict[str, tuple[Shape, Shape, Shape]]

    def to_json(self) -> dict[str, Any]:
        """A JSON object for the plan's description."""
        return {
            "name": self.name,
            "shapes": {name: [list(shape) for shape in ranges] for name, ranges in self.shapes.items()},
        }


def profiles_of(limits: Limits, cache: CacheLayout) -> tuple[Profile, Profile]:
    """The profiles of a plan, prefill first.

    Args:
        limits: The largest input of the plan.
        cache: The cache, with the capacity that is written into the graph.
    """
    # A device with one user runs one row, so that is what both profiles are tuned for.
    rows = 1, 1, max(limits.batch_size, VARYING_ROWS)
    prompt = 1, min(TYPICAL_PROMPT, limits.chunk), limits.chunk
    return Profile("prefill", _shapes(rows, prompt, cache)), Profile("decode", _shapes(rows, (1, 1, 1), cache))


def _shapes(rows: Range, tokens: Range, cache: CacheLayout) -> dict[str, tuple[Shape, Shape, Shape]]:
    heads, capacity, width = ((size,) * 3 for size in (cache.num_key_value_heads, cache.capacity, cache.head_dim))
    past = _ranges(rows, heads, capacity, width)
    return {
        "input_ids": _ranges(rows, tokens),
        "write_indices": _ranges(rows),
        "last_index": _ranges(rows),
        **dict.fromkeys(cache_names("past_key_values", cache.num_layers), past),
    }


def _ranges(*axes: Range) -> tuple[Shape, Shape, Shape]:
    """Minimum, optimum and maximum shape of an input with these axes."""
    least, typical, most = zip(*axes, strict=True)
    return least, typical, most
