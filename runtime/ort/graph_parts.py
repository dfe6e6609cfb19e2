"""The parts of a graph's file, read without the package onnx: nodes, initializers, and the types of values."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from .protobuf import FOUR_BYTES, LENGTH_DELIMITED, VARINT, Field, Reader, float32, integer, message

WEIGHT_ALIGNMENT = 64
"""The alignment of a weight's numbers in a graph's file, in bytes, where they are to be mapped into memory: a cache
line, and the widest vector register."""

MAPPED_BYTES = 1024
"""The fewest bytes of a weight that is mapped; smaller ones are copied."""

FLOAT, UINT8, INT32, INT64, BOOL, FLOAT16 = 1, 2, 6, 7, 9, 10
"""Numbers of element types in ONNX's `TensorProto.DataType`."""

EXTERNAL = 1
"""The number of external data in ONNX's `TensorProto.DataLocation`."""

# The numbers of the fields in ONNX's messages, which are read or written here.
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_VALUE_INFO = 1, 5, 11, 12, 13
TENSOR_DIMS, TENSOR_DATA_TYPE, TENSOR_NAME, TENSOR_RAW_DATA = 1, 2, 8, 9
TENSOR_EXTERNAL_DATA, TENSOR_DATA_LOCATION = 13, 14
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OP_TYPE, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 2, 3, 4, 5, 7
ATTRIBUTE_NAME, ATTRIBUTE_F, ATTRIBUTE_I, ATTRIBUTE_G, ATTRIBUTE_GRAPHS, ATTRIBUTE_TYPE = 1, 2, 3, 6, 11, 20
VALUE_NAME, VALUE_TYPE = 1, 2
TYPE_TENSOR, TENSOR_ELEMENT, TENSOR_SHAPE, SHAPE_AXIS, AXIS_SIZE, AXIS_NAME = 1, 1, 2, 1, 1, 2
ENTRY_KEY, ENTRY_VALUE = 1, 2

FLOAT_ATTRIBUTE, INT_ATTRIBUTE = 1, 2
"""Numbers of attribute types in ONNX's `AttributeProto.AttributeType`."""

Attribute: TypeAlias = "int | float | None"
"""The value of an attribute: a whole number, or a float; None for every other type, which nothing here reads."""

Dims: TypeAlias = "tuple[int | bytes, ...]"
"""The axes of a value: their sizes, or their names; an axis without either has an empty name."""


@dataclass(frozen=True)
class Node:
    """A node.

    Attributes:
        op_type: Its operator.
        inputs: Names of its inputs, an empty one for each that is left out.
        outputs: Names of its outputs, likewise.
        domain: The operator's domain; empty for ONNX's own.
        name: Its name.
        attributes: Its attributes by name.
        has_subgraph: Whether one of them is a graph, which may read any value of this one.
    """

    op_type: bytes
    inputs: tuple[bytes, ...]
    outputs: tuple[bytes, ...]
    domain: bytes = b""
    name: bytes = b""
    attributes: Mapping[bytes, Attribute] = field(default_factory=dict)
    has_subgraph: bool = False

    @classmethod
    def read(cls, reader: Reader, node: Field) -> Node:
        """Read a node's field of a graph."""
        inputs: list[bytes] = []
        outputs: list[bytes] = []
        texts: dict[int, bytes] = {}
        attributes: dict[bytes, Attribute] = {}
        has_subgraph = False
        for inner in reader.fields(node.start, node.stop):
            if inner.wire != LENGTH_DELIMITED:
                continue
            if inner.number == NODE_INPUT:
                inputs.append(reader.content(inner))
            elif inner.number == NODE_OUTPUT:
                outputs.append(reader.content(inner))
            elif inner.number == NODE_ATTRIBUTE:
                name, attribute, is_graph = _attribute(reader, inner)
                attributes[name] = attribute
                has_subgraph |= is_graph
            else:
                texts[inner.number] = reader.content(inner)
        return cls(
            texts.get(NODE_OP_TYPE, b""),
            tuple(inputs),
            tuple(outputs),
            texts.get(NODE_DOMAIN, b""),
            texts.get(NODE_NAME, b""),
            attributes,
            has_subgraph,
        )

    def written(self) -> bytes:
        """The node as a field of a graph; its attributes must be whole numbers of at least 0, or floats."""
        return message(
            GRAPH_NODE,
            *(message(NODE_INPUT, each) for each in self.inputs),
            *(message(NODE_OUTPUT, each) for each in self.outputs),
            message(NODE_NAME, self.name),
            message(NODE_OP_TYPE, self.op_type),
            *(_written_attribute(name, value) for name, value in self.attributes.items()),
            message(NODE_DOMAIN, self.domain),
        )


class Value:
    """A graph's input, or what is known about one of its inner values.

    Args:
        reader: The reader of the file.
        field: The value's field in the graph.

    Attributes:
        name: Its name.
    """

    def __init__(self, reader: Reader, field: Field) -> None:
        self._reader = reader
        self._inside = list(reader.fields(field.start, field.stop))
        self.name = text(reader, self._inside, VALUE_NAME)

    @cached_property
    def type(self) -> tuple[int, Dims] | None:
        """The number of its element type, and its axes; None where it is no tensor, or its shape is unknown."""
        reader = self._reader
        inside: Iterable[Field] = self._inside
        for number in (VALUE_TYPE, TYPE_TENSOR):
            found = [each for each in inside if is_message(each, number)]
            if len(found) != 1:
                return None
            inside = list(reader.fields(found[0].start, found[0].stop))
        elements = [each for each in inside if each.number == TENSOR_ELEMENT and each.wire == VARINT]
        shapes = [each for each in inside if is_message(each, TENSOR_SHAPE)]
        if len(elements) != 1 or len(shapes) != 1:
            return None
        axes = (each for each in reader.fields(shapes[0].start, shapes[0].stop) if is_message(each, SHAPE_AXIS))
        return reader.integer(elements[0]), tuple(_axis(reader, each) for each in axes)


class Initializer:
    """An initializer.

    Args:
        reader: The reader of the file.
        field: The initializer's field in the graph.

    Attributes:
        field: The same.
        name: Its name.
        locations: The names of the files that hold its numbers, where they do not lie in the graph's file.
    """

    def __init__(self, reader: Reader, field: Field) -> None:
        self.field = field
        self._reader = reader
        self._inside = list(reader.fields(field.start, field.stop))
        self.name = text(reader, self._inside, TENSOR_NAME)
        self._entries = [inner for inner in self._inside if is_message(inner, TENSOR_EXTERNAL_DATA)]
        entries = (entry(reader, inner) for inner in self._entries)
        self.locations = [value for key, value in entries if key == b"location"]

    @property
    def data_type(self) -> int:
        """The number of its element type; 0 where it has none."""
        found = [each for each in self._inside if each.number == TENSOR_DATA_TYPE and each.wire == VARINT]
        return self._reader.integer(found[-1]) if found else 0

    @property
    def dims(self) -> tuple[int, ...]:
        """Its shape."""
        dims: list[int] = []
        for each in self._inside:
            if each.number == TENSOR_DIMS and each.wire == VARINT:
                dims.append(self._reader.integer(each))
            elif each.number == TENSOR_DIMS:  # onnx's Python writes them one by one, other protobuf libraries packed
                raise ValueError("packed dimensions")
        return tuple(dims)

    def numbers(self, most: int = 1024) -> tuple[float, ...] | None:
        """Its numbers, which are integers or float32; None where they are more than `most` or not in the file."""
        kinds = {FLOAT: "f", INT32: "i", INT64: "q"}
        data = [each for each in self._inside if is_message(each, TENSOR_RAW_DATA)]
        kind, dims = kinds.get(self.data_type), self.dims
        if kind is None or self._entries or len(data) != 1 or any(not 0 <= dim <= most for dim in dims):
            return None
        count = math.prod(dims)
        if count > most or data[0].stop - data[0].start != count * struct.calcsize(f"<{kind}"):
            return None
        return struct.unpack(f"<{count}{kind}", self._reader.content(data[0]))

    def elsewhere(self, places: Mapping[bytes | None, bytes]) -> bytes | None:
        """The initializer's field, with its numbers in a file; None where it stays as it is.

        Args:
            places: The places of the files, by the locations that the graph's file has.
        """
        if self._entries:
            return self._replaced({inner: self._moved(inner, places) for inner in self._entries})
        numbers = [inner for inner in self._inside if is_message(inner, TENSOR_RAW_DATA)]
        if len(numbers) != 1 or not _can_be_mapped(numbers[0]):
            return None
        start, size = numbers[0].start, numbers[0].stop - numbers[0].start
        place = {b"location": places[None], b"offset": str(start).encode(), b"length": str(size).encode()}
        entries = b"".join(message(TENSOR_EXTERNAL_DATA, entry_fields(key, value)) for key, value in place.items())
        return self._replaced({numbers[0]: entries + integer(TENSOR_DATA_LOCATION, EXTERNAL)})

    def _moved(self, inner: Field, places: Mapping[bytes | None, bytes]) -> bytes:
        key, value = entry(self._reader, inner)
        return message(TENSOR_EXTERNAL_DATA, entry_fields(key, places[value] if key == b"location" else value))

    def _replaced(self, by: Mapping[Field, bytes]) -> bytes:
        parts = (by.get(inner) or self._reader.whole(inner) for inner in self._inside)
        return message(GRAPH_INITIALIZER, *parts)


def is_message(field: Field, number: int) -> bool:
    """Whether a field has this number, and holds a message, bytes or a string."""
    return field.number == number and field.wire == LENGTH_DELIMITED


def text(reader: Reader, fields: Iterable[Field], number: int) -> bytes:
    """The string of this number among the fields of a message, empty where there is none; of several, the last."""
    found = [field for field in fields if is_message(field, number)]
    return reader.content(found[-1]) if found else b""


def entry(reader: Reader, field: Field) -> tuple[bytes, bytes]:
    """The key and the value of a `StringStringEntryProto`."""
    inside = list(reader.fields(field.start, field.stop))
    return text(reader, inside, ENTRY_KEY), text(reader, inside, ENTRY_VALUE)


def entry_fields(key: bytes, value: bytes) -> bytes:
    """The fields of a `StringStringEntryProto`."""
    return message(ENTRY_KEY, key) + message(ENTRY_VALUE, value)


def _can_be_mapped(numbers: Field) -> bool:
    return numbers.stop - numbers.start >= MAPPED_BYTES and numbers.start % WEIGHT_ALIGNMENT == 0


def _attribute(reader: Reader, attribute: Field) -> tuple[bytes, Attribute, bool]:
    """An attribute's name, its value, and whether it holds a graph."""
    name, kind, whole, real, is_graph = b"", 0, 0, 0.0, False
    for inner in reader.fields(attribute.start, attribute.stop):
        number, wire = inner.number, inner.wire
        if number == ATTRIBUTE_NAME and wire == LENGTH_DELIMITED:
            name = reader.content(inner)
        elif number == ATTRIBUTE_TYPE and wire == VARINT:
            kind = reader.integer(inner)
        elif number == ATTRIBUTE_I and wire == VARINT:
            whole = reader.integer(inner)
        elif number == ATTRIBUTE_F and wire == FOUR_BYTES:
            (real,) = struct.unpack("<f", reader.content(inner))
        elif number in (ATTRIBUTE_G, ATTRIBUTE_GRAPHS):
            is_graph = True
    return name, {FLOAT_ATTRIBUTE: real, INT_ATTRIBUTE: whole}.get(kind), is_graph


def _written_attribute(name: bytes, value: Attribute) -> bytes:
    assert value is not None
    if isinstance(value, float):
        number = float32(ATTRIBUTE_F, value) + integer(ATTRIBUTE_TYPE, FLOAT_ATTRIBUTE)
    else:
        number = integer(ATTRIBUTE_I, value) + integer(ATTRIBUTE_TYPE, INT_ATTRIBUTE)
    return message(NODE_ATTRIBUTE, message(ATTRIBUTE_NAME, name), number)


def _axis(reader: Reader, axis: Field) -> int | bytes:
    """The size of an axis, or its name."""
    found: int | bytes = b""
    for inner in reader.fields(axis.start, axis.stop):
        if inner.number == AXIS_SIZE and inner.wire == VARINT:
            found = reader.integer(inner)
        elif is_message(inner, AXIS_NAME):
            found = reader.content(inner)
    return found
