"""A block's inputs as calibration text goes through it, caught where its linear layers read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from minimind_edge.minimind import MiniMindBlock, MOEFeedForward

from .groups import Group

Rotation = tuple[torch.Tensor, torch.Tensor]

OnInputs = Callable[[Group, torch.Tensor, "torch.Tensor | None"], None]
"""Called with a group, its inputs [tokens, in], and each token's share in what a routed expert gives, [tokens]."""


@contextmanager
def catching(block: MiniMindBlock, groups: Sequence[Group], on_inputs: OnInputs) -> Iterator[None]:
    """Have `on_inputs` called before a group's first layer runs: what it does to the weights holds for this run."""
    shares: dict[str, torch.Tensor] = {}
    hooks = []
    if isinstance(block.mlp, MOEFeedForward):
        hooks.append(block.mlp.gate.register_forward_hook(_sharing(shares, len(block.mlp.experts))))
    for group in groups:
        first = group.module(block, group.names[0])
        hooks.append(first.register_forward_pre_hook(_caught(group, shares, on_inputs)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _sharing(shares: dict[str, torch.Tensor], experts: int) -> Callable[..., None]:
    """Notes each expert's share of each token, [tokens, E]."""

    def hook(gate: nn.Module, inputs: Any, outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
        chosen, weights, _ = outputs
        shares["all"] = weights.new_zeros(len(chosen), experts).scatter(1, chosen, weights)

    return hook


def _caught(group: Group, shares: dict[str, torch.Tensor], on_inputs: OnInputs) -> Callable[..., None]:
    def hook(layer: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        share = None if group.expert is None else shares["all"][:, group.expert]
        on_inputs(group, inputs[0].flatten(0, -2), share)

    return hook


def run_block(block: MiniMindBlock, hidden: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """A block over texts [N, S, H] from an empty past."""
    output: torch.Tensor = block(hidden, rotation)[0]
    return output
