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
from .version import VersionOption

app = typer.Typer(add_completion=False, rich_markup_mode="rich")
app.command()(onnx)
app.command()(engine)
app.command()(verify)
app.command("eval")(evaluate)
app.command()(inspect)
app.command()(web)
app.command()(bundle)


@app.callback(epilog=EXIT_CODES)
def options(version: VersionOption = False) -> None:
    """Export a MiniMind checkpoint to ONNX, and verify that it is still the same model."""


def main() -> NoReturn:
    """Run `minimind-export`."""
    run(app, "minimind-export")
