"""An evaluation kept in the manifest of the artifact that was measured, for whoever gets the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minimind_edge.runtime.errors import ArtifactError

from ..artifact.manifest import keep_figures
from ..verification import locate
from .report import EvaluationReport

PRIVATE = ("graph", "target", "precision", "bytes", "reference", "wrong", "notes", "seconds")
"""What the manifest has already, and what tells of the machine and of the run alone."""


def require_artifact(path: Path) -> None:
    """See, before the work is done, that there is a manifest to keep it in.

    Raises:
        ArtifactError: There is none.
    """
    locate(path)


def keep_evaluation(report: EvaluationReport) -> None:
    """Write the figures of a graph into its entry of the manifest, as `evaluation`.

    Args:
        report: Of a graph in an artifact folder.

    Raises:
        ArtifactError: The graph is in no artifact, or its manifest does not name it.
    """
    folder, file = locate(report.graph)
    if file is None:
        raise ArtifactError(f"{report.graph} is a folder: figures are kept of one graph in it")
    keep_figures(folder, file, _figures(report))


def _figures(report: EvaluationReport) -> dict[str, Any]:
    figures = {name: value for name, value in report.to_json().items() if name not in PRIVATE}
    return figures | {"text": Path(report.text).name}
