"""What an artifact folder is: its manifest and its graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from minimind_edge.runtime.artifact.json_object import JsonObject
from minimind_edge.runtime.errors import ArtifactError

from ..artifact.manifest import MANIFEST
from .graph import GraphInspection
from .table import Inspection, Section, architecture_section, byte_count


@dataclass(frozen=True)
class InspectedGraph:
    """A graph of a folder, and the parity report that the manifest has for it."""

    file: str
    graph: GraphInspection
    parity: Mapping[str, Any] | None

    def verdict(self) -> str:
        """Parity in one phrase."""
        if self.parity is None:
            return "not verified"
        logits, greedy = (_object(self.parity.get(name)) for name in ("logits", "greedy"))
        passed = "passed" if self.parity.get("passed") is True else "FAILED"
        return (
            f"{passed}: logits max abs {_shown(logits.get('max_abs'))}, mean KL {_shown(logits.get('mean_kl'))} nats, "
            f"greedy {greedy.get('equal')}/{greedy.get('total')}"
        )


@dataclass(frozen=True)
class ArtifactInspection(Inspection):
    """An artifact folder that was read.

    Attributes:
        path: The folder.
        files: Its files' sizes in bytes, by their names relative to it.
        manifest: `manifest.json`, empty where there is none (a folder in Hugging Face's or optimum's layout).
        graphs: Those that the manifest lists; without a manifest, those that are there.
    """

    path: Path
    files: dict[str, int]
    manifest: JsonObject
    graphs: tuple[InspectedGraph, ...]

    @classmethod
    def read(cls, path: Path) -> ArtifactInspection:
        """Read a folder and the graphs in it.

        Raises:
            ArtifactError: A file is broken or missing, or a name leads out of the folder.
        """
        files = {
            file.relative_to(path).as_posix(): file.stat().st_size for file in sorted(path.rglob("*")) if file.is_file()
        }
        manifest = JsonObject.read(path / MANIFEST) if MANIFEST in files else JsonObject({}, MANIFEST)
        if manifest:
            listed = [(entry.required("file", str), entry.get("parity")) for entry in manifest.children("graphs")]
        else:
            listed = [(name, None) for name in files if name.endswith(".onnx")]
        graphs = tuple(_read_graph(path, name, parity) for name, parity in listed)
        return cls(path, files, manifest, graphs)

    def to_json(self) -> dict[str, Any]:
        """See `Inspection.to_json`."""
        return {
            "kind": "artifact",
            "path": str(self.path),
            "bytes": sum(self.files.values()),
            "files": self.files,
            "generation": self.manifest.child("checkpoint").get("generation"),
            "checkpoint": dict(self.manifest.child("checkpoint")) or None,
            "architecture": dict(self.manifest.child("architecture")) or None,
            "default_graph": self.manifest.get("default_graph"),
            "versions": dict(self.manifest.child("versions")),
            "graphs": [graph.graph.to_json() | {"file": graph.file, "parity": graph.parity} for graph in self.graphs],
        }

    def sections(self) -> tuple[Section, ...]:
        """See `Inspection.sections`; graphs in full are what inspecting their files shows."""
        checkpoint, versions = self.manifest.child("checkpoint"), self.manifest.child("versions")
        summary = [
            ("path", str(self.path)),
            ("size", byte_count(sum(self.files.values()))),
            *((f"checkpoint {name}", str(value)) for name, value in checkpoint.items() if value),
            *((f"version of {name}", str(value)) for name, value in versions.items()),
        ]
        sections = [Section("artifact", tuple(summary))]
        if architecture := self.manifest.child("architecture"):
            sections.append(architecture_section(architecture))
        sections.extend(_graph_section(graph) for graph in self.graphs)
        sections.append(Section("files", tuple((name, byte_count(size)) for name, size in self.files.items())))
        return tuple(sections)


def has_graphs(folder: Path) -> bool:
    """Whether a folder is an artifact: it has a manifest, or graphs where Hugging Face's layout has them."""
    return (folder / MANIFEST).is_file() or any(folder.glob("*.onnx")) or any(folder.glob("onnx/*.onnx"))


def _read_graph(folder: Path, name: str, parity: Any) -> InspectedGraph:
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name or "\0" in name:
        raise ArtifactError(f"{folder}: the file name {name!r} leads out of the folder; it is not safe to use")
    return InspectedGraph(name, GraphInspection.read(folder / relative), _object(parity) or None)


def _graph_section(inspected: InspectedGraph) -> Section:
    graph = inspected.graph
    operators = {name: count for counts in graph.operators.values() for name, count in counts.items()}
    rows = [
        ("size", byte_count(graph.size)),
        *(("missing", f"{name}: the graph cannot run without it") for name in graph.missing_files),
        ("target", str(graph.metadata.get("minimind_edge.target", "unknown"))),
        ("precision", graph.precision or "unknown"),
        ("opsets", ", ".join(f"{domain} {version}" for domain, version in graph.opsets.items())),
        ("kv cache", f"{graph.kv_bytes_per_token:,} bytes per token" if graph.kv_bytes_per_token else "none"),
        ("nodes", f"{sum(operators.values())}: {', '.join(f'{name} {count}' for name, count in operators.items())}"),
        ("parity", inspected.verdict()),
    ]
    return Section(inspected.file, tuple(rows))


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _shown(value: Any) -> str:
    return f"{value:.2e}" if isinstance(value, float) else str(value)
