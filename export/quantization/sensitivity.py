"""Which weights' rounding the answers suffer from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch import nn

from minimind_edge.minimind import MiniMindBlock, MiniMindForCausalLM

from .formats import Format
from .groups import Group
from .rounding import nearest

SEED = 20250426
"""Of the tokens that are drawn to see what the model's likelihood depends on."""

ROWS_AT_ONCE = 4


def estimated_losses(
    model: MiniMindForCausalLM, groups: Iterable[Group], wanted: Format, tokens: torch.Tensor
) -> dict[Group, float]:
    """What rounding each group alone to the nearest would cost, KL divergence in nats a token, to second order.

    The divergence is half a change's square in the metric of Fisher's information: half the mean square of what the
    change of a layer's outputs does to the log-likelihood of a token drawn from the model itself.

    Args:
        model: The float model, in eval mode; its gradients are not touched.
        groups: Groups of linear layers.
        wanted: How they would be stored.
        tokens: [N, S] int64, text.

    Source:
        Kunstner et al. 2019, "Limitations of the Empirical Fisher Approximation", equation 6, for layers' outputs.
    """
    blocks = cast("list[MiniMindBlock]", list(model.model.layers))
    layers = {group: group.layers(blocks[group.layer]) for group in groups}
    errors = {
        layer: layer.weight.detach() - torch.from_numpy(nearest(layer.weight.detach(), wanted).dequantized())
        for found in layers.values()
        for layer in found
    }
    sums = dict.fromkeys(errors, 0.0)
    hooks = [layer.register_forward_hook(_summing(errors, sums)) for layer in errors]
    generator = torch.Generator().manual_seed(SEED)
    needed = [parameter.requires_grad for parameter in model.parameters()]
    try:
        model.requires_grad_(False)
        for rows in tokens.split(ROWS_AT_ONCE):
            _backward(model, rows, generator)
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, need in zip(model.parameters(), needed, strict=True):
            parameter.requires_grad_(need)
    return {group: sum(sums[layer] for layer in found) / (2 * tokens.numel()) for group, found in layers.items()}


def _summing(errors: Mapping[nn.Linear, torch.Tensor], sums: dict[nn.Linear, float]) -> Callable[..., None]:
    """Adds up the squares of what a layer's rounding does to the log-likelihood."""

    def forward(layer: nn.Linear, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        change = inputs[0].detach() @ errors[layer].T

        def backward(gradient: torch.Tensor) -> None:
            sums[layer] += float((gradient * change).sum(-1).square().sum())

        output.register_hook(backward)

    return forward


def _backward(model: MiniMindForCausalLM, rows: torch.Tensor, generator: torch.Generator) -> None:
    """Send back the gradient of the log-likelihood of tokens that are drawn from what the model gives for `rows`."""
    embedded = model.model.embed_tokens(rows).detach().requires_grad_(True)
    hook = model.model.embed_tokens.register_forward_hook(_given(embedded))
    try:
        logits = model(rows, use_cache=False).logits.flatten(0, 1)
    finally:
        hook.remove()
    drawn = torch.multinomial(logits.detach().softmax(-1), 1, generator=generator)
    logits.log_softmax(-1).gather(1, drawn).sum().backward()


def _given(value: torch.Tensor) -> Callable[..., torch.Tensor]:
    """A hook that puts a value in the place of a module's output."""

    def hook(module: nn.Module, inputs: Any, output: Any) -> torch.Tensor:
        return value

    return hook
