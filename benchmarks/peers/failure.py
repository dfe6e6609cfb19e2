"""The exception for a failed measurement, which becomes a line in the report and never ends a run."""

from __future__ import annotations

import os
from pathlib import Path

LONGEST = 160
"""The most characters of a reason, so that no traceback gets into the report."""


class Unmeasurable(Exception):  # noqa: N818 - it is a result for the report
    """A quantity of a contender cannot be measured; the message is the reason, one line."""

    def __init__(self, reason: str) -> None:
        line = " ".join(reason.split())
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…")


def last_line(log: Path) -> str:
    """The last line of a log that is not empty; of a Python traceback, the error, even where a library speaks later.

    Paths in it are relative to the working folder: a report says nothing of the machine's folders.
    """
    text = log.read_text(encoding="utf-8", errors="replace").replace(f"{Path.cwd()}{os.sep}", "")
    lines = [line.strip() for line in text.splitlines()]
    return next((line for line in reversed(lines) if line and not line.startswith("INFO:")), "")
