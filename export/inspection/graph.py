"""Inspection of an ONNX graph: inputs, outputs, operators and weights; external weights are not loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimind_edge.runtime.artifact.paths import external_data, member

from ..artifact.onnx_graph import read_graph
from .table import Inspection, Section, byte_count

if TYPE_CHECKING:
    import onnx

METADATA = "minimind_edge."
"""The prefix of the names of this project's metadata."""

PRECISION = f"{METADATA}precision"

PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
UNREAD = "read with the package onnx (pip install onnx)"
"""The phrase in place of a fact that ONNX Runtime does not tell."""

WEIGHTS_SUFFIX = "_data"
"""The end of the name of the file next to a graph that holds its weights, after the graph's own name."""

ELEMENT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}

Shape = tuple["int | str | None", ...]


@dataclass(frozen=True)
class Tensor:
    """An input or output. A size in its shape is a number, the name of a dynamic axis, or None where it is unknown."""

    name: str
    dtype: str
    shape: Shape

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join('?' if size is None else str(size) for size in self.shape)}]"


@dataclass(frozen=True)
class GraphInspection(Inspection):
    """A graph that was read.

    Attributes:
        path: The `.onnx` file.
        weight_files: The files next to the graph that hold weights, without those in `missing_files`.
        missing_files: The names of weight files that are not there.
        size: The size of the graph and its weight files in bytes.
        producer: The tool that wrote the graph.
        ir_version: The version of the file format; None where the package onnx is missing, like the next one.
        opsets: The version of each operator domain.
        metadata: The graph's `metadata_props`.
        inputs: The inputs in order, without weights.
        outputs: The outputs in order.
        operators: How often each operator occurs, by domain, in the graph, its subgraphs and functions; None where the
            package onnx is missing, like the next one.
        weights: The number of weight elements of each dtype.
    """

    path: Path
    weight_files: tuple[Path, ...]
    missing_files: tuple[str, ...]
    size: int
    producer: str
    ir_version: int | None
    opsets: dict[str, int] | None
    metadata: dict[str, str]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: dict[str, dict[str, int]] | None
    weights: dict[str, int] | None

    @classmethod
    def read(cls, path: Path) -> GraphInspection:
        """Read a graph: its file where the package onnx is installed, otherwise what ONNX Runtime tells about it.

        Raises:
            ArtifactError: There is no such file, or it is not an ONNX graph.
            MissingError: Only the package onnx can read it, which is missing.
        """
        try:
            import onnx  # noqa: F401
        except ModuleNotFoundError:
            return cls._read_by_runtime(path)
        return cls._read_file(path)

    @classmethod
    def _read_by_runtime(cls, path: Path) -> GraphInspection:
        from .runtime_graph import read_by_runtime

        graph = read_by_runtime(path)
        weights = member(path.parent, f"{path.name}{WEIGHTS_SUFFIX}")
        found = () if weights is None else (weights,)
        return cls(
            path=path,
            weight_files=found,
            missing_files=(),
            size=sum(file.stat().st_size for file in (path, *found)),
            producer=graph.producer,
            ir_version=None,
            opsets=None,
            metadata=graph.metadata,
            inputs=tuple(Tensor(*tensor) for tensor in graph.inputs),
            outputs=tuple(Tensor(*tensor) for tensor in graph.outputs),
            operators=None,
            weights=None,
        )

    @classmethod
    def _read_file(cls, path: Path) -> GraphInspection:
        model = read_graph(path)
        initializers = list(model.graph.initializer)
        names = {tensor.name for tensor in initializers}
        found, missing = _weight_files(path, initializers)
        return cls(
            path=path,
            weight_files=found,
            missing_files=missing,
            size=sum(file.stat().st_size for file in (path, *found)),
            producer=f"{model.producer_name} {model.producer_version}".strip(),
            ir_version=model.ir_version,
            opsets={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
            metadata={entry.key: entry.value for entry in model.metadata_props},
            inputs=tuple(_tensor(value) for value in model.graph.input if value.name not in names),
            outputs=tuple(_tensor(value) for value in model.graph.output),
            operators=_count_operators(model),
            weights=_count_weights(initializers),
        )

    @property
    def precision(self) -> str | None:
        """The precision of the weights: from the metadata, otherwise the dtype of most weights."""
        if (told := self.metadata.get(PRECISION)) is not None or not self.weights:
            return told
        return PRECISIONS.get(most := max(self.weights, key=self.weights.__getitem__), most)

    @property
    def kv_bytes_per_token(self) -> int | None:
        """The bytes of one token in the KV cache; None where the graph has no cache of known sizes."""
        pasts = [tensor for tensor in self.inputs if tensor.name.startswith("past_key_values.")]
        total = 0
        for past in pasts:
            width = ELEMENT_BYTES.get(past.dtype)
            heads, dim = (past.shape[1], past.shape[3]) if len(past.shape) == 4 else (None, None)
            if width is None or not isinstance(heads, int) or not isinstance(dim, int):
                return None
            total += heads * dim * width
        return total or None

    def to_json(self) -> dict[str, Any]:
        """See `Inspection.to_json`."""
        return {
            "kind": "graph",
            "path": str(self.path),
            "bytes": self.size,
            "weight_files": [str(file) for file in self.weight_files],
            "missing_files": list(self.missing_files),
            "target": self.metadata.get(f"{METADATA}target"),
            "precision": self.precision,
            "generation": self.metadata.get(f"{METADATA}generation"),
            "producer": self.producer,
            "ir_version": self.ir_version,
            "opsets": self.opsets,
            "metadata": self.metadata,
            "inputs": [_tensor_json(tensor) for tensor in self.inputs],
            "outputs": [_tensor_json(tensor) for tensor in self.outputs],
            "operators": self.operators,
            "weights": self.weights,
            "kv_bytes_per_token": self.kv_bytes_per_token,
        }

    def sections(self) -> tuple[Section, ...]:
        """See `Inspection.sections`."""
        summary = [
            ("path", str(self.path)),
            ("size", byte_count(self.size)),
            *(("weights in", str(file)) for file in self.weight_files),
            *(("missing", f"{name}: the graph cannot run without it") for name in self.missing_files),
            ("precision", self.precision or "unknown"),
            *((f"weights, {dtype}", f"{count:,} elements") for dtype, count in (self.weights or {}).items()),
            ("kv cache", f"{self.kv_bytes_per_token:,} bytes per token" if self.kv_bytes_per_token else "none"),
            ("producer", self.producer or "unknown"),
            ("opsets", self.shown_opsets()),
            *((key.removeprefix(METADATA), value) for key, value in self.metadata.items() if key != PRECISION),
        ]
        return (
            Section("graph", tuple(summary)),
            Section("inputs", tuple((tensor.name, str(tensor)) for tensor in self.inputs)),
            Section("outputs", tuple((tensor.name, str(tensor)) for tensor in self.outputs)),
            *(_operator_section(domain, counts) for domain, counts in (self.operators or {}).items()),
        )

    def shown_opsets(self) -> str:
        """The version of each operator domain in one phrase."""
        if self.opsets is None:
            return UNREAD
        return ", ".join(f"{domain} {version}" for domain, version in self.opsets.items())

    def shown_operators(self) -> str:
        """The number of nodes, and how often each operator occurs, in one phrase."""
        if self.operators is None:
            return UNREAD
        counts = {name: count for domain in self.operators.values() for name, count in domain.items()}
        return f"{sum(counts.values())}: {', '.join(f'{name} {count}' for name, count in counts.items())}"


def _weight_files(path: Path, initializers: Iterable[onnx.TensorProto]) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """The files next to a graph that hold its weights, and the names of those that are not there.

    Raises:
        ArtifactError: A name leads out of the graph's folder, or cannot be a file's name.
    """
    locations = (entry.value for tensor in initializers for entry in tensor.external_data if entry.key == "location")
    found, missing = [], []
    for name in dict.fromkeys(locations):
        file = external_data(path, name)
        if file is not None:
            found.append(file)
        else:
            missing.append(name)
    return tuple(found), tuple(missing)


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    return Tensor(value.name, _dtype(kind.elem_type), tuple(_size(axis) for axis in kind.shape.dim))


def _size(axis: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if axis.HasField("dim_value"):
        return int(axis.dim_value)
    return str(axis.dim_param) or None


def _dtype(number: int) -> str:
    """The name of an element type as NumPy and PyTorch spell it: `float32` rather than `FLOAT`."""
    import onnx

    if number not in onnx.TensorProto.DataType.values():
        return f"type {number}"
    name = str(onnx.TensorProto.DataType.Name(number)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def _count_weights(initializers: Iterable[onnx.TensorProto]) -> dict[str, int]:
    elements: Counter[str] = Counter()
    for tensor in initializers:
        elements[_dtype(tensor.data_type)] += prod(tensor.dims)
    return dict(elements.most_common())


def _count_operators(model: onnx.ModelProto) -> dict[str, dict[str, int]]:
    """How often each operator occurs, by domain, the most frequent first."""
    domains: dict[str, Counter[str]] = {}
    for owner in (model.graph, *model.functions):
        for node in _nodes(owner.node):
            domains.setdefault(node.domain or "ai.onnx", Counter())[node.op_type] += 1
    return {domain: dict(counts.most_common()) for domain, counts in sorted(domains.items())}


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)


def _operator_section(domain: str, counts: Mapping[str, int]) -> Section:
    rows = tuple((operator, str(count)) for operator, count in counts.items())
    return Section(f"operators of {domain} ({sum(counts.values())} nodes)", rows)


def _tensor_json(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}
