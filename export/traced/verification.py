"""Verifying an artifact against a model's own code in eager PyTorch."""

from __future__ import annotations

from pathlib import Path

from minimind_edge.runtime.errors import UsageError

from ..artifact.manifest import file_sha256, graph_path, origin, read_manifest
from ..artifact.origin import find_checkpoint, locate
from ..parity import compare
from ..progress import Progress, part, silent
from ..verification import Verification, VerifiedGraph
from .code import load_code
from .construction import build_model
from .owner import understand
from .reference import OwnersReference


def verify_against_code(
    path: Path, code: str, against: Path | None = None, config: Path | None = None, progress: Progress | None = None
) -> Verification:
    """Compare every graph of an artifact, traced or written, with a model's own code, thoroughly.

    Args:
        path: The artifact folder, or a graph in one.
        code: `FILE.py:CLASS`, the code that is imported and run.
        against: The checkpoint; None looks for the one that the manifest names.
        config: A JSON file with the fields of the model's config; None takes the one next to the checkpoint.
        progress: Called with a stage's name and the share of the whole that is done.

    Raises:
        UsageError: The path is a plan.
        ArtifactError: There is no artifact, or a graph is missing.
        ExportError: The checkpoint is not found, or the code cannot be run.
    """
    if path.suffix == ".plan":
        raise UsageError("--against-code compares graphs; verify the artifact that the plan was built from")
    tell = progress or silent
    folder, wanted = locate(path)
    manifest = read_manifest(folder)
    checkpoint, fields = origin(manifest, folder)
    entries = [entry for entry in manifest.graphs if wanted is None or entry.file == wanted]
    graphs = [graph_path(folder, entry) for entry in entries]
    loaded = load_code(code)
    source = against or find_checkpoint(folder, checkpoint)
    tell("reading the checkpoint", 0.0)
    built = build_model(loaded, source, config)
    reference = OwnersReference(understand(built.model), str(loaded))
    verified = []
    for index, (entry, graph) in enumerate(zip(entries, graphs, strict=True)):
        report = compare(
            reference,
            graph,
            target=entry.target,
            precision=entry.precision,
            thorough=True,
            progress=part(tell, index / len(entries), (index + 1) / len(entries), f"{entry.file}: "),
        )
        verified.append(VerifiedGraph(entry.file, file_sha256(graph) != entry.sha256, report))
    tell("done", 1.0)
    notes = [f"the reference is the code of {loaded}"]
    if "model" in fields and fields.get("code_sha256") != loaded.sha256:
        notes.append(f"{loaded} is not the code that the artifact was traced from ({fields['model']})")
    if built.sha256 != checkpoint.sha256:
        notes.append(f"{source} is not the file that was exported; its weights are compared anyway")
    notes += [f"{graph.file} was changed after the export" for graph in verified if graph.changed]
    return Verification(folder, source, tuple(notes), tuple(verified))
