"""Sensitivity: the KL divergence that rounding a layer would cost, estimated for many formats at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

from minimind_edge.minimind import MiniMindForCausalLM

from ..progress import Share
from .formats import Format
from .rounding import nearest_grid, rounded_inputs

SEED = 20250426
"""The seed of the tokens that are drawn from the model's own distribution."""

ROWS_AT_ONCE = 12

ROUNDED = 0.3
"""The share of the time of an estimate that has passed when all candidates are rounded."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to store a layer's weight [out, in].

    Attributes:
        format: The format of the integers.
        scales: SmoothQuant's scales, [in] float32: the layer's inputs are divided by them and its weight's columns
            multiplied; None for 1.
    """

    format: Format
    scales: torch.Tensor | None = None


Candidates: TypeAlias = Mapping[nn.Linear, Sequence[Candidate]]


def estimated_losses(
    model: MiniMindForCausalLM, candidates: Candidates, tokens: torch.Tensor, progress: Share = lambda done: None
) -> dict[nn.Linear, list[float]]:
    """The KL divergence of each candidate alone, in nats per token, to second order.

    The divergence is half a change's square in the metric of the Fisher information: half the mean square of the effect
    that a change of a layer's outputs has on the log-likelihood of a token drawn from the model itself. The change is
    that of weights rounded to nearest and, where the format has it, of inputs rounded to eight bits.

    Args:
        model: The float model, in eval mode; its gradients are not touched.
        candidates: The candidates of each layer that is to be estimated.
        tokens: [N, S] int64, text.
        progress: Called with the share that is done.

    Returns:
        The losses of each layer's candidates, in their order.

    Source:
        Kunstner et al. 2019, "Limitations of the Empirical Fisher Approximation", equation 6, for layers' outputs.
    """
    layers: dict[nn.Linear, _Layer] = {}
    for index, (layer, given) in enumerate(candidates.items()):
        progress(ROUNDED * index / len(candidates))
        layers[layer] = _Layer([_Rounded(layer.weight.detach(), one) for one in given])
    hooks = [layer.register_forward_hook(one.watch) for layer, one in layers.items()]
    generator = torch.Generator().manual_seed(SEED)
    needed = [parameter.requires_grad for parameter in model.parameters()]
    try:
        model.requires_grad_(False)
        batches = tokens.split(ROWS_AT_ONCE)
        for index, rows in enumerate(batches):
            progress(ROUNDED + (1 - ROUNDED) * index / len(batches))
            _backward(model, rows, generator)
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, need in zip(model.parameters(), needed, strict=True):
            parameter.requires_grad_(need)
    return {layer: [total / (2 * tokens.numel()) for total in one.sums] for layer, one in layers.items()}


class _Rounded:
    """A weight that is rounded in a candidate's format."""

    def __init__(self, weight: torch.Tensor, candidate: Candidate) -> None:
        self._scales = candidate.scales
        self._rounds_inputs = candidate.format.rounds_inputs
        scaled = weight if self._scales is None else weight * self._scales
        self._grid = nearest_grid(scaled, candidate.format)
        self._integers = self._grid.integers(scaled).to(torch.uint8)

    def effect(self, inputs: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """The outputs for `inputs` [..., in] projected on `gradient` [..., out], [...]."""
        scaled = inputs if self._scales is None else inputs / self._scales
        along = gradient @ self._grid.values(self._integers)
        met = rounded_inputs(scaled, self._grid.block) if self._rounds_inputs else scaled
        return (met * along).sum(-1)


class _Layer:
    """Sums, for each candidate, the squared effects of rounding on the log-likelihood of each token."""

    def __init__(self, candidates: Sequence[_Rounded]) -> None:
        self.sums = [0.0] * len(candidates)
        self._candidates = candidates

    def watch(self, layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        """A forward hook, whose work is done once the gradient of the output is known."""
        given, exact = inputs[0].detach(), output.detach()

        def backward(gradient: torch.Tensor) -> None:
            unrounded = (gradient * exact).sum(-1)
            for index, candidate in enumerate(self._candidates):
                self.sums[index] += float((candidate.effect(given, gradient) - unrounded).square().sum())

        output.register_hook(backward)


def _backward(model: MiniMindForCausalLM, rows: torch.Tensor, generator: torch.Generator) -> None:
    """Backpropagate the log-likelihood of tokens that are drawn from the model's distribution for `rows`."""
    embedded = model.model.embed_tokens(rows).detach().requires_grad_(True)
    hook = model.model.embed_tokens.register_forward_hook(_given(embedded))
    try:
        logits = model(rows, use_cache=False).logits.flatten(0, 1)
    finally:
        hook.remove()
    drawn = torch.multinomial(logits.detach().softmax(-1), 1, generator=generator)
    logits.log_softmax(-1).gather(1, drawn).sum().backward()


def _given(value: torch.Tensor) -> Callable[..., torch.Tensor]:
    """A forward hook that replaces a module's output."""

    def hook(module: nn.Module, inputs: Any, output: Any) -> torch.Tensor:
        return value

    return hook
