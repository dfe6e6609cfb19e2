"""Rounding that makes up for its own errors: what one input's weights lose, those of the inputs after it take over."""

from __future__ import annotations

import torch

from .grid import Grid

COLUMNS_AT_ONCE = 128
"""Inputs whose errors are passed on one by one; to all others they are passed on together, as one product."""

DAMPING = 0.01
"""Added to the diagonal, as a share of its mean: few tokens say little about rare directions."""


def compensated_integers(
    weight: torch.Tensor, grid: Grid, hessian: torch.Tensor, damping: float = DAMPING
) -> torch.Tensor:
    """Integers that make `weight @ inputs` come out nearer than the nearest integers do.

    Inputs are taken in the order of their size, the largest first: those have all others to make up for them.

    Args:
        weight: [out, in].
        grid: The numbers that it may become.
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
    left = weight[:, order].clone()  # what the inputs that are not rounded yet are to make up for is in it
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
