"""`minimind-export`: registers its commands."""

from __future__ import annotations

from typing import NoReturn

import typer

from .entry import EXIT_CODES, run
from .export_bundle import bundle
from .export_engine import engine
from .export_eval import evaluate
from .export_inspect import inspect
from .export_onnx import onnx
from .export_verify import verify
from .export_web import web
from .help_text import HelpCommand, HelpGroup
from .version import VersionOption

app = typer.Typer(cls=HelpGroup, rich_markup_mode=None)
app.command(cls=HelpCommand)(onnx)
app.command(cls=HelpCommand)(engine)
app.command(cls=HelpCommand)(verify)
app.command("eval", cls=HelpCommand)(evaluate)
app.command(cls=HelpCommand)(inspect)
app.command(cls=HelpCommand)(web)
app.command(cls=HelpCommand)(bundle)


@app.callback(epilog=EXIT_CODES, invoke_without_command=True)
def options(context: typer.Context, version: VersionOption = False) -> None:
    """Export a MiniMind checkpoint to ONNX, and verify that it is still the same model."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def main() -> NoReturn:
    """Run `minimind-export`."""
    run(app, "minimind-export")
