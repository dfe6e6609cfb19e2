"""Streamed text: from token ids, one by one, to whole characters of text, up to a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Protocol

from ..errors import UsageError
from .tokenizer import Tokenizer

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

MAX_WITHHELD = 4
"""The most tokens held back for an unfinished character, which has at most 4 bytes in UTF-8."""


class TextStream(Protocol):
    """The text of a growing sequence of tokens; its pieces, joined, equal the text of all tokens decoded at once."""

    def push(self, token_id: int) -> str:
        """The text that is certain after this token, which may be empty; special tokens add none."""
        ...

    def finish(self) -> str:
        """The rest of the text, such as the bytes of an unfinished character."""
        ...


def open_text_stream(tokenizer: Tokenizer) -> TextStream:
    """A new text stream, by bytes where the tokenizer is byte-level."""
    return ByteTextStream(tokenizer) if tokenizer.is_byte_level else WindowTextStream(tokenizer)


class ByteTextStream:
    """The text stream of byte-level tokenizers, whose tokens are bytes of UTF-8."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._token_bytes = tokenizer.token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The text that is certain after this token, which may be empty."""
        return self._decoder.decode(self._token_bytes(token_id))

    def finish(self) -> str:
        """The rest of the text, such as the bytes of an unfinished character."""
        return self._decoder.decode(b"", final=True)


class WindowTextStream:
    """The text stream of any tokenizer: decodes the newest tokens after a few known ones, which decide on spaces.

    Bytes that are not UTF-8 may give another number of replacement characters than decoding all tokens at once.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._context: list[int] = []
        self._withheld: list[int] = []

    def push(self, token_id: int) -> str:
        """The text that is certain after this token, which may be empty."""
        if self._tokenizer.is_special(token_id):
            return ""
        self._withheld.append(token_id)
        text = self._new_text()
        if text.endswith(REPLACEMENT) and len(self._withheld) < MAX_WITHHELD:
            return ""
        self._context, self._withheld = self._withheld, []
        return text

    def finish(self) -> str:
        """The rest of the text, such as the bytes of an unfinished character."""
        text = self._new_text()
        self._withheld = []
        return text

    def _new_text(self) -> str:
        known = self._tokenizer.decode(self._context)
        return self._tokenizer.decode(self._context + self._withheld)[len(known) :]


class StopStrings:
    """Passes text on until a stop string is complete, without the stop string.

    Text is held back only while it could still become a stop string. The first complete stop string ends the text, and
    of two complete at once the longer, however the text is cut in pieces.

    Args:
        strings: Stop strings, any number, none empty.

    Attributes:
        hit: The stop string that ended the text; None while it goes on.

    Raises:
        UsageError: A stop string is empty.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        if not all(strings):
            raise UsageError("a stop string is empty: expected at least one character")
        self._strings = tuple(strings)
        self._withheld = ""
        self.hit: str | None = None

    def push(self, text: str) -> str:
        """The text that is certain to precede any stop string; `hit` then tells whether one ended the text."""
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
        """The text that was held back and did not become a stop string."""
        rest, self._withheld = self._withheld, ""
        return rest


def unfinished_length(text: str, strings: Sequence[str]) -> int:
    """The length of the longest end of `text` that is an incomplete beginning of one of the strings."""
    longest = 0
    for string in strings:
        start = text.find(string[0], max(0, len(text) - len(string) + 1))
        while start >= 0:
            if string.startswith(text[start:]):
                longest = max(longest, len(text) - start)
                break
            start = text.find(string[0], start + 1)
    return longest
