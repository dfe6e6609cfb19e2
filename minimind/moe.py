"""Mixture of experts in static operators: every expert computes every token, and the router's weights select."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.functional import linear, one_hot, softmax

from .config import MiniMindConfig
from .feed_forward import FeedForward

DIVISION_GUARD = 1e-20


class MoEGate(nn.Module):
    """The router, which scores each expert for each token and keeps the best k.

    Source:
        Shazeer et al. 2017, "Outrageously Large Neural Networks", section 2.1; balancing loss: Fedus et al. 2021,
        "Switch Transformers", equation 4, and per sequence Dai et al. 2024, "DeepSeekMoE", equations 12 to 14.
    """

    def __init__(self, config: MiniMindConfig) -> None:
        super().__init__()
        self.top_k = config.num_experts_per_tok
        self.num_experts = config.n_routed_experts
        self.normalizes = config.normalizes_expert_weights
        self.alpha = config.aux_loss_alpha
        self.seq_aux = config.seq_aux
        self.counts_every_choice = config.counts_every_choice
        self.weight = nn.Parameter(torch.empty(self.num_experts, config.hidden_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize the weight as `nn.Linear` does."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Choose experts for each token of `hidden_states` [B, S, H].

        Returns:
            Chosen experts [B*S, k] int64, their weights [B*S, k] float32, and the balancing loss (a scalar; 0 outside
            training).
        """
        scores = softmax(linear(hidden_states, self.weight).float(), dim=-1)
        flat = scores.flatten(0, 1)
        topk_weight, topk_idx = torch.topk(flat, self.top_k, dim=-1)
        if self.normalizes:
            topk_weight = topk_weight / (topk_weight.sum(dim=-1, keepdim=True) + DIVISION_GUARD)
        balanced = self.training and self.alpha > 0
        aux_loss = self._balancing_loss(scores, topk_idx) if balanced else scores.new_zeros(())
        return topk_idx, topk_weight, aux_loss

    def _balancing_loss(self, scores: torch.Tensor, topk_idx: torch.Tensor) -> torch.Tensor:
        """The balancing loss: each expert's load times its mean score, summed and scaled by alpha.

        In MiniMind2 the load is an expert's share of all choices, so even routing costs alpha. MiniMind-3 sums the
        loads of the k choices, so even routing costs k * alpha.

        Args:
            scores: Scores of the experts, [B, S, E] float32.
            topk_idx: Indices of the chosen experts, [B*S, k] int64.
        """
        batch = scores.shape[0] if self.seq_aux else 1
        chosen = one_hot(topk_idx, self.num_experts).float().reshape(batch, -1, self.num_experts)
        load = chosen.mean(dim=1) * self.num_experts * (self.top_k if self.counts_every_choice else 1)
        importance = scores.reshape(batch, -1, self.num_experts).mean(dim=1)
        return (load * importance).sum(dim=1).mean() * self.alpha


class MOEFeedForward(nn.Module):
    """The weighted sum of the chosen experts' outputs, plus those of the shared experts.

    Every expert computes every token, with weight 0 where it is not chosen, so that a trace contains no branch that
    depends on data. `aux_loss` holds the balancing loss of the last forward pass in training.
    """

    def __init__(self, config: MiniMindConfig) -> None:
        super().__init__()
        width = config.moe_intermediate_size
        self.gate = MoEGate(config)
        self.experts = nn.ModuleList(FeedForward(config, width) for _ in range(config.n_routed_experts))
        if config.n_shared_experts > 0:
            self.shared_experts = nn.ModuleList(FeedForward(config, width) for _ in range(config.n_shared_experts))
        self.aux_loss: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map hidden states [B, S, H] to [B, S, H]."""
        topk_idx, topk_weight, aux_loss = self.gate(x)
        if self.training:
            self.aux_loss = aux_loss
        shares = x.new_zeros(topk_idx.shape[0], len(self.experts), dtype=topk_weight.dtype)
        shares = shares.scatter(1, topk_idx, topk_weight).type_as(x).unflatten(0, x.shape[:2])
        output = sum_of(expert(x) * shares[..., index, None] for index, expert in enumerate(self.experts))
        if hasattr(self, "shared_experts"):
            output = output + sum_of(expert(x) for expert in self.shared_experts)
        return output


def sum_of(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """The sum of tensors, without the 0 that `sum` starts from and that a trace would keep."""
    return functools.reduce(torch.add, tensors)
