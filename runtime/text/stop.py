"""Stop strings: ends a stream of text where one of them appears, also where it lies across several pieces."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UsageError


class StopStrings:
    """Passes text on until a stop string is complete; neither it nor what follows is passed on.

    Text is held back only while it could still become a stop string. Which one ends the text does not depend on how
    it is cut in pieces: the one that is complete first, and of two complete at once the longer.

    Args:
        strings: Any number of them, none empty.

    Raises:
        UsageError: One is empty.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        if not all(strings):
            raise UsageError("a stop string is empty: expected at least one character")
        self._strings = tuple(strings)
        self._withheld = ""
        self.hit: str | None = None
        """The stop string that ended the text; None while it goes on."""

    def push(self, text: str) -> str:
        """What is certain to stand before any stop string; look at `hit` afterwards."""
        if not self._strings or self.hit is not None:
            return text if self.hit is None else ""
        text = self._withheld + text
        self._withheld = ""
        ends = [(start + len(string), start, string) for string in self._strings if (start := text.find(string)) >= 0]
        if ends:
            _, start, self.hit = min(ends)
            return text[:start]
        certain = len(text) - unfinished_length(text, self._strings)
        self._withheld = text[certain:]
        return text[:certain]

    def finish(self) -> str:
        """What was held back and never became a stop string."""
        rest, self._withheld = self._withheld, ""
        return rest


def unfinished_length(text: str, strings: Sequence[str]) -> int:
    """Length of the longest end of `text` with which one of the strings begins but which isn't all of it."""
    longest = min(len(text), max(map(len, strings)) - 1)
    for length in range(longest, 0, -1):
        end = text[-length:]
        if any(string.startswith(end) for string in strings):
            return length
    return 0
