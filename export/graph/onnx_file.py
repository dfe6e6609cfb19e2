"""A graph's file, written weight by weight, so that no more than one is in memory at a time.

A protobuf message is the concatenation of its fields, in any order, and a nested message is a field that begins with
its length. So the graph without weights is serialised as usual, and each weight is appended to it as it is made. Spaces
in documentation strings let the numbers of every large weight begin at a multiple of `WEIGHT_ALIGNMENT`, so that they
can be mapped into memory where they lie.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import onnx
import onnx_ir as ir

from minimind_edge.runtime.ort.graph_parts import MAPPED_BYTES, WEIGHT_ALIGNMENT
from minimind_edge.runtime.ort.protobuf import key

INLINE_LIMIT = 1_900_000_000
"""The most bytes of weights inside the `.onnx`; protobuf's own limit is 2 GiB per file."""

DATA_THRESHOLD = MAPPED_BYTES
"""Tensors of fewer bytes, which shape inference may need, stay in the `.onnx` in any case."""

DATA_ALIGNMENT = 4096
"""The alignment of weights in a `.onnx_data` file, in bytes: a page, so that they can be mapped into memory."""

WEIGHT = ".weight"
"""The part of an initializer's name which says that it holds a parameter, or the integers or scales of one."""

GRAPH_FIELD = onnx.ModelProto.GRAPH_FIELD_NUMBER
INITIALIZER_FIELD = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
RAW_DATA_FIELD = onnx.TensorProto.RAW_DATA_FIELD_NUMBER


def save_graph(model: ir.Model, path: Path, inline_limit: int = INLINE_LIMIT) -> tuple[Path, ...]:
    """Write a graph whole, or not at all; an older file of its name is replaced.

    Args:
        model: The graph; its weights are made now, one after the other.
        path: The `.onnx` file; its folder is created where it is missing.
        inline_limit: Bytes of weights past which they go into a `.onnx_data` file next to it.

    Returns:
        The files written, the graph first.

    Raises:
        ExportError: A weight does not fit its precision.
        OSError: The disk is full or cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        written = _write(model, folder / path.name, inline_limit)
        for file in reversed(written):
            file.replace(path.parent / file.name)
    finally:
        shutil.rmtree(folder)
    return tuple(path.parent / file.name for file in written)


def weight_bytes(model: ir.Model) -> int:
    """The bytes that a graph's weights take, scales and zero points included; rotary tables and constants are none."""
    tensors = (value.const_value for value in model.graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None and WEIGHT in (tensor.name or ""))


def _write(model: ir.Model, path: Path, inline_limit: int) -> list[Path]:
    tensors = [value.const_value for value in model.graph.initializers.values() if value.const_value is not None]
    if sum(tensor.nbytes for tensor in tensors) <= inline_limit:
        _write_graph(model, path, [_header(tensor) for tensor in tensors], tensors)
        return [path]
    inside = [tensor for tensor in tensors if tensor.nbytes < DATA_THRESHOLD]
    outside = [tensor for tensor in tensors if tensor.nbytes >= DATA_THRESHOLD]
    data = path.with_name(f"{path.name}_data")
    headers = _write_data(data, outside)
    _write_graph(model, path, [*(_header(tensor) for tensor in inside), *headers], inside)
    return [path, data]


def _write_graph(
    model: ir.Model, path: Path, headers: Sequence[onnx.TensorProto], inside: Sequence[ir.TensorProtocol]
) -> None:
    """Write the `.onnx`.

    Args:
        model: The graph.
        path: The file.
        headers: All weights without their numbers, those that are stored inside first.
        inside: Weights whose numbers go into the file.
    """
    proto = _without_weights(model)
    nodes = proto.graph.SerializeToString()
    proto.ClearField("graph")
    beginnings, size = [], len(nodes)
    for index, header in enumerate(headers):
        nbytes = inside[index].nbytes if index < len(inside) else None
        beginnings.append(_beginning(header, nbytes, size))
        size += len(beginnings[-1]) + (nbytes or 0)
    with path.open("wb") as file:
        file.write(_aligned(proto, lambda: proto.SerializeToString() + key(GRAPH_FIELD, size), 0))
        file.write(nodes)
        for index, beginning in enumerate(beginnings):
            file.write(beginning)
            if index < len(inside):
                _write_numbers(file, inside[index])


def _beginning(header: onnx.TensorProto, nbytes: int | None, place: int) -> bytes:
    """An initializer of the graph up to its numbers, which begin at an aligned place where they are many.

    Args:
        header: The initializer without its numbers.
        nbytes: The bytes of numbers that follow; None where they are in another file.
        place: Where the initializer begins in the graph.
    """

    def beginning() -> bytes:
        content: bytes = header.SerializeToString()
        if nbytes is not None:
            content += key(RAW_DATA_FIELD, nbytes)
        return key(INITIALIZER_FIELD, len(content) + (nbytes or 0)) + content

    if nbytes is None or nbytes < MAPPED_BYTES:
        return beginning()
    return _aligned(header, beginning, place)


def _aligned(proto: onnx.ModelProto | onnx.TensorProto, write: Callable[[], bytes], place: int) -> bytes:
    """What `write` makes of a message that gets so many spaces as documentation that it ends at an aligned place.

    Args:
        proto: The message.
        write: Returns the bytes that are to end there.
        place: Where these bytes begin.
    """
    while (place + len(written := write())) % WEIGHT_ALIGNMENT:
        proto.doc_string += " "
    return written


def _write_data(path: Path, tensors: Sequence[ir.TensorProtocol]) -> list[onnx.TensorProto]:
    """Write the `.onnx_data`; returns the graph's entry for each weight in it."""
    headers = []
    with path.open("wb") as file:
        for tensor in tensors:
            file.write(bytes(-file.tell() % DATA_ALIGNMENT))
            header = _header(tensor)
            header.data_location = onnx.TensorProto.EXTERNAL
            place = {"location": path.name, "offset": file.tell(), "length": tensor.nbytes}
            header.external_data.extend(
                onnx.StringStringEntryProto(key=key, value=str(value)) for key, value in place.items()
            )
            headers.append(header)
            _write_numbers(file, tensor)
    return headers


def _write_numbers(file: IO[bytes], tensor: ir.TensorProtocol) -> None:
    numbers = tensor.tobytes()
    assert len(numbers) == tensor.nbytes
    file.write(numbers)


def _without_weights(model: ir.Model) -> onnx.ModelProto:
    weights = dict(model.graph.initializers)
    model.graph.initializers.clear()
    try:
        return ir.to_proto(model)
    finally:
        model.graph.initializers.update(weights)


def _header(tensor: ir.TensorProtocol) -> onnx.TensorProto:
    return onnx.TensorProto(name=tensor.name, data_type=tensor.dtype.value, dims=tensor.shape.numpy())
