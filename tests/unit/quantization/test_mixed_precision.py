"""Who gets eight bits, and what tells: the estimated loss against the one that is measured."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from minimind_edge.export.quantization.formats import INT4, INT8, TENSORRT
from minimind_edge.export.quantization.layer_groups import Group
from minimind_edge.export.quantization.mixed_precision import Unit, mixed_formats, refined, rounding_units
from minimind_edge.export.quantization.rounding import nearest, rounded_inputs
from minimind_edge.export.quantization.sensitivity import Candidate, estimated_losses
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

FIRST, SECOND, THIRD = (Group(layer, "mlp", ("down_proj",)) for layer in range(3))
UNITS = [Unit((FIRST,), 100, 128), Unit((SECOND,), 100, 128), Unit((THIRD,), 50, 16)]
LOSSES = dict(zip(UNITS, (1.0, 3.0, 1.0), strict=True))


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
    formats = mixed_formats(UNITS, LOSSES, int8_share=0.6)
    assert formats == {SECOND: INT8, THIRD: replace(INT8, block=16), FIRST: INT4}


@pytest.mark.parametrize(("share", "bits"), [(0.0, {4}), (1.0, {8})])
def test_none_and_all(share: float, bits: set[int]) -> None:
    formats = mixed_formats(UNITS, LOSSES, share)
    assert {one.bits for one in formats.values()} == bits


def test_what_one_operator_reads_gets_one_format() -> None:
    model = small_model(use_moe=True, n_routed_experts=3, n_shared_experts=1)
    units = rounding_units(model, INT4)
    # q, k, v and o; all layers of all experts together; gate and up, and down, of the shared one
    assert [len(unit.groups) for unit in units] == [1, 1, 6, 1, 1] * 2
    assert sum(unit.size for unit in units) == sum(
        weight.numel() for name, weight in model.named_parameters() if name.endswith("proj.weight")
    )
    assert {unit.block for unit in units} == {32, 64}


def test_a_width_that_no_block_divides_fills_its_last_block_in_part() -> None:
    model = small_model()
    model.model.layers[0].mlp.down_proj = torch.nn.Linear(90, 64, bias=False)
    units = rounding_units(model, INT4)
    assert len(units) == 2 * 4
    (padded,) = (unit for unit in units if unit.size == 90 * 64)
    assert padded.block == 32


def test_what_tensorrt_has_no_four_bits_for_gets_eight() -> None:
    model = small_model()
    model.model.layers[0].mlp.down_proj = torch.nn.Linear(90, 64, bias=False)
    units = rounding_units(model, TENSORRT.int4)
    (narrow,) = (unit for unit in units if unit.size == 90 * 64)
    formats = mixed_formats(units, {}, 0.0, TENSORRT)
    assert [formats[group] for group in narrow.groups] == [TENSORRT.int8]
    assert {formats[group].bits for unit in units if unit is not narrow for group in unit.groups} == {4}


def test_within_the_budget_everything_is_as_fast_as_can_be() -> None:
    assert refined({"a": [1.0, 0.1], "b": [1.0, 0.1]}, {"a": [1, 2], "b": [1, 2]}, budget=2.0) == {"a": 0, "b": 0}


def test_what_brings_most_for_its_time_is_refined_first() -> None:
    losses = {"a": [3.0, 2.0, 0.5], "b": [2.0, 0.5, 0.4], "c": [0.5, 0.6, 0.0]}
    times = {"a": [10, 12, 20], "b": [10, 11, 20], "c": [1, 2, 3]}
    assert refined(losses, times, budget=4.0) == {"a": 0, "b": 1, "c": 0}  # 1.5 for 1; 5.5 becomes 4.0
    assert refined(losses, times, budget=3.0) == {"a": 1, "b": 1, "c": 0}  # then 1.0 for 2
    assert refined(losses, times, budget=1.0) == {"a": 2, "b": 1, "c": 2}  # what brings nothing is gone past
    assert refined(losses, times, budget=0.0) == {"a": 2, "b": 2, "c": 2}  # all there is


@pytest.mark.parametrize("bits", [4, 8])
def test_the_estimate_is_near_the_loss(bits: int) -> None:
    wanted = INT4 if bits == 4 else INT8
    model = small_model()
    tokens = torch.randint(80, (24, 32), generator=torch.Generator().manual_seed(1))
    units = rounding_units(model, INT4)
    layers = [layer for unit in units for layer in unit.layers(model)]
    losses = estimated_losses(model, {layer: [Candidate(wanted)] for layer in layers}, tokens)
    with torch.no_grad():
        expected = model(tokens).logits.log_softmax(-1)
        for unit in units:
            changed = copy.deepcopy(model)
            for layer in unit.layers(changed):
                matrix = nearest(layer.weight, wanted)
                layer.weight.copy_(torch.from_numpy(matrix.dequantized()))
                layer.register_forward_pre_hook(
                    lambda module, inputs, block=matrix.block: rounded_inputs(*inputs, block)
                )
            found = changed(tokens).logits.log_softmax(-1)
            measured = (expected.exp() * (expected - found)).sum(-1).mean().item()
            assert 0.5 * measured < sum(losses[layer][0] for layer in unit.layers(model)) < 2 * measured


def test_inputs_are_rounded_to_their_blocks_largest_by_hand() -> None:
    inputs = torch.tensor([[1.27, 0.013, -0.5, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(rounded_inputs(inputs, 2), torch.tensor([[1.27, 0.01, -0.5, 0.0, 0.0, 0.0]]))
