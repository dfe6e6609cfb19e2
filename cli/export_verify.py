"""`minimind-export verify`: measures the parity of an artifact with its checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .artifact_options import ArtifactArgument, JsonIndentOption, JsonOption, PrecisionOption, chosen_graph
from .entry import keep_imports
from .json_output import print_result
from .progress import progress_display

if TYPE_CHECKING:
    from minimind_edge.export.verification import Verification

PARITY_FAILED = 5


def verify(
    artifact: ArtifactArgument,
    *,
    against: Annotated[
        Path | None,
        typer.Option(
            help="The checkpoint to compare with.  (default: the one that the manifest names, or the bundled demo)"
        ),
    ] = None,
    against_code: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:CLASS",
            help="Code of a changed model to compare with: it is run.",
            show_default=False,
        ),
    ] = None,
    precision: PrecisionOption = None,
    as_json: JsonOption = False,
    json_indent: JsonIndentOption = False,
) -> None:
    """Compare an artifact with eager PyTorch; exit code 5 if they differ by more than the precision allows.

    \b
    Examples:
      minimind-export verify minimind-demo
      minimind-export verify my-model --against out/full_sft_512.pth
      minimind-export verify my-model --against-code my_model.py:MyMiniMind
    """
    from minimind_edge.export.verification import verify_artifact

    from .checkpoint_options import local_source

    keep_imports()
    with progress_display(for_program=as_json or json_indent) as progress:
        chosen = chosen_graph(artifact, precision, all_graphs=True)
        if against_code is None:
            verification = verify_artifact(chosen, local_source(against), progress)
        else:
            from minimind_edge.export.traced.verification import verify_against_code

            verification = verify_against_code(chosen, against_code, local_source(against), progress=progress)
    print_result(verification, show_verification, as_json=as_json, json_indent=json_indent)
    if not verification:
        raise typer.Exit(PARITY_FAILED)


def show_verification(verification: Verification) -> None:
    """Print the parity report of each graph."""
    from .parity_table import print_parity

    for note in verification.notes:
        print(note, file=sys.stderr)
    for graph in verification.graphs:
        print(f"{verification.artifact / graph.file} against {verification.checkpoint}")
        print_parity(graph.report)
