"""Layer groups: linear layers that read the same input, and therefore share a format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from torch import nn

from minimind_edge.minimind import MOEFeedForward

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindBlock, MiniMindForCausalLM

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
"""The embedding and the head, which keep eight bits unless a head of four is asked for: every token reads them, and the
head's errors go straight into the logits. A tied head has no parameter of its own."""


@dataclass(frozen=True)
class Group:
    """Linear layers that read the same input and get the same format, so that a graph can compute them as one.

    Attributes:
        layer: Index of the block.
        path: Path, within the block, of the module that they are in.
        names: Names of the layers in that module, in the order in which they are called.
        expert: Index of the routed expert that they belong to; None for layers that every token goes through.
    """

    layer: int
    path: str
    names: tuple[str, ...]
    expert: int | None = None

    def module(self, block: nn.Module, name: str) -> nn.Linear:
        """One of the layers."""
        found = block.get_submodule(f"{self.path}.{name}")
        assert isinstance(found, nn.Linear)
        return found

    def layers(self, block: nn.Module) -> list[nn.Linear]:
        """All of the layers."""
        return [self.module(block, name) for name in self.names]

    def parameters(self) -> list[str]:
        """Names of the weights in the model."""
        return [f"model.layers.{self.layer}.{self.path}.{name}.weight" for name in self.names]


def block_groups(block: MiniMindBlock, layer: int) -> list[Group]:
    """The groups of one block, in the order in which it calls them."""
    return [
        Group(layer, "self_attn", ("q_proj", "k_proj", "v_proj")),
        Group(layer, "self_attn", ("o_proj",)),
        *_feed_forward_groups(block, layer),
    ]


def model_groups(model: MiniMindForCausalLM) -> list[Group]:
    """The groups of all blocks."""
    blocks = cast("Iterable[MiniMindBlock]", model.model.layers)
    return [group for layer, block in enumerate(blocks) for group in block_groups(block, layer)]


def _feed_forward_groups(block: MiniMindBlock, layer: int) -> Iterator[Group]:
    networks: list[tuple[str, int | None]] = [("mlp", None)]
    if isinstance(block.mlp, MOEFeedForward):
        networks = [(f"mlp.experts.{index}", index) for index in range(len(block.mlp.experts))]
        networks += [
            (f"mlp.shared_experts.{index}", None) for index in range(len(getattr(block.mlp, "shared_experts", ())))
        ]
    for path, expert in networks:
        yield Group(layer, path, ("gate_proj", "up_proj"), expert)
        yield Group(layer, path, ("down_proj",), expert)
