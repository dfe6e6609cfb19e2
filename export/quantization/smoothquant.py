"""SmoothQuant: move the size of outlier activations into the weights before both are rounded.

A few channels of a trained model's activations are far larger than all others, and a block's scale follows the largest:
the others are left with few steps. Dividing a layer's inputs by a number for each channel, and multiplying its weight's
columns by it, gives the same outputs. The division is folded into what makes the inputs: a norm's weight, or the rows
of `up_proj`. The numbers are powers of two, so that the float model's logits stay the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from minimind_edge.minimind import FeedForward, MiniMindBlock, MiniMindForCausalLM, MOEFeedForward

from ..progress import Share
from .formats import Format
from .sensitivity import Candidate, estimated_losses
from .short_products import short_products

ALPHAS = (None, 0.5, 0.75)
"""Migration strengths that are tried at each site: the share of an input's size that moves into the weights. None
leaves the site as it is; at 0.5, the outliers of inputs and weights become equally large."""

MOST_DOUBLINGS = 8
"""The largest scale, as a power of two; the smallest is its reciprocal."""

ROWS_AT_ONCE = 4

PEAKS = 0.12
"""The share of SmoothQuant's time that has passed when the sizes of its inputs are known."""


@dataclass(frozen=True, eq=False)
class SmoothingSite:
    """Layers that read the same inputs, and the weight that these inputs are proportional to.

    Attributes:
        source: [in], a norm's weight, or [in, H], the weight whose outputs the inputs are proportional to.
        layers: The layers whose weights are going to be rounded.
        routers: Router weights [E, in] that read the inputs too and stay float.
    """

    source: torch.Tensor
    layers: tuple[nn.Linear, ...]
    routers: tuple[torch.Tensor, ...] = ()

    def scales(self, peaks: torch.Tensor, alpha: float) -> torch.Tensor:
        """The divisors of the inputs, [in]: powers of two.

        Args:
            peaks: The largest size of each input, [in].
            alpha: The migration strength, see `ALPHAS`.

        Source:
            Xiao et al. 2023, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language
            Models", equation 4.
        """
        weights = torch.stack([layer.weight.detach().abs().amax(0) for layer in self.layers]).amax(0)
        wanted = alpha * _log2(peaks) - (1 - alpha) * _log2(weights)
        return torch.exp2((wanted - wanted.mean()).round().clamp(-MOST_DOUBLINGS, MOST_DOUBLINGS))

    @torch.no_grad()
    def apply(self, scales: torch.Tensor) -> None:
        """Divide the inputs by `scales` [in], and multiply the weights that read them."""
        self.source.div_(scales.reshape(-1, *[1] * (self.source.dim() - 1)))
        for weight in (*(layer.weight for layer in self.layers), *self.routers):
            weight.mul_(scales)


def smoothing_sites(model: MiniMindForCausalLM) -> Iterator[SmoothingSite]:
    """All sites of a model: the layers after its norms, and those after its `up_proj`."""
    for block in cast("Iterable[MiniMindBlock]", model.model.layers):
        attention = block.self_attn
        yield SmoothingSite(block.input_layernorm.weight, (attention.q_proj, attention.k_proj, attention.v_proj))
        networks, routers = _feed_forwards(block.mlp)
        readers = tuple(layer for network in networks for layer in (network.gate_proj, network.up_proj))
        yield SmoothingSite(block.post_attention_layernorm.weight, readers, routers)
        yield from (SmoothingSite(network.up_proj.weight, (network.down_proj,)) for network in networks)


def smooth(
    model: MiniMindForCausalLM, wanted: Format, tokens: torch.Tensor, progress: Share = lambda done: None
) -> dict[nn.Linear, float]:
    """Apply SmoothQuant at each site where it reduces the estimated loss; the logits stay what they are.

    Args:
        model: In float32, in eval mode; changed in place.
        wanted: The format that its weights are going to be rounded to.
        tokens: [N, S] int64, text.
        progress: Called with the share that is done.

    Returns:
        The estimated loss of rounding each layer of the blocks alone, see `estimated_losses`; layers of a width that
        the format cannot store are left out.
    """
    blocks = cast("Iterable[MiniMindBlock]", model.model.layers)
    linear = [module for block in blocks for module in block.modules() if isinstance(module, nn.Linear)]
    layers = [layer for layer in linear if wanted.block_of(layer.in_features)]
    sites = [site for site in smoothing_sites(model) if all(layer in layers for layer in site.layers)]
    peaks = _peaks(model, sites, tokens)
    scales = {site: [None if alpha is None else site.scales(peaks[site], alpha) for alpha in ALPHAS] for site in sites}
    candidates = {layer: [Candidate(wanted)] for layer in layers}
    candidates |= {layer: [Candidate(wanted, one) for one in scales[site]] for site in sites for layer in site.layers}
    losses = estimated_losses(model, candidates, tokens, lambda done: progress(PEAKS + (1 - PEAKS) * done))
    chosen = {layer: losses[layer][0] for layer in layers}
    for site in sites:
        totals = [sum(losses[layer][index] for layer in site.layers) for index in range(len(ALPHAS))]
        best = totals.index(min(totals))
        chosen |= {layer: losses[layer][best] for layer in site.layers}
        if (divisors := scales[site][best]) is not None:
            site.apply(divisors)
    return chosen


def _feed_forwards(mlp: nn.Module) -> tuple[list[FeedForward], tuple[torch.Tensor, ...]]:
    """The feed-forward networks after a block's second norm, and the router's weight where there is one."""
    if isinstance(mlp, MOEFeedForward):
        experts = (*mlp.experts, *getattr(mlp, "shared_experts", ()))
        return [cast("FeedForward", expert) for expert in experts], (mlp.gate.weight,)
    return [cast("FeedForward", mlp)], ()


@torch.no_grad()
def _peaks(
    model: MiniMindForCausalLM, sites: Iterable[SmoothingSite], tokens: torch.Tensor
) -> dict[SmoothingSite, torch.Tensor]:
    """The largest size of each input of each site, [in]."""
    peaks: dict[SmoothingSite, torch.Tensor] = {}

    def watching(site: SmoothingSite) -> Any:
        def hook(layer: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            largest = inputs[0].abs().flatten(0, -2).amax(0).float()
            peaks[site] = torch.maximum(largest, peaks.get(site, largest))

        return hook

    hooks = [site.layers[0].register_forward_pre_hook(watching(site)) for site in sites]
    try:
        for rows in tokens.split(ROWS_AT_ONCE):
            with short_products():
                model(rows, use_cache=False, logits_to_keep=1)
    finally:
        for hook in hooks:
            hook.remove()
    return peaks


def _log2(sizes: torch.Tensor) -> torch.Tensor:
    """The logarithms of sizes, which are first raised to the least size at which channels still differ."""
    least = (sizes.max() * 2.0 ** (-2 * MOST_DOUBLINGS)).clamp(min=torch.finfo(torch.float32).tiny)
    return sizes.clamp(min=least).log2()
