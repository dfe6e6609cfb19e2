"""Text as it is written: token ids go in one by one, text comes out, never half a character, up to a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Protocol

from ..errors import UsageError
from .tokenizer import Tokenizer

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

MAX_WITHHELD = 4
"""Most tokens held back for an unfinished character: UTF-8 has at most 4 bytes to one."""


class TextStream(Protocol):
    """The text of a growing sequence of tokens; all that it gives, joined, is what decoding them at once gives."""

    def push(self, token_id: int) -> str:
        """Text that is certain with this token, which may be none; special tokens have none."""
        ...

    def finish(self) -> str:
        """The rest: what stays of a character that was not finished."""
        ...


def open_text_stream(tokenizer: Tokenizer) -> TextStream:
    """A new stream, of the kind that the tokenizer's decoder allows."""
    return ByteTextStream(tokenizer) if tokenizer.is_byte_level else WindowTextStream(tokenizer)


class ByteTextStream:
    """For byte-level tokenizers: each token is a run of bytes, and the text is those bytes read as UTF-8."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._token_bytes = tokenizer.token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """See TextStream."""
        return self._decoder.decode(self._token_bytes(token_id))

    def finish(self) -> str:
        """See TextStream."""
        return self._decoder.decode(b"", final=True)


class WindowTextStream:
    """For any tokenizer: decodes the newest tokens after a few known ones, which settle the space between them.

    Bytes that are no UTF-8 may come out as another number of replacement characters than by decoding all at once.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._context: list[int] = []
        self._withheld: list[int] = []

    def push(self, token_id: int) -> str:
        """See TextStream."""
        if self._tokenizer.is_special(token_id):
            return ""
        self._withheld.append(token_id)
        text = self._new_text()
        if text.endswith(REPLACEMENT) and len(self._withheld) < MAX_WITHHELD:
            return ""
        self._context, self._withheld = self._withheld, []
        return text

    def finish(self) -> str:
        """See TextStream."""
        text = self._new_text()
        self._withheld = []
        return text

    def _new_text(self) -> str:
        known = self._tokenizer.decode(self._context)
        return self._tokenizer.decode(self._context + self._withheld)[len(known) :]


class StopStrings:
    """Passes text on until a stop string is complete; neither it nor what follows is passed on.

    Text is held back only while it could still become a stop string. Which one ends the text does not depend on how
    it is cut in pieces: the one that is complete first, and of two complete at once the longer.

    Args:
        strings: Any number of them, none empty.

    Attributes:
        hit: The stop string that ended the text; None while it goes on.

    Raises:
        UsageError: One is empty.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        if not all(strings):
            raise UsageError("a stop string is empty: expected at least one character")
        self._strings = tuple(strings)
        self._withheld = ""
        self.hit: str | None = None

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
