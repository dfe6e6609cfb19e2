"""Verify: compare an artifact, or a plan on its GPU, with its checkpoint in eager PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimind_edge.runtime.artifact.manifest import CheckpointEntry
from minimind_edge.runtime.load import load_session
from minimind_edge.runtime.tensorrt.plan import Plan

from .artifact.manifest import file_sha256, graph_path, origin, read_manifest
from .artifact.origin import find_checkpoint, load_exported, locate
from .errors import ExportError
from .progress import Progress, part, silent

if TYPE_CHECKING:
    from minimind_edge.minimind.checkpoint import LoadedCheckpoint

    from .parity import ParityReport


@dataclass(frozen=True)
class VerifiedGraph:
    """The parity report of one graph or plan.

    Args:
        file: Its name, relative to the artifact.
        changed: Whether the file is another one than the export wrote.
        report: What the comparison found.
    """

    file: str
    changed: bool
    report: ParityReport


@dataclass(frozen=True)
class Verification:
    """The parity reports of an artifact; truthy where there is one and all passed.

    Args:
        artifact: The folder.
        checkpoint: What the graphs were compared with.
        notes: What a reader has to know, one line each.
        graphs: The graphs that were compared, or the plan.
    """

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

    Where sessions on this machine run native operators, a graph is run with them and with ONNX Runtime's own.

    Args:
        path: The artifact folder, a graph in one, or a TensorRT plan, which takes the GPU that it was built for.
        against: The checkpoint; None looks for the one that the manifest names: where it lay at the export, next to the
            artifact, in the current folder and among the bundled ones.
        progress: Called with a stage's name and the share of the whole that is done.

    Raises:
        ArtifactError: There is no artifact, or a file of it is missing or broken.
        ExportError: The checkpoint is not to be found, or a plan does not say which one it was built from.
        MissingError: A plan cannot run here.
        MiniMindError: The checkpoint is not what the manifest says.
    """
    tell = progress or silent
    verification = _verify_plan(path, against, tell) if path.suffix == ".plan" else _verify_graphs(path, against, tell)
    tell("done", 1.0)
    return verification


def _verify_graphs(path: Path, against: Path | None, progress: Progress) -> Verification:
    folder, wanted = locate(path)
    manifest = read_manifest(folder)
    checkpoint, config = origin(manifest, folder)
    if "model" in config:
        raise ExportError(
            f"{folder} was traced from a model's own code, {config['model']}; "
            "compare it with that by --against-code FILE.py:CLASS"
        )
    entries = [entry for entry in manifest.graphs if wanted is None or entry.file == wanted]
    graphs = [graph_path(folder, entry) for entry in entries]
    progress("reading the checkpoint", 0.0)
    source = against or find_checkpoint(folder, checkpoint)
    loaded = load_exported(source, folder, checkpoint, config)
    from .parity import compare
    from .parity.reference import StockModel

    verified = []
    for index, (entry, graph) in enumerate(zip(entries, graphs, strict=True)):
        report = compare(
            StockModel(loaded.model, loaded.report.unread_code),
            graph,
            target=entry.target,
            precision=entry.precision,
            thorough=True,
            native=True,
            progress=part(progress, index / len(entries), (index + 1) / len(entries), f"{entry.file}: "),
        )
        verified.append(VerifiedGraph(entry.file, file_sha256(graph) != entry.sha256, report))
    notes = [
        *_source_notes(source, loaded, checkpoint),
        *(f"{one.file} was changed after the export" for one in verified if one.changed),
    ]
    return Verification(folder, source, tuple(notes), tuple(verified))


def _verify_plan(path: Path, against: Path | None, progress: Progress) -> Verification:
    session = load_session(path)  # first of all, since most machines cannot: it reads no more than the plan
    plan = Plan.read(path)
    checkpoint, config = plan.description.checkpoint, plan.description.config
    if checkpoint is None or config is None:
        raise ExportError(
            f"{path} was built from a graph alone: build it from an artifact or a checkpoint to verify it"
        )
    progress("reading the checkpoint", 0.0)
    source = against or find_checkpoint(path.parent, checkpoint)
    loaded = load_exported(source, path.parent, checkpoint, config)
    from .parity import compare_plan
    from .parity.reference import StockModel

    report = compare_plan(StockModel(loaded.model, loaded.report.unread_code), session, plan, progress=progress)
    notes = [*_source_notes(source, loaded, checkpoint), *_plan_notes(plan, use_moe=loaded.model.config.use_moe)]
    return Verification(path.parent, source, tuple(notes), (VerifiedGraph(path.name, False, report),))


def _source_notes(source: Path, loaded: LoadedCheckpoint, checkpoint: CheckpointEntry) -> list[str]:
    notes = list(loaded.report.notes)
    if loaded.report.sha256 != checkpoint.sha256:
        notes.append(f"{source} is not the file that was exported; its weights are compared anyway")
    return notes


def _plan_notes(plan: Plan, *, use_moe: bool) -> list[str]:
    notes = ["batches of three rows are left out: the plan holds fewer"] if plan.max_batch < 3 else []
    if use_moe and not plan.experts:
        notes.append("the experts chosen are not compared: the plan has no outputs for them; build it again")
    return notes
