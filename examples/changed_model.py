"""A MiniMind whose owner changed its feed-forward network, exported by its own code and compared with it.

    python examples/changed_model.py

The written graphs know stock MiniMind only. This model is traced instead: any module that takes `input_ids`,
`attention_mask`, `position_ids` and `past_key_values`, and gives logits and the new keys and values.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from minimind_edge.export import export_onnx
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM
from minimind_edge.runtime import generate, load_session
from minimind_edge.runtime.sampling import SamplingParams


class ReluSquared(nn.Module):
    """A feed-forward network with squared ReLU (So et al. 2021, "Primer"), without a gate."""

    def __init__(self, config: MiniMindConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute `[B, S, H]` from `[B, S, H]`."""
        return self.down_proj(functional.relu(self.up_proj(x)).square())


class MyMiniMind(nn.Module):
    """MiniMind with another feed-forward network in every block."""

    def __init__(self, config: MiniMindConfig) -> None:
        super().__init__()
        self.config = config
        self.stock = MiniMindForCausalLM(config)
        for block in self.stock.model.layers:
            block.mlp = ReluSquared(config)

    def forward(self, input_ids, attention_mask, position_ids, past_key_values=None):  # noqa: ANN001, ANN201
        """Compute the logits `[B, S, V]` and each layer's keys and values."""
        output = self.stock(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=True,
        )
        return output.logits, output.past_key_values


torch.manual_seed(0)
config = MiniMindConfig(
    hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=200
)
model = MyMiniMind(config).eval()
result = export_onnx(model, output=Path("changed-model"), force=True)
print(result.parity.summary())

session = load_session(result.graph)
steps = generate(session, [[1, 2, 3]], SamplingParams(greedy=True), max_new_tokens=8)
print("token ids:", [step.token_ids[0] for step in steps])
