"""The statistics of a benchmark: medians with their ranges, and ratios round by round."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """A quantity over several rounds."""

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
    """How many times theirs ours is: the ratio in each round, over the rounds that both have; None without one.

    Only what ran in the same minute is compared, so that a slow minute of the machine counts for neither.
    """
    ratios = [one / other for one, other in zip(ours, theirs, strict=False)]
    return Spread.of(ratios) if ratios else None
