"""The progress of a long command on stderr: a bar at a terminal, a line for each stage in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, float], None]
"""A callable that takes the name of a stage and the share of the whole that is done, 0 to 1."""


@contextmanager
def progress_display(*, silent: bool) -> Iterator[Progress]:
    """Yield the callable that a long job reports its progress to; the bar is removed at the end.

    Args:
        silent: Whether to show nothing, for commands whose output a program reads.
    """
    if silent:
        yield lambda stage, done: None
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
