"""A graph's optional inputs: constants in its file, so that other tools load it as it is, and inputs in this runtime.

ONNX has one form for an input that may be left out: an initializer with the name of an input. ONNX Runtime warns of
each of these whenever it loads such a graph, and cannot take their defaults for constants. So the file has only the
initializers, and its metadata names those that the runtime makes inputs, in a copy of the graph in memory.
"""

from __future__ import annotations

from ..errors import ArtifactError
from ..session.contract import OPTIONAL_INPUTS, OPTIONAL_INPUTS_PROPERTY
from .graph_file import GraphFile
from .graph_parts import (
    AXIS_NAME,
    AXIS_SIZE,
    GRAPH_INPUT,
    INT32,
    INT64,
    SHAPE_AXIS,
    TENSOR_ELEMENT,
    TENSOR_SHAPE,
    TYPE_TENSOR,
    VALUE_NAME,
    VALUE_TYPE,
)
from .protobuf import integer, message

ELEMENT_TYPES = {"int32": INT32, "int64": INT64}


def optional_inputs(graph: GraphFile) -> list[str]:
    """The optional inputs that a graph's metadata names, in its order.

    Raises:
        ArtifactError: One is not known to this runtime, has no default or several, or is an input already.
        UnicodeDecodeError: The metadata is not UTF-8.
    """
    named = graph.metadata.get(OPTIONAL_INPUTS_PROPERTY.encode(), b"").decode()
    names = [name for name in dict.fromkeys(named.split(",")) if name]
    if not names:
        return []
    defaults = [tensor.name for tensor in graph.initializers]
    inputs = [value.name for value in graph.inputs]
    for name in names:
        shown = f"{graph.path}: the optional input {name[:40]!r}"
        if name not in OPTIONAL_INPUTS:
            raise ArtifactError(f"{shown} is not known to this runtime: update it, or export the graph again")
        if name.encode() in inputs:
            raise ArtifactError(f"{shown} is an input already; export the graph again")
        if (count := defaults.count(name.encode())) != 1:
            raise ArtifactError(f"{shown} has {count} defaults instead of one; export the graph again")
    return names


def input_of(name: str) -> bytes:
    """A known optional input as an input of a graph: the field of a `GraphProto`."""
    dtype, axis = OPTIONAL_INPUTS[name]
    size = integer(AXIS_SIZE, axis) if isinstance(axis, int) else message(AXIS_NAME, axis.encode())
    shape = message(TENSOR_SHAPE, message(SHAPE_AXIS, size))
    tensor = message(TYPE_TENSOR, integer(TENSOR_ELEMENT, ELEMENT_TYPES[dtype]), shape)
    return message(GRAPH_INPUT, message(VALUE_NAME, name.encode()), message(VALUE_TYPE, tensor))
