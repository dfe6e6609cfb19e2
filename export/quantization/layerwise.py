"""Block after block rounded, each for the inputs that the rounded blocks before it give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import cast

import torch

from minimind_edge.minimind import MiniMindBlock, MiniMindForCausalLM

from .formats import Format
from .groups import Group, block_groups
from .hessian import correlation_of, hessian_of, moved_target
from .matrix import QuantizedMatrix
from .rounding import compensated
from .streams import catching, run_block

Progress = Callable[[str, float], None]


class BlockRounding:
    """The rounding of one block, while calibration text runs through it.

    Args:
        block: Its weights become what the integers stand for.
        formats: Of the groups to round.
        matrices: What is rounded is added here.
    """

    def __init__(
        self, block: MiniMindBlock, formats: Mapping[Group, Format], matrices: dict[str, QuantizedMatrix]
    ) -> None:
        self._block = block
        self._formats = formats
        self._matrices = matrices
        self._wanted: dict[Group, torch.Tensor] = {}

    def keep(self, group: Group, inputs: torch.Tensor, shares: torch.Tensor | None) -> None:
        """Note the float model's inputs [tokens, in]."""
        self._wanted[group] = inputs

    def round(self, group: Group, inputs: torch.Tensor, shares: torch.Tensor | None) -> None:
        """Round a group for the rounded model's inputs [tokens, in], so that they give what the float ones gave."""
        hessian = hessian_of(inputs, shares)
        correlation = correlation_of(self._wanted.pop(group), inputs, shares)
        for name, layer in zip(group.parameters(), group.layers(self._block), strict=True):
            target = moved_target(layer.weight, hessian, correlation)
            self._matrices[name] = compensated(target, self._formats[group], hessian)
            layer.weight.copy_(torch.from_numpy(self._matrices[name].dequantized()))


@torch.no_grad()
def round_blocks(
    model: MiniMindForCausalLM,
    formats: Mapping[Group, Format],
    tokens: torch.Tensor,
    embedded: torch.Tensor,
    progress: Progress,
) -> dict[str, QuantizedMatrix]:
    """Round the linear layers of all blocks; the model's weights become what the integers stand for.

    Two streams of hidden states run through the blocks, the float model's and the rounded one's.

    Args:
        model: In float32; its embedding may have been rounded.
        formats: Of each group of layers; a group that is missing stays float.
        tokens: [N, S] int64, the calibration text.
        embedded: [N, S, H], its embedding before that was rounded.
        progress: Called with a stage's name and the share that is done.

    Returns:
        What each weight became, by its parameter's name.
    """
    decoder = model.model
    rotation = decoder.rotary_emb(torch.arange(tokens.shape[1])[None])
    exact, rounded = embedded, decoder.embed_tokens(tokens)
    matrices: dict[str, QuantizedMatrix] = {}
    for layer, block in enumerate(cast("Iterable[MiniMindBlock]", decoder.layers)):
        progress(f"rounding layer {layer + 1} of {len(decoder.layers)}", layer / len(decoder.layers))
        groups = [group for group in block_groups(block, layer) if group in formats]
        rounding = BlockRounding(block, formats, matrices)
        with catching(block, groups, rounding.keep):
            exact = run_block(block, exact, rotation)
        with catching(block, groups, rounding.round):
            rounded = run_block(block, rounded, rotation)
    return matrices
