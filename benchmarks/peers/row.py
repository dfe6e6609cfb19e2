"""The row of a table: the measurements of one contender on one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from minimind_edge.runtime.bench import Spread

from .contenders import Contender

DECODE = "decode_tokens_per_s"
PREFILL = "prefill_tokens_per_s"
FIRST_TOKEN = "first_token_s"
MEMORY = "peak_rss_bytes"
DISK = "disk_bytes"
DECODE_ONE = "decode_tokens_per_s_one_thread"
PREFILL_ONE = "prefill_tokens_per_s_one_thread"

QUANTITIES = (DECODE, PREFILL, FIRST_TOKEN, MEMORY, DISK, DECODE_ONE, PREFILL_ONE)


@dataclass
class Row:
    """The measurements of one contender on one model.

    Attributes:
        contender: The contender.
        values: For each quantity, one value for each round; fewer where the contender failed in a round.
        missing: For a quantity that lacks values, the reason.
    """

    contender: Contender
    values: dict[str, list[float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, quantity: str, value: float) -> None:
        """Record one round's value."""
        self.values.setdefault(quantity, []).append(value)

    def give_up(self, reason: str, quantities: tuple[str, ...] = QUANTITIES) -> None:
        """Record the reason why these quantities are not measured any more; the first reason is kept."""
        for quantity in quantities:
            self.missing.setdefault(quantity, reason)

    def spread(self, quantity: str) -> Spread | None:
        """A quantity over its rounds; None where it was never measured."""
        values = self.values.get(quantity)
        return Spread.of(values) if values else None

    def to_json(self) -> dict[str, Any]:
        """A JSON object: each quantity's median, range and single values, and what is missing."""
        measured = {name: self.spread(name) for name in QUANTITIES}
        return {
            "peer": self.contender.peer.name,
            "build": self.contender.build,
            **{
                name: spread._asdict() | {"rounds": self.values[name]}
                for name, spread in measured.items()
                if spread is not None
            },
            "not_measured": self.missing,
        }


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread | None:
    """The ratios of our values to theirs, over the rounds that both have; None without such a round.

    Only values of the same round are compared, so that a slow minute of the machine affects both.
    """
    ratios = [one / other for one, other in zip(ours, theirs, strict=False)]
    return Spread.of(ratios) if ratios else None
