"""Replacing experts whose code branches on data by experts that compute the same without a branch."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear, softmax

from ..errors import ExportError

DIVISION_GUARD = 1e-20

SAMPLES = 64
"""The number of random tokens on which the replacement must give the same outputs."""

CLOSE = 1e-4
"""The largest difference that another order of summation may make, relative to the largest output."""


class StaticExperts(nn.Module):
    """The routing of MiniMind with a model's own experts: each expert computes every token, the router selects.

    Args:
        original: The owner's module with `gate` and `experts`, and possibly `shared_experts`.
        top_k: The number of experts of a token.
        normalizes: Whether the experts' weights are rescaled to sum to 1.
    """

    def __init__(self, original: Any, top_k: int, normalizes: bool) -> None:
        super().__init__()
        self.gate: Any = original.gate
        self.experts: Any = original.experts
        self.shared_experts = getattr(original, "shared_experts", ())
        self.top_k = top_k
        self.normalizes = normalizes
        self.aux_loss = torch.zeros(())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, S, H] to [B, S, H]."""
        scores = softmax(linear(x, self.gate.weight), dim=-1)
        weights, chosen = torch.topk(scores, self.top_k, dim=-1)
        if self.normalizes:
            weights = weights / (weights.sum(dim=-1, keepdim=True) + DIVISION_GUARD)
        shares = torch.zeros_like(scores).scatter(-1, chosen, weights)
        parts = [expert(x) * shares[..., index, None] for index, expert in enumerate(self.experts)]
        total: torch.Tensor = functools.reduce(torch.add, [*parts, *(expert(x) for expert in self.shared_experts)])
        return total


def exchange_experts(model: nn.Module) -> list[str]:
    """Replace each module that computes the same by branches on data with `StaticExperts`.

    Returns:
        The names of the modules that have experts and compute something else; these stay as they are.
    """
    kept = []
    for name, module in list(model.named_modules()):
        if not _has_experts(module):
            continue
        exchanged = _equal_experts(module)
        if exchanged is None:
            kept.append(name)
        else:
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, exchanged)
    return kept


def _has_experts(module: nn.Module) -> bool:
    experts, gate = getattr(module, "experts", None), getattr(module, "gate", None)
    return isinstance(experts, nn.ModuleList) and isinstance(getattr(gate, "weight", None), torch.Tensor)


def _equal_experts(module: Any) -> StaticExperts | None:
    """Static experts that give what the module gives for random tokens; None where they do not."""
    config = getattr(module, "config", None)
    top_k = getattr(config, "num_experts_per_tok", None) or getattr(module.gate, "top_k", None)
    if not isinstance(top_k, int):
        return None
    width = module.gate.weight.shape[1]
    tokens = torch.randn((1, SAMPLES, width), generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            expected = module(tokens)
            for normalizes in (True, False):
                candidate = StaticExperts(module, top_k, normalizes).eval()
                if torch.allclose(candidate(tokens), expected, rtol=0, atol=CLOSE * float(expected.abs().max())):
                    return candidate
    except (RuntimeError, TypeError, AttributeError, IndexError):  # its inputs or outputs have another form
        return None
    return None


def require_static(error: Exception, kept: list[str]) -> ExportError:
    """The error for a model whose trace failed because its code branches on data.

    Args:
        error: The exception that the trace raised.
        kept: See `exchange_experts`.
    """
    where = f": look at {', '.join(kept[:2])}" if kept else ""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return ExportError(
        f"the model's code cannot be traced ({type(error).__name__}: {lines[0] if lines else ''}); what branches on "
        f"data must be written without the branch, see 'Exporting a changed model' in the documentation{where}"
    )
