"""Root-mean-square normalization (RMSNorm)."""

from __future__ import annotations

import torch
from torch import nn


class RMSNorm(nn.Module):
    """RMSNorm over the last axis with a learned weight, computed in float32 for inputs of any dtype.

    Args:
        dim: Size of the last axis.
        eps: Epsilon, which is added to the mean square.

    Source:
        Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", equation 4.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize `x` [..., dim]; the result has the dtype of `x`."""
        wide = x.float()
        normalized = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * normalized.type_as(x)

    def extra_repr(self) -> str:
        """The width and epsilon, for `print(model)`."""
        return f"{self.weight.shape[0]}, eps={self.eps}"
