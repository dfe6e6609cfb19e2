"""Inspection of an artifact folder: its manifest and its graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimind_edge.runtime.artifact.json_file import as_json, read_object
from minimind_edge.runtime.artifact.manifest import MANIFEST, Manifest, ParityEntry
from minimind_edge.runtime.artifact.paths import require_member, stays_inside

from .graph import GraphInspection
from .table import Inspection, Section, architecture_section, byte_count, checkpoint_rows


@dataclass(frozen=True)
class InspectedGraph:
    """A graph of a folder, and the parity report that the manifest has for it.

    Attributes:
        file: The graph's name, relative to the folder.
        graph: The inspection of the graph.
        parity: The outcome of the parity report, None where there is none.
        report: The whole parity report as JSON, None where there is none.
    """

    file: str
    graph: GraphInspection
    parity: ParityEntry | None
    report: Mapping[str, Any] | None

    def verdict(self) -> str:
        """The outcome of the parity report in one phrase."""
        if self.parity is None:
            return "not verified"
        logits, greedy = self.parity.logits, self.parity.greedy
        passed = "passed" if self.parity.passed else "FAILED"
        tokens = "not compared" if greedy is None else f"{greedy.equal}/{greedy.total}"
        return (
            f"{passed}: logits max abs {_shown(logits.max_abs)}, mean KL {_shown(logits.mean_kl)} nats, greedy {tokens}"
        )


@dataclass(frozen=True)
class ArtifactInspection(Inspection):
    """An artifact folder that was read.

    Attributes:
        path: The folder.
        files: The size of each file in bytes, by its name relative to the folder; links that lead out are left out.
        manifest: `manifest.json`, None where there is none (a folder in Hugging Face's or optimum's layout).
        content: The manifest as JSON, empty where there is none.
        graphs: The graphs that the manifest lists; without a manifest, all that are there.
    """

    path: Path
    files: dict[str, int]
    manifest: Manifest | None
    content: Mapping[str, Any]
    graphs: tuple[InspectedGraph, ...]

    @classmethod
    def read(cls, path: Path) -> ArtifactInspection:
        """Read a folder and the graphs in it.

        Raises:
            ArtifactError: A file is broken or missing, or a name leads out of the folder.
        """
        files = {
            file.relative_to(path).as_posix(): file.stat().st_size
            for file in sorted(path.rglob("*"))
            if file.is_file() and stays_inside(path, file)
        }
        where = path / MANIFEST
        content = read_object(require_member(path, MANIFEST, "the folder")) if where.is_file() else {}
        manifest = Manifest.parse(content, str(where)) if where.is_file() else None
        if manifest is None:
            graphs = [_read_graph(path, name, None, None) for name in files if name.endswith(".onnx")]
        else:
            entries = zip(manifest.graphs, content["graphs"], strict=True)
            graphs = [_read_graph(path, entry.file, entry.parity, whole.get("parity")) for entry, whole in entries]
        return cls(path, files, manifest, content, tuple(graphs))

    def to_json(self) -> dict[str, Any]:
        """See `Inspection.to_json`."""
        return {
            "kind": "artifact",
            "path": str(self.path),
            "bytes": sum(self.files.values()),
            "files": self.files,
            "generation": (self.content.get("checkpoint") or {}).get("generation"),
            "checkpoint": self.content.get("checkpoint"),
            "architecture": self.content.get("architecture"),
            "default_graph": self.content.get("default_graph"),
            "versions": self.content.get("versions") or {},
            "graphs": [graph.graph.to_json() | {"file": graph.file, "parity": graph.report} for graph in self.graphs],
        }

    def sections(self) -> tuple[Section, ...]:
        """See `Inspection.sections`; each graph in short, which inspecting its own file shows in full."""
        versions = self.manifest.versions if self.manifest else {}
        summary = [
            ("path", str(self.path)),
            ("size", byte_count(sum(self.files.values()))),
            *checkpoint_rows(self.manifest.checkpoint if self.manifest else None),
            *((f"version of {name}", value) for name, value in versions.items()),
        ]
        sections = [Section("artifact", tuple(summary))]
        if self.manifest and (architecture := as_json(self.manifest.architecture)):
            sections.append(architecture_section(architecture))
        sections.extend(_graph_section(graph) for graph in self.graphs)
        sections.append(Section("files", tuple((name, byte_count(size)) for name, size in self.files.items())))
        return tuple(sections)


def has_graphs(folder: Path) -> bool:
    """Whether a folder is an artifact: it has a manifest, or graphs where Hugging Face's layout has them."""
    return (folder / MANIFEST).is_file() or any(folder.glob("*.onnx")) or any(folder.glob("onnx/*.onnx"))


def _read_graph(
    folder: Path, name: str, parity: ParityEntry | None, report: Mapping[str, Any] | None
) -> InspectedGraph:
    return InspectedGraph(name, GraphInspection.read(require_member(folder, name, "its manifest")), parity, report)


def _graph_section(inspected: InspectedGraph) -> Section:
    graph = inspected.graph
    rows = [
        ("size", byte_count(graph.size)),
        *(("missing", f"{name}: the graph cannot run without it") for name in graph.missing_files),
        ("target", str(graph.metadata.get("minimind_edge.target", "unknown"))),
        ("precision", graph.precision or "unknown"),
        ("opsets", graph.shown_opsets()),
        ("kv cache", f"{graph.kv_bytes_per_token:,} bytes per token" if graph.kv_bytes_per_token else "none"),
        ("nodes", graph.shown_operators()),
        ("parity", inspected.verdict()),
    ]
    return Section(inspected.file, tuple(rows))


def _shown(value: Any) -> str:
    return f"{value:.2e}" if isinstance(value, float) else str(value)
