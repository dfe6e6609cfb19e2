"""Plans that are described as if they had been built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from static_decoder import StaticDecoder

from minimind_edge.export.engine.builder import TensorInfo
from minimind_edge.export.engine.description import describe_plan
from minimind_edge.export.engine.profiles import Limits, static_profiles
from minimind_edge.export.engine.static_graph import StaticGraph
from minimind_edge.runtime.tensorrt.compute_capability import ComputeCapability

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
    graph = StaticGraph.read(path)
    limits = Limits(batch_size, length, chunk)
    inputs = [TensorInfo(each.name, "input", "int32", ()) for each in graph.model.graph.input]
    outputs = [TensorInfo(each.name, "output", "float32", ()) for each in graph.model.graph.output]
    return describe_plan(
        graph,
        limits,
        static_profiles(limits, graph.cache_of(length)),
        backend="rtx",
        backend_version="1.7.1.116",
        capabilities=[ComputeCapability(8, 6), ComputeCapability(12, 0)],
        data=PLAN_BYTES,
        tensors=[*inputs, *outputs],
        checkpoint={"file": "tiny.pth", "sha256": "0" * 64, "generation": "minimind2"},
        config=None,
        parity=None,
    )
