"""The `manifest.json` of an artifact: what its graphs are and where they came from."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ArtifactError
from .json_object import JsonObject

FORMAT = 1
"""Newest manifest format that is understood."""


@dataclass(frozen=True)
class GraphEntry:
    """One graph of an artifact.

    Attributes:
        file: Its name, relative to the folder, as the manifest has it: not yet known to lie inside.
        target: `portable`, `ort` or `tensorrt`.
        precision: `fp32`, `fp16`, `bf16`, `int8` or `int4`.
        opset: Version of the standard operators, None where it is not told.
        max_length: Context length in tokens, None where it is not told.
        sha256: Hex digest of the file, None where it is not told.
    """

    file: str
    target: str
    precision: str
    opset: int | None
    max_length: int | None
    sha256: str | None


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says.

    Attributes:
        graphs: At least one.
        default_graph: The one to run unless another is asked for; one of `graphs`.
        checkpoint: File, sha256 and generation of the checkpoint.
        architecture: Sizes and parameter counts.
        versions: Version of each tool that wrote the artifact.
    """

    graphs: tuple[GraphEntry, ...]
    default_graph: GraphEntry
    checkpoint: JsonObject
    architecture: JsonObject
    versions: JsonObject

    @classmethod
    def parse(cls, values: JsonObject) -> Manifest:
        """Check a manifest.

        Raises:
            ArtifactError: It is of a newer format, a value is missing or of the wrong type, or its default graph is
                none of its graphs.
        """
        if (version := values.required("format", int)) > FORMAT:
            raise ArtifactError(
                f"{values.where} has format {version}, this version reads {FORMAT}: upgrade minimind-edge"
            )
        graphs = tuple(_graph_entry(entry) for entry in values.children("graphs"))
        if not graphs:
            raise ArtifactError(f"{values.where} lists no graph; export the checkpoint again")
        default = values.optional("default_graph", str) or graphs[0].file
        named = [graph for graph in graphs if graph.file == default]
        if not named:
            files = ", ".join(graph.file for graph in graphs)
            raise ArtifactError(f"{values.where}: default_graph {default!r} is none of its graphs ({files})")
        return cls(graphs, named[0], values.child("checkpoint"), values.child("architecture"), values.child("versions"))

    def graph(self, precision: str | None = None) -> GraphEntry:
        """The default graph, or the one of a precision.

        Raises:
            ArtifactError: No graph has that precision.
        """
        if precision is None:
            return self.default_graph
        for graph in (self.default_graph, *self.graphs):
            if graph.precision == precision:
                return graph
        found = ", ".join(sorted({graph.precision for graph in self.graphs}))
        raise ArtifactError(f"no graph of precision {precision!r} in this artifact, which has {found}; export it first")


def _graph_entry(values: JsonObject) -> GraphEntry:
    return GraphEntry(
        file=values.required("file", str),
        target=values.required("target", str),
        precision=values.required("precision", str),
        opset=values.optional("opset", int),
        max_length=values.positive("max_length"),
        sha256=values.optional("sha256", str),
    )
