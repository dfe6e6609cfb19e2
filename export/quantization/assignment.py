"""Which weight gets how many bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from minimind_edge.minimind import MiniMindForCausalLM

from .formats import Format
from .groups import Group, model_groups

INT8 = Format(bits=8, block=32, symmetric=True)
INT4 = Format(bits=4, block=32, symmetric=False)


@dataclass(frozen=True)
class Weights:
    """A group with what its layers are made of.

    Attributes:
        group: The group.
        size: Numbers in its weights.
        inputs: Their width.
    """

    group: Group
    size: int
    inputs: int


def block_weights(model: MiniMindForCausalLM) -> list[Weights]:
    """All groups whose weights can be rounded: those whose width some block divides."""
    found = []
    for group in model_groups(model):
        layers: list[nn.Linear] = group.layers(model.model.layers[group.layer])
        inputs = layers[0].in_features
        if INT8.block_of(inputs) is not None:
            found.append(Weights(group, sum(layer.weight.numel() for layer in layers), inputs))
    return found


def mixed_formats(weights: list[Weights], losses: Mapping[Group, float], int8_share: float) -> dict[Group, Format]:
    """Eight bits for those groups that bring most for their size, four for all others.

    Args:
        weights: All groups.
        losses: What four bits cost each, see `estimated_losses`.
        int8_share: Of all these weights, the share that eight bits may be spent on, 0 to 1.
    """
    left = int8_share * sum(one.size for one in weights)
    formats = {one.group: INT4 for one in weights}
    for one in sorted(weights, key=lambda one: losses[one.group] / one.size, reverse=True):
        if one.size <= left:
            formats[one.group] = INT8
            left -= one.size
    return formats
