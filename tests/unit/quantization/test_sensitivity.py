"""Estimated losses: the tokens that they are drawn for, and how little bfloat16 changes them."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from minimind_edge.export.quantization import sensitivity
from minimind_edge.export.quantization.formats import INT4
from minimind_edge.export.quantization.sensitivity import Candidate, estimated_losses, gradient_of_drawn
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM


def test_tokens_are_drawn_as_the_logits_say_and_their_gradient_is_that_of_the_log_likelihood() -> None:
    logits = torch.tensor([2.0, -1.0, 0.5, -30.0]).repeat(20_000, 1).requires_grad_(True)
    found = gradient_of_drawn(logits.detach(), torch.Generator().manual_seed(0))
    # The gradient of log softmax is 1 - p for the token that was drawn, and -p for all others.
    drawn = found.argmax(1)
    logits.log_softmax(-1).gather(1, drawn[:, None]).sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(found, logits.grad, atol=1e-6, rtol=0)
    expected = logits[0].detach().softmax(-1)
    frequencies = drawn.bincount(minlength=4) / len(drawn)
    # Five standard deviations of a share of 20,000 draws are at most 0.018.
    torch.testing.assert_close(frequencies, expected, atol=0.018, rtol=0)


def test_bfloat16_changes_no_estimate_by_much(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = MiniMindConfig(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=80
    )
    model = MiniMindForCausalLM(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(6)  # far from even logits
    layers = [module for name, module in model.named_modules() if name.endswith("_proj")]
    tokens = torch.randint(80, (64, 48), generator=torch.Generator().manual_seed(1))

    def losses() -> list[float]:
        found = estimated_losses(model, {layer: [Candidate(INT4)] for layer in layers}, tokens)
        return [found[layer][0] for layer in layers]

    short = losses()
    monkeypatch.setattr(sensitivity, "short_products", nullcontext)
    # The rounding of bfloat16, 2^-9 of a number, is a thirtieth of that to four bits: a thousandth of its square. It
    # moves a few draws to other tokens too, whose effects differ.
    assert short == pytest.approx(losses(), rel=0.1)
