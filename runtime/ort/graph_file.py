"""A graph's file, parsed once, and its copy in memory, which refers to the weights in the file."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..artifact.paths import external_data
from ..errors import ArtifactError
from ..session.contract import OPERATORS_PROPERTY
from .graph_parts import (
    GRAPH_INITIALIZER,
    GRAPH_INPUT,
    GRAPH_NODE,
    GRAPH_OUTPUT,
    GRAPH_VALUE_INFO,
    VALUE_NAME,
    Initializer,
    Node,
    Value,
    entry,
    entry_fields,
    is_message,
    text,
)
from .protobuf import VARINT, Field, Reader, integer, message
from .reshaped_weights import RESHAPE, reshaped_weight

MODEL_GRAPH, MODEL_OPSET, MODEL_METADATA, MODEL_FUNCTIONS = 7, 8, 14, 25
OPSET_DOMAIN, OPSET_VERSION = 1, 2


@dataclass(frozen=True)
class GraphInMemory:
    """A graph for ONNX Runtime to load from memory.

    Attributes:
        message: The graph, a `ModelProto`, without the weights that are mapped.
        folder: The folder that the locations of its weights are relative to.
        file: The file that the graph was read from, links resolved.
        state: What `os.stat` said of it then.
        is_native: Whether it has operators of the package minimind-edge-native.
    """

    message: bytes
    folder: Path
    file: Path
    state: os.stat_result
    is_native: bool = False

    def is_current(self) -> bool:
        """Whether the file is still the one that was read, so that its weights lie where the graph says."""
        try:
            now = self.file.stat()
        except OSError:
            return False
        return _identity(now) == _identity(self.state)


@dataclass(frozen=True)
class NativeGraph:
    """What the copy of a graph has in place of stock operators.

    Attributes:
        nodes: The new node in place of each node that is replaced, by its field in the graph.
        dropped: The fields of nodes and initializers that nothing reads any more.
        domain: The domain of the new operators, whose version is 1.
        operators: The value of the copy's property `minimind_edge.operators`.
    """

    nodes: Mapping[Field, Node]
    dropped: frozenset[Field]
    domain: bytes
    operators: str


class GraphFile:
    """The graph in a file.

    Args:
        path: The file.
        data: Its content.
        state: What `os.fstat` says of it.

    Attributes:
        path: The file.

    Raises:
        ValueError: The file is no protobuf message.
    """

    def __init__(self, path: Path, data: bytes | mmap.mmap, state: os.stat_result) -> None:
        self.path = path
        self._state = state
        self._reader = Reader(data)
        self._fields = list(self._reader.fields(0, len(data)))

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[GraphFile]:
        """Map a file into memory and find its fields.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is empty, or no protobuf message.
        """
        with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield cls(path, data, os.fstat(opened.fileno()))

    @cached_property
    def metadata(self) -> dict[bytes, bytes]:
        """The graph's properties."""
        return dict(entry(self._reader, field) for field in self._fields if is_message(field, MODEL_METADATA))

    @cached_property
    def opsets(self) -> list[tuple[bytes, int]]:
        """The domains of operators that the graph imports, with their versions."""
        found = []
        for field in self._fields:
            if is_message(field, MODEL_OPSET):
                inside = list(self._reader.fields(field.start, field.stop))
                versions = [each for each in inside if each.number == OPSET_VERSION and each.wire == VARINT]
                version = self._reader.integer(versions[-1]) if versions else 0
                found.append((text(self._reader, inside, OPSET_DOMAIN), version))
        return found

    @property
    def has_functions(self) -> bool:
        """Whether the model defines operators of its own."""
        return any(is_message(field, MODEL_FUNCTIONS) for field in self._fields)

    @cached_property
    def initializers(self) -> list[Initializer]:
        """The graph's initializers."""
        return [Initializer(self._reader, field) for field in self._inside if is_message(field, GRAPH_INITIALIZER)]

    @cached_property
    def inputs(self) -> list[Value]:
        """The graph's inputs."""
        return self._values(GRAPH_INPUT)

    @cached_property
    def outputs(self) -> list[Value]:
        """The graph's outputs."""
        return self._values(GRAPH_OUTPUT)

    @cached_property
    def inner_values(self) -> list[Value]:
        """What the file tells of values between nodes."""
        return self._values(GRAPH_VALUE_INFO)

    @cached_property
    def nodes(self) -> dict[Field, Node]:
        """The graph's nodes by their fields, in their order."""
        return {field: Node.read(self._reader, field) for field in self._inside if is_message(field, GRAPH_NODE)}

    def in_memory(
        self, inputs: Mapping[str, bytes], outputs: Sequence[str] = (), native: NativeGraph | None = None
    ) -> GraphInMemory:
        """A copy of the graph that refers to the weights in the file, also where nodes reshape them.

        Args:
            inputs: More inputs by their names, each the field of a graph.
            outputs: Names of inner values that are to be outputs too.
            native: What takes the place of stock operators.

        Raises:
            ArtifactError: Weights lie outside of the graph's folder, or are missing.
            ValueError: The file is no ONNX graph.
        """
        dropped = native.dropped if native else frozenset()
        kept = [tensor for tensor in self.initializers if tensor.field not in dropped]
        files = self._weight_files(kept)
        folder = Path(os.path.commonpath([file.parent for file in files.values()]))
        places = {location: file.relative_to(folder).as_posix().encode() for location, file in files.items()}
        changed = {tensor.field: tensor.elsewhere(places) for tensor in kept}
        changed.update(self._reshaped(changed, {name.encode() for name in (*inputs, *outputs)}))
        if native:
            changed.update((field, node.written()) for field, node in native.nodes.items())
        whole = self._reader.whole
        copied = [changed.get(field) or whole(field) for field in self._inside if field not in dropped]
        shown = [message(GRAPH_OUTPUT, message(VALUE_NAME, name.encode())) for name in outputs]
        others = [whole(field) for field in self._fields if not is_message(field, MODEL_GRAPH)]
        if native:
            others.append(message(MODEL_OPSET, message(OPSET_DOMAIN, native.domain), integer(OPSET_VERSION, 1)))
            others.append(message(MODEL_METADATA, entry_fields(OPERATORS_PROPERTY.encode(), native.operators.encode())))
        graph = message(MODEL_GRAPH, *copied, *inputs.values(), *shown)
        return GraphInMemory(b"".join([*others, graph]), folder, files[None], self._state, native is not None)

    @cached_property
    def _inside(self) -> list[Field]:
        """The fields of the graph, in as many parts as it was written in; a reader of protobuf joins them."""
        graphs = [field for field in self._fields if is_message(field, MODEL_GRAPH)]
        return [field for graph in graphs for field in self._reader.fields(graph.start, graph.stop)]

    def _values(self, number: int) -> list[Value]:
        return [Value(self._reader, field) for field in self._inside if is_message(field, number)]

    def _reshaped(self, changed: Mapping[Field, bytes | None], variable: set[bytes]) -> dict[Field, bytes]:
        """The initializers in place of nodes that reshape a weight in a file, by the fields of the nodes.

        Args:
            changed: The initializers in files, as the copy has them, by their fields.
            variable: Names of values that a caller reads or may replace, besides the file's own inputs and outputs.
        """
        nodes = [field for field in self._inside if is_message(field, GRAPH_NODE)]
        candidates = [field for field in nodes if RESHAPE in self._reader.content(field)]
        if not candidates:
            return {}
        initializers = {tensor.name: tensor for tensor in self.initializers}
        written = {name: field for name, tensor in initializers.items() if (field := changed.get(tensor.field))}
        variable = variable | {value.name for value in (*self.inputs, *self.outputs)}
        found = ((field, Node.read(self._reader, field)) for field in candidates)
        new = ((field, reshaped_weight(node, initializers, written, variable)) for field, node in found)
        return {field: initializer for field, initializer in new if initializer is not None}

    def _weight_files(self, tensors: Sequence[Initializer]) -> dict[bytes | None, Path]:
        """The files that hold the graph's weights, links resolved, by their locations; that of None is the graph's own.

        Raises:
            ArtifactError: A location leads out of the graph's folder, or nothing is there.
        """
        files: dict[bytes | None, Path] = {None: self.path.resolve()}
        for location in {each for tensor in tensors for each in tensor.locations}:
            found = external_data(self.path, name := location.decode())
            if found is None:
                raise ArtifactError(f"{self.path.parent} lacks {name}, which holds weights of {self.path.name}")
            files[location] = found.resolve()
        return files


def _identity(state: os.stat_result) -> tuple[int, ...]:
    """What tells a file from one that took its place, or its content from another."""
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
