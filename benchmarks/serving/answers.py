"""Streamed answers of a completions endpoint: HTTP responses and their events, read piece by piece."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

LONGEST_ERROR = 300
"""The most characters of a server's error that are quoted."""


class AnswerError(Exception):
    """A response is not a streamed answer: another status, an error event, an early end, or a broken message."""


class Event(NamedTuple):
    """One event of a streamed answer.

    Attributes:
        text: The text that it adds.
        completion_tokens: The answer's number of tokens, which the event with the usage tells.
    """

    text: str
    completion_tokens: int | None


class AnswerReader:
    """Reads one HTTP/1.1 response with server-sent events.

    Source: RFC 9112, section 7.1 (chunks); the HTML standard, section 9.2.6 (events).

    Attributes:
        is_done: Whether the response is complete, `[DONE]` included.
        keeps_open: Whether the server takes another request on this connection; known with the head.
    """

    def __init__(self) -> None:
        self.is_done = False
        self.keeps_open = True
        self._status: int | None = None
        self._is_chunked = False
        self._said_done = False
        self._received = bytearray()
        self._chunk_left = 0
        self._text = bytearray()
        self._data: list[bytes] = []

    def feed(self, received: bytes) -> list[Event]:
        """Take bytes from the connection; nothing at all means that the server has closed it.

        Returns:
            The events that are complete with them, without `[DONE]`.

        Raises:
            AnswerError: The response is not a streamed answer.
        """
        if not received:
            return self._close()
        self._received += received
        if self._status is None and not self._read_head():
            return []
        if self._is_chunked:
            self._join_chunks()
        else:
            self._text += self._received
            self._received.clear()
        if self._status != 200:
            if self.is_done or not self._is_chunked:
                raise AnswerError(f"status {self._status}: {quoted(bytes(self._text))}")
            return []
        return self._take_events()

    def _close(self) -> list[Event]:
        if self._status not in (None, 200):
            raise AnswerError(f"status {self._status}: {quoted(bytes(self._text))}")
        if self._is_chunked or not self._said_done:
            raise AnswerError("the server closed the connection in the middle of an answer")
        self.is_done = True
        return []

    def _read_head(self) -> bool:
        """Read the head once it is there whole; return whether it is."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        lines = self._received[:end].decode("latin-1").split("\r\n")
        del self._received[: end + 4]
        version, _, rest = lines[0].partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise AnswerError(f"no HTTP response: {quoted(lines[0].encode())}")
        self._status = int(rest[:3])
        headers = {
            name.strip().lower(): value.strip().lower() for name, _, value in (x.partition(":") for x in lines[1:])
        }
        self._is_chunked = headers.get("transfer-encoding") == "chunked"
        self.keeps_open = self._is_chunked and headers.get("connection") != "close"
        return True

    def _join_chunks(self) -> None:
        """Move the content of chunks from what was received to the text."""
        received = self._received
        while received and not self.is_done:
            if self._chunk_left > 2:
                part = received[: self._chunk_left - 2]
                self._text += part
                self._chunk_left -= len(part)
                del received[: len(part)]
            elif self._chunk_left:
                part = received[: self._chunk_left]  # the line break after a chunk
                self._chunk_left -= len(part)
                del received[: len(part)]
            elif not self._begin_chunk():
                return

    def _begin_chunk(self) -> bool:
        """Read the size of the next chunk once its line is there; return whether there may be more to read."""
        end = self._received.find(b"\r\n")
        if end < 0:
            return False
        line = self._received[:end].partition(b";")[0]
        try:
            size = int(line, 16)
        except ValueError:
            raise AnswerError(f"no size of a chunk: {quoted(bytes(line))}") from None
        if size == 0:
            if len(self._received) < end + 4:
                return False
            self.is_done = True
            end += 2
        else:
            self._chunk_left = size + 2
        del self._received[: end + 2]
        return True

    def _take_events(self) -> list[Event]:
        """The events whose lines are whole."""
        *lines, rest = self._text.split(b"\n")
        self._text = rest
        events = []
        for line in (bytes(line.rstrip(b"\r")) for line in lines):
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                data, self._data = b"\n".join(self._data), []
                if data == b"[DONE]":
                    self._said_done = True
                else:
                    events.append(read_event(data))
        if self.is_done and not self._said_done:
            raise AnswerError("the answer ended without [DONE]")
        return events


def read_event(data: bytes) -> Event:
    """Read an event's JSON.

    Raises:
        AnswerError: It is an error, or no JSON object.
    """
    try:
        content: dict[str, Any] = json.loads(data)
        if "error" in content:
            raise AnswerError(quoted(data))
        text = "".join(choice["text"] for choice in content.get("choices") or ())
        usage = content.get("usage") or {}
        return Event(text, usage.get("completion_tokens"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AnswerError(f"no event of a completion: {quoted(data)}") from error


def quoted(data: bytes) -> str:
    """Bytes of a server as one short line."""
    text = " ".join(data.decode("utf-8", errors="replace").split())
    return text if len(text) <= LONGEST_ERROR else f"{text[: LONGEST_ERROR - 1]}…"
