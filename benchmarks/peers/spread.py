"""The statistics of a benchmark: medians with their ranges, and ratios round by round."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """The median and the range of a quantity over several rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarize at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def to_json(self) -> dict[str, Any]:
        """Median and range."""
        return self._asdict()


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread | None:
    """The ratios of our values to theirs, over the rounds that both have; None without such a round.

    Only values of the same round are compared, so that a slow minute of the machine affects both.
    """
    ratios = [one / other for one, other in zip(ours, theirs, strict=False)]
    return Spread.of(ratios) if ratios else None
