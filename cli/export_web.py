"""`minimind-export web`: exports a checkpoint to a static site that chats in the browser."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .artifact_options import JsonIndentOption, JsonOption
from .checkpoint_options import (
    ConfigOption,
    LoraOption,
    MoeOption,
    TokenizerOption,
    YarnOption,
    checkpoint_options,
    local_source,
)
from .choices import Precision
from .entry import keep_imports
from .json_output import print_result
from .progress import progress_display

if TYPE_CHECKING:
    from minimind_edge.export.web import SiteResult

MEGABYTE = 1e6


def web(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            help="A checkpoint, or an artifact folder of target portable. Left out: the bundled demo.",
            show_default=False,
        ),
    ] = None,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The site's folder.  (default: site)", show_default=False)
    ] = None,
    moe: MoeOption = False,
    precision: Annotated[
        Precision | None,
        typer.Option(help="Precision of the weights.  (default: fp32, or the artifact's)", show_default=False),
    ] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="Context length in tokens.", show_default=False)] = None,
    tokenizer: TokenizerOption = None,
    config: ConfigOption = None,
    yarn: YarnOption = None,
    lora: LoraOption = None,
    title: Annotated[
        str | None,
        typer.Option(help="Title of the page.  (default: the model's name, or its generation)", show_default=False),
    ] = None,
    node_modules: Annotated[
        Path | None,
        typer.Option(help="Folder with the JavaScript libraries.  (default: fetched once by npm)", show_default=False),
    ] = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Skip the comparison with eager PyTorch.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a site that exists already.")] = False,
    as_json: JsonOption = False,
    json_indent: JsonIndentOption = False,
) -> None:
    """Export a checkpoint to a folder of static files: a page that runs the model in the browser, with no other server.

    \b
    Examples:
      minimind-export web
      minimind-export web out/full_sft_512.pth -o site --title "My model"
      minimind-export web my-portable-artifact --precision int8 -o site
    """
    from minimind_edge.export.request import ExportRequest
    from minimind_edge.export.web import SiteRequest, write_site

    keep_imports()
    export = ExportRequest(
        checkpoint=local_source(checkpoint, None if precision is None else precision.value),
        output=output,
        target="portable",
        max_length=max_length,
        verify=not no_verify,
        force=force,
        **vars(checkpoint_options(moe=moe, config=config, lora=lora, tokenizer=tokenizer, yarn=yarn)),
    )
    request = SiteRequest(export, node_modules, None if precision is None else precision.value, title)
    with progress_display(for_program=as_json or json_indent) as progress:
        result = write_site(request, progress)
    print_result(result, show_site, as_json=as_json, json_indent=json_indent)


def show_site(result: SiteResult) -> None:
    """Print what was written, its size, and the command to try next."""
    for note in result.notes:
        print(note, file=sys.stderr)
    whole, download = result.size / MEGABYTE, result.download / MEGABYTE
    print(f"wrote {result.folder}: {whole:.1f} MB, of which a browser loads {download:.1f}")
    print("try it, then open http://localhost:8000:")
    print(f"  {shlex.join(['python', '-m', 'http.server', '--directory', str(result.folder)])}")
