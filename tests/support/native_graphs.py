"""Graphs of models in which native operators take the place of stock ones, and what is in them."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from graph_files import write_graph
from graph_rows import make_model
from onnx import helper
from rounded_weights import quantized

from minimind_edge.runtime.ort.in_memory import graph_in_memory

LAYERS = 2

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "minimind2": ("gqa", {"head_dim": 64}),
    "minimind2-yarn": ("yarn", {"head_dim": 64}),
    "minimind3": ("minimind3", {"head_dim": 96}),
    "minimind2-moe": ("moe", {"head_dim": 128}),
    "minimind3-moe": ("minimind3-moe", {"head_dim": 64}),
}
"""Models with heads of the widths that the operators know: the variant of `graph_rows`, and what is different."""


def graph_maker(folders: pytest.TempPathFactory) -> Callable[..., Path]:
    """Gives the graph of a model of `SHAPES` in a precision, made once."""

    @functools.cache
    def make(shape: str, precision: str = "fp32") -> Path:
        variant, fields = SHAPES[shape]
        model = make_model(variant, **fields)
        matrices = quantized(model, int(precision[3:]), 32) if precision.startswith("int") else {}
        return write_graph(folders.mktemp("graph"), model, "ort", precision, quantized=matrices)

    return make


def native(path: Path, **arguments: Any) -> onnx.ModelProto | None:
    """The graph that is loaded with native operators, by onnx's own reader; None where it stays stock."""
    graph = graph_in_memory(path, native=True, **arguments)
    return onnx.load_from_string(graph.message) if graph is not None and graph.is_native else None


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def named(model: onnx.ModelProto, op_type: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == op_type]


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def swiglus(model: onnx.ModelProto) -> int:
    """The products that have SwiGLU in them."""
    return sum(attributes_of(node)["swiglu"] for node in named(model, "QuantizedMatMul"))
