"""Weights that a graph reshapes: in the graph that is loaded, they are the same bytes of the file in another shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from minimind_edge.runtime.ort.graph_file import GraphFile
from minimind_edge.runtime.ort.graph_parts import WEIGHT_ALIGNMENT
from minimind_edge.runtime.ort.loading import WEIGHTS_FOLDER

WEIGHT = np.arange(384, dtype=np.float32).reshape(6, 4, 16)
"""More than the 1,024 bytes from which on a weight is mapped."""


def written(folder: Path, shape: list[int], weight: np.ndarray = WEIGHT, shift: int = 0, **changes: Any) -> Path:
    """A graph that adds a reshaped weight to its input, with the weight's numbers aligned, and `shift` bytes after."""
    output = changes.get("output", "reshaped")
    nodes = [
        helper.make_node("Reshape", ["weight", "shape"], [output], **changes.get("attributes", {})),
        helper.make_node("Add", ["x", output], ["y"]),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in dict.fromkeys(("y", output))]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None), *changes.get("inputs", [])],
        outputs if "output" in changes else outputs[:1],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.array(shape, np.int64), "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    while (model.SerializeToString().index(weight.tobytes()) - shift) % WEIGHT_ALIGNMENT:
        model.graph.node[0].doc_string += " "
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def in_memory(path: Path, variable: str = "") -> onnx.ModelProto:
    """The graph that is loaded, by onnx's own reader."""
    with GraphFile.open(path) as graph:
        return onnx.load_from_string(graph.in_memory({variable: b""} if variable else {}).message)


def sums(source: Path | onnx.ModelProto, folder: Path, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry(WEIGHTS_FOLDER, str(folder))
    content = str(source) if isinstance(source, Path) else source.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


@pytest.mark.parametrize("shape", [[24, 16], [0, 64], [-1], [2, 3, -1], [6, -1, 0], [1, 384, 1]])
def test_a_weight_in_another_shape_is_the_same_bytes_of_the_file(tmp_path, shape):
    path = written(tmp_path, shape)
    found = in_memory(path)
    assert [node.op_type for node in found.graph.node] == ["Add"]
    places = {
        tensor.name: {each.key: each.value for each in tensor.external_data} for tensor in found.graph.initializer
    }
    assert places["reshaped"] == places["weight"] != {}
    x = np.ones((), np.float32)
    (expected,) = ReferenceEvaluator(onnx.load(path)).run(None, {"x": x})  # onnx's own Reshape
    tensor = next(tensor for tensor in found.graph.initializer if tensor.name == "reshaped")
    assert tuple(tensor.dims) == expected.shape
    assert np.array_equal(sums(found, tmp_path, x), expected)


@pytest.mark.parametrize(
    "arguments",
    [
        {"shape": [24, 16], "shift": 4},
        {"shape": [6, 4], "weight": WEIGHT[:, :, 0].copy()},
        {"shape": [24, 16], "output": "seen"},
        {"shape": [24, 16], "inputs": [helper.make_tensor_value_info("weight", TensorProto.FLOAT, [6, 4, 16])]},
        {"shape": [24, 16], "inputs": [helper.make_tensor_value_info("shape", TensorProto.INT64, [2])]},
        {"shape": [24, 16], "attributes": {"allowzero": 1}},
        {"shape": [24, 17]},
        {"shape": [24, -2]},
        {"shape": [5, -1]},
        {"shape": [-1, -1]},
        {"shape": [6, 4, 16, 0]},
    ],
    ids=str,
)
def test_every_other_reshape_stays(tmp_path, arguments):
    path = written(tmp_path, **arguments)
    assert [node.op_type for node in in_memory(path).graph.node] == ["Reshape", "Add"]


@pytest.mark.parametrize("name", ["weight", "shape", "reshaped"])
def test_a_value_that_a_caller_replaces_or_reads_is_no_constant(tmp_path, name):
    path = written(tmp_path, [24, 16])
    assert [node.op_type for node in in_memory(path, variable=name).graph.node] == ["Reshape", "Add"]


def test_a_reshape_to_a_name_that_is_taken_stays_for_onnxruntime_to_refuse(tmp_path):
    model = onnx.load(written(tmp_path, [24, 16]))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "reshaped"))
    (tmp_path / "twice.onnx").write_bytes(model.SerializeToString())
    assert [node.op_type for node in in_memory(tmp_path / "twice.onnx").graph.node] == ["Reshape", "Add"]
