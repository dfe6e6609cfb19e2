"""Who gets eight bits, and what tells: the estimated loss against the one that is measured."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from minimind_edge.export.quantization.assignment import INT4, INT8, Unit, mixed_formats, rounding_units
from minimind_edge.export.quantization.groups import Group
from minimind_edge.export.quantization.rounding import nearest
from minimind_edge.export.quantization.sensitivity import estimated_losses
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

FIRST, SECOND, THIRD = (Group(layer, "mlp", ("down_proj",)) for layer in range(3))
UNITS = [Unit((FIRST,), 100, 128), Unit((SECOND,), 100, 128), Unit((THIRD,), 50, 16)]


def small_model(**fields: object) -> MiniMindForCausalLM:
    torch.manual_seed(0)
    config = MiniMindConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=80,
        intermediate_size=96,
        **fields,
    )
    model = MiniMindForCausalLM(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(6)  # far from even logits
    return model


def test_eight_bits_go_where_they_bring_most_for_their_size() -> None:
    losses = {FIRST: 1.0, SECOND: 3.0, THIRD: 1.0}
    formats = mixed_formats(UNITS, losses, int8_share=0.6)
    assert formats == {SECOND: INT8, THIRD: replace(INT8, block=16), FIRST: INT4}


@pytest.mark.parametrize(("share", "bits"), [(0.0, {4}), (1.0, {8})])
def test_none_and_all(share: float, bits: set[int]) -> None:
    formats = mixed_formats(UNITS, {FIRST: 1.0, SECOND: 3.0, THIRD: 1.0}, share)
    assert {one.bits for one in formats.values()} == bits


def test_what_one_operator_reads_gets_one_format() -> None:
    model = small_model(use_moe=True, n_routed_experts=3, n_shared_experts=1)
    units = rounding_units(model)
    # q, k, v and o; all layers of all experts together; gate and up, and down, of the shared one
    assert [len(unit.groups) for unit in units] == [1, 1, 6, 1, 1] * 2
    assert sum(unit.size for unit in units) == sum(
        weight.numel() for name, weight in model.named_parameters() if name.endswith("proj.weight")
    )
    assert {unit.block for unit in units} == {32, 64}


def test_a_width_that_no_block_divides_stays_float() -> None:
    model = small_model()
    model.model.layers[0].mlp.down_proj = torch.nn.Linear(90, 64, bias=False)
    assert len(rounding_units(model)) == 2 * 4 - 1


def test_the_estimate_is_near_the_loss() -> None:
    model = small_model()
    tokens = torch.randint(80, (24, 32), generator=torch.Generator().manual_seed(1))
    groups = [group for unit in rounding_units(model) for group in unit.groups]
    losses = estimated_losses(model, groups, INT4, tokens)
    with torch.no_grad():
        expected = model(tokens).logits.log_softmax(-1)
        for group in groups:
            changed = copy.deepcopy(model)
            for layer in group.layers(changed.model.layers[group.layer]):
                layer.weight.copy_(torch.from_numpy(nearest(layer.weight, INT4).dequantized()))
            found = changed(tokens).logits.log_softmax(-1)
            measured = (expected.exp() * (expected - found)).sum(-1).mean().item()
            assert 0.5 * measured < losses[group] < 2 * measured
