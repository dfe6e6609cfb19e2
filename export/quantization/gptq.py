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
from .short_products import short_products

OnInputs = Callable[[Group, torch.Tensor, "torch.Tensor | None"], None]
"""A callable that takes a group, its inputs [tokens, in], and each token's routing weight for a routed expert, [tokens]
(None for layers that every token goes through)."""

COLUMNS_AT_ONCE = 32
"""The number of inputs in a batch of GPTQ's algorithm: within it errors are passed on one by one, after it as one
product."""

FACTORED_AT_ONCE = 128
"""The most rows of a matrix that LAPACK factors, see `_inverse_cholesky`."""

HESSIAN_BLOCK = 192
"""The least number of rows and columns of a Hessian that are computed as one product, see `hessian_of`."""

ROWS_AT_ONCE = 16
"""The texts that run through a block of the float model together: arrays of all would be too large to reuse memory."""

DAMPING = 0.01
"""The number that is added to the Hessian's diagonal, as a share of its mean: few tokens say little about rare
directions."""

ALL_TOKENS = 0.05
"""The weight of all tokens in an expert's Hessian, chosen or not: few tokens may reach an expert, or none."""

ONE_OF_OTHERS = 4
"""The tokens that do not reach an expert, of which one in so many stands for all in its Hessian."""

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
        with short_products(), inputs_watched(block, groups, rounding.keep):
            exact = torch.cat([block(rows, rotation)[0] for rows in exact.split(ROWS_AT_ONCE)])
        with short_products(), inputs_watched(block, groups, rounding.round):
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
        self._exact: dict[Group, list[torch.Tensor]] = {}

    def keep(self, group: Group, inputs: torch.Tensor, shares: torch.Tensor | None) -> None:
        """Keep the float model's inputs [tokens, in] for some more rows of the text."""
        self._exact.setdefault(group, []).append(inputs)

    def round(self, group: Group, inputs: torch.Tensor, shares: torch.Tensor | None) -> None:
        """Round a group so that its outputs for the rounded model's inputs [tokens, in] are near the float model's."""
        exact, weights = torch.cat(self._exact.pop(group)), None
        if shares is not None:
            chosen, weights = expert_sample(shares)
            exact, inputs = exact[chosen], inputs[chosen]
        hessian, difference = hessian_of(inputs, weights), difference_of(exact, inputs, weights)
        layers = group.layers(self._block)
        target = gptaq_target(torch.cat([layer.weight for layer in layers]), hessian, difference)
        matrix = gptq_matrix(target, self._formats[group], hessian)
        parts = matrix.split([layer.out_features for layer in layers])
        for name, layer, part in zip(group.parameters(), layers, parts, strict=True):
            self._matrices[name] = part
            layer.weight.copy_(torch.from_numpy(part.dequantized()))


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
    diagonal = factor.diagonal().tolist()
    # Everything is [in, out] here, so that what belongs to an input lies together in memory.
    scales, zeros = (part.T.contiguous()[order // grid.block] for part in (grid.scales, grid.zeros))
    left = weight.T.contiguous()[order]  # the weights not rounded yet, with the errors that they compensate for
    integers = torch.empty_like(left)
    for start in range(0, len(left), COLUMNS_AT_ONCE):
        stop = min(start + COLUMNS_AT_ONCE, len(left))
        errors = torch.empty_like(left[start:stop])
        for column in range(start, stop):
            scale, zero = scales[column], zeros[column]
            chosen = (left[column] / scale).add_(zero).round_().clamp_(0, grid.top)
            error = (left[column] - (chosen - zero).mul_(scale)).div_(diagonal[column])
            left[column + 1 : stop].addr_(factor[column, column + 1 : stop], error, alpha=-1)
            integers[column], errors[column - start] = chosen, error
        left[stop:].addmm_(factor[start:stop, stop:].T, errors, alpha=-1)
    return integers[order.argsort()].T


def _inverse_factor(hessian: torch.Tensor, damping: float) -> torch.Tensor:
    """The upper Cholesky factor of the damped inverse, [in, in] float32."""
    # For H with its rows and columns reversed, P H P = L L^T, the inverse of H is U^T U with the upper U = P L^-1 P.
    return _inverse_cholesky(_damped(hessian, damping).flip(0, 1))[1].flip(0, 1)


def _damped(hessian: torch.Tensor, damping: float) -> torch.Tensor:
    """The Hessian [in, in] with a share of its diagonal's mean added to the diagonal."""
    damped = hessian.clone()
    damped.diagonal().add_(damping * damped.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny))
    return damped


def _inverse_cholesky(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The lower Cholesky factor of a matrix [n, n], and the inverse of the factor.

    It goes by halves, so that nearly all of the work is in products: LAPACK's own inverse takes many times as long.
    """
    size = len(matrix)
    if size <= FACTORED_AT_ONCE:
        factor = torch.linalg.cholesky(matrix)
        unit = torch.eye(size, dtype=matrix.dtype)
        return factor.contiguous(), torch.linalg.solve_triangular(factor, unit, upper=False).contiguous()
    half = size // 2
    factor, inverse = torch.zeros_like(matrix), torch.zeros_like(matrix)
    first, first_inverse = _inverse_cholesky(matrix[:half, :half])
    below = matrix[half:, :half] @ first_inverse.T
    last, last_inverse = _inverse_cholesky(matrix[half:, half:] - below @ below.T)
    factor[:half, :half], factor[half:, :half], factor[half:, half:] = first, below, last
    inverse[:half, :half], inverse[half:, half:] = first_inverse, last_inverse
    inverse[half:, :half] = -last_inverse @ (below @ first_inverse)
    return factor, inverse


def expert_sample(shares: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens that an expert's statistics are taken from: those that reach it, and some of the others.

    Args:
        shares: The factor of the expert's output for each token, [tokens]; 0 where the token does not reach it.

    Returns:
        The tokens' indices, [N] int64, ascending, and the weights of their squared errors, [N].
    """
    squares = shares.square()
    everywhere = ALL_TOKENS * squares.mean().clamp(min=1 / len(shares))
    weights = squares + everywhere
    others = (squares == 0).nonzero().flatten()
    weights[others] = 0.0
    sample = others[::ONE_OF_OTHERS]
    weights[sample] = everywhere * len(others) / max(1, len(sample))
    chosen = weights.nonzero().flatten()
    return chosen, weights[chosen]


def hessian_of(inputs: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """The mean over tokens of the outer products of the inputs, [in, in] float32.

    It is half the second derivative of a layer's mean squared output error with respect to any of its rows.

    Args:
        inputs: [tokens, in].
        weights: The weight of each token's squared error, [tokens]; None for 1.
    """
    return _outer_products(inputs if weights is None else inputs * weights.sqrt()[:, None])


def _outer_products(inputs: torch.Tensor) -> torch.Tensor:
    """The mean outer product of inputs [tokens, in] with themselves, whose lower half is copied from the upper one."""
    width = inputs.shape[1]
    step = max(HESSIAN_BLOCK, -(-width // 4))
    result = inputs.new_empty(width, width)
    for start in range(0, width, step):
        stop = min(start + step, width)
        result[start:stop, start:] = inputs[:, start:stop].T @ inputs[:, start:] / len(inputs)
        result[stop:, start:stop] = result[start:stop, stop:].T
    return result


def difference_of(exact: torch.Tensor, inputs: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """The mean over tokens of the outer products of what the float model's inputs are more with the rounded model's.

    It only corrects a weight, so that products in bfloat16 are exact enough.

    Args:
        exact: The float model's inputs, [tokens, in].
        inputs: The rounded model's inputs, [tokens, in].
        weights: See `hessian_of`.
    """
    missing = exact - inputs
    with short_products():
        total = (missing if weights is None else missing * weights[:, None]).T @ inputs
    return total.float() / len(inputs)


def gptaq_target(weight: torch.Tensor, hessian: torch.Tensor, difference: torch.Tensor) -> torch.Tensor:
    """The weight whose outputs for the rounded model's inputs are nearest to those of `weight` for the float model's.

    Args:
        weight: [out, in].
        hessian: The Hessian of the rounded model's inputs, [in, in].
        difference: The correlation of the difference of both models' inputs, [in, in], see `difference_of`.

    Source:
        Li et al. 2025, "GPTAQ: Efficient Finetuning-Free Quantization for Asymmetric Calibration", section 3: the least
        squares problem that its update solves while it rounds is solved before.
    """
    inverse = _inverse_cholesky(_damped(hessian, PULL))[1]
    change: torch.Tensor = torch.linalg.multi_dot((weight, difference, inverse.T, inverse))
    return weight + change


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
        with torch.autocast("cpu", enabled=False):
            on_inputs(group, inputs[0].flatten(0, -2).float(), share)

    return hook
