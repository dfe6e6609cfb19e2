"""Which weight gets how many bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from torch import nn

from minimind_edge.minimind import MiniMindBlock, MiniMindForCausalLM

from .formats import Format
from .groups import Group, model_groups

INT8 = Format(bits=8, block=128, symmetric=True)
INT4 = Format(bits=4, block=128, symmetric=False)
"""Large blocks, which ONNX Runtime multiplies with fastest: what they cost, eight bits where it matters win back."""


@dataclass(frozen=True)
class Unit:
    """Groups that get the same number of bits: one, or all of a block's routed experts, which one operator reads.

    Attributes:
        groups: At least one.
        size: Numbers in their weights.
        block: The largest block that all weights can have that one operator reads.
    """

    groups: tuple[Group, ...]
    size: int
    block: int

    def formatted(self, wanted: Format) -> dict[Group, Format]:
        """The format, with this unit's block, for each group."""
        return dict.fromkeys(self.groups, replace(wanted, block=min(self.block, wanted.block)))

    def layers(self, model: MiniMindForCausalLM) -> list[nn.Linear]:
        """All layers of its groups."""
        blocks = cast("list[MiniMindBlock]", list(model.model.layers))
        return [layer for group in self.groups for layer in group.layers(blocks[group.layer])]


def rounding_units(model: MiniMindForCausalLM) -> list[Unit]:
    """All units whose weights can be rounded: those whose width some block divides."""
    together: dict[tuple[object, ...], list[Group]] = {}
    for group in model_groups(model):
        key = (group.layer, "experts") if group.expert is not None else (group.layer, group.path, group.names)
        together.setdefault(key, []).append(group)
    blocks = cast("list[MiniMindBlock]", list(model.model.layers))
    units = []
    for groups in together.values():
        layers = [layer for group in groups for layer in group.layers(blocks[group.layer])]
        widths = {layer.in_features for layer in layers}
        found = [INT4.block_of(width) for width in widths]
        fitting = [block for block in found if block is not None]
        if len(fitting) == len(found):
            units.append(Unit(tuple(groups), sum(layer.weight.numel() for layer in layers), min(fitting)))
    return units


def mixed_formats(units: list[Unit], losses: Mapping[Unit, float], int8_share: float) -> dict[Group, Format]:
    """Eight bits for those units that bring most for their size, four for all others.

    Args:
        units: All of them.
        losses: What four bits cost each, see `estimated_losses`.
        int8_share: Of all these weights, the share that eight bits may be spent on, 0 to 1.
    """

    def gain(unit: Unit) -> float:
        return losses[unit] / unit.size

    left = int8_share * sum(unit.size for unit in units)
    formats: dict[Group, Format] = {}
    for unit in sorted(units, key=gain, reverse=True):
        fits = unit.size <= left
        formats |= unit.formatted(INT8 if fits else INT4)
        left -= unit.size if fits else 0
    return formats
