"""A graph's optional inputs: constants in its file, so that other tools load it as it is, and inputs in this runtime.

ONNX has one form for an input that may be left out: an initializer with the name of an input. ONNX Runtime warns of
each of these whenever it loads such a graph, and cannot take their defaults for constants. So the file has only the
initializers, and its metadata names those that the runtime makes inputs, in a copy of the graph in memory. The copy has
no weights: it says where they lie in the graph's own file, which ONNX Runtime maps into memory, as it maps weights in
a file of their own.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..artifact.paths import external_data
from ..errors import ArtifactError
from ..session.contract import OPTIONAL_INPUTS, OPTIONAL_INPUTS_PROPERTY
from .protobuf import LENGTH_DELIMITED, Field, Reader, integer, message

WEIGHT_ALIGNMENT = 64
"""The alignment of a weight's numbers in a graph's file, in bytes, where they are to be mapped into memory: a cache
line, and the widest vector register."""

MAPPED_BYTES = 1024
"""The fewest bytes of a weight that is mapped; smaller ones are copied."""

ELEMENT_TYPES = {"int32": 6, "int64": 7}
"""Numbers of the inputs' types in ONNX's `TensorProto.DataType`."""

EXTERNAL = 1
"""The number of external data in ONNX's `TensorProto.DataLocation`."""

# The numbers of the fields in ONNX's messages, which are read or written here.
MODEL_GRAPH, MODEL_METADATA = 7, 14
GRAPH_INITIALIZER, GRAPH_INPUT = 5, 11
TENSOR_NAME, TENSOR_RAW_DATA, TENSOR_EXTERNAL_DATA, TENSOR_DATA_LOCATION = 8, 9, 13, 14
VALUE_NAME, VALUE_TYPE = 1, 2
TYPE_TENSOR, TENSOR_ELEMENT, TENSOR_SHAPE, SHAPE_AXIS, AXIS_SIZE, AXIS_NAME = 1, 1, 2, 1, 1, 2
ENTRY_KEY, ENTRY_VALUE = 1, 2


@dataclass(frozen=True)
class GraphInMemory:
    """A graph for ONNX Runtime to load from memory.

    Attributes:
        message: The graph, a `ModelProto`, without weights.
        folder: The folder that the locations of its weights are relative to.
        file: The file that the graph was read from, links resolved.
        state: What `os.stat` said of it then.
    """

    message: bytes
    folder: Path
    file: Path
    state: os.stat_result

    def is_current(self) -> bool:
        """Whether the file is still the one that was read, so that its weights lie where the graph says."""
        try:
            now = self.file.stat()
        except OSError:
            return False
        return _identity(now) == _identity(self.state)


def with_optional_inputs(path: str | os.PathLike[str]) -> GraphInMemory | None:
    """The graph of a file with its optional inputs.

    Args:
        path: The `.onnx` file.

    Returns:
        The graph; None where the file's metadata names no optional inputs, or it cannot be read, so that ONNX Runtime
        is to load the file itself.

    Raises:
        ArtifactError: The metadata names an input that this runtime does not know, that has no default or that the
            graph has already, or its weights lie outside of its folder or are missing.
    """
    file = Path(path)
    if not file.is_file():
        return None
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _GraphFile(file, data, os.fstat(opened.fileno())).in_memory()
    except (OSError, ValueError):  # empty, no protobuf, or text that is not UTF-8
        return None


def input_of(name: str) -> bytes:
    """A known optional input as an input of a graph: the field of a `GraphProto`."""
    dtype, axis = OPTIONAL_INPUTS[name]
    size = integer(AXIS_SIZE, axis) if isinstance(axis, int) else message(AXIS_NAME, axis.encode())
    shape = message(TENSOR_SHAPE, message(SHAPE_AXIS, size))
    tensor = message(TYPE_TENSOR, integer(TENSOR_ELEMENT, ELEMENT_TYPES[dtype]), shape)
    return message(GRAPH_INPUT, message(VALUE_NAME, name.encode()), message(VALUE_TYPE, tensor))


class _GraphFile:
    """The graph in a file.

    Args:
        path: The file.
        data: Its content.
        state: What `os.fstat` says of it.
    """

    def __init__(self, path: Path, data: mmap.mmap, state: os.stat_result) -> None:
        self._path = path
        self._state = state
        self._reader = Reader(data)
        self._fields = list(self._reader.fields(0, len(data)))

    def in_memory(self) -> GraphInMemory | None:
        """See `with_optional_inputs`.

        Raises:
            ArtifactError: See there.
            ValueError: The file is no ONNX graph.
        """
        names = self._optional_inputs()
        if not names:
            return None
        inside = [field for graph in self._graphs() for field in self._reader.fields(graph.start, graph.stop)]
        tensors = [_Tensor(self._reader, field) for field in inside if _is_message(field, GRAPH_INITIALIZER)]
        inputs = [
            _text(self._reader, self._reader.fields(field.start, field.stop), VALUE_NAME)
            for field in inside
            if _is_message(field, GRAPH_INPUT)
        ]
        self._check(names, [tensor.name for tensor in tensors], inputs)
        files = self._weight_files(tensors)
        folder = Path(os.path.commonpath([file.parent for file in files.values()]))
        places = {location: file.relative_to(folder).as_posix().encode() for location, file in files.items()}
        weights = {tensor.field: tensor.elsewhere(places) for tensor in tensors}
        copied = [weights.get(field) or self._reader.whole(field) for field in inside]
        others = [self._reader.whole(field) for field in self._fields if not _is_message(field, MODEL_GRAPH)]
        graph = message(MODEL_GRAPH, *copied, *map(input_of, names))
        return GraphInMemory(b"".join([*others, graph]), folder, files[None], self._state)

    def _graphs(self) -> list[Field]:
        """The graph, in as many parts as it was written in; a reader of protobuf joins them."""
        return [field for field in self._fields if _is_message(field, MODEL_GRAPH)]

    def _optional_inputs(self) -> list[str]:
        """The optional inputs that the metadata names."""
        metadata = (_entry(self._reader, field) for field in self._fields if _is_message(field, MODEL_METADATA))
        text = dict(metadata).get(OPTIONAL_INPUTS_PROPERTY.encode(), b"").decode()
        return [name for name in dict.fromkeys(text.split(",")) if name]

    def _check(self, names: Sequence[str], defaults: Sequence[bytes], inputs: Sequence[bytes]) -> None:
        """See that each optional input is known, has one default, and is no input yet.

        Raises:
            ArtifactError: One is not.
        """
        for name in names:
            shown = f"{self._path}: the optional input {name[:40]!r}"
            if name not in OPTIONAL_INPUTS:
                raise ArtifactError(f"{shown} is not known to this runtime: update it, or export the graph again")
            if name.encode() in inputs:
                raise ArtifactError(f"{shown} is an input already; export the graph again")
            if (count := defaults.count(name.encode())) != 1:
                raise ArtifactError(f"{shown} has {count} defaults instead of one; export the graph again")

    def _weight_files(self, tensors: Sequence[_Tensor]) -> dict[bytes | None, Path]:
        """The files that hold the graph's weights, links resolved, by their locations; that of None is the graph's own.

        Raises:
            ArtifactError: A location leads out of the graph's folder, or nothing is there.
        """
        files: dict[bytes | None, Path] = {None: self._path.resolve()}
        for location in {each for tensor in tensors for each in tensor.locations}:
            found = external_data(self._path, name := location.decode())
            if found is None:
                raise ArtifactError(f"{self._path.parent} lacks {name}, which holds weights of {self._path.name}")
            files[location] = found.resolve()
        return files


class _Tensor:
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
        self.name = _text(reader, self._inside, TENSOR_NAME)
        self._entries = [inner for inner in self._inside if _is_message(inner, TENSOR_EXTERNAL_DATA)]
        entries = (_entry(reader, inner) for inner in self._entries)
        self.locations = [value for key, value in entries if key == b"location"]

    def elsewhere(self, places: Mapping[bytes | None, bytes]) -> bytes | None:
        """The initializer's field, with its numbers in a file; None where it stays as it is.

        Args:
            places: The places of the files, by the locations that the graph's file has.
        """
        if self._entries:
            return self._replaced({inner: self._moved(inner, places) for inner in self._entries})
        numbers = [inner for inner in self._inside if _is_message(inner, TENSOR_RAW_DATA)]
        if len(numbers) != 1 or not _can_be_mapped(numbers[0]):
            return None
        start, size = numbers[0].start, numbers[0].stop - numbers[0].start
        place = {b"location": places[None], b"offset": str(start).encode(), b"length": str(size).encode()}
        entries = b"".join(message(TENSOR_EXTERNAL_DATA, _entry_fields(key, value)) for key, value in place.items())
        return self._replaced({numbers[0]: entries + integer(TENSOR_DATA_LOCATION, EXTERNAL)})

    def _moved(self, entry: Field, places: Mapping[bytes | None, bytes]) -> bytes:
        key, value = _entry(self._reader, entry)
        return message(TENSOR_EXTERNAL_DATA, _entry_fields(key, places[value] if key == b"location" else value))

    def _replaced(self, by: Mapping[Field, bytes]) -> bytes:
        parts = (by.get(inner) or self._reader.whole(inner) for inner in self._inside)
        return message(GRAPH_INITIALIZER, *parts)


def _identity(state: os.stat_result) -> tuple[int, ...]:
    """What tells a file from one that took its place, or its content from another."""
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def _can_be_mapped(numbers: Field) -> bool:
    return numbers.stop - numbers.start >= MAPPED_BYTES and numbers.start % WEIGHT_ALIGNMENT == 0


def _is_message(field: Field, number: int) -> bool:
    """Whether a field has this number, and holds a message, bytes or a string."""
    return field.number == number and field.wire == LENGTH_DELIMITED


def _text(reader: Reader, fields: Iterable[Field], number: int) -> bytes:
    """The string of this number among the fields of a message, empty where there is none; of several, the last."""
    found = [field for field in fields if _is_message(field, number)]
    return reader.content(found[-1]) if found else b""


def _entry(reader: Reader, field: Field) -> tuple[bytes, bytes]:
    """The key and the value of a `StringStringEntryProto`."""
    inside = list(reader.fields(field.start, field.stop))
    return _text(reader, inside, ENTRY_KEY), _text(reader, inside, ENTRY_VALUE)


def _entry_fields(key: bytes, value: bytes) -> bytes:
    return message(ENTRY_KEY, key) + message(ENTRY_VALUE, value)
