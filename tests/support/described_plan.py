"""Plans that are described as if they had been built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper
from static_decoder import StaticDecoder

from minimind_edge.export.plan.builder import TensorInfo
from minimind_edge.export.plan.files import describe_plan
from minimind_edge.export.plan.graph import PlanGraph
from minimind_edge.export.plan.profiles import Limits, profiles_of
from minimind_edge.runtime.tensorrt.plan import ComputeCapability

PLAN_BYTES = b"vtrt: no plan, but what it would begin with"


def describe(
    decoder: StaticDecoder,
    folder: Path,
    precision: str = "fp32",
    *,
    batch_size: int = 4,
    length: int = 32,
    chunk: int = 8,
    **changes: Any,
) -> dict[str, Any]:
    """The content of a `.plan.json` of `StaticDecoder`; the graph is written to the folder as `model.onnx`."""
    graph = decoder.save(folder / "model.onnx", precision)
    return describe_graph(graph, batch_size=batch_size, length=length, chunk=chunk) | changes


def describe_graph(path: Path, *, batch_size: int, length: int, chunk: int) -> dict[str, Any]:
    """The content of a `.plan.json` of any graph."""
    graph = PlanGraph.read(path)
    limits = Limits(batch_size, length, chunk)
    inputs = [TensorInfo(each.name, "input", "int32", ()) for each in graph.model.graph.input]
    outputs = [TensorInfo(each.name, "output", "float32", ()) for each in graph.model.graph.output]
    return describe_plan(
        graph,
        limits,
        profiles_of(limits, graph.cache_of(length)),
        backend="rtx",
        backend_version="1.7.1.116",
        capabilities=[ComputeCapability(8, 6), ComputeCapability(12, 0)],
        data=PLAN_BYTES,
        tensors=[*inputs, *outputs, *expert_outputs(graph.model.graph)],
        checkpoint={"file": "tiny.pth", "sha256": "0" * 64, "generation": "minimind2"},
        config=None,
        parity=None,
    )


def expert_outputs(graph: onnx.GraphProto) -> list[TensorInfo]:
    """The experts chosen, as a plan of a mixture of experts tells them."""
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    routers = [node for node in graph.node if node.op_type == "TopK"]
    return [
        TensorInfo(node.output[1], "output", "int64", (-1, -1, constants[node.input[1]].item())) for node in routers
    ]
