"""An artifact held against its checkpoint again, on any machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimind_edge.runtime.errors import ArtifactError

from .artifact.json_file import read_json
from .artifact.manifest import MANIFEST, file_sha256, is_artifact
from .bundled import bundled_checkpoints
from .errors import ExportError

if TYPE_CHECKING:
    from minimind_edge.minimind.checkpoint import LoadedCheckpoint

    from .parity import ParityReport

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class VerifiedGraph:
    """One graph and its proof; `changed` tells that the file is not the one that the export wrote."""

    file: str
    changed: bool
    report: ParityReport


@dataclass(frozen=True)
class Verification:
    """All graphs of an artifact; truthy where every one is the checkpoint's model."""

    artifact: Path
    checkpoint: Path
    notes: tuple[str, ...]
    graphs: tuple[VerifiedGraph, ...]

    def __bool__(self) -> bool:
        return bool(self.graphs) and all(graph.report for graph in self.graphs)

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "artifact": str(self.artifact),
            "checkpoint": str(self.checkpoint),
            "passed": bool(self),
            "notes": list(self.notes),
            "graphs": [
                {"file": graph.file, "changed": graph.changed, "parity": graph.report.to_json()}
                for graph in self.graphs
            ],
        }


def verify_artifact(path: Path, against: Path | None = None, progress: Progress | None = None) -> Verification:
    """Compare every graph of an artifact (or the graph or plan that is named) with eager PyTorch, thoroughly.

    Args:
        path: The artifact folder, a graph in one, or a TensorRT plan, which takes the GPU that it was built for.
        against: The checkpoint; None looks for the one that the manifest names: among the bundled ones, beside the
            artifact and in the current folder.
        progress: Called with a stage's name and the share of the whole that is done.

    Raises:
        ArtifactError: No artifact, or a graph is missing.
        ExportError: The checkpoint is not to be found.
        MissingError: A plan cannot run here.
        MiniMindError: The checkpoint is not what the manifest says.
    """
    from .parity import compare

    if path.suffix == ".plan":
        from .engine.verification import verify_plan

        return verify_plan(path, against, progress)
    folder, wanted = locate(path)
    content = read_manifest(folder)
    if traced := content.get("traced"):
        raise ExportError(
            f"{folder} was traced from a model's own code, {traced.get('file')}:{traced.get('class')}; "
            "compare it with that by --against-code FILE.py:CLASS"
        )
    tell = progress or (lambda stage, done: None)
    tell("reading the checkpoint", 0.0)
    source = against or find_checkpoint(folder, content["checkpoint"]["file"], content["checkpoint"]["sha256"])
    loaded = load_exported(source, folder, content)
    entries = [entry for entry in content["graphs"] if wanted is None or entry["file"] == wanted]
    verified = []
    for index, entry in enumerate(entries):

        def telling(stage: str, done: float, index: int = index, file: str = entry["file"]) -> None:
            tell(f"{file}: {stage}", (index + done) / len(entries))

        graph = folder / entry["file"]
        report = compare(
            loaded.model,
            graph,
            target=entry["target"],
            precision=entry["precision"],
            thorough=True,
            progress=telling,
        )
        verified.append(VerifiedGraph(entry["file"], file_sha256(graph) != entry["sha256"], report))
    tell("done", 1.0)
    return Verification(folder, source, tuple(_notes(source, loaded, content, verified)), tuple(verified))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read an artifact's manifest and see that verification can rely on it.

    Raises:
        ArtifactError: It is missing, of another format, or names files outside the folder.
    """
    content = read_json(folder / MANIFEST)
    try:
        if content["format"] != 1:
            raise ArtifactError(f"{folder / MANIFEST} has format {content['format']}; this version reads format 1")
        checkpoint = content["checkpoint"]
        needed: list[tuple[Any, type]] = [(checkpoint["file"], str), (checkpoint["sha256"], str)]
        needed += [(content["config"], dict), (content["graphs"], list)]
        for entry in content["graphs"]:
            needed += [(entry[key], str) for key in ("file", "target", "precision", "sha256")]
            _require_inside(folder, entry["file"])
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{folder / MANIFEST} lacks {error}; export the checkpoint again") from error
    wrong = [value for value, kind in needed if not isinstance(value, kind)]
    if wrong or not content["graphs"]:
        raise ArtifactError(f"{folder / MANIFEST} is not a manifest of this tool; export the checkpoint again")
    return content


def _require_inside(folder: Path, file: str) -> None:
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ArtifactError(f"{folder / MANIFEST} names {file!r}, which lies outside the artifact")
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; export the checkpoint again")


def locate(path: Path) -> tuple[Path, str | None]:
    """The artifact folder of a path, and the graph in it that the path names, if it names one.

    Raises:
        ArtifactError: There is nothing, or it is in no artifact.
    """
    if not path.exists():
        raise ArtifactError(f"no artifact at {path}")
    if path.is_dir():
        if not is_artifact(path):
            raise ArtifactError(f"{path} holds no {MANIFEST} of this tool; verify takes a folder that `onnx` wrote")
        return path, None
    for folder in path.resolve().parents[:2]:
        if is_artifact(folder):
            return folder, path.resolve().relative_to(folder).as_posix()
    raise ArtifactError(f"{path} is not part of an artifact: no {MANIFEST} in its folder or the one above")


def find_checkpoint(folder: Path, name: str, sha256: str) -> Path:
    """The checkpoint by its name and digest; a file of that name with another digest is not taken.

    Args:
        folder: The artifact; the checkpoint may lie beside it, in the current folder or among the bundled ones.
        name: Its file's name.
        sha256: Its digest.

    Raises:
        ExportError: It is in none of these places.
    """
    from minimind_edge.minimind.checkpoint.source import find_source

    candidates = [*bundled_checkpoints(), folder.resolve().parent / name, Path(name)]
    for path in candidates:
        if path.name == name and path.exists() and find_source(path).sha256() == sha256:
            return path
    raise ExportError(
        f"the checkpoint {name} (sha256 {sha256[:12]}) is not beside {folder} or in the current folder; "
        "name it by --against"
    )


def load_exported(source: Path, folder: Path, content: Mapping[str, Any]) -> LoadedCheckpoint:
    """The model as it was exported: the manifest's config, its adapters merged.

    Args:
        source: The checkpoint.
        folder: The artifact; adapters may lie beside it.
        content: Of the manifest: `config` and `checkpoint` are read.

    Raises:
        ExportError: An adapter is not to be found.
        MiniMindError: The checkpoint is not what the manifest says.
    """
    from minimind_edge.minimind.checkpoint import read_checkpoint

    adapters = [
        find_checkpoint(folder, adapter["file"], adapter["sha256"]) for adapter in content["checkpoint"].get("lora", [])
    ]
    return read_checkpoint(source, content["config"], lora=adapters or None)


def _notes(source: Path, loaded: LoadedCheckpoint, content: dict[str, Any], verified: list[VerifiedGraph]) -> list[str]:
    notes = []
    if loaded.report.sha256 != content["checkpoint"]["sha256"]:
        notes.append(
            f"{source} is not the file that the artifact was exported from; its weights are compared all the same"
        )
    notes += [f"{graph.file} was changed after the export" for graph in verified if graph.changed]
    return notes
