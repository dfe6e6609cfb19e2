"""`minimind-export verify`: the parity report of an artifact."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from . import small_typer as typer
from .progress import progress_display

if TYPE_CHECKING:
    from minimind_edge.export.verification import Verification

PARITY_FAILED = 5


def verify(
    artifact: Annotated[Path, typer.Argument(help="An artifact folder, a graph or a .plan.", show_default=False)],
    *,
    against: Annotated[
        Path | None,
        typer.Option(help="The checkpoint.  (default: the one the manifest names, or the bundled demo)"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Compare an artifact with eager PyTorch; exit code 5 where they differ by more than the precision allows.

    \b
    Examples:
      minimind-export verify minimind-demo
      minimind-export verify my-model --against out/full_sft_512.pth
    """
    from minimind_edge.export.verification import verify_artifact

    with progress_display(silent=as_json) as progress:
        verification = verify_artifact(artifact, against, progress)
    if as_json:
        from .json_output import print_json

        print_json(verification.to_json())
    else:
        show_verification(verification)
    if not verification:
        raise typer.Exit(PARITY_FAILED)


def show_verification(verification: Verification) -> None:
    """Print the proof of each graph for a person."""
    from .parity_table import print_parity

    for note in verification.notes:
        print(note, file=sys.stderr)
    for graph in verification.graphs:
        print(f"{verification.artifact / graph.file} against {verification.checkpoint}")
        print_parity(graph.report)
