"""Answers of `/v1/completions`: the chunks of a stream, and the whole object."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from minimind_edge.runtime.batch.request import Piece, Ticket

from .logprobs import CompletionLogprobs, TokenTexts, answer_logprobs
from .streaming import DONE
from .usage import usage

_json = msgspec.json.encode


class CompletionShape(msgspec.Struct, frozen=True):
    """What the answers of one text completion look like.

    Attributes:
        model: The name of the model.
        echoes: The text that each answer begins with, empty where none is echoed; prompt by prompt.
        answers_per_prompt: Number of answers of each prompt.
        has_logprobs: Whether log probabilities come with the answers.
        has_usage: Whether a stream ends with the usage.
    """

    model: str
    echoes: list[str]
    answers_per_prompt: int
    has_logprobs: bool
    has_usage: bool


class _CompletionWriter:
    def __init__(self, shape: CompletionShape, texts: TokenTexts) -> None:
        self._shape = shape
        self._tickets: Sequence[Ticket] = ()
        self._created = int(time.time())
        self._id = f"cmpl-{secrets.token_hex(12)}"
        self._echoes = [echo for echo in shape.echoes for _ in range(shape.answers_per_prompt)]
        self._logprobs = [CompletionLogprobs(texts, len(echo)) for echo in self._echoes]
        self.finished: set[int] = set()

    def open(self, tickets: Sequence[Ticket]) -> bytes:
        """Take the tickets; nothing is written yet."""
        self._tickets = tickets
        return b""

    def _usage(self) -> dict[str, Any]:
        return usage(self._tickets, self._shape.answers_per_prompt)

    def _head(self) -> dict[str, Any]:
        head = {"id": self._id, "object": "text_completion", "created": self._created}
        return {**head, "model": self._shape.model}


class CompletionObject(_CompletionWriter):
    """Writes the answers of a text completion as one object."""

    streams = False
    is_lazy = True

    def __init__(self, shape: CompletionShape, texts: TokenTexts) -> None:
        super().__init__(shape, texts)
        self._pieces: list[list[Piece]] = [[] for _ in self._echoes]

    def feed(self, index: int, piece: Piece) -> bytes:
        """Collect a piece."""
        self._pieces[index].append(piece)
        return b""

    def close(self) -> bytes:
        """The object `text_completion`."""
        choices = [self._choice(index) for index in range(len(self._pieces))]
        return _json({**self._head(), "choices": choices, "usage": self._usage()})

    def _choice(self, index: int) -> dict[str, Any]:
        pieces = self._pieces[index]
        logprobs = None
        if self._shape.has_logprobs:
            ends = self._tickets[index].request.stop_token_ids
            logprobs = self._logprobs[index]([found for piece in pieces for found in answer_logprobs(piece, ends)])
        return {
            "index": index,
            "text": self._echoes[index] + "".join(piece.text for piece in pieces),
            "logprobs": logprobs,
            "finish_reason": pieces[-1].finish_reason,
        }


class CompletionStream(_CompletionWriter):
    """Writes the answers of a text completion as a stream of chunks, around constant bytes that are made once."""

    streams = True
    is_lazy = False

    def __init__(self, shape: CompletionShape, texts: TokenTexts) -> None:
        super().__init__(shape, texts)
        self._start = b"data: " + _json(self._head())[:-1]
        self._texts = [self._start + b',"choices":[{"index":%d,"text":' % index for index in range(len(self._echoes))]
        self._end = b',"usage":null}\n\n' if shape.has_usage else b"}\n\n"
        self._tail = b',"logprobs":null,"finish_reason":null}]' + self._end

    def open(self, tickets: Sequence[Ticket]) -> bytes:
        """The echoes, where they were asked for."""
        self._tickets = tickets
        return b"".join(
            head + _json(echo) + self._tail for head, echo in zip(self._texts, self._echoes, strict=True) if echo
        )

    def feed(self, index: int, piece: Piece) -> bytes:
        """The chunk of a piece; none where it has neither text nor an end."""
        if piece.finish_reason is None and not self._shape.has_logprobs:
            return self._texts[index] + _json(piece.text) + self._tail if piece.text else b""
        logprobs = b"null"
        if self._shape.has_logprobs:
            ends = self._tickets[index].request.stop_token_ids
            logprobs = _json(self._logprobs[index](answer_logprobs(piece, ends)))
        tail = b',"logprobs":' + logprobs + b',"finish_reason":' + _json(piece.finish_reason) + b"}]" + self._end
        return self._texts[index] + _json(piece.text) + tail

    def close(self) -> bytes:
        """The usage, where it was asked for, and the end of the stream."""
        if not self._shape.has_usage:
            return DONE
        return self._start + b',"choices":[],"usage":' + _json(self._usage()) + b"}\n\n" + DONE
