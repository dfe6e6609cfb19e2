"""The parity report: the compared tokens, the differences, and whether they are within tolerance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..divergence import TokenErrors, joined
from .case import SEED
from .measurement import Measurement
from .reference import OWN_MODEL
from .tolerance import Tolerance
from .verdict import FirstDivergence, by_runner, greedy_errors, judge, mean_kl

QUANTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True)
class ReportRow:
    """One line of the table for people.

    Args:
        quantity: The name of the measured quantity.
        measured: The value of the quantity.
        bound: The least or largest value that is allowed; empty where there is no bound.
    """

    quantity: str
    measured: str
    bound: str = ""


@dataclass(frozen=True)
class ParityReport:
    """A graph compared with eager float32; truthy where it passes.

    Args:
        target: The graph's target.
        precision: The graph's precision.
        tolerance: The bounds.
        measurements: The measurements of every case in every runner.
        failures: The failures, one line each; empty where the graph passes.
        first_divergence: The first part of the model that diverges from eager; None where none does, or where the graph
            does not show it.
        seconds: The time that the comparison took.
        reference: The code of the eager model: `OWN_MODEL`, or the owner's, such as `my_model.py:MyMiniMind`.
    """

    target: str
    precision: str
    tolerance: Tolerance
    measurements: tuple[Measurement, ...]
    failures: tuple[str, ...]
    first_divergence: FirstDivergence | None
    seconds: float
    reference: str = OWN_MODEL

    @classmethod
    def of(
        cls,
        measurements: Sequence[Measurement],
        tolerance: Tolerance,
        *,
        target: str,
        precision: str,
        has_experts: bool,
        seconds: float,
        reference: str = OWN_MODEL,
    ) -> ParityReport:
        """Judge the measurements; see `judge`."""
        verdict = judge(measurements, tolerance, has_experts)
        return cls(
            target,
            precision,
            tolerance,
            tuple(measurements),
            verdict.failures,
            verdict.first_divergence,
            seconds,
            reference,
        )

    def __bool__(self) -> bool:
        return not self.failures

    @cached_property
    def errors(self) -> TokenErrors:
        """The errors of every compared token."""
        return joined(one.errors for one in self.measurements)

    @property
    def max_abs(self) -> float:
        """The largest logit difference of a comparable token."""
        return max((one.logits.max_abs for one in self.measurements), default=0.0)

    @property
    def max_rel(self) -> float:
        """The largest logit difference over its case's largest |logit|."""
        return max((one.logits.max_rel for one in self.measurements), default=0.0)

    @property
    def presents(self) -> tuple[float, float]:
        """The largest difference in any cached tensor, and the largest one divided by its tensor's largest |number|."""
        tensors = [tensor for one in self.measurements for tensor in one.presents]
        return max((one.max_abs for one in tensors), default=0.0), max((one.max_rel for one in tensors), default=0.0)

    @property
    def greedy(self) -> tuple[int, int]:
        """How many tokens along eager's greedy text are equal, and how many were compared, for the worst runner."""
        groups = [greedy_errors(group) for group in by_runner(self.measurements).values()]
        counts = [(int(errors.agrees.sum()), len(errors.kl)) for errors in groups if len(errors.kl)]
        return min(counts, default=(0, 0), key=lambda count: count[0] / count[1])

    @property
    def experts(self) -> tuple[int, int]:
        """How many choices of experts agree, and how many were compared: one for each token and layer."""
        same = [flags for one in self.measurements for flags in one.same_experts]
        return sum(int(flags.sum()) for flags in same), sum(flags.size for flags in same)

    def summary(self) -> str:
        """One line: passed with the most telling numbers, or failed with the first reason."""
        name = f"parity of the {self.target} graph in {self.precision}"
        if self.failures:
            more = f" (and {len(self.failures) - 1} more)" if len(self.failures) > 1 else ""
            return f"{name} failed: {self.failures[0]}{more}"
        equal, total = self.greedy
        return (
            f"{name} passed: {len(self.errors.kl)} tokens, logits max abs {self.max_abs:.1e}, "
            f"mean KL {mean_kl(self.measurements):.1e} nats, greedy {equal}/{total} equal"
        )

    def rows(self) -> tuple[ReportRow, ...]:
        """The table for people, without the verdict; see `failures`."""
        bound, presents, (equal, total) = self.tolerance, self.presents, self.greedy
        agree, choices = self.experts
        rows = [
            ReportRow("reference", self.reference),
            ReportRow("tokens compared", f"{len(self.errors.kl)} in {len(self.measurements)} runs"),
            ReportRow("logits max abs", f"{self.max_abs:.2e}"),
            ReportRow("logits max abs / max |logit|", f"{self.max_rel:.2e}", _at_most(bound.logits_rel)),
            ReportRow("mean KL (nats)", f"{mean_kl(self.measurements):.2e}", _at_most(bound.mean_kl)),
            ReportRow("top-1 agreement", f"{_mean(self.errors.agrees):.2%}", f">= {bound.top1:.2%}"),
            ReportRow("greedy tokens equal", f"{equal} of {total}", f">= {bound.greedy:.2%}"),
            ReportRow("presents max abs", f"{presents[0]:.2e}"),
            ReportRow("presents max abs / max |present|", f"{presents[1]:.2e}", _at_most(bound.presents_rel)),
        ]
        if choices:
            rows.append(ReportRow("experts equal", f"{agree} of {choices}", f">= {bound.experts:.2%}"))
        rows.append(ReportRow("first divergence (layer)", "none" if (place := self._place) is None else str(place)))
        return tuple(rows)

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON: all numbers are finite, and a value that does not exist is None."""
        presents, (equal, total), (agree, choices) = self.presents, self.greedy, self.experts
        return {
            "passed": bool(self),
            "reference": self.reference,
            "target": self.target,
            "precision": self.precision,
            "seed": SEED,
            "seconds": round(self.seconds, 3),
            "tokens": len(self.errors.kl),
            "logits": {
                "max_abs": self.max_abs,
                "max_rel": self.max_rel,
                "mean_kl": mean_kl(self.measurements),
                **_distribution(self.errors),
            },
            "greedy": {"equal": equal, "total": total, "first_difference": self._first_difference()},
            "presents": {"max_abs": presents[0], "max_rel": presents[1]},
            "experts": {"equal": agree, "total": choices} if choices else None,
            "first_departing_layer": self._place,
            "tolerance": {name: _finite(value) for name, value in asdict(self.tolerance).items()},
            "runs": [_run_json(one) for one in self.measurements],
            "failures": list(self.failures),
        }

    @property
    def _place(self) -> int | str | None:
        return None if self.first_divergence is None else self.first_divergence.place

    def _first_difference(self) -> dict[str, Any] | None:
        """The first greedy token in which a runner differs from eager, with eager's margin there."""
        for runner, group in by_runner(self.measurements).items():
            errors = greedy_errors(group)
            if not errors.agrees.all():
                first = int(np.argmin(errors.agrees))
                return {
                    "runner": runner,
                    "token": first,
                    "expected": int(errors.expected[first]),
                    "found": int(errors.found[first]),
                    "margin": float(errors.margin[first]),
                }
        return None


def _distribution(errors: TokenErrors) -> dict[str, Any]:
    """Means over all tokens and quantiles of their largest differences; None where there is no token."""
    empty = len(errors.kl) == 0
    quantiles = [None] * len(QUANTILES) if empty else [float(q) for q in np.quantile(errors.max_abs, QUANTILES)]
    return {
        "max_kl": None if empty else float(errors.kl.max()),
        "top1": None if empty else _mean(errors.agrees),
        "quantiles": {f"p{quantile * 100:.0f}": value for quantile, value in zip(QUANTILES, quantiles, strict=True)},
    }


def _run_json(one: Measurement) -> dict[str, Any]:
    """The measurement of one case in one runner as JSON."""
    if one.defect is not None:
        return {"case": one.case, "runner": one.runner, "tokens": 0, "defect": one.defect}
    return {
        "case": one.case,
        "runner": one.runner,
        "tokens": one.tokens,
        "comparable": int(one.comparable.sum()),
        "max_abs": one.logits.max_abs,
        "max_rel": one.logits.max_rel,
        "mean_kl": mean_kl([one]),
        "presents_max_abs": max((tensor.max_abs for tensor in one.presents), default=None),
        "presents_max_rel": max((tensor.max_rel for tensor in one.presents), default=None),
    }


def _mean(values: np.ndarray[Any, Any]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _at_most(bound: float) -> str:
    return f"<= {bound:.2e}" if math.isfinite(bound) else ""
