"""Mixed precision: how many bits each weight gets, and how many inputs share a scale."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import torch
from torch import nn

from minimind_edge.minimind import MiniMindBlock, MiniMindForCausalLM

from .formats import BLOCKWISE, Format, TargetFormats
from .layer_groups import Group, model_groups
from .sensitivity import Candidate, estimated_losses

INT8_BUDGET = 0.003
"""The most that int8 may cost by the estimate, in nats per token; beyond it, blocks shrink."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Unit:
    """Groups that get the same format: a single one, or all routed experts of a block, which one operator reads.

    Attributes:
        groups: At least one group.
        size: Number of weights.
        block: The largest block size that all its weights can have; None where only formats per channel can store them.
    """

    groups: tuple[Group, ...]
    size: int
    block: int | None

    def fits(self, wanted: Format) -> bool:
        """Whether the format can store its weights."""
        return wanted.block is None or self.block is not None

    def formatted(self, wanted: Format) -> dict[Group, Format]:
        """The format for each group, its blocks no larger than this unit's."""
        return dict.fromkeys(self.groups, wanted.at_most(self.block))

    def layers(self, model: MiniMindForCausalLM) -> list[nn.Linear]:
        """All layers of its groups."""
        blocks = cast("list[MiniMindBlock]", list(model.model.layers))
        return [layer for group in self.groups for layer in group.layers(blocks[group.layer])]


def rounding_units(model: MiniMindForCausalLM, wanted: Format) -> list[Unit]:
    """All units of a model, with the block sizes that a format gives them."""
    together: dict[tuple[object, ...], list[Group]] = {}
    for group in model_groups(model):
        key = (group.layer, "experts") if group.expert is not None else (group.layer, group.path, group.names)
        together.setdefault(key, []).append(group)
    units = []
    for groups in together.values():
        layers = Unit(tuple(groups), 0, None).layers(model)
        found = [wanted.block_of(width) for width in {layer.in_features for layer in layers}]
        fitting = [block for block in found if block is not None]
        block = min(fitting) if len(fitting) == len(found) else None
        units.append(Unit(tuple(groups), sum(layer.weight.numel() for layer in layers), block))
    return units


def mixed_formats(
    units: list[Unit], losses: Mapping[Unit, float], int8_share: float, formats: TargetFormats = BLOCKWISE
) -> dict[Group, Format]:
    """Eight bits for the units that gain most for their size, four for all others.

    Units that four bits cannot store get eight bits as well.

    Args:
        units: All units of the model.
        losses: The estimated loss of each unit in four bits; a unit without one counts as 0.
        int8_share: The share of the weights that eight bits may be spent on, 0 to 1.
        formats: The formats of the target.
    """

    def gain(unit: Unit) -> float:
        return losses.get(unit, 0.0) / unit.size

    left = int8_share * sum(unit.size for unit in units)
    chosen: dict[Group, Format] = {}
    for unit in sorted(units, key=gain, reverse=True):
        if not unit.fits(formats.int4):
            chosen |= unit.formatted(formats.int8)
            continue
        is_affordable = unit.size <= left
        chosen |= unit.formatted(formats.int8 if is_affordable else formats.int4)
        left -= unit.size if is_affordable else 0
    return chosen


def int8_formats(
    model: MiniMindForCausalLM,
    units: Sequence[Unit],
    losses: Mapping[nn.Linear, float],
    tokens: torch.Tensor,
    formats: TargetFormats = BLOCKWISE,
) -> tuple[dict[Group, Format], Format]:
    """The format of each weight in precision int8: blocks as large as the budget allows.

    Args:
        model: The float model, in eval mode, after SmoothQuant.
        units: All units of the model.
        losses: The estimated loss of each layer in the largest blocks, see `estimated_losses`.
        tokens: [N, S] int64, text.
        formats: The formats of the target.

    Returns:
        The format of each group, and that of the head.
    """
    if not formats.int8_blocks:
        return {group: one for unit in units for group, one in unit.formatted(formats.int8).items()}, formats.int8
    choices = [replace(formats.int8, block=block) for block, _ in formats.int8_blocks]
    head = model.lm_head
    parts: dict[Unit | None, list[nn.Linear]] = {unit: unit.layers(model) for unit in units} | {None: [head]}
    known = {layer: [losses[layer]] for unit in units for layer in parts[unit]}
    known |= estimated_losses(model, {head: [Candidate(choices[0])]}, tokens)
    if sum(first for first, *_ in known.values()) > INT8_BUDGET:
        smaller = estimated_losses(model, {layer: [Candidate(one) for one in choices[1:]] for layer in known}, tokens)
        known = {layer: found + smaller[layer] for layer, found in known.items()}
    summed = {
        part: [sum(each) for each in zip(*(known[layer] for layer in layers), strict=True)]
        for part, layers in parts.items()
    }
    sizes = {part: sum(layer.weight.numel() for layer in layers) for part, layers in parts.items()}
    times = {part: [size * time for _, time in formats.int8_blocks] for part, size in sizes.items()}
    chosen = refined(summed, times, INT8_BUDGET)
    of_groups = {group: one for unit in units for group, one in unit.formatted(choices[chosen[unit]]).items()}
    return of_groups, choices[chosen[None]]


def refined(
    losses: Mapping[Key, Sequence[float]], times: Mapping[Key, Sequence[float]], budget: float
) -> dict[Key, int]:
    """The index of each weight's choice: the first, unless all together cost more than the budget.

    Then the weights that gain most for the time they take are refined, until the budget is kept or nothing gains.

    Args:
        losses: The loss of each weight in each of its choices.
        times: The time of each weight in each of its choices; no choice is faster than the one before it.
        budget: The most that all may cost together.
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
