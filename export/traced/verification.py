"""An artifact held against its owner's own eager code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from ..artifact.manifest import file_sha256
from ..parity import compare
from ..verification import Verification, VerifiedGraph, find_checkpoint, locate, read_manifest
from .code import load_code
from .construction import build_model
from .owner import understand
from .reference import EagerReference

Progress = Callable[[str, float], None]


def verify_against_code(
    path: Path, code: str, against: Path | None = None, config: Path | None = None, progress: Progress | None = None
) -> Verification:
    """Compare every graph of an artifact, traced or written, with a model's own code, thoroughly.

    Args:
        path: The artifact folder, or a graph in one.
        code: `FILE.py:CLASS`. It is imported and run.
        against: The checkpoint; None looks for the one that the manifest names.
        config: JSON with the fields of the model's config; None takes the one beside the checkpoint.
        progress: Called with a stage's name and the share of the whole that is done.

    Raises:
        ArtifactError: No artifact, or a graph is missing.
        ExportError: The checkpoint is not to be found, or the code cannot be run.
    """
    tell = progress or (lambda stage, done: None)
    folder, wanted = locate(path)
    content = read_manifest(folder)
    loaded = load_code(code)
    source = against or find_checkpoint(folder, content["checkpoint"]["file"], content["checkpoint"]["sha256"])
    tell("reading the checkpoint", 0.0)
    built = build_model(loaded, source, config)
    reference = cast("Any", EagerReference(understand(built.model)))
    entries = [entry for entry in content["graphs"] if wanted is None or entry["file"] == wanted]
    verified = []
    for index, entry in enumerate(entries):

        def telling(stage: str, done: float, index: int = index, file: str = entry["file"]) -> None:
            tell(f"{file}: {stage}", (index + done) / len(entries))

        graph = folder / entry["file"]
        report = compare(
            reference, graph, target=entry["target"], precision=entry["precision"], thorough=True, progress=telling
        )
        verified.append(VerifiedGraph(entry["file"], file_sha256(graph) != entry["sha256"], report))
    tell("done", 1.0)
    notes = [f"the reference is the code of {loaded}"]
    traced = content.get("traced") or {}
    if traced and traced.get("sha256") != loaded.sha256:
        notes.append(f"{loaded.file} is not the file that the artifact was traced from ({traced.get('file')})")
    if built.sha256 != content["checkpoint"]["sha256"]:
        notes.append(f"{source} is not the file that the artifact was exported from; its weights are compared anyway")
    notes += [f"{graph.file} was changed after the export" for graph in verified if graph.changed]
    return Verification(folder, source, tuple(notes), tuple(verified))
