"""`minimind-export web`: from a checkpoint to a static site that chats in the browser."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from . import small_typer as typer
from .choices import Precision
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
    moe: Annotated[
        bool, typer.Option("--moe", help="Demand a mixture of experts; of the bundled demos, take that one.")
    ] = False,
    precision: Annotated[Precision, typer.Option(help="How the weights are stored.")] = Precision.FP32,
    max_length: Annotated[int | None, typer.Option(min=1, help="Context length in tokens.", show_default=False)] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="tokenizer.json or its folder.  (default: found beside the checkpoint)", show_default=False),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="JSON that overrides what the checkpoint's tensors tell.", show_default=False),
    ] = None,
    yarn: Annotated[
        bool | None, typer.Option("--yarn/--no-yarn", help="Stretch RoPE for long texts.", show_default=False)
    ] = None,
    lora: Annotated[
        list[Path] | None, typer.Option(help="A LoRA adapter to merge; repeatable.", show_default=False)
    ] = None,
    node_modules: Annotated[
        Path | None,
        typer.Option(help="Folder with the JavaScript libraries.  (default: npm is asked, once)", show_default=False),
    ] = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Skip the comparison with eager PyTorch.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a site that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Export a checkpoint to a folder of static files: a page that runs the model in the browser and calls nobody.

    \b
    Examples:
      minimind-export web
      minimind-export web out/full_sft_512.pth -o site
      minimind-export web my-portable-artifact -o site
    """
    from minimind_edge.export.request import ExportRequest
    from minimind_edge.export.web import SiteRequest, write_site

    export = ExportRequest(
        checkpoint=checkpoint,
        output=output,
        moe=moe,
        target="portable",
        precision=precision.value,
        tokenizer=tokenizer,
        config=config,
        max_length=max_length,
        yarn=yarn,
        lora=tuple(lora or ()),
        verify=not no_verify,
        force=force,
    )
    with progress_display(silent=as_json) as progress:
        result = write_site(SiteRequest(export, node_modules), progress)
    if as_json:
        from .json_output import print_json

        print_json(result.to_json())
    else:
        show_site(result)


def show_site(result: SiteResult) -> None:
    """Tell a person what was written, how large it is, and how to look at it."""
    for note in result.notes:
        print(note, file=sys.stderr)
    whole, download = result.size / MEGABYTE, result.download / MEGABYTE
    print(f"wrote {result.folder}: {whole:.1f} MB, of which a browser loads {download:.1f}")
    print("try it, then open http://localhost:8000:")
    print(f"  {shlex.join(['python', '-m', 'http.server', '--directory', str(result.folder)])}")
