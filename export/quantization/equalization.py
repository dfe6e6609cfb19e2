"""Inputs evened out before they are rounded: what is too large in a channel, the weights behind it take over.

A few channels of a trained model's activations are far larger than all others, and a block's scale follows the largest:
the others are left with few steps. A layer's inputs divided by a number for each channel, and its weight's columns
multiplied by it, give the same outputs; the division is done by what makes the inputs: a norm's weight, or the rows of
`up_proj`. The numbers are powers of two, so that the float model's logits stay the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from minimind_edge.minimind import FeedForward, MiniMindBlock, MiniMindForCausalLM, MOEFeedForward

from .formats import Format
from .sensitivity import Candidate, estimated_losses

POWERS = (None, 0.5, 0.75)
"""Shares of an input's size that its weights take over, of which each site gets the best; None for nothing. At a half,
inputs and weights become as uneven as each other."""

MOST_DOUBLINGS = 8
"""Channels are brought nearer to the others by a factor of at most 2 to this power, either way."""

ROWS_AT_ONCE = 4


@dataclass(frozen=True, eq=False)
class Site:
    """Layers that read the same inputs, and what makes these.

    Attributes:
        source: [in], a norm's weight, or [in, H], the weight whose outputs the inputs are proportional to.
        layers: Whose weights are going to be rounded.
        routers: Weights [E, in] that read the inputs too and stay float.
    """

    source: torch.Tensor
    layers: tuple[nn.Linear, ...]
    routers: tuple[torch.Tensor, ...] = ()

    def scales(self, peaks: torch.Tensor, power: float) -> torch.Tensor:
        """What to divide the inputs by, [in]: powers of two.

        Args:
            peaks: The largest size of each input, [in].
            power: Share that the weights take over.

        Source:
            Xiao et al. 2023, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language
            Models", equation 4.
        """
        weights = torch.stack([layer.weight.detach().abs().amax(0) for layer in self.layers]).amax(0)
        uneven = power * _log2(peaks) - (1 - power) * _log2(weights)
        return torch.exp2((uneven - uneven.mean()).round().clamp(-MOST_DOUBLINGS, MOST_DOUBLINGS))

    @torch.no_grad()
    def divide(self, scales: torch.Tensor) -> None:
        """Have the inputs come divided by `scales` [in], and the outputs stay as they are."""
        self.source.div_(scales.reshape(-1, *[1] * (self.source.dim() - 1)))
        for weight in (*(layer.weight for layer in self.layers), *self.routers):
            weight.mul_(scales)


def sites(model: MiniMindForCausalLM) -> Iterator[Site]:
    """All sites of a model: what its norms feed, and what its `up_proj` feed."""
    for block in cast("Iterable[MiniMindBlock]", model.model.layers):
        attention = block.self_attn
        yield Site(block.input_layernorm.weight, (attention.q_proj, attention.k_proj, attention.v_proj))
        networks, routers = _feed_forwards(block.mlp)
        readers = tuple(layer for network in networks for layer in (network.gate_proj, network.up_proj))
        yield Site(block.post_attention_layernorm.weight, readers, routers)
        yield from (Site(network.up_proj.weight, (network.down_proj,)) for network in networks)


def equalize(model: MiniMindForCausalLM, wanted: Format, tokens: torch.Tensor) -> dict[nn.Linear, float]:
    """Even out the inputs of a model's layers where that brings something; its logits stay what they are.

    Args:
        model: In float32, in eval mode; changed in place.
        wanted: How its weights are going to be rounded.
        tokens: [N, S] int64, text.

    Returns:
        What rounding each layer of the blocks alone is then estimated to cost, see `estimated_losses`; layers of a
        width that no block divides are left out.
    """
    blocks = cast("Iterable[MiniMindBlock]", model.model.layers)
    linear = [module for block in blocks for module in block.modules() if isinstance(module, nn.Linear)]
    layers = [layer for layer in linear if wanted.block_of(layer.in_features)]
    found = [site for site in sites(model) if all(layer in layers for layer in site.layers)]
    peaks = _peaks(model, found, tokens)
    scales = {site: [None if power is None else site.scales(peaks[site], power) for power in POWERS] for site in found}
    candidates = {layer: [Candidate(wanted)] for layer in layers}
    candidates |= {layer: [Candidate(wanted, one) for one in scales[site]] for site in found for layer in site.layers}
    losses = estimated_losses(model, candidates, tokens)
    chosen = {layer: losses[layer][0] for layer in layers}
    for site in found:
        totals = [sum(losses[layer][index] for layer in site.layers) for index in range(len(POWERS))]
        best = totals.index(min(totals))
        chosen |= {layer: losses[layer][best] for layer in site.layers}
        if (divisor := scales[site][best]) is not None:
            site.divide(divisor)
    return chosen


def _feed_forwards(mlp: nn.Module) -> tuple[list[FeedForward], tuple[torch.Tensor, ...]]:
    """The networks that read a block's second norm, and the router where there is one."""
    if isinstance(mlp, MOEFeedForward):
        experts = (*mlp.experts, *getattr(mlp, "shared_experts", ()))
        return [cast("FeedForward", expert) for expert in experts], (mlp.gate.weight,)
    return [cast("FeedForward", mlp)], ()


@torch.no_grad()
def _peaks(model: MiniMindForCausalLM, found: Iterable[Site], tokens: torch.Tensor) -> dict[Site, torch.Tensor]:
    """The largest size of each input of each site, [in]."""
    peaks: dict[Site, torch.Tensor] = {}

    def watching(site: Site) -> Any:
        def hook(layer: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            largest = inputs[0].abs().flatten(0, -2).amax(0)
            peaks[site] = torch.maximum(largest, peaks.get(site, largest))

        return hook

    hooks = [site.layers[0].register_forward_pre_hook(watching(site)) for site in found]
    try:
        for rows in tokens.split(ROWS_AT_ONCE):
            model(rows, use_cache=False, logits_to_keep=1)
    finally:
        for hook in hooks:
            hook.remove()
    return peaks


def _log2(sizes: torch.Tensor) -> torch.Tensor:
    """Logarithms; of a channel that is all but dead, that of the least of the others' sizes worth telling apart."""
    least = (sizes.max() * 2.0 ** (-2 * MOST_DOUBLINGS)).clamp(min=torch.finfo(torch.float32).tiny)
    return sizes.clamp(min=least).log2()
