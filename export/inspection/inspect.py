"""`inspect`: find out whether a path is a checkpoint, a graph, an artifact or a plan, and read it."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from minimind_edge.runtime.errors import ArtifactError

from .table import Inspection, Section

__all__ = ["Inspection", "Section", "inspect_path"]


def inspect_path(path: str | PathLike[str]) -> Inspection:
    """Read a checkpoint, a graph, an artifact folder or a plan.

    Args:
        path: A checkpoint of any form, an `.onnx` graph, a `.plan`, or a folder of an artifact, of Hugging Face's
            layout or of a plan.

    Raises:
        ArtifactError: A graph or folder is broken, missing or unsafe.
        MiniMindError: The path is not a graph, an artifact or a plan, and not a checkpoint either.
    """
    path = Path(path)
    try:
        return _read(path)
    except OSError as error:
        raise ArtifactError(f"cannot read {error.filename or path}: {error.strerror or error}") from error


def _read(path: Path) -> Inspection:
    from .artifact import ArtifactInspection, has_graphs

    if path.is_dir() and has_graphs(path):
        return ArtifactInspection.read(path)
    if path.is_dir() and (path / "model.plan").is_file():
        path = path / "model.plan"
    if path.suffix == ".plan":
        from .plan import PlanInspection

        return PlanInspection.read(path)
    if path.suffix == ".onnx":
        from .graph import GraphInspection

        return GraphInspection.read(path)
    from .checkpoint import CheckpointInspection

    return CheckpointInspection.read(path)
