"""Root-mean-square normalisation."""

from __future__ import annotations

import torch
from torch import nn


class RMSNorm(nn.Module):
    """Scale the last axis to unit root mean square, then by a learned weight; computed in float32 whatever comes in.

    Args:
        dim: Size of the last axis.
        eps: Added to the mean square.

    Source:
        Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", equation 4.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise `x` [..., dim]; the result has its dtype."""
        wide = x.float()
        normalized = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * normalized.type_as(x)

    def extra_repr(self) -> str:
        """Width and epsilon, for `print(model)`."""
        return f"{self.weight.shape[0]}, eps={self.eps}"
