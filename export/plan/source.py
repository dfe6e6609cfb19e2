"""The source of a plan's graph: an artifact, a graph by itself, or a checkpoint that is exported on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimind_edge.runtime.artifact.manifest import MANIFEST
from minimind_edge.runtime.errors import UsageError

from ..artifact.json_file import read_json
from ..artifact.manifest import graph_path, is_artifact, read_manifest
from ..artifact.staging import temporary_folder
from ..errors import ExportError
from ..progress import Progress
from .request import PlanRequest

DEFAULT_PRECISION = "fp16"
"""Precision of a plan from a checkpoint: GPUs are fast in it, and both backends have fused attention for it."""

EXPORTED = 0.6
"""The share of the whole time that has passed when the checkpoint is exported."""


@dataclass(frozen=True)
class GraphSource:
    """A graph, with the checkpoint, configuration and parity that its manifest has.

    Attributes:
        graph: The graph's file.
        folder: The artifact that the graph is part of, None for a graph that stands alone.
        checkpoint: The manifest's entry about the checkpoint, None without a manifest.
        config: The model's fields as the manifest has them, None without a manifest.
        parity: The graph's parity report in the manifest, None without one.
        notes: Lines for the user.
    """

    graph: Path
    folder: Path | None
    checkpoint: dict[str, Any] | None
    config: dict[str, Any] | None
    parity: dict[str, Any] | None
    notes: tuple[str, ...] = ()


@contextmanager
def open_source(request: PlanRequest, progress: Progress) -> Iterator[GraphSource]:
    """Yield the graph to build from; a graph that was exported for this is deleted afterwards.

    Args:
        request: The request, which names the source.
        progress: Called with a stage's name and the share of the whole that is done.

    Raises:
        EdgeError: There is no such graph, or the checkpoint cannot be exported.
        UsageError: An option for checkpoints was given, and the source is not a checkpoint.
        MiniMindError: A checkpoint is not MiniMind's.
    """
    source = request.source
    if source is not None and source.is_dir() and is_artifact(source):
        _refuse_checkpoint_options(request, "an artifact")
        yield _from_artifact(source, request.precision)
    elif source is not None and source.suffix == ".onnx":
        _refuse_checkpoint_options(request, "a graph")
        yield _from_graph(source, request.precision)
    else:
        with temporary_folder() as folder:
            yield _from_checkpoint(request, folder / "artifact", progress)


def _refuse_checkpoint_options(request: PlanRequest, kind: str) -> None:
    if given := request.checkpoint.given():
        raise UsageError(
            f"{given[0]} is for checkpoints, and {request.source} is {kind}: leave it out, or name the checkpoint"
        )


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
    """A graph named by its file; if it is part of an artifact, its manifest is read too."""
    if not graph.is_file():
        raise ExportError(f"no graph at {graph}")
    for folder in graph.resolve().parents[:2]:
        if is_artifact(folder):
            return _of_manifest(graph, folder, graph.resolve().relative_to(folder).as_posix())
    return GraphSource(graph, None, None, None, None)


def _of_manifest(graph: Path, folder: Path, file: str) -> GraphSource:
    """A graph with its folder's manifest entries about it, which go into the plan's description.

    Raises:
        ArtifactError: The manifest is broken.
    """
    read_manifest(folder)
    content = read_json(folder / MANIFEST)
    parity = next((each.get("parity") for each in content["graphs"] if each["file"] == file), None)
    return GraphSource(graph, folder, content.get("checkpoint"), content.get("config"), parity)


def _from_checkpoint(request: PlanRequest, folder: Path, progress: Progress) -> GraphSource:
    from ..pipeline import export_onnx
    from ..request import ExportRequest

    export = ExportRequest(
        checkpoint=request.source,
        output=folder,
        target="tensorrt",
        precision=request.precision or DEFAULT_PRECISION,
        max_length=request.max_length,
        **vars(request.checkpoint),
    )
    result = export_onnx(export, lambda stage, done: progress(stage if done < 1 else "graph", done * EXPORTED))
    content = result.manifest
    parity = content["graphs"][0]["parity"]
    return GraphSource(result.graph, folder, content["checkpoint"], content["config"], parity, result.notes)
