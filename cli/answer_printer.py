"""Printing an answer on stdout, streamed or at once, with its thinking dimmed, shown or hidden."""

from __future__ import annotations

import sys

from minimind_edge.runtime.text.think import ThinkSplitter

from .choices import ThinkDisplay

DIM, UNDIM = "\x1b[2m", "\x1b[22m"


def default_think_display() -> ThinkDisplay:
    """The default display of thinking: dimmed at a terminal, otherwise shown with its tags."""
    return ThinkDisplay.DIM if sys.stdout.isatty() else ThinkDisplay.SHOW


class AnswerPrinter:
    """Prints one answer piece by piece.

    Args:
        think: Display of the text between think tags; `show` prints it with its tags.
        stream: Whether to print each piece as it comes, or all of them at the end.
        thinking: Whether the answer begins inside a think block.
    """

    def __init__(self, think: ThinkDisplay, *, stream: bool, thinking: bool = False) -> None:
        self._think = think
        self._stream = stream
        self._splitter = None if think is ThinkDisplay.SHOW else ThinkSplitter(thinking)
        self._kind = "answer"
        self._held: list[str] = []

    def push(self, text: str) -> None:
        """Print the next piece of the answer."""
        if self._splitter is None:
            self._write(text)
        else:
            for segment in self._splitter.push(text):
                self._write_segment(segment.kind, segment.text)

    def finish(self) -> None:
        """Print the text that was held back and end the line, also after an interrupted answer."""
        for segment in self._splitter.finish() if self._splitter else ():
            self._write_segment(segment.kind, segment.text)
        if self._kind == "think":
            self._write(UNDIM)
        self._stream = True
        self._write("".join(self._held) + "\n")

    def _write_segment(self, kind: str, text: str) -> None:
        if kind == "think" and self._think is ThinkDisplay.HIDE:
            return
        self._switch_to(kind)
        self._write(text)

    def _switch_to(self, kind: str) -> None:
        """Turn dimming on or off where thinking begins or ends, and begin the answer on a new line."""
        if kind != self._kind:
            self._kind = kind
            self._write(DIM if kind == "think" else f"{UNDIM}\n\n")

    def _write(self, text: str) -> None:
        if self._stream:
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            self._held.append(text)
