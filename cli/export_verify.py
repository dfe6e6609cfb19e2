"""`minimind-export verify`: the parity report of an artifact."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    against_code: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:CLASS",
            help="A changed model's own code, which is run: compare with that.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Compare an artifact with eager PyTorch; exit code 5 where they differ by more than the precision allows.

    \b
    Examples:
      minimind-export verify minimind-demo
      minimind-export verify my-model --against out/full_sft_512.pth
      minimind-export verify my-model --against-code my_model.py:MyMiniMind
    """
    from minimind_edge.export.verification import verify_artifact

    with progress_display(silent=as_json) as progress:
        if against_code is None:
            verification = verify_artifact(artifact, against, progress)
        else:
            from minimind_edge.export.traced.verification import verify_against_code

            verification = verify_against_code(artifact, against_code, against, progress=progress)
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
