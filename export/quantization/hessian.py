"""What the inputs of linear layers look like: which errors of their weights do harm."""

from __future__ import annotations

import torch

ALL_TOKENS = 0.05
"""Of an expert's statistics, the part that every token has, chosen or not: few tokens may reach it, or none."""

PULL = 0.05
"""How strongly a moved target is held where it was, as a share of the mean curvature."""


def hessian_of(inputs: torch.Tensor, shares: torch.Tensor | None = None) -> torch.Tensor:
    """The mean over tokens of inputs' outer products, [in, in] float32.

    It is half the second derivative of a layer's mean squared output error by any of its rows.

    Args:
        inputs: [tokens, in].
        shares: What each token's output is weighted with, [tokens]; None for 1.
    """
    return correlation_of(inputs, inputs, shares)


def correlation_of(wanted: torch.Tensor, inputs: torch.Tensor, shares: torch.Tensor | None = None) -> torch.Tensor:
    """The mean over tokens of the outer products of the float model's inputs with the rounded one's; see `hessian_of`.

    Args:
        wanted: The float model's, [tokens, in].
        inputs: The rounded model's, [tokens, in].
        shares: See `hessian_of`.
    """
    everywhere = wanted.T @ inputs / len(inputs)
    if shares is None:
        return everywhere
    weights = shares.square()
    here = (wanted * weights[:, None]).T @ inputs / len(inputs)
    return here + ALL_TOKENS * everywhere * weights.mean().clamp(min=1 / len(inputs))


def moved_target(weight: torch.Tensor, hessian: torch.Tensor, correlation: torch.Tensor) -> torch.Tensor:
    """The weight that makes of the rounded model's inputs what `weight` makes of the float model's, as far as one can.

    Args:
        weight: [out, in].
        hessian: Of the rounded model's inputs, [in, in].
        correlation: Of both models' inputs, [in, in].

    Source:
        Li et al. 2025, "GPTAQ: Efficient Finetuning-Free Quantization for Asymmetric Calibration", section 3: the least
        squares that its update solves while it rounds are solved before.
    """
    damped = hessian.double()
    damped.diagonal().add_(PULL * damped.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny))
    change = (weight @ (correlation - hessian)).double()
    moved: torch.Tensor = weight + torch.linalg.solve(damped, change.T).T.float()
    return moved
