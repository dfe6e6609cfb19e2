"""Graphs of target `portable` in float16: close to eager float32, and out of range nowhere."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from graph_files import write_graph
from graph_rows import CAPACITY, PROMPTS, VARIANTS, Batch, GraphRunner, eager_greedy, largest_errors, make_model
from onnx.reference import ReferenceEvaluator

from minimind_edge.export.errors import ExportError
from minimind_edge.export.graph import build_graph, save_graph

LOGITS, PRESENTS = 1e-2, 5e-2
"""About ten and fifty roundings (5e-4 of a number, and keys reach 10), which do not all go one way."""


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_are_close_to_eager(variant, tmp_path):
    model = make_model(variant)
    runner = GraphRunner(write_graph(tmp_path, model, "portable", "fp16", CAPACITY), shared=False)
    for padding in ("none", "left", "right"):
        batch = Batch.of(padding)
        length = batch.ids.shape[1]
        output = runner.run(batch, (2, length - 4, 1, 1))
        assert np.isfinite(output.logits).all()
        assert output.logits.dtype == np.float32
        assert output.presents[0].dtype == np.float16
        logits, presents = largest_errors(model, batch, output)
        assert logits < LOGITS, padding
        assert presents < PRESENTS, padding


@pytest.mark.parametrize("variant", ["gqa", "minimind3-moe"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_portable_by_onnx_own_evaluator(variant, precision, tmp_path):
    # NumPy, operator by operator, rounded to float16 wherever the graph says so.
    model = make_model(variant)
    path = write_graph(tmp_path, model, "portable", precision, CAPACITY)
    evaluator = ReferenceEvaluator(onnx.load(path))
    batch = Batch.of("left")
    runner = GraphRunner(path, shared=False)
    runner.session = evaluator
    output = runner.run(batch, (4, batch.ids.shape[1] - 4))
    assert np.isfinite(output.logits).all()
    logits, presents = largest_errors(model, batch, output)
    assert logits < (1e-5 if precision == "fp32" else LOGITS)
    assert presents < (1e-4 if precision == "fp32" else PRESENTS)


def test_the_residual_stream_may_leave_float16(tmp_path):
    # The embedding's 40,000 and a branch's 40,000: float16 holds each, but not their sum in the residual stream.
    model = make_model("gqa", hidden_act="relu", num_hidden_layers=1)
    mlp, channel, peaks = model.model.layers[0].mlp, 7, []
    with torch.no_grad():
        model.model.embed_tokens.weight[:, channel] = 40000
        model.lm_head.weight = torch.nn.Parameter(torch.randn(131, 64, generator=torch.Generator().manual_seed(0)))
        mlp.up_proj.weight.copy_(mlp.gate_proj.weight)  # relu(g) * g: no number below 0
        mlp.down_proj.weight[channel] = 1
        probe = mlp.register_forward_hook(lambda _module, _inputs, output: peaks.append(output[..., channel].max()))
        model(torch.tensor([PROMPTS[0]]))
        probe.remove()  # a graph has no hooks, and is not built from a model that has some
        mlp.down_proj.weight[channel] = 40000 / peaks[0]
    path = write_graph(tmp_path, model, "portable", "fp16", CAPACITY)
    model.model.norm.register_forward_pre_hook(lambda _module, inputs: peaks.append(inputs[0].max().item()))
    runner = GraphRunner(path, shared=False)
    runner.session = ReferenceEvaluator(onnx.load(path))
    batch = Batch.of("none")
    output = runner.run(batch, (batch.ids.shape[1],))
    assert largest_errors(model, batch, output)[0] < LOGITS
    assert max(peaks) > 70000


def test_greedy_text_starts_as_eagers(tmp_path):
    model = make_model("gqa")
    runner = GraphRunner(write_graph(tmp_path, model, "portable", "fp16", CAPACITY), shared=False)
    tokens = [5, 9, 2, 7]
    for _ in range(8):
        ids = np.array([tokens])
        batch = Batch(ids, np.ones_like(ids), np.arange(len(tokens))[None])
        tokens.append(int(runner.run(batch, (len(tokens),)).logits[0, -1].argmax()))
    assert tokens[4:] == eager_greedy(model, tokens[:4], 8)


def test_a_weight_beyond_float16_is_told_by_name(tmp_path):
    model = make_model("gqa")
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight[2, 3] = -70000.0
    graph = build_graph(model, "portable", "fp16", CAPACITY)
    with pytest.raises(ExportError, match=r"model\.layers\.1\.self_attn\.o_proj\.weight.* 7e\+04, which float16"):
        save_graph(graph, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
