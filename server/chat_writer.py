"""Answers of `/v1/chat/completions`: the chunks of a stream, and the whole object."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from minimind_edge.runtime.batch.request import Piece, Ticket, TokenLogprobs

from .answer import AnswerParser, Content, Reasoning
from .logprobs import TokenTexts, answer_logprobs, chat_logprobs
from .streaming import DONE
from .tool_calls import ToolCall
from .usage import usage

_json = msgspec.json.encode


class ChatShape(msgspec.Struct, frozen=True):
    """What the answers of one chat look like.

    Attributes:
        model: The name of the model.
        answers: Number of answers.
        opens_thinking: Whether the answers begin inside a think block.
        reads_calls: Whether tool calls are looked for.
        one_call: Whether an answer ends with its first call.
        has_logprobs: Whether log probabilities come with the answers.
        has_usage: Whether a stream ends with the usage.
    """

    model: str
    answers: int
    opens_thinking: bool
    reads_calls: bool
    one_call: bool
    has_logprobs: bool
    has_usage: bool


class _Choice:
    """One answer in the making."""

    def __init__(self, shape: ChatShape) -> None:
        self.parser = AnswerParser(thinking=shape.opens_thinking, reads_calls=shape.reads_calls)
        self.calls = 0
        self.written_calls = 0
        self.reasoning_tokens = 0
        self.logprobs: list[TokenLogprobs] = []
        self.finish_reason: str | None = None
        self._one_call = shape.one_call

    def feed(self, piece: Piece, stop_token_ids: frozenset[int]) -> list[Reasoning | Content | ToolCall]:
        """The parts that a piece completes; `finish_reason` is set with the last ones."""
        if self.parser.is_thinking:
            self.reasoning_tokens += len(piece.token_ids)
        parts = self.parser.push(piece.text)
        if piece.finish_reason is not None:
            parts = parts + self.parser.finish()
        if piece.logprobs:
            self.logprobs.extend(answer_logprobs(piece, stop_token_ids))
        for position, part in enumerate(parts):
            if isinstance(part, ToolCall):
                self.calls += 1
                if self._one_call:
                    self.finish_reason = "tool_calls"
                    return parts[: position + 1]
        if piece.finish_reason is not None:
            self.finish_reason = "tool_calls" if self.calls and piece.finish_reason == "stop" else piece.finish_reason
        return parts

    def take_logprobs(self) -> list[TokenLogprobs]:
        """The log probabilities that no chunk has held yet."""
        taken, self.logprobs = self.logprobs, []
        return taken


class _ChatWriter:
    def __init__(self, shape: ChatShape, texts: TokenTexts) -> None:
        self._shape = shape
        self._texts = texts
        self._tickets: Sequence[Ticket] = ()
        self._choices = [_Choice(shape) for _ in range(shape.answers)]
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self.finished: set[int] = set()

    def open(self, tickets: Sequence[Ticket]) -> bytes:
        """Take the tickets; nothing is written yet."""
        self._tickets = tickets
        return b""

    def _feed(self, index: int, piece: Piece) -> list[Reasoning | Content | ToolCall]:
        choice = self._choices[index]
        parts = choice.feed(piece, self._tickets[index].request.stop_token_ids)
        if choice.finish_reason is not None:
            self.finished.add(index)
        return parts

    def _usage(self) -> dict[str, Any]:
        reasoning_tokens = sum(choice.reasoning_tokens for choice in self._choices)
        return usage(self._tickets, self._shape.answers, reasoning_tokens)


class ChatObject(_ChatWriter):
    """Writes the answers of a chat as one object."""

    streams = False

    def __init__(self, shape: ChatShape, texts: TokenTexts) -> None:
        super().__init__(shape, texts)
        self.is_lazy = not shape.one_call
        self._parts: list[list[Reasoning | Content | ToolCall]] = [[] for _ in self._choices]

    def feed(self, index: int, piece: Piece) -> bytes:
        """Collect a piece."""
        self._parts[index] += self._feed(index, piece)
        return b""

    def close(self) -> bytes:
        """The object `chat.completion`."""
        return _json(
            {
                "id": self._id,
                "object": "chat.completion",
                "created": self._created,
                "model": self._shape.model,
                "choices": [self._choice(index) for index in range(self._shape.answers)],
                "usage": self._usage(),
            }
        )

    def _choice(self, index: int) -> dict[str, Any]:
        choice = self._choices[index]
        logprobs = chat_logprobs(choice.take_logprobs(), self._texts) if self._shape.has_logprobs else None
        return {
            "index": index,
            "message": _message(self._parts[index]),
            "logprobs": None if logprobs is None else {"content": logprobs, "refusal": None},
            "finish_reason": choice.finish_reason,
        }


class ChatStream(_ChatWriter):
    """Writes the answers of a chat as a stream of chunks, around constant bytes that are made once."""

    streams = True
    is_lazy = False

    def __init__(self, shape: ChatShape, texts: TokenTexts) -> None:
        super().__init__(shape, texts)
        head = {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": shape.model}
        self._head = b"data: " + _json(head)[:-1]
        self._deltas = [self._head + b',"choices":[{"index":%d,"delta":{' % index for index in range(shape.answers)]
        self._contents = [delta + b'"content":' for delta in self._deltas]
        self._end = b',"usage":null}\n\n' if shape.has_usage else b"}\n\n"
        self._tail = b'},"logprobs":null,"finish_reason":null}]' + self._end

    def open(self, tickets: Sequence[Ticket]) -> bytes:
        """A chunk with the role of each answer."""
        self._tickets = tickets
        return b"".join(delta + b'"role":"assistant","content":""' + self._tail for delta in self._deltas)

    def feed(self, index: int, piece: Piece) -> bytes:
        """The chunks of a piece's parts."""
        text = piece.text
        if piece.finish_reason is None and not piece.logprobs and text and self._choices[index].parser.is_plain(text):
            return self._contents[index] + _json(text) + self._tail
        parts = self._feed(index, piece)
        choice = self._choices[index]
        chunks = [self._chunk(index, choice, part) for part in parts]
        if choice.finish_reason is not None:
            chunks.append(self._deltas[index] + self._ending(choice, _json(choice.finish_reason)))
        return b"".join(chunks)

    def close(self) -> bytes:
        """The usage, where it was asked for, and the end of the stream."""
        if not self._shape.has_usage:
            return DONE
        return self._head + b',"choices":[],"usage":' + _json(self._usage()) + b"}\n\n" + DONE

    def _chunk(self, index: int, choice: _Choice, part: Reasoning | Content | ToolCall) -> bytes:
        tail = self._ending(choice, b"null") if choice.logprobs else self._tail
        if isinstance(part, Content):
            return self._contents[index] + _json(part.text) + tail
        if isinstance(part, Reasoning):
            return self._deltas[index] + b'"reasoning_content":' + _json(part.text) + tail
        position = choice.written_calls
        choice.written_calls += 1
        opened = {"index": position, "id": call_id(), "type": "function"}
        begin = {**opened, "function": {"name": part.name, "arguments": ""}}
        rest = {"index": position, "function": {"arguments": part.arguments}}
        delta = self._deltas[index] + b'"tool_calls":['
        return delta + _json(begin) + b"]" + tail + delta + _json(rest) + b"]" + self._tail

    def _ending(self, choice: _Choice, finish_reason: bytes) -> bytes:
        """The end of a chunk with the log probabilities that have come since the last one."""
        logprobs = b"null"
        if choice.logprobs:
            content = chat_logprobs(choice.take_logprobs(), self._texts)
            logprobs = _json({"content": content, "refusal": None})
        return b'},"logprobs":' + logprobs + b',"finish_reason":' + finish_reason + b"}]" + self._end


def call_id() -> str:
    """A new id of a tool call."""
    return f"call_{secrets.token_hex(12)}"


def _message(parts: list[Reasoning | Content | ToolCall]) -> dict[str, Any]:
    content = "".join(part.text for part in parts if isinstance(part, Content))
    reasoning = "".join(part.text for part in parts if isinstance(part, Reasoning))
    found = [part for part in parts if isinstance(part, ToolCall)]
    calls = [
        {"index": index, "id": call_id(), "type": "function", "function": call._asdict()}
        for index, call in enumerate(found)
    ]
    message: dict[str, Any] = {"role": "assistant", "content": content if content or not calls else None}
    message["refusal"] = None
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    return message
