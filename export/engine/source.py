"""Where a plan's graph comes from: an artifact, a graph by itself, or a checkpoint that is exported on the way."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimind_edge.runtime.artifact.manifest import MANIFEST

from ..artifact.json_file import read_json
from ..artifact.manifest import graph_path, is_artifact, read_manifest
from ..errors import ExportError
from .monitor import Progress
from .request import EngineRequest

DEFAULT_PRECISION = "fp16"
"""Of a plan from a checkpoint: what GPUs calculate in fast, and what both backends have fused attention for."""

EXPORTED = 0.6
"""Share of the time after which a checkpoint has become a graph."""


@dataclass(frozen=True)
class GraphSource:
    """A graph and what is known of it.

    Attributes:
        graph: Its file.
        folder: The artifact that it is part of, None for one that stands alone.
        checkpoint: What the manifest says of the checkpoint, None without one.
        config: The model's fields as the manifest has them, None without one.
        parity: What the manifest says of the graph's parity, None without.
        notes: Lines for people.
    """

    graph: Path
    folder: Path | None
    checkpoint: dict[str, Any] | None
    config: dict[str, Any] | None
    parity: dict[str, Any] | None
    notes: tuple[str, ...] = ()


@contextmanager
def open_source(request: EngineRequest, cache: str, progress: Progress) -> Iterator[GraphSource]:
    """Yield the graph to build from; one that was exported for this is gone afterwards.

    Args:
        request: Names the source.
        cache: Form of the cache of a graph that is exported: `static` or `growing`.
        progress: Called with a stage's name and the share of the whole that is done.

    Raises:
        EdgeError: There is no such graph, or the checkpoint cannot be exported.
        MiniMindError: A checkpoint is none.
    """
    source = request.source
    if source is not None and source.is_dir() and is_artifact(source):
        yield _from_artifact(source, request.precision)
    elif source is not None and source.suffix == ".onnx":
        yield _from_graph(source, request.precision)
    else:
        with tempfile.TemporaryDirectory(prefix="minimind-edge-") as folder:
            yield _from_checkpoint(request, cache, Path(folder) / "artifact", progress)


def _from_artifact(folder: Path, precision: str | None) -> GraphSource:
    manifest = read_manifest(folder)
    entries = [each for each in manifest.graphs if each.target == "tensorrt"]
    chosen = [each for each in entries if precision in (None, each.precision)]
    if not chosen:
        found = ", ".join(f"{each.target} {each.precision}" for each in manifest.graphs)
        wanted = f"{precision or 'any precision'}"
        raise ExportError(
            f"{folder} has no graph of target tensorrt in {wanted} (found {found}); name the checkpoint instead, or "
            "export it with `minimind-export onnx --target tensorrt`"
        )
    return _of_manifest(graph_path(folder, chosen[0]), folder, chosen[0].file)


def _from_graph(graph: Path, precision: str | None) -> GraphSource:
    """A graph by its file: inside of an artifact, the manifest knows it too."""
    if not graph.is_file():
        raise ExportError(f"no graph at {graph}")
    for folder in graph.resolve().parents[:2]:
        if is_artifact(folder):
            return _of_manifest(graph, folder, graph.resolve().relative_to(folder).as_posix())
    return GraphSource(graph, None, None, None, None)


def _of_manifest(graph: Path, folder: Path, file: str) -> GraphSource:
    """A graph with what the manifest of its folder says of it, in full: that goes into the plan's description.

    Raises:
        ArtifactError: The manifest is broken.
    """
    read_manifest(folder)
    content = read_json(folder / MANIFEST)
    parity = next((each.get("parity") for each in content["graphs"] if each["file"] == file), None)
    return GraphSource(graph, folder, content.get("checkpoint"), content.get("config"), parity)


def _from_checkpoint(request: EngineRequest, cache: str, folder: Path, progress: Progress) -> GraphSource:
    from ..pipeline import export_onnx
    from ..request import ExportRequest

    export = ExportRequest(
        checkpoint=request.source,
        output=folder,
        target="tensorrt",
        precision=request.precision or DEFAULT_PRECISION,
        cache=cache,
        max_length=request.max_length,
    )
    result = export_onnx(export, lambda stage, done: progress(stage if done < 1 else "graph", done * EXPORTED))
    content = result.manifest
    parity = content["graphs"][0]["parity"]
    return GraphSource(result.graph, folder, content["checkpoint"], content["config"], parity, result.notes)
