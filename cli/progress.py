"""How far a long command is, on stderr: a bar for a person at a terminal, a line a stage for a log."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from minimind_edge.export.progress import Progress
from minimind_edge.export.progress import silent as no_progress


@contextmanager
def progress_display(*, silent: bool) -> Iterator[Progress]:
    """Yield the callable that a long job tells its progress; the bar is gone afterwards.

    Args:
        silent: show nothing, for commands whose output a program reads.
    """
    if silent:
        yield no_progress
    elif sys.stderr.isatty():
        with _bar() as progress:
            yield progress
    else:
        yield _lines()


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda stage, done: bar.update(task, description=stage, completed=done)


def _lines() -> Progress:
    told = ""

    def progress(stage: str, done: float) -> None:
        nonlocal told
        if stage != told:
            told = stage
            print(f"[{done:4.0%}] {stage}", file=sys.stderr, flush=True)

    return progress
