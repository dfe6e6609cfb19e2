"""Muon, in one pass per matrix shape."""

from __future__ import annotations

from collections.abc import Iterable

import torch

# Quintic whose repeated application drives singular values towards 1.
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalized(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Replace the singular values of each matrix by ones, roughly (0.7 to 1.2).

    Args:
        matrices: [N, R, C] with R <= C.
        steps: Newton-Schulz iterations.

    Returns:
        [N, R, C] bfloat16.

    Source:
        Keller Jordan 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    x: torch.Tensor = matrices.bfloat16()
    x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).bfloat16()
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = _A * x + (_B * gram + _C * (gram @ gram)) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Momentum, then an orthogonal step, for the weight matrices of hidden layers.

    Args:
        params: Matrices [R, C]; those of one shape, either way up, are stepped together.
        lr: Step size; a matrix with more rows than columns takes sqrt(R / C) times it.
        momentum: The momentum of the gradients' running mean, with Nesterov's look-ahead.
        weight_decay: The share of the weight that is subtracted per unit of step size.
    """

    def __init__(
        self, params: Iterable[torch.nn.Parameter], lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        by_shape: dict[tuple[int, ...], list[torch.nn.Parameter]] = {}
        for param in params:
            by_shape.setdefault(tuple(sorted(param.shape)), []).append(param)
        groups = [{"params": group} for group in by_shape.values()]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step; every parameter needs its gradient."""
        for group in self.param_groups:
            params: list[torch.nn.Parameter] = group["params"]
            lookahead = []
            for param in params:
                assert param.grad is not None
                state = self.state[param]
                if not state:
                    state["momentum"] = torch.zeros_like(param)
                state["momentum"].lerp_(param.grad, 1 - group["momentum"])
                wide = param.grad.lerp(state["momentum"], group["momentum"])
                lookahead.append(wide.T if _is_tall(param) else wide)
            updates = orthogonalized(torch.stack(lookahead))
            for param, update in zip(params, updates, strict=True):
                param.mul_(1 - group["lr"] * group["weight_decay"])
                scale = max(1.0, param.shape[0] / param.shape[1]) ** 0.5
                param.add_(update.T if _is_tall(param) else update, alpha=-group["lr"] * scale)


def _is_tall(matrix: torch.Tensor) -> bool:
    return matrix.shape[0] > matrix.shape[1]
