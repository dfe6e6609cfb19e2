"""The experts of a mixture with native operators: what takes the place of what, and the same bits as without them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from graph_files import changed_graph
from native_graphs import LAYERS, graph_maker, kinds, named, native, swiglus
from onnx import numpy_helper

from minimind_edge.runtime.load import load_session
from minimind_edge.runtime.ort import native_operators
from minimind_edge.runtime.ort.graph_view import NoMatchError
from minimind_edge.runtime.ort.in_memory import graph_in_memory

EXPERTS = 4

SHAPES = ["minimind2-moe", "minimind3-moe"]
SORTING = {"OneHot", "NonZero", "GatherND", "ScatterND", "Mod"}
"""Operators that occur nowhere else than where choices are sorted."""


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    return graph_maker(tmp_path_factory)


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_sorting_and_gates_are_replaced(graphs, shape, precision):
    path = graphs(shape, precision)
    stock, found = onnx.load(path), native(path)
    assert found is not None
    count = kinds(found)
    assert count["GatherByExpert"] == count["ScatterByExpert"] == LAYERS
    assert not SORTING & set(count)
    assert count["QuantizedMatMul"] == kinds(stock)["MatMulNBits"]
    assert {len(node.output) for node in named(found, "GatherByExpert")} == {EXPERTS}
    assert swiglus(found) == LAYERS * (EXPERTS + (shape == "minimind2-moe"))  # and its shared expert's
    read = {name for node in found.graph.node for name in node.input} | {each.name for each in found.graph.output}
    assert all(read & set(node.output) for node in found.graph.node)


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_bits_are_those_of_the_sorted_products(graphs, shape, precision, monkeypatch):
    """The products are the same operator both times; with an even number of rows or without."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 100, (rows, tokens)) for rows, tokens in [(1, 1), (1, 2), (1, 7), (3, 5)]]

    def logits() -> list[np.ndarray]:
        found = []
        for prompt in prompts:
            session = load_session(graphs(shape, precision), threads=1, max_length=32)
            found += [np.array(session.prefill(prompt))]
            found += [np.array(session.decode(prompt[:, 0])) for _ in range(2)]
        return found

    with_experts = logits()

    def refuse(view: object, node: object) -> None:
        raise NoMatchError

    monkeypatch.setattr(native_operators, "native_experts", refuse)
    for one, other in zip(with_experts, logits(), strict=True):
        np.testing.assert_array_equal(one, other)


def other_order_of_outputs(model: onnx.ModelProto) -> None:
    concat = next(node for node in named(model, "Concat") if len(node.input) > 2)
    concat.input[0], concat.input[1] = concat.input[1], concat.input[0]


def other_count(model: onnx.ModelProto) -> None:
    scatter = named(model, "ScatterND")[0].output[0]
    cut = next(node for node in named(model, "Slice") if node.input[0] == scatter)
    cut.input[2] = cut.input[1]


def other_values(model: onnx.ModelProto) -> None:
    name = named(model, "OneHot")[0].input[2]
    tensor = next(each for each in model.graph.initializer if each.name == name)
    tensor.CopyFrom(numpy_helper.from_array(1 - numpy_helper.to_array(tensor), name))


def other_axis(model: onnx.ModelProto) -> None:
    next(attribute for attribute in named(model, "OneHot")[0].attribute if attribute.name == "axis").i = 1


@pytest.mark.parametrize("change", [other_order_of_outputs, other_count, other_values, other_axis])
def test_a_block_that_differs_stays(graphs, tmp_path, change: Callable[[onnx.ModelProto], None]):
    path = changed_graph(graphs("minimind3-moe", "int4"), tmp_path, change)
    graph = graph_in_memory(Path(path), native=True)
    assert graph is not None
    count = Counter(node.op_type for node in onnx.load_from_string(graph.message).graph.node)
    assert count["GatherByExpert"] == LAYERS - (2 if change is other_values else 1)
    assert count["ScatterND"] == 2 if change is other_values else 1
