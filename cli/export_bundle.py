"""`minimind-export bundle`: packs an artifact with everything that it needs on a device without network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .artifact_options import JsonIndentOption, JsonOption
from .choices import PlatformName
from .json_output import print_result
from .progress import progress_display

if TYPE_CHECKING:
    from minimind_edge.export.bundle import BundleResult

MEGABYTE = 1e6


def bundle(
    artifact: Annotated[Path, typer.Argument(help="An artifact folder.", show_default=False)],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The bundle's folder, or its .zip.", show_default=False)
    ],
    platform: Annotated[PlatformName, typer.Option(help="System and processor of the device.", show_default=False)],
    python: Annotated[str, typer.Option(metavar="X.Y", help="Python version of the device.")] = "3.11",
    serve: Annotated[bool, typer.Option("--serve", help="Include what minimind-serve needs.")] = False,
    zipped: Annotated[bool, typer.Option("--zip", help="Write one .zip file instead of a folder.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that exists already.")] = False,
    as_json: JsonOption = False,
    json_indent: JsonIndentOption = False,
) -> None:
    """Pack an artifact, the wheels that run it and the scripts that install it, for a device without network.

    The wheels are those of the device's platform, with exact versions and hashes, downloaded by pip.

    \b
    Examples:
      minimind-export bundle my-model -o device --platform linux-aarch64
      minimind-export bundle my-model -o device.zip --zip --platform windows-amd64 --python 3.12 --serve
    """
    from minimind_edge.export.bundle import BundleRequest, write_bundle

    request = BundleRequest(
        artifact=artifact,
        output=output,
        platform=platform.value,
        python=python,
        serve=serve,
        zipped=zipped,
        force=force,
    )
    with progress_display(for_program=as_json or json_indent) as progress:
        result = write_bundle(request, progress)
    print_result(result, show_bundle, as_json=as_json, json_indent=json_indent)


def show_bundle(result: BundleResult) -> None:
    """Print what was written, and what to do with it on the device."""
    print(f"wrote {result.path}: {result.size / MEGABYTE:.1f} MB, {len(result.wheels)} wheels")
    print(f"sha256 of its bundle.json: {result.sha256}")
    print(f"copy it to the device ({result.platform}, Python {result.python}), and there, in its folder:")
    print("  python3 install.py")
