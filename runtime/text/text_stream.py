"""Incremental detokenizer: token ids go in one by one, text comes out, never half a character."""

from __future__ import annotations

import codecs
from typing import Protocol

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
    """For any tokenizer: decodes the newest tokens behind a few known ones, which settle the space between them.

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
