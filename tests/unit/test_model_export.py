"""The model traces: every size dynamic, no branch on data, nothing written in place."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.export import Dim

LAYERS = 2


class Flat(nn.Module):
    """The model with a graph's inputs and outputs: flat, positions and mask given."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, position_ids, past):
        output = self.model(input_ids, attention_mask, position_ids, past, use_cache=True)
        return output.logits, output.past_key_values


def inputs_of(config, batch, length, past, padding=0):
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(batch, past + length, dtype=torch.int64)
    mask[0, :padding] = 0
    shape = (batch, config.num_key_value_heads, past, config.head_dim)
    caches = [tuple(torch.randn(shape, generator=generator) for _ in range(2)) for _ in range(LAYERS)]
    ids = torch.randint(0, config.vocab_size, (batch, length), generator=generator)
    return ids, mask, (mask.cumsum(-1) - 1).clamp(min=0)[:, past:].clone(), caches


@pytest.mark.parametrize("flash_attn", [True, False], ids=["fused", "written out"])
@pytest.mark.parametrize("tiny_config", ["minimind2", "minimind3-moe"], indirect=True)
def test_export_is_dynamic_and_reproduces(tiny_config, random_model, flash_attn):
    tiny_config.flash_attn = flash_attn
    model = Flat(random_model(tiny_config)).eval()
    batch, length, past = Dim("batch"), Dim("length"), Dim("past")
    shapes = {
        "input_ids": {0: batch, 1: length},
        "attention_mask": {0: batch, 1: Dim("total")},
        "position_ids": {0: batch, 1: length},
        "past": [({0: batch, 2: past}, {0: batch, 2: past})] * LAYERS,
    }
    with torch.no_grad():
        program = torch.export.export(model, inputs_of(tiny_config, 2, 3, 5), dynamic_shapes=shapes)
        for sizes in ((1, 1, 7), (3, 6, 0), (2, 4, 4, 2), (1, 9, 0, 3)):
            inputs = inputs_of(tiny_config, *sizes)
            actual, expected = program.module()(*inputs), model(*inputs)
            torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    written = [node.target for node in program.graph.nodes if node.op == "call_function" and mutates(node.target)]
    assert written == []


def mutates(operator) -> bool:
    """Whether an operator's schema says that it writes to an argument."""
    schema = getattr(operator, "_schema", None)
    return schema is not None and schema.is_mutable
