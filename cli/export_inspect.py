"""`minimind-export inspect`: describes a checkpoint, a graph or an artifact folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .artifact_options import JsonIndentOption, JsonOption
from .json_output import print_result

if TYPE_CHECKING:
    from minimind_edge.export.inspection.table import Inspection


def inspect(
    path: Annotated[
        Path, typer.Argument(help="A checkpoint, an .onnx graph or an artifact folder.", show_default=False)
    ],
    *,
    as_json: JsonOption = False,
    json_indent: JsonIndentOption = False,
) -> None:
    """Describe a checkpoint, a graph or an artifact folder.

    \b
    Examples:
      minimind-export inspect out/full_sft_512.pth
      minimind-export inspect minimind-demo
    """
    from minimind_edge.export.inspection import inspect_path
    from minimind_edge.runtime.hub import local_path

    inspection = inspect_path(local_path(path, all_graphs=True))
    print_result(inspection, show_inspection, as_json=as_json, json_indent=json_indent)


def show_inspection(inspection: Inspection) -> None:
    """Print the lines of a description."""
    for line in inspection.lines():
        print(line)
