"""The two optimisation profiles of a plan: a chunk of a prompt, and one token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from minimind_edge.runtime.graph_facts import cache_names
from minimind_edge.runtime.tensorrt.plan import CacheLayout

TYPICAL_PROMPT = 128
"""Tokens of a row that the prefill profile is tuned for, where its limit allows."""

VARYING_ROWS = 2
"""Rows that both profiles take at least. Where the number of rows varies in one profile only, or in none, TensorRT lays
the weights out differently for each of them, and the plan has them twice."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Limits:
    """What a plan can hold.

    Attributes:
        batch_size: Most rows.
        length: Most positions of a row: the cache's slots.
        chunk: Most tokens of a row in one run.
    """

    batch_size: int
    length: int
    chunk: int


@dataclass(frozen=True)
class Profile:
    """Ranges of the input shapes that a plan is built for.

    Attributes:
        name: `prefill` or `decode`.
        shapes: Least, typical and greatest shape of each input.
    """

    name: str
    shapes: dict[str, tuple[Shape, Shape, Shape]]

    def to_json(self) -> dict[str, Any]:
        """A JSON object for the plan's description."""
        return {
            "name": self.name,
            "shapes": {name: [list(shape) for shape in ranges] for name, ranges in self.shapes.items()},
        }


def static_profiles(limits: Limits, cache: CacheLayout) -> tuple[Profile, Profile]:
    """The profiles of a graph with a fixed cache, prefill first.

    Args:
        limits: What the plan is to hold.
        cache: With the capacity that is written into the graph.
    """
    rows = max(limits.batch_size, VARYING_ROWS)
    prefill = (1, min(TYPICAL_PROMPT, limits.chunk), limits.chunk)
    return (
        Profile("prefill", dict(_shapes(rows, cache, prefill))),
        Profile("decode", dict(_shapes(rows, cache, (1, 1, 1)))),
    )


def _shapes(
    most_rows: int, cache: CacheLayout, lengths: tuple[int, int, int]
) -> Iterator[tuple[str, tuple[Shape, Shape, Shape]]]:
    # One row is what a device with one user runs; the other batch sizes need not be the fastest.
    rows = (1, 1, most_rows)
    least, typical, most = zip(rows, lengths, strict=True)
    yield "input_ids", (least, typical, most)
    for name in ("write_indices", "last_index"):
        yield name, ((rows[0],), (rows[1],), (rows[2],))
    for name in cache_names("past_key_values", cache.num_layers):
        yield name, (cache.tensor_shape(rows[0]), cache.tensor_shape(rows[1]), cache.tensor_shape(rows[2]))
