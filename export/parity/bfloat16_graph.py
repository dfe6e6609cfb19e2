"""A bfloat16 graph for a runtime that has no bfloat16 arithmetic.

ONNX Runtime's CPU moves and converts such numbers, but does not calculate with them. A float32 copy of the graph that
rounds each node's result to bfloat16 gives the same numbers as a device that accumulates in float32, as TensorRT does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

BFLOAT16, FLOAT = onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT

MOVES = {"Gather", "GatherND", "Reshape", "Split", "Squeeze", "TensorScatter", "Transpose", "Unsqueeze"}
"""Operators that give no numbers but those that they are given."""


def float32_copy(path: Path, copy: Path) -> None:
    """Write a graph again with bfloat16 as rounded float32; its metadata stays.

    Args:
        path: The bfloat16 graph.
        copy: Where to write; its weights go into one file with it or beside it.
    """
    model = onnx.load(str(path))
    graph = model.graph
    values = [*graph.input, *graph.output, *graph.value_info]
    narrow = {value.name for value in values if value.type.tensor_type.elem_type == BFLOAT16}
    for value in values:
        if value.name in narrow:
            value.type.tensor_type.elem_type = FLOAT
    for tensor in graph.initializer:
        if tensor.data_type == BFLOAT16:
            _widen(tensor)
    nodes = [part for node in graph.node for part in _rounded(node, narrow)]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, str(copy))


def _widen(tensor: onnx.TensorProto) -> None:
    """Make float32 of bfloat16: the same bits, and 16 more."""
    bits = np.frombuffer(tensor.raw_data, np.uint16).astype(np.uint32) << 16
    tensor.raw_data = bits.tobytes()
    tensor.data_type = FLOAT


def _rounded(node: onnx.NodeProto, narrow: set[str]) -> list[onnx.NodeProto]:
    """The node; behind it, where its result was bfloat16, a conversion there and back."""
    (output, *others) = node.output
    if output not in narrow or node.op_type in MOVES:
        return [node]
    assert not others
    if node.op_type == "Cast":
        return [*_conversions(node.input[0], output)]
    node.output[0] = f"{output}.unrounded"
    return [node, *_conversions(node.output[0], output)]


def _conversions(source: str, result: str) -> list[onnx.NodeProto]:
    make = onnx.helper.make_node
    return [
        make("Cast", [source], [f"{result}.bfloat16"], f"{result}.to_bfloat16", to=BFLOAT16),
        make("Cast", [f"{result}.bfloat16"], [result], f"{result}.to_float", to=FLOAT),
    ]
