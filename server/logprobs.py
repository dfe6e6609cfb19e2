"""Log probabilities in OpenAI's two forms: of chats, and of text completions."""

from __future__ import annotations

import codecs
import math
from collections.abc import Sequence
from typing import Any

from minimind_edge.runtime.batch.request import Piece, TokenLogprobs
from minimind_edge.runtime.text.tokenizer import Tokenizer

LEAST = -9999.0
"""What stands for minus infinity, which JSON cannot hold; OpenAI's value."""


class TokenTexts:
    """The text and the bytes of tokens, kept for the next time.

    Args:
        tokenizer: The model's tokenizer; None for a model without one, whose tokens have no text.
    """

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer
        self._texts: dict[int, tuple[str, bytes]] = {}

    def __call__(self, token_id: int) -> tuple[str, bytes]:
        """The text of a token, in which a part of a character is a replacement character, and its bytes."""
        found = self._texts.get(token_id)
        if found is None:
            found = self._texts[token_id] = self._read(token_id)
        return found

    def _read(self, token_id: int) -> tuple[str, bytes]:
        tokenizer = self._tokenizer
        if tokenizer is None:
            return "", b""
        if tokenizer.is_byte_level and not tokenizer.is_special(token_id):
            data = tokenizer.token_bytes(token_id)
            return data.decode(errors="replace"), data
        text = tokenizer.decode([token_id], skip_special_tokens=False)
        return text, text.encode()


def answer_logprobs(piece: Piece, stop_token_ids: frozenset[int]) -> Sequence[TokenLogprobs]:
    """The log probabilities of a piece's tokens without that of the stop token, which is not part of the text."""
    found = piece.logprobs
    if piece.finish_reason == "stop" and found and found[-1].token_id in stop_token_ids:
        return found[:-1]
    return found


def chat_logprobs(found: Sequence[TokenLogprobs], texts: TokenTexts) -> list[dict[str, Any]]:
    """The entries of `logprobs.content`."""
    return [
        {
            **_entry(each.token_id, each.logprob, texts),
            "top_logprobs": [_entry(token, logprob, texts) for token, logprob in each.top],
        }
        for each in found
    ]


class CompletionLogprobs:
    """The log probabilities of a text completion; offsets count the characters of the text so far.

    Args:
        texts: The texts of tokens.
        offset: Number of characters before the first token.
    """

    def __init__(self, texts: TokenTexts, offset: int = 0) -> None:
        self._texts = texts
        self._offset = offset
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __call__(self, found: Sequence[TokenLogprobs]) -> dict[str, Any]:
        """The object `logprobs` of the next tokens."""
        offsets, tops = [], []
        for each in found:
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(self._texts(each.token_id)[1]))
            tops.append({self._texts(token)[0]: _finite(value) for token, value in reversed(_with_chosen(each))})
        return {
            "tokens": [self._texts(each.token_id)[0] for each in found],
            "token_logprobs": [_finite(each.logprob) for each in found],
            "top_logprobs": tops,
            "text_offset": offsets,
        }


def _with_chosen(each: TokenLogprobs) -> list[tuple[int, float]]:
    """The likeliest tokens and the chosen one, likeliest first."""
    chosen = [] if any(token == each.token_id for token, _ in each.top) else [(each.token_id, each.logprob)]
    return [*each.top, *chosen]


def _entry(token_id: int, logprob: float, texts: TokenTexts) -> dict[str, Any]:
    text, data = texts(token_id)
    return {"token": text, "logprob": _finite(logprob), "bytes": list(data)}


def _finite(logprob: float) -> float:
    return max(float(logprob), LEAST) if not math.isnan(logprob) else LEAST
