"""Which measurements are out of tolerance, one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .departure import Departure, earliest, first_departure
from .divergence import TokenErrors, joined
from .measurement import Measurement, TensorError
from .tolerance import Tolerance

Tensors = Callable[[Measurement], list[TensorError]]


@dataclass(frozen=True)
class Verdict:
    """What the measurements come to.

    Args:
        failures: One line each: what failed, measured, bound, what to look at. None: the graph passes.
        departure: Where the graph first leaves eager's path; None where it doesn't, or can't be seen.
    """

    failures: tuple[str, ...]
    departure: Departure | None


def judge(measurements: Sequence[Measurement], tolerance: Tolerance, has_experts: bool) -> Verdict:
    """Hold every measurement against the tolerance; what was not measured fails.

    Args:
        measurements: Of all cases and runners.
        tolerance: Of the graph's precision.
        has_experts: Whether the model is a mixture of experts, so that the experts chosen must have been compared.
    """
    measured = [one for one in measurements if one.defect is None]
    lines = [*_defects(measurements), *_gaps(measured, has_experts)]
    groups = by_runner(measured).values()
    departure = earliest(first_departure(group, tolerance) for group in groups)
    for group in groups:
        lines += _numbers_out_of_bounds(group, tolerance, departure)
        lines += _shares_out_of_bounds(group, tolerance)
    return Verdict(tuple(lines), departure)


def by_runner(measurements: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    """The measurements of each runner."""
    groups: dict[str, list[Measurement]] = {}
    for one in measurements:
        groups.setdefault(one.runner, []).append(one)
    return groups


def greedy_errors(measurements: Sequence[Measurement]) -> TokenErrors:
    """The errors along eager's greedy text."""
    return joined(one.errors.take(one.greedy) for one in measurements)


def mean_kl(measurements: Sequence[Measurement]) -> float:
    """Nats, over all comparable tokens; 0 where there is none."""
    kl = joined(one.comparable_errors for one in measurements).kl
    return float(kl.mean()) if len(kl) else 0.0


def _defects(measurements: Sequence[Measurement]) -> Iterator[str]:
    """What could not be measured: the first of each runner, with the number of its likes."""
    for runner, group in by_runner(measurements).items():
        broken = [one for one in group if one.defect is not None]
        if broken:
            first = f"{broken[0].case}: {broken[0].defect}"
            yield f"{len(broken)} of {len(group)} cases could not be compared ({runner}), first {first}"


def _gaps(measured: Sequence[Measurement], has_experts: bool) -> Iterator[str]:
    """What should have been compared and was not."""
    if not any(one.tokens for one in measured):
        yield "nothing was compared: no token of any case, expected at least 1"
        return
    for runner, group in by_runner(measured).items():
        if not any(one.comparable.any() for one in group):
            yield f"no token took eager's route through the experts ({runner}): look at the router"
    if not any(one.layers for one in measured):
        yield "no present tensor was compared, expected every layer's"
    if not any(one.greedy.any() for one in measured):
        yield "no greedy token was compared, expected at least 1"
    if has_experts and not any(one.same_experts for one in measured):
        yield "no choice of experts was compared, expected every layer's"


def _numbers_out_of_bounds(
    group: Sequence[Measurement], tolerance: Tolerance, departure: Departure | None
) -> Iterator[str]:
    """Logits and presents of one runner: where too many tokens of a tensor are out of bounds, the worst case."""
    hint = departure.hint if departure else "the graph itself is right: look at how it is run"

    def check(name: str, tensors: Tensors, bound: float) -> Iterator[str]:
        cases = [(one, [tensor.relative for tensor in tensors(one)]) for one in group if tensors(one)]
        # `~ <=` instead of `>`: a NaN is out of bounds.
        out = [~(np.concatenate(parts) <= bound) for parts in zip(*(found for _, found in cases), strict=True)]
        share = max((float(flags.mean()) for flags in out if len(flags)), default=0.0)
        if share > 1 - tolerance.within:
            value, worst = max((float(np.concatenate(found).max(initial=0.0)), one.case) for one, found in cases)
            where = f"{worst} ({group[0].runner}), {share:.2%} of tokens out of bounds"
            yield f"{name} {value:.2e}, bound {bound:.2e}, in {where}; {hint}"

    def logits(one: Measurement) -> list[TensorError]:
        return [one.logits]

    def presents(one: Measurement) -> list[TensorError]:
        return one.presents

    yield from check("logits max abs / max |logit|", logits, tolerance.logits_rel)
    yield from check("presents max abs / max |present|", presents, tolerance.presents_rel)


def _shares_out_of_bounds(group: Sequence[Measurement], tolerance: Tolerance) -> Iterator[str]:
    """Means and shares over all tokens of one runner."""
    runner, errors, greedy = group[0].runner, joined(one.errors for one in group), greedy_errors(group)
    kl = mean_kl(group)
    if not kl <= tolerance.mean_kl:
        worst = max(group, key=lambda one: mean_kl([one]))
        yield (
            f"mean KL {kl:.2e} nats, bound {tolerance.mean_kl:.2e} ({runner}): look at {worst.case}, "
            f"which has {mean_kl([worst]):.2e}"
        )
    if len(errors.kl) and not errors.agrees.mean() >= tolerance.top1:
        lost = errors.margin[~errors.agrees]
        yield (
            f"top-1 agreement {errors.agrees.mean():.2%}, bound {tolerance.top1:.2%} ({runner}): look at the logits, "
            f"eager's margins were up to {lost.max():.2e}"
        )
    if len(greedy.kl) and not greedy.agrees.mean() >= tolerance.greedy:
        yield _greedy_failure(greedy, tolerance.greedy, runner)
    chosen = [same for one in group for same in one.same_experts]
    if chosen and not np.concatenate(chosen).mean() >= tolerance.experts:
        share = np.concatenate(chosen).mean()
        yield f"experts agree in {share:.2%} of choices, bound {tolerance.experts:.2%} ({runner}): look at the router"


def _greedy_failure(errors: TokenErrors, bound: float, runner: str) -> str:
    first = int(np.argmin(errors.agrees))
    return (
        f"greedy {int(errors.agrees.sum())} of {len(errors.kl)} tokens equal, bound {bound:.2%} ({runner}): look at "
        f"token {first}, expected {errors.expected[first]}, found {errors.found[first]}, "
        f"eager's margin {errors.margin[first]:.2e}"
    )
