"""A parity report as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minimind_edge.export.parity import ParityReport


def print_parity(report: ParityReport) -> None:
    """Print what was compared with eager PyTorch, the bounds, and the verdict."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for title in ("against eager float32", "found", "allowed"):
        table.add_column(title, justify="left" if title.startswith("against") else "right")
    for row in report.rows():
        table.add_row(row.quantity, row.measured, row.bound)
    console = Console(markup=False, highlight=False)
    console.print(table)
    for failure in report.failures:
        console.print(f"failed: {failure}", soft_wrap=True)
    console.print(report.summary(), soft_wrap=True)
