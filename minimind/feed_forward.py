"""The gated feed-forward network."""

from __future__ import annotations

import torch
from torch import nn
from transformers.activations import ACT2FN

from .config import MiniMindConfig


class FeedForward(nn.Module):
    """The SwiGLU network `down(act(gate(x)) * up(x))`.

    Args:
        config: Configuration with the width, the activation and the dropout.
        intermediate_size: Inner width; None means `config.intermediate_size`.

    Source:
        Shazeer 2020, "GLU Variants Improve Transformer", equation 6.
    """

    def __init__(self, config: MiniMindConfig, intermediate_size: int | None = None) -> None:
        super().__init__()
        inner = config.intermediate_size if intermediate_size is None else intermediate_size
        self.gate_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.down_proj = nn.Linear(inner, config.hidden_size, bias=False)
        self.act_fn = ACT2FN[config.hidden_act]
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map hidden states [..., H] to [..., H]."""
        hidden: torch.Tensor = self.act_fn(self.gate_proj(x)) * self.up_proj(x)
        output: torch.Tensor = self.dropout(self.down_proj(hidden))
        return output
