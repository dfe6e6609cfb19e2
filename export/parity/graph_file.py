"""A graph's file in a comparison: its session, its metadata, and copies with more outputs or in rounded float32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from minimind_edge.runtime.ort.environment import import_onnxruntime
from minimind_edge.runtime.ort.in_memory import graph_in_memory
from minimind_edge.runtime.ort.loading import (
    WEIGHTS_FOLDER,
    onnxruntime_errors,
    open_graph,
    session_facts,
    session_options,
    summary,
)
from minimind_edge.runtime.ort.native import native_library
from minimind_edge.runtime.session.contract import NATIVE, GraphFacts

from ..errors import ExportError
from ..graph.ort_int8_cache import scale_name

if TYPE_CHECKING:
    import onnx
    import onnxruntime

    from .reference import ModelShape

BFLOAT16, FLOAT = 16, 1
"""Numbers of the two types in `onnx.TensorProto.DataType`."""

MOVES = {"Gather", "GatherND", "Reshape", "Split", "Squeeze", "TensorScatter", "Transpose", "Unsqueeze"}
"""Operators that only move numbers, so that their results need no rounding."""


def open_session(source: Path | bytes, folder: Path | None = None) -> onnxruntime.InferenceSession:
    """Load a graph on the CPU.

    Args:
        source: The file, or a graph's bytes.
        folder: The folder of the weights that those bytes refer to.

    Raises:
        ExportError: There is no such file, or it is no graph that onnxruntime loads.
    """
    onnxruntime = import_onnxruntime()
    options = session_options(onnxruntime, threads=None)
    if folder is not None:
        options.add_session_config_entry(WEIGHTS_FOLDER, str(folder))
    model = str(source) if isinstance(source, Path) else source
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=False)
    except onnxruntime_errors(onnxruntime) as error:
        raise ExportError(f"onnxruntime cannot load the graph: {summary(error)}; export it again") from error


def can_be_native(path: Path) -> bool:
    """Whether sessions of a graph on this machine's CPU run native operators."""
    if native_library() is None:
        return False
    graph = graph_in_memory(path, native=True)
    return graph is not None and graph.is_native


def open_native_session(path: Path, outputs: Sequence[str] = ()) -> onnxruntime.InferenceSession:
    """Load a graph on the CPU with native operators.

    Args:
        path: The file.
        outputs: Names of inner values that are to be outputs too.

    Raises:
        ExportError: The native operators do not load.
        ArtifactError: The graph does not load.
    """
    _, session = open_graph(path, "cpu", outputs=outputs)
    if session_facts(session, without=outputs).operators != NATIVE:
        raise ExportError(f"the native operators do not load, so that {path.name} cannot be compared with them")
    return session


def read_facts(session: onnxruntime.InferenceSession, shape: ModelShape, target: str, precision: str) -> GraphFacts:
    """Read the graph's metadata and inputs, and check that it can be a graph of this model.

    Args:
        session: The graph's session.
        shape: The sizes of the model that it is compared with.
        target: The target that it must be made for.
        precision: The precision that it must have, where it says which one it has.

    Raises:
        ExportError: The graph is of another model, target or precision.
        ArtifactError: The graph's inputs or outputs are not those of any target.
    """
    facts = session_facts(session)
    for name, found, expected in (
        ("target", facts.target, target),
        ("precision", facts.precision or precision, precision),
        ("num_hidden_layers", facts.num_layers, shape.num_hidden_layers),
        ("num_key_value_heads", facts.num_key_value_heads, shape.num_key_value_heads),
        ("head_dim", facts.head_dim, shape.head_dim),
        ("vocab_size", facts.vocab_size, shape.vocab_size),
    ):
        if found != expected:
            raise ExportError(f"the graph's {name} is {found}, expected {expected}: compare it with its own checkpoint")
    return facts


def expert_names(num_layers: int) -> list[str]:
    """The names of the values that hold the experts chosen, one for each layer."""
    return [f"layers.{layer}.moe.topk_indices" for layer in range(num_layers)]


def cache_scales(path: Path, facts: GraphFacts) -> list[NDArray[np.float32]] | None:
    """The scale of each cached tensor of an int8 KV cache, [H_kv, 1, D], key before value; None for a float cache.

    Raises:
        ExportError: The graph lacks a scale.
    """
    if not facts.has_int8_cache:
        return None
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    names = [scale_name(layer, part) for layer in range(facts.num_layers) for part in ("k_scale", "v_scale")]
    if missing := [name for name in names if name not in stored]:
        raise ExportError(f"the graph has no {missing[0]}, the scale of its cache: export it again")
    arrays = (onnx.numpy_helper.to_array(stored[name], base_dir=str(path.parent)) for name in names)
    return [array.reshape(facts.num_key_value_heads, 1, facts.head_dim) for array in arrays]


def with_outputs(path: Path, names: Sequence[str]) -> bytes:
    """A copy of the graph with some inner values as outputs too; it refers to the weights of the original.

    Raises:
        ExportError: The graph has no value of such a name.
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    produced = {name for node in model.graph.node for name in node.output}
    missing = [name for name in names if name not in produced]
    if missing:
        raise ExportError(f"the graph has no value {missing[0]}, the experts chosen: export it again")
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return bytes(model.SerializeToString())


def float32_copy(path: Path, copy: Path) -> None:
    """Write a bfloat16 graph again in float32 that is rounded to bfloat16 after each node; its metadata stays.

    ONNX Runtime's CPU moves and converts bfloat16 numbers, but does not calculate with them. The copy gives the numbers
    of a device that accumulates in float32, as TensorRT does.

    Args:
        path: The bfloat16 graph.
        copy: The file to write, weights included.
    """
    import onnx

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
    """Turn a bfloat16 tensor into float32, which has the same bits and 16 zeros after them."""
    bits = np.frombuffer(tensor.raw_data, np.uint16).astype(np.uint32) << 16
    tensor.raw_data = bits.tobytes()
    tensor.data_type = FLOAT


def _rounded(node: onnx.NodeProto, narrow: set[str]) -> list[onnx.NodeProto]:
    """The node, followed by a conversion to bfloat16 and back where its result was bfloat16."""
    (output, *others) = node.output
    if output not in narrow or node.op_type in MOVES:
        return [node]
    assert not others
    if node.op_type == "Cast":
        return [*_conversions(node.input[0], output)]
    node.output[0] = f"{output}.unrounded"
    return [node, *_conversions(node.output[0], output)]


def _conversions(source: str, result: str) -> list[onnx.NodeProto]:
    from onnx.helper import make_node as make

    return [
        make("Cast", [source], [f"{result}.bfloat16"], f"{result}.to_bfloat16", to=BFLOAT16),
        make("Cast", [f"{result}.bfloat16"], [result], f"{result}.to_float", to=FLOAT),
    ]
