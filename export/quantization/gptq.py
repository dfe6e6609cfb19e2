"""GPTQ: rounding weights one input at a time, where the weights not rounded yet compensate for the errors so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn

from minimind_edge.minimind import MiniMindBlock, MiniMindForCausalLM, MOEFeedForward

from ..progress import Progress
from .formats import Format, QuantizedMatrix
from .layer_groups import Group, block_groups
from .rounding import Grid, block_of, fit_grid

OnInputs = Callable[[Group, torch.Tensor, "torch.Tensor | None"], None]
"""A callable that takes a group, its inputs [tokens, in], and each token's routing weight for a routed expert, [tokens]
(None for layers that every token goes through)."""

COLUMNS_AT_ONCE = 128
"""The number of inputs in a batch of GPTQ's algorithm: within it errors are passed on one by one, after it as one
product."""

DAMPING = 0.01
"""The number that is added to the Hessian's diagonal, as a share of its mean: few tokens say little about rare
directions."""

ALL_TOKENS = 0.05
"""The weight of all tokens in an expert's Hessian, chosen or not: few tokens may reach an expert, or none."""

PULL = 0.05
"""How strongly GPTAQ's target is held to the float weight, as a share of the mean curvature."""


@torch.no_grad()
def gptq_quantize(
    model: MiniMindForCausalLM,
    formats: Mapping[Group, Format],
    tokens: torch.Tensor,
    embedded: torch.Tensor,
    progress: Progress,
) -> dict[str, QuantizedMatrix]:
    """Round the linear layers of all blocks; the model's weights become the dequantized integers.

    Two streams of hidden states run through the blocks, the float model's and the rounded model's.

    Args:
        model: The model, in float32; its embedding may have been rounded.
        formats: The format of each group of layers; a group that is missing stays float.
        tokens: [N, S] int64, the calibration text.
        embedded: [N, S, H], the text's embedding before that was rounded.
        progress: Called with a stage's name and the share that is done.

    Returns:
        The integers of each weight, by its parameter's name.
    """
    decoder = model.model
    rotation = decoder.rotary_emb(torch.arange(tokens.shape[1])[None])
    exact, rounded = embedded, decoder.embed_tokens(tokens)
    matrices: dict[str, QuantizedMatrix] = {}
    for layer, block in enumerate(cast("Iterable[MiniMindBlock]", decoder.layers)):
        progress(f"GPTQ, layer {layer + 1} of {len(decoder.layers)}", layer / len(decoder.layers))
        groups = [group for group in block_groups(block, layer) if group in formats]
        rounding = BlockRounding(block, formats, matrices)
        with inputs_watched(block, groups, rounding.keep):
            exact = block(exact, rotation)[0]
        with inputs_watched(block, groups, rounding.round):
            rounded = block(rounded, rotation)[0]
    return matrices


class BlockRounding:
    """The rounding of one block, while calibration text runs through it.

    Args:
        block: The block, whose weights become the dequantized integers.
        formats: The format of each group to round.
        matrices: The dictionary that the integers are added to.
    """

    def __init__(
        self, block: MiniMindBlock, formats: Mapping[Group, Format], matrices: dict[str, QuantizedMatrix]
    ) -> None:
        self._block = block
        self._formats = formats
        self._matrices = matrices
        self._exact: dict[Group, torch.Tensor] = {}

    def keep(self, group: Group, inputs: torch.Tensor, shares: torch.Tensor | None) -> None:
        """Keep the float model's inputs [tokens, in]."""
        self._exact[group] = inputs

    def round(self, group: Group, inputs: torch.Tensor, shares: torch.Tensor | None) -> None:
        """Round a group so that its outputs for the rounded model's inputs [tokens, in] are near the float model's."""
        hessian = hessian_of(inputs, shares)
        correlation = correlation_of(self._exact.pop(group), inputs, shares)
        for name, layer in zip(group.parameters(), group.layers(self._block), strict=True):
            target = gptaq_target(layer.weight, hessian, correlation)
            self._matrices[name] = gptq_matrix(target, self._formats[group], hessian)
            layer.weight.copy_(torch.from_numpy(self._matrices[name].dequantized()))


def gptq_matrix(weight: torch.Tensor, wanted: Format, hessian: torch.Tensor) -> QuantizedMatrix:
    """Round a weight [out, in] for inputs with this Hessian [in, in]; see `gptq_integers`."""
    grid = fit_grid(
        weight, wanted.bits, block_of(weight, wanted), symmetric=wanted.symmetric, importance=hessian.diagonal()
    )
    return grid.matrix(gptq_integers(weight, grid, hessian))


def gptq_integers(weight: torch.Tensor, grid: Grid, hessian: torch.Tensor, damping: float = DAMPING) -> torch.Tensor:
    """Integers for which `weight @ inputs` is nearer to its float value than for the nearest integers.

    Inputs are rounded in the order of their size, the largest first: then all other weights can compensate for them.

    Args:
        weight: [out, in].
        grid: The numbers that each weight may take.
        hessian: [in, in], see `hessian_of`.
        damping: See `DAMPING`.

    Returns:
        [out, in] float32, whole numbers of the grid.

    Source:
        Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
        algorithm 1; the order of the inputs is that of its implementation's `act-order`.
    """
    order = hessian.diagonal().argsort(descending=True, stable=True)
    factor = _inverse_factor(hessian[order][:, order], damping)
    scales = grid.scales.repeat_interleave(grid.block, dim=1)[:, order]
    zeros = grid.zeros.repeat_interleave(grid.block, dim=1)[:, order]
    left = weight[:, order].clone()  # the weights not rounded yet, with the errors that they compensate for
    integers = torch.empty_like(left)
    for start in range(0, left.shape[1], COLUMNS_AT_ONCE):
        stop = min(start + COLUMNS_AT_ONCE, left.shape[1])
        errors = torch.empty_like(left[:, start:stop])
        for column in range(start, stop):
            scale, zero = scales[:, column], zeros[:, column]
            chosen = (left[:, column] / scale + zero).round().clamp(0, grid.top)
            error = (left[:, column] - (chosen - zero) * scale) / factor[column, column]
            left[:, column + 1 : stop] -= error[:, None] * factor[column, column + 1 : stop]
            integers[:, column], errors[:, column - start] = chosen, error
        left[:, stop:] -= errors @ factor[start:stop, stop:]
    return integers[:, order.argsort()]


def _inverse_factor(hessian: torch.Tensor, damping: float) -> torch.Tensor:
    """The upper Cholesky factor of the damped inverse, [in, in] float32."""
    wide = hessian.double()
    wide.diagonal().add_(damping * wide.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(wide))
    factor: torch.Tensor = torch.linalg.cholesky(inverse, upper=True).float()
    return factor


def hessian_of(inputs: torch.Tensor, shares: torch.Tensor | None = None) -> torch.Tensor:
    """The mean over tokens of the outer products of the inputs, [in, in] float32.

    It is half the second derivative of a layer's mean squared output error with respect to any of its rows.

    Args:
        inputs: [tokens, in].
        shares: The factor of each token's output, [tokens]; None for 1.
    """
    return correlation_of(inputs, inputs, shares)


def correlation_of(exact: torch.Tensor, inputs: torch.Tensor, shares: torch.Tensor | None = None) -> torch.Tensor:
    """The mean over tokens of the outer products of the float model's inputs with the rounded model's.

    Args:
        exact: The float model's inputs, [tokens, in].
        inputs: The rounded model's inputs, [tokens, in].
        shares: See `hessian_of`.
    """
    everywhere = exact.T @ inputs / len(inputs)
    if shares is None:
        return everywhere
    weights = shares.square()
    here = (exact * weights[:, None]).T @ inputs / len(inputs)
    return here + ALL_TOKENS * everywhere * weights.mean().clamp(min=1 / len(inputs))


def gptaq_target(weight: torch.Tensor, hessian: torch.Tensor, correlation: torch.Tensor) -> torch.Tensor:
    """The weight whose outputs for the rounded model's inputs are nearest to those of `weight` for the float model's.

    Args:
        weight: [out, in].
        hessian: The Hessian of the rounded model's inputs, [in, in].
        correlation: The correlation of both models' inputs, [in, in].

    Source:
        Li et al. 2025, "GPTAQ: Efficient Finetuning-Free Quantization for Asymmetric Calibration", section 3: the least
        squares problem that its update solves while it rounds is solved before.
    """
    damped = hessian.double()
    damped.diagonal().add_(PULL * damped.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny))
    change = (weight @ (correlation - hessian)).double()
    target: torch.Tensor = weight + torch.linalg.solve(damped, change.T).T.float()
    return target


@contextmanager
def inputs_watched(block: MiniMindBlock, groups: Sequence[Group], on_inputs: OnInputs) -> Iterator[None]:
    """Call `on_inputs` before a group's first layer runs; weights that it changes are used in the same run."""
    shares: dict[str, torch.Tensor] = {}
    hooks = []
    if isinstance(block.mlp, MOEFeedForward):
        hooks.append(block.mlp.gate.register_forward_hook(_routing_hook(shares, len(block.mlp.experts))))
    for group in groups:
        first = group.module(block, group.names[0])
        hooks.append(first.register_forward_pre_hook(_input_hook(group, shares, on_inputs)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _routing_hook(shares: dict[str, torch.Tensor], experts: int) -> Callable[..., None]:
    """A forward hook that records each token's routing weight for each expert, [tokens, E]."""

    def hook(gate: nn.Module, inputs: Any, outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
        chosen, weights, _ = outputs
        shares["all"] = weights.new_zeros(len(chosen), experts).scatter(1, chosen, weights)

    return hook


def _input_hook(group: Group, shares: dict[str, torch.Tensor], on_inputs: OnInputs) -> Callable[..., None]:
    def hook(layer: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        share = None if group.expert is None else shares["all"][:, group.expert]
        on_inputs(group, inputs[0].flatten(0, -2), share)

    return hook
