"""Weights in another shape: a reshape of a weight that lies in the file is a second initializer over the same bytes.

ONNX Runtime folds such a node by copying the weight into memory of the process, where it stays.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from .graph_parts import (
    GRAPH_INITIALIZER,
    INT64,
    TENSOR_DATA_LOCATION,
    TENSOR_DIMS,
    TENSOR_NAME,
    Initializer,
    Node,
)
from .protobuf import Reader, integer, message

RESHAPE = b"Reshape"


def reshaped_weight(
    node: Node, initializers: Mapping[bytes, Initializer], written: Mapping[bytes, bytes], variable: Collection[bytes]
) -> bytes | None:
    """The initializer in place of a node that reshapes a weight.

    Args:
        node: The node.
        initializers: The graph's initializers by name.
        written: The initializers, by name, as the copy of the graph has them: fields of a graph.
        variable: The names of values that a caller may replace, and of the graph's outputs.

    Returns:
        The field of a graph; None where the node is something else, or the weight does not lie in a file.
    """
    if node.op_type != RESHAPE or node.domain or len(node.inputs) != 2 or len(node.outputs) != 1:
        return None
    (weight, shape), (name,) = node.inputs, node.outputs
    known = weight in initializers and shape in initializers and name and name not in initializers
    if not known or {weight, shape, name} & {*variable} or any(node.attributes.values()):  # allowzero, if it is there
        return None
    if initializers[shape].data_type != INT64 or weight not in written:
        return None
    try:
        numbers, before = initializers[shape].numbers(), initializers[weight].dims
    except ValueError:  # shapes in a form that the reader does not know
        return None
    after = None if numbers is None else _shape(before, [int(number) for number in numbers])
    return None if after is None else _renamed(written[weight], name, after)


def _shape(dims: tuple[int, ...], asked: list[int]) -> list[int] | None:
    """The shape that `Reshape` gives to a tensor of the shape `dims`; None where it is none."""
    if any(number < -1 or (number == 0 and axis >= len(dims)) for axis, number in enumerate(asked)):
        return None
    shape = [dims[axis] if number == 0 else number for axis, number in enumerate(asked)]
    size, known = math.prod(dims), math.prod(number for number in shape if number != -1)
    if shape.count(-1) == 1 and known > 0 and size % known == 0:
        shape[shape.index(-1)] = size // known
    return shape if size > 0 and -1 not in shape and math.prod(shape) == size else None


def _renamed(initializer: bytes, name: bytes, dims: list[int]) -> bytes | None:
    """An initializer's field with another name and shape; None where its numbers do not lie in a file."""
    reader = Reader(initializer)
    (outer,) = reader.fields(0, len(initializer))
    inside = list(reader.fields(outer.start, outer.stop))
    if not any(field.number == TENSOR_DATA_LOCATION for field in inside):
        return None
    others = (reader.whole(field) for field in inside if field.number not in (TENSOR_DIMS, TENSOR_NAME))
    shape = (integer(TENSOR_DIMS, dim) for dim in dims)
    return message(GRAPH_INITIALIZER, *others, *shape, message(TENSOR_NAME, name))
