"""How many inputs share a scale in eight bits: as many as possible, which is fastest, and fewer where it matters."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import nn

from minimind_edge.minimind import MiniMindForCausalLM

from .assignment import INT8, Unit
from .formats import Format
from .groups import Group
from .sensitivity import Candidate, estimated_losses

INT8_BUDGET = 0.003
"""Nats a token that eight bits are estimated to cost at most: what they cost more, smaller blocks bring down."""

STEP_TIMES = {128: 1.0, 64: 1.08, 32: 1.33}
"""Time of a decode step in eight bits by its block, against the largest; docs/graphs.md has the measurement."""

FORMATS = tuple(replace(INT8, block=block) for block in STEP_TIMES)
"""What a weight may take, the fastest first."""

Key = TypeVar("Key", bound=Hashable)


def eight_bit_formats(
    model: MiniMindForCausalLM, units: Sequence[Unit], losses: Mapping[nn.Linear, float], tokens: torch.Tensor
) -> tuple[dict[Group, Format], Format]:
    """How eight bits store each weight: in blocks as large as the budget lets them be.

    Args:
        model: The float model, in eval mode, its inputs evened out.
        units: All of its units.
        losses: What eight bits in the largest blocks are estimated to cost each layer, see `estimated_losses`.
        tokens: [N, S] int64, text.

    Returns:
        The format of each group, and that of the head.
    """
    head = model.lm_head
    parts: dict[Unit | None, list[nn.Linear]] = {unit: unit.layers(model) for unit in units}
    known = {layer: [losses[layer]] for layers in parts.values() for layer in layers}
    if INT8.block_of(head.in_features):
        parts[None] = [head]  # no unit: it is none of the blocks' layers
        known |= estimated_losses(model, {head: [Candidate(INT8)]}, tokens)
    if sum(first for first, *_ in known.values()) > INT8_BUDGET:
        finer = estimated_losses(model, {layer: [Candidate(one) for one in FORMATS[1:]] for layer in known}, tokens)
        known = {layer: found + finer[layer] for layer, found in known.items()}
    summed = {
        part: [sum(each) for each in zip(*(known[layer] for layer in layers), strict=True)]
        for part, layers in parts.items()
    }
    sizes = {part: sum(layer.weight.numel() for layer in layers) for part, layers in parts.items()}
    times = {part: [size * STEP_TIMES[one.block] for one in FORMATS] for part, size in sizes.items()}
    chosen = refined(summed, times, INT8_BUDGET)
    of_groups = {group: one for unit in units for group, one in unit.formatted(FORMATS[chosen[unit]]).items()}
    return of_groups, FORMATS[chosen.get(None, 0)]


def refined(
    losses: Mapping[Key, Sequence[float]], times: Mapping[Key, Sequence[float]], budget: float
) -> dict[Key, int]:
    """Which of its choices each weight takes: the first one, unless all together cost more than the budget.

    Then those are refined that bring most for the time they take, until the budget is kept or nothing brings anything.

    Args:
        losses: Of each weight, what its choices cost.
        times: Of each weight, what its choices take: each more than the one before it, or the same.
        budget: Most that all may cost together.
    """
    chosen = dict.fromkeys(losses, 0)
    while sum(losses[key][index] for key, index in chosen.items()) > budget:
        best: tuple[float, Key, int] | None = None
        for key, index in chosen.items():
            for finer in range(index + 1, len(losses[key])):
                gain, time = losses[key][index] - losses[key][finer], times[key][finer] - times[key][index]
                if gain > 0 and time > 0 and (best is None or gain / time > best[0]):
                    best = gain / time, key, finer
        if best is None:
            break
        chosen[best[1]] = best[2]
    return chosen
