"""The two optimisation profiles of a plan: a chunk of a prompt, and one token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from minimind_edge.runtime.session.contract import cache_names
from minimind_edge.runtime.tensorrt.plan import CacheLayout

TYPICAL_PROMPT = 128
"""Tokens of a row that the prefill profile is tuned for, where its limit allows."""

VARYING_ROWS = 2
"""Rows that both profiles take at least. Where the number of rows varies in one profile only, or in none, TensorRT lays
the weights out differently for each of them, and the plan has them twice."""

Shape = tuple[int, ...]
Range = tuple[int, int, int]
"""Least, typical and greatest."""


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


def profiles_of(form: str, limits: Limits, cache: CacheLayout) -> tuple[Profile, Profile]:
    """The profiles of a plan, prefill first.

    Args:
        form: Of the cache, `static` or `growing`.
        limits: What the plan is to hold.
        cache: With the capacity that is written into the graph.
    """
    # One row is what a device with one user runs; the other batch sizes need not be the fastest.
    rows = 1, 1, max(limits.batch_size, VARYING_ROWS)
    prompt = 1, min(TYPICAL_PROMPT, limits.chunk), limits.chunk
    step = 1, 1, 1
    if form == "static":
        prefill, decode = _static(rows, prompt, cache), _static(rows, step, cache)
    else:
        last = limits.length - 1
        prefill = _growing(rows, prompt, (0, 0, last), cache)
        decode = _growing(rows, step, (0, limits.length // 2, last), cache)
    return Profile("prefill", dict(prefill)), Profile("decode", dict(decode))


def _static(rows: Range, tokens: Range, cache: CacheLayout) -> Iterator[tuple[str, tuple[Shape, Shape, Shape]]]:
    yield "input_ids", _ranges(rows, tokens)
    for name in ("write_indices", "last_index"):
        yield name, _ranges(rows)
    capacity = cache.capacity, cache.capacity, cache.capacity
    yield from _pasts(rows, capacity, cache)


def _growing(
    rows: Range, tokens: Range, past: Range, cache: CacheLayout
) -> Iterator[tuple[str, tuple[Shape, Shape, Shape]]]:
    """Of a cache with slots from none on; past and chunk together are never more than the greatest past and one."""
    total = past[0] + tokens[0], past[1] + tokens[1], past[2] + 1
    yield "input_ids", _ranges(rows, tokens)
    yield "attention_mask", _ranges(rows, total)
    yield "position_ids", _ranges(rows, tokens)
    yield "last_index", _ranges(rows)
    yield from _pasts(rows, past, cache)


def _pasts(rows: Range, slots: Range, cache: CacheLayout) -> Iterator[tuple[str, tuple[Shape, Shape, Shape]]]:
    heads, width = (cache.num_key_value_heads,) * 3, (cache.head_dim,) * 3
    for name in cache_names("past_key_values", cache.num_layers):
        yield name, _ranges(rows, heads, slots, width)


def _ranges(*axes: Range) -> tuple[Shape, Shape, Shape]:
    """Least, typical and greatest shape of an input with these axes."""
    least, typical, most = zip(*axes, strict=True)
    return least, typical, most
