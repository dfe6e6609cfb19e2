"""`ort` graphs with weights as integers, against eager PyTorch with what the integers stand for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graph_files import write_graph
from graph_rows import CAPACITY, Batch, GraphRunner, largest_errors, make_model
from rounded_weights import quantized, with_weights

from minimind_edge.runtime.ort.loading import open_graph

LOGITS, PRESENTS = 1e-5, 1e-4
"""As for float32 graphs: with float32 activations, integers leave the order of a sum as the only difference."""

ROUNDED_LOGITS = 0.1
"""With activations of eight bits: a rounding error of 1/254 of the largest of a block, 1 % of a typical number there,
at the seven products of each of two blocks, and made larger by attention that is far from uniform."""

VARIANTS = ("gqa", "mqa", "minimind3", "moe", "moe-unnormalised", "minimind3-moe")
FORMATS = {
    "int8": (8, False, 8),
    "int8-zeros": (8, True, 8),
    "int4": (4, False, 4),
    "int4-zeros": (4, True, 4),
    "int4-embedding8": (4, True, 8),
}


def file_of(folder: Path, model, matrices, bits: int, *, level: int | None = None) -> Path:
    """The graph's file; with another accuracy level, where one is given."""
    path = write_graph(folder, model, "ort", f"int{bits}", CAPACITY, quantized=matrices)
    if level is not None:
        graph = onnx.load(path)
        for attribute in (each for node in graph.graph.node for each in node.attribute):
            if attribute.name == "accuracy_level":
                attribute.i = level
        onnx.save(graph, path)
    return path


def errors(model, matrices, path: Path) -> np.ndarray:
    """Largest errors of logits and of cached numbers, over every padding and several splits."""
    expected, found = with_weights(model, matrices), []
    for padding in ("none", "left", "right"):
        batch = Batch.of(padding)
        length = batch.ids.shape[1]
        for splits in ((length,), (4, length - 4), (length - 2, 1, 1)):
            for shared in (True, False):
                output = GraphRunner(path, shared=shared).run(batch, splits)
                found.append(largest_errors(expected, batch, output))
    return np.max(found, axis=0)


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_with_float_activations_it_is_eager_with_the_integers_values(variant, format_name, tmp_path):
    bits, zero_points, embedding_bits = FORMATS[format_name]
    model = make_model(variant)
    matrices = quantized(model, bits, 32, zero_points=zero_points, embedding_bits=embedding_bits)
    path = file_of(tmp_path, model, matrices, bits, level=1)
    onnx.checker.check_model(path, full_check=True)
    logits, presents = errors(model, matrices, path)
    assert logits < LOGITS
    assert presents < PRESENTS


@pytest.mark.parametrize(("variant", "format_name"), [("gqa", "int8"), ("gqa", "int4-zeros"), ("minimind3", "int8")])
def test_activations_of_eight_bits_cost_their_rounding(variant, format_name, tmp_path):
    bits, zero_points, embedding_bits = FORMATS[format_name]
    model = make_model(variant)
    matrices = quantized(model, bits, 32, zero_points=zero_points, embedding_bits=embedding_bits)
    logits, _ = errors(model, matrices, file_of(tmp_path, model, matrices, bits))
    assert LOGITS < logits < ROUNDED_LOGITS


def test_what_is_not_quantized_stays_float(tmp_path):
    # Of queries, keys and values one is float and two have different bits; so have gate and up.
    model = make_model("gqa")
    matrices = quantized(model, 4, 32) | {
        name: matrix for name, matrix in quantized(model, 8, 32).items() if "k_proj" in name or "up_proj" in name
    }
    matrices = {name: matrix for name, matrix in matrices.items() if "v_proj" not in name}
    path = file_of(tmp_path, model, matrices, 4, level=1)
    assert errors(model, matrices, path)[0] < LOGITS
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count("MatMul") == 2  # two layers' values


@pytest.mark.parametrize("embedding_bits", [4, 8])
def test_a_tied_table_is_stored_once_in_its_bits(embedding_bits, tmp_path):
    model = make_model("gqa")
    matrices = quantized(model, 4, 32, zero_points=True, embedding_bits=embedding_bits)
    path = file_of(tmp_path, model, matrices, 4)
    stored = sum(len(tensor.raw_data) for tensor in onnx.load(path).graph.initializer if "integers" in tensor.name)
    assert stored == sum(matrix.integers.size * matrix.bits // 8 for matrix in matrices.values())


@pytest.mark.parametrize("start", [0, 2, -1, -3])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("variant", ["gqa", "moe"])
def test_logits_from_a_token_on_are_the_same(variant, precision, start, tmp_path):
    model = make_model(variant)
    matrices = quantized(model, 8, 32) if precision == "int8" else None
    path = write_graph(tmp_path, model, "ort", precision, CAPACITY, quantized=matrices)
    pasts = GraphRunner(path, shared=False).pasts
    _, session = open_graph(path, "cpu", 1)  # with the optional inputs, as the runtime loads it
    ids = np.array([[5, 9, 2, 7, 11], [8, 3, 6, 1, 4]])
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.tile(np.arange(5), (2, 1))}
    feeds |= {name: np.zeros((2, 2, 0, 16), np.float32) for name in pasts}
    every, *presents = session.run(None, feeds)
    some, *same = session.run(None, feeds | {"logits_start": np.array([start])})
    assert some.shape[1] == len(range(5)[start:])
    np.testing.assert_allclose(some, every[:, start:], rtol=0, atol=1e-4)
    for one, other in zip(presents, same, strict=True):
        np.testing.assert_array_equal(one, other)


def test_experts_may_have_several_formats(tmp_path):
    # One expert's up is float, and another's gate has eight bits.
    model = make_model("moe")
    names = ("layers.1.mlp.experts.2.up_proj.weight", "layers.0.mlp.experts.1.gate_proj.weight")
    eight_bits = quantized(model, 8, 32)
    matrices = quantized(model, 4, 32)
    matrices = {name: matrix for name, matrix in matrices.items() if not name.endswith(names[0])}
    matrices |= {name: matrix for name, matrix in eight_bits.items() if name.endswith(names[1])}
    path = file_of(tmp_path, model, matrices, 4, level=1)
    onnx.checker.check_model(path, full_check=True)
    logits, presents = errors(model, matrices, path)
    assert logits < LOGITS
    assert presents < PRESENTS
