"""One weight rounded, with or without the inputs that it is going to meet; and those inputs, as integers meet them."""

from __future__ import annotations

import torch

from .formats import Format
from .gptq import compensated_integers
from .grid import fit_grid
from .matrix import QuantizedMatrix

LARGEST_INPUT = 127
"""Inputs become integers from -127 to 127."""


def nearest(weight: torch.Tensor, wanted: Format) -> QuantizedMatrix:
    """Round a weight [out, in] to the nearest integers."""
    grid = fit_grid(weight, wanted.bits, _block(weight, wanted), symmetric=wanted.symmetric)
    return grid.matrix(grid.integers(weight))


def compensated(weight: torch.Tensor, wanted: Format, hessian: torch.Tensor) -> QuantizedMatrix:
    """Round a weight [out, in] for inputs with this Hessian [in, in]; see `compensated_integers`."""
    grid = fit_grid(
        weight, wanted.bits, _block(weight, wanted), symmetric=wanted.symmetric, importance=hessian.diagonal()
    )
    return grid.matrix(compensated_integers(weight, grid, hessian))


def rounded_inputs(inputs: torch.Tensor, block: int) -> torch.Tensor:
    """Inputs [..., in] as `MatMulNBits` has them at accuracy level 4: eight bits, a scale for each token and block."""
    blocks = inputs.unflatten(-1, (-1, block))
    scales = blocks.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / LARGEST_INPUT
    values: torch.Tensor = (blocks / scales).round() * scales
    return values.flatten(-2)


def _block(weight: torch.Tensor, wanted: Format) -> int:
    block = wanted.block_of(weight.shape[1])
    assert block is not None
    return block
