"""What could not be measured, and why: a line in the report, never the end of a run."""

from __future__ import annotations

from pathlib import Path

LONGEST = 160
"""Characters of a reason; a table's footnote holds no traceback."""


class Unmeasurable(Exception):  # noqa: N818 - it is an answer, not an accident
    """Something about a contender cannot be measured; the message is the reason, one line."""

    def __init__(self, reason: str) -> None:
        line = " ".join(reason.split())
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…")


def last_line(log: Path) -> str:
    """The last line of a log that says anything: of a Python traceback, the error."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")
