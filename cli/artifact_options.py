"""The options for opening and running an artifact, shared by all commands that take one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .choices import Device, Precision

ArtifactArgument = Annotated[
    Path, typer.Argument(help="An artifact folder, hf://OWNER/NAME, an .onnx graph or a .plan.", show_default=False)
]

MACHINE = "Machine"

PrecisionOption = Annotated[
    Precision | None,
    typer.Option(
        help="Precision of the graph to use.  (default: the first graph)", show_default=False, rich_help_panel=MACHINE
    ),
]
DeviceOption = Annotated[Device, typer.Option(help="Device that runs the graph.", rich_help_panel=MACHINE)]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="CPU threads.  (default: the physical cores)",
        show_default=False,
        rich_help_panel=MACHINE,
    ),
]
MaxLengthOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Most tokens of prompt and answer together, up to what the export allows.",
        show_default=False,
        rich_help_panel=MACHINE,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, on one line, and nothing else.")]
JsonIndentOption = Annotated[bool, typer.Option("--json-indent", help="The same object on several lines, for people.")]


def chosen_graph(artifact: Path, precision: Precision | None, *, all_graphs: bool = False) -> Path:
    """The path to open: the artifact, or its graph of the given precision.

    Args:
        artifact: An artifact of this machine, or one of the Hub, which is fetched.
        precision: Precision of the graph; None for the artifact itself.
        all_graphs: Whether to fetch all graphs of an artifact of the Hub.

    Raises:
        ArtifactError: The artifact has no graph of this precision, or is a single graph or plan.
    """
    from minimind_edge.runtime.hub import local_path

    name = None if precision is None else precision.value
    artifact = local_path(artifact, precision=name, is_artifact=True, all_graphs=all_graphs)
    if name is None:
        return artifact
    from minimind_edge.runtime.artifact.folder import Artifact

    return Artifact.open(artifact, name).graph
