"""The verdict of a comparison: the measurements out of tolerance, and the first divergence from eager."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..divergence import TokenErrors, joined
from .measurement import LayerErrors, Measurement, TensorError
from .tolerance import Tolerance

Tensors = Callable[[Measurement], list[TensorError]]
Part = Literal["key", "value", "cache", "experts", "head"]


@dataclass(frozen=True)
class FirstDivergence:
    """The first part of the model that is out of tolerance.

    Args:
        layer: Index of the layer; None for the head, where all that came before is right.
        part: What diverges there; `cache` is key and value.
    """

    layer: int | None
    part: Part

    @property
    def place(self) -> int | str:
        """The layer's index, or `head`."""
        return "head" if self.layer is None else self.layer

    @property
    def hint(self) -> str:
        """A few words about the parts of the model to look at."""
        layer = self.layer or 0
        before = f"layer {layer - 1}'s q_proj, o_proj, mask and mlp, then" if layer else "embed_tokens,"
        return {
            "key": f"first diverges in layer {layer}, keys only: look at its position_ids, RoPE, k_proj and k_norm",
            "value": f"first diverges in layer {layer}, values only: look at its v_proj",
            "cache": f"first diverges in layer {layer}: look at {before} layer {layer}'s input_layernorm",
            "experts": f"first diverges in layer {layer}, in the experts chosen: look at its attention and its router",
            "head": "first diverges after the last layer's cache: look at the last layer's q_proj, o_proj, mask and "
            "mlp, the final norm and lm_head",
        }[self.part]


@dataclass(frozen=True)
class Verdict:
    """The outcome of all measurements.

    Args:
        failures: The failures, one line each: the quantity, its value, its bound and the parts to look at; empty where
            the graph passes.
        first_divergence: The first part of the model that diverges from eager; None where none does, or where the graph
            does not show it.
    """

    failures: tuple[str, ...]
    first_divergence: FirstDivergence | None


def judge(measurements: Sequence[Measurement], tolerance: Tolerance, has_experts: bool) -> Verdict:
    """Compare every measurement with the tolerance; what was not measured fails.

    Args:
        measurements: The measurements of all cases and runners.
        tolerance: The bounds.
        has_experts: Whether the model is a mixture of experts, so that the experts chosen must have been compared.
    """
    measured = [one for one in measurements if one.defect is None]
    lines = [*_defects(measurements), *_gaps(measured, has_experts)]
    groups = by_runner(measured).values()
    divergence = earliest(first_divergence(group, tolerance) for group in groups)
    for group in groups:
        lines += _numbers_out_of_bounds(group, tolerance, divergence)
        lines += _shares_out_of_bounds(group, tolerance)
    return Verdict(tuple(lines), divergence)


def by_runner(measurements: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    """Group the measurements by the runner's name."""
    groups: dict[str, list[Measurement]] = {}
    for one in measurements:
        groups.setdefault(one.runner, []).append(one)
    return groups


def greedy_errors(measurements: Sequence[Measurement]) -> TokenErrors:
    """The errors along eager's greedy text."""
    return joined(one.errors.take(one.greedy) for one in measurements)


def mean_kl(measurements: Sequence[Measurement]) -> float:
    """The mean KL divergence of all comparable tokens, nats; 0 where there is none."""
    kl = joined(one.comparable_errors for one in measurements).kl
    return float(kl.mean()) if len(kl) else 0.0


def _defects(measurements: Sequence[Measurement]) -> Iterator[str]:
    """The cases that could not be measured: the first one of each runner, and how many there are."""
    for runner, group in by_runner(measurements).items():
        broken = [one for one in group if one.defect is not None]
        if broken:
            first = f"{broken[0].case}: {broken[0].defect}"
            yield f"{len(broken)} of {len(group)} cases could not be compared ({runner}), first {first}"


def _gaps(measured: Sequence[Measurement], has_experts: bool) -> Iterator[str]:
    """The quantities that should have been compared and were not."""
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
    group: Sequence[Measurement], tolerance: Tolerance, divergence: FirstDivergence | None
) -> Iterator[str]:
    """Logits and presents of one runner: where too many tokens of a tensor are out of bounds, the worst case."""
    hint = divergence.hint if divergence else "the graph itself is right: look at how it is run"

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
    """The means and shares over all tokens of one runner that are out of bounds."""
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


def first_divergence(measurements: Sequence[Measurement], tolerance: Tolerance) -> FirstDivergence | None:
    """The earliest divergence in one runner's measurements; None where nothing diverges, or the cache is not shown."""
    shown = [one for one in measurements if one.layers]
    if not shown:
        return None
    for layer in range(len(shown[0].layers)):
        part = _diverging_part([one.layers[layer] for one in shown], tolerance)
        if part is not None:
            return FirstDivergence(layer, part)
        if any(one.same_experts and not one.same_experts[layer].all() for one in shown) and tolerance.experts == 1.0:
            return FirstDivergence(layer, "experts")
    return None if within([one.logits for one in shown], tolerance, "logits") else FirstDivergence(None, "head")


def earliest(divergences: Iterable[FirstDivergence | None]) -> FirstDivergence | None:
    """The divergence that comes first in the model; None where there is none."""
    found = [one for one in divergences if one is not None]
    return min(found, key=lambda one: math.inf if one.layer is None else one.layer, default=None)


def within(errors: Sequence[TensorError], tolerance: Tolerance, kind: Literal["logits", "presents"]) -> bool:
    """Whether enough tokens are within the bound."""
    bound = getattr(tolerance, f"{kind}_rel")
    inside = [error.relative <= bound for error in errors]
    return bool(np.count_nonzero(np.concatenate(inside)) >= tolerance.within * sum(map(len, inside)))


def _diverging_part(layers: Sequence[LayerErrors], tolerance: Tolerance) -> Part | None:
    key = within([layer.key for layer in layers], tolerance, "presents")
    value = within([layer.value for layer in layers], tolerance, "presents")
    if key and value:
        return None
    if key:
        return "value"
    return "key" if value else "cache"
