"""The option `--version`, shared by all programs."""

from __future__ import annotations

from typing import Annotated

import typer


def print_version(wanted: bool) -> None:
    """Print the distribution's name and version, and end the program, where `--version` was given."""
    if wanted:
        from minimind_edge import runtime

        print("minimind-edge", runtime.__version__)
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", callback=print_version, is_eager=True)
]
