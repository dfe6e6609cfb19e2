"""Sensitivity: the KL divergence that rounding a layer would cost, estimated for many formats at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

from minimind_edge.minimind import MiniMindForCausalLM

from ..progress import Share
from .formats import Format
from .rounding import nearest_grid, rounded_inputs
from .short_products import short_products

SEED = 20250426
"""The seed of the tokens that are drawn from the model's own distribution."""

ROWS_AT_ONCE = 8

TOKENS_AT_ONCE = 128
"""The tokens whose numbers are worked on together between two products: so many stay in a processor's cache."""

ROUNDED = 0.25
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
    that of weights rounded to nearest and, where the format has it, of inputs rounded to eight bits. The rounding of
    bfloat16 is small next to that of four bits, so that products have it where all candidates are of four.

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
    met = _MetInputs()
    for index, (layer, given) in enumerate(candidates.items()):
        progress(ROUNDED * index / len(candidates))
        layers[layer] = _Layer([_Rounded(layer.weight.detach(), one) for one in given], met)
    hooks = [layer.register_forward_hook(one.watch) for layer, one in layers.items()]
    generator = torch.Generator().manual_seed(SEED)
    is_short = all(one.format.bits == 4 for given in candidates.values() for one in given)
    needed = [parameter.requires_grad for parameter in model.parameters()]
    try:
        model.requires_grad_(False)
        batches = tokens.split(ROWS_AT_ONCE)
        for index, rows in enumerate(batches):
            progress(ROUNDED + (1 - ROUNDED) * index / len(batches))
            with short_products() if is_short else nullcontext():
                logits = _logits(model, rows)
            logits.backward(gradient_of_drawn(logits.detach(), generator))
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, need in zip(model.parameters(), needed, strict=True):
            parameter.requires_grad_(need)
    return {layer: [total / (2 * tokens.numel()) for total in one.sums] for layer, one in layers.items()}


class _Rounded:
    """A weight that is rounded in a candidate's format."""

    def __init__(self, weight: torch.Tensor, candidate: Candidate) -> None:
        self.scales = candidate.scales
        self.rounds_inputs = candidate.format.rounds_inputs
        scaled = weight if self.scales is None else weight * self.scales
        self._grid = nearest_grid(scaled, candidate.format)
        self._integers = self._grid.integers(scaled).to(torch.uint8)

    @property
    def block(self) -> int:
        """The number of inputs that share a scale."""
        return self._grid.block

    def effect(self, met: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """The outputs for the inputs `met` [T, in] projected on `gradient` [T, out], [T] float32."""
        along = gradient @ self._grid.values(self._integers).to(gradient.dtype)
        effect: torch.Tensor = torch.linalg.vecdot(met, along.float())
        return effect


class _MetInputs:
    """The inputs that a rounded layer multiplies. Layers that read the same inputs share them."""

    def __init__(self) -> None:
        self._inputs: torch.Tensor | None = None
        self._found: dict[tuple[int, int, bool], torch.Tensor] = {}

    def of(self, inputs: torch.Tensor, candidate: _Rounded) -> torch.Tensor:
        """The inputs [..., in] as the candidate's weight meets them, divided by its scales and rounded, [T, in]."""
        if self._inputs is not inputs:
            self._inputs, self._found = inputs, {}
        key = id(candidate.scales), candidate.block, candidate.rounds_inputs
        if key not in self._found:
            rows = inputs.detach().flatten(0, -2).float()
            self._found[key] = torch.cat([_met(part, candidate) for part in rows.split(TOKENS_AT_ONCE)])
        return self._found[key]


def _met(inputs: torch.Tensor, candidate: _Rounded) -> torch.Tensor:
    scaled = inputs if candidate.scales is None else inputs / candidate.scales
    return rounded_inputs(scaled, candidate.block) if candidate.rounds_inputs else scaled


class _Layer:
    """Sums, for each candidate, the squared effects of rounding on the log-likelihood of each token."""

    def __init__(self, candidates: Sequence[_Rounded], met: _MetInputs) -> None:
        self.sums = [0.0] * len(candidates)
        self._candidates = candidates
        self._met = met

    def watch(self, layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        """A forward hook, whose work is done once the gradient of the output is known."""
        exact = output.detach()  # `output` itself would never be freed, as it holds the hook

        def backward(gradient: torch.Tensor) -> None:
            along = gradient.flatten(0, -2)
            unrounded = torch.linalg.vecdot(along.float(), exact.flatten(0, -2).float())
            for index, candidate in enumerate(self._candidates):
                effect = candidate.effect(self._met.of(inputs[0], candidate), along)
                self.sums[index] += float((effect - unrounded).square().sum())

        output.register_hook(backward)


def _logits(model: MiniMindForCausalLM, rows: torch.Tensor) -> torch.Tensor:
    """The logits for `rows`, [N * S, V], from which gradients flow back to all layers of the blocks."""
    embedded = model.model.embed_tokens(rows).detach().requires_grad_(True)
    hook = model.model.embed_tokens.register_forward_hook(_given(embedded))
    try:
        logits: torch.Tensor = model(rows, use_cache=False).logits
    finally:
        hook.remove()
    return logits.flatten(0, 1)


def gradient_of_drawn(logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The gradient of the log-likelihood of one token drawn for each row of logits [T, V], with respect to them."""
    gradient = torch.empty_like(logits)
    for part, result in zip(logits.split(TOKENS_AT_ONCE), gradient.split(TOKENS_AT_ONCE), strict=True):
        shares = part.float().softmax(-1)
        sums = shares.cumsum(-1)
        drawn = torch.searchsorted(sums, torch.rand(len(sums), 1, generator=generator) * sums[:, -1:])
        result.copy_(shares.neg_().scatter_add_(1, drawn, torch.ones(drawn.shape)))
    return gradient


def _given(value: torch.Tensor) -> Callable[..., torch.Tensor]:
    """A forward hook that replaces a module's output."""

    def hook(module: nn.Module, inputs: Any, output: Any) -> torch.Tensor:
        return value

    return hook
