"""The text of one answer: from its token ids, one by one, to the text that is certain, up to a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from .text_stream import StopStrings, open_text_stream
from .tokenizer import Tokenizer


class AnswerText:
    """The text of a growing answer; its pieces, joined, are the text of all tokens up to the first stop string.

    Args:
        tokenizer: The tokenizer; None for a model without one, whose answers have no text.
        stop: Strings that end the text and are not part of it.

    Attributes:
        is_stopped: Whether a stop string has ended the text.

    Raises:
        UsageError: A stop string is empty.
    """

    def __init__(self, tokenizer: Tokenizer | None, stop: Sequence[str] = ()) -> None:
        self._stream = None if tokenizer is None else open_text_stream(tokenizer)
        self._stops = StopStrings(stop) if stop else None
        self.is_stopped = False

    def push(self, token_id: int) -> str:
        """The text that is certain after this token, which may be empty; then `is_stopped` tells if it ended."""
        return "" if self._stream is None else self._until_stop(self._stream.push(token_id))

    def finish(self) -> str:
        """The text that was held back until the end of the answer, such as the beginning of a stop string."""
        if self._stream is None or self.is_stopped:
            return ""
        text = self._until_stop(self._stream.finish())
        return text if self._stops is None or self.is_stopped else text + self._stops.finish()

    def _until_stop(self, text: str) -> str:
        if self._stops is not None:
            text = self._stops.push(text)
            self.is_stopped = self._stops.hit is not None
        return text
