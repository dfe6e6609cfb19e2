"""A merged LoRA gives the logits of the base with the adapter's output added beside each module."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM, load_checkpoint

IDS = torch.randint(101, (2, 25), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def base() -> MiniMindForCausalLM:
    torch.manual_seed(4)
    model = MiniMindForCausalLM(
        MiniMindConfig(hidden_size=64, num_hidden_layers=2, vocab_size=101, num_key_value_heads=8)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.1)
    return model.eval()


def square_linears(model: nn.Module) -> dict[str, nn.Linear]:
    """The modules that upstream's trainer attaches adapters to."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.in_features == module.out_features
    }


@pytest.mark.parametrize("rank", [1, 8, 16])
def test_merged_equals_the_unmerged_sum(rank, base, tmp_path):
    torch.save(base.state_dict(), tmp_path / "full_sft_64.pth")
    modules = square_linears(base)
    assert len(modules) == 8  # q, k, v and o of two layers
    lora = {}
    for name in modules:
        lora[f"{name}.lora.A.weight"] = (torch.randn(rank, 64) * 0.1).half()
        lora[f"{name}.lora.B.weight"] = (torch.randn(64, rank) * 0.1).half()
    torch.save(lora, tmp_path / "lora_64.pth")

    def beside(name: str):
        down, up = (lora[f"{name}.lora.{part}.weight"].float() for part in "AB")
        return lambda _module, inputs, output: output + (inputs[0] @ down.T) @ up.T

    with torch.no_grad():
        plain = base(IDS).logits
        merged = load_checkpoint(tmp_path / "full_sft_64.pth", lora=tmp_path / "lora_64.pth")(IDS).logits
        for name, module in modules.items():
            module.register_forward_hook(beside(name))
        expected = base(IDS).logits
    scale = expected.abs().max()
    assert (merged - expected).abs().max() < 1e-5 * scale
    assert (plain - expected).abs().max() > 1e-2 * scale
