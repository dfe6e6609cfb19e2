"""The progress of a long command on stderr: a bar at a terminal, a line for each stage in a log."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from minimind_edge.export.progress import Progress
from minimind_edge.export.progress import silent as no_progress

BAR_WIDTH = 30
"""The width of the bar in characters."""

CLEAR_TO_END = "\x1b[K"
"""The escape sequence that clears the rest of a terminal's line."""


@contextmanager
def progress_display(*, for_program: bool, shares_terminal: bool = False) -> Iterator[Progress]:
    """Yield the callback for the progress of a long job; the bar is removed at the end.

    Args:
        for_program: Whether the output is for programs: then only a terminal is shown any progress, and a log is not.
        shares_terminal: Whether output is printed during the job, so that a bar has no place on the terminal that
            stdout goes to.
    """
    if sys.stderr.isatty() and not (shares_terminal and sys.stdout.isatty()):
        with _bar() as progress:
            yield progress
    elif for_program:
        yield no_progress
    else:
        yield _lines()


@contextmanager
def _bar() -> Iterator[Progress]:
    began = time.monotonic()

    def progress(stage: str, done: float) -> None:
        filled = round(BAR_WIDTH * min(done, 1.0))
        bar = "█" * filled + "░" * (BAR_WIDTH - filled)
        _rewrite(f"{bar} {done:4.0%} {time.monotonic() - began:4.0f} s  {stage}")

    try:
        yield progress
    finally:
        _rewrite("")


def _rewrite(line: str) -> None:
    """Replace the current line of the terminal."""
    line = line[: shutil.get_terminal_size().columns - 1]
    print(f"\r{line}{CLEAR_TO_END}", end="", file=sys.stderr, flush=True)


def _lines() -> Progress:
    told = ""

    def progress(stage: str, done: float) -> None:
        nonlocal told
        if stage != told:
            told = stage
            print(f"[{done:4.0%}] {stage}", file=sys.stderr, flush=True)

    return progress
