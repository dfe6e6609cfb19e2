"""Evened-out inputs: the same logits to the bit, and less lost to rounding."""

from __future__ import annotations

import copy

import pytest
import torch

from minimind_edge.export.quantization.formats import INT4, INT8
from minimind_edge.export.quantization.sensitivity import Candidate, estimated_losses
from minimind_edge.export.quantization.smoothquant import MOST_DOUBLINGS, SmoothingSite, smooth, smoothing_sites
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

FORMS = {
    "minimind2": MiniMindConfig,
    "minimind2 moe": lambda **sizes: MiniMindConfig(use_moe=True, **sizes),
    "minimind3": MiniMindConfig.minimind3,
    "minimind3 moe": lambda **sizes: MiniMindConfig.minimind3(use_moe=True, **sizes),
}


def uneven_model(form: str) -> MiniMindForCausalLM:
    """A model some channels of whose norms and up_proj are far larger than the others, as in trained ones."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = MiniMindForCausalLM(FORMS[form](vocab_size=80, **sizes)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                weight.mul_(6)
            if name.endswith("layernorm.weight"):
                weight[::17] *= 20
            if name.endswith("up_proj.weight"):
                weight[::17] *= 10
    return model


def some_tokens() -> torch.Tensor:
    return torch.randint(80, (4, 32), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("form", FORMS)
def test_logits_stay_the_same_to_the_bit_and_less_is_lost(form: str) -> None:
    model, tokens = uneven_model(form), some_tokens()
    smoothed = copy.deepcopy(model)
    losses = smooth(smoothed, INT8, tokens)
    assert any(
        not torch.equal(one, other) for one, other in zip(model.parameters(), smoothed.parameters(), strict=True)
    )
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, smoothed(tokens).logits)
    layers = [module for name, module in model.named_modules() if name.endswith("_proj")]
    before = estimated_losses(model, {layer: [Candidate(INT8)] for layer in layers}, tokens)
    assert len(losses) == len(layers)
    assert sum(losses.values()) < 0.7 * sum(first for first, *_ in before.values())


def test_the_returned_losses_are_those_of_the_smoothed_model() -> None:
    model, tokens = uneven_model("minimind2"), some_tokens()
    told = smooth(model, INT4, tokens)
    found = estimated_losses(model, {layer: [Candidate(INT4)] for layer in told}, tokens)
    assert [told[layer] for layer in told] == pytest.approx([found[layer][0] for layer in told], rel=1e-3)


def test_scales_by_hand() -> None:
    layer = torch.nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 4.0, 1.0, 1.0], [0.5, -1.0, 1.0, 1.0]]))
    site = SmoothingSite(torch.nn.Parameter(torch.ones(4)), (layer,))
    # square roots of 16 / 1, 16 / 4, 1 / 1, 1 / 1: 4, 2, 1, 1; made even by their geometric mean, 2^0.75
    assert site.scales(torch.tensor([16.0, 16.0, 1.0, 1.0]), 0.5).tolist() == [2.0, 1.0, 0.5, 0.5]
    dead = site.scales(torch.tensor([1.0, 1.0, 1.0, 0.0]), 0.75)
    assert dead.isfinite().all()
    assert dead.min() >= 2.0**-MOST_DOUBLINGS


def test_every_norm_and_every_up_proj_is_a_site() -> None:
    found = list(smoothing_sites(uneven_model("minimind2 moe")))
    # of each of two blocks: two norms, four experts and a shared one
    assert len(found) == 2 * (2 + 4 + 1)
    assert [len(site.layers) for site in found[:3]] == [3, 2 * 5, 1]
    assert [len(site.routers) for site in found[:3]] == [0, 1, 0]
