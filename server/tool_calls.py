"""Tool calls: finds MiniMind's `<tool_call>` blocks in streamed text."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, NoReturn

from minimind_edge.runtime.text.text_stream import unfinished_length

OPEN_TAG = "<tool_call>"
CLOSE_TAG = "</tool_call>"

_ESCAPED = re.compile(r"\\.", re.DOTALL)


class ToolCall(NamedTuple):
    """A call of a function.

    Attributes:
        name: The function's name.
        arguments: Its arguments, the text of a JSON object.
    """

    name: str
    arguments: str


class ToolCallSplitter:
    """Splits a stream of text into text and tool calls; a block without a well-formed call stays text.

    A call is given when its block is complete, because only then it is known to be one. White space around a call
    belongs to its block.
    """

    def __init__(self) -> None:
        self._withheld = ""
        self._after_call = False

    def push(self, text: str) -> list[str | ToolCall]:
        """The text and the calls that are certain, in order; text is never empty."""
        parts: list[str | ToolCall] = []
        rest = self._withheld + text
        while (start := rest.find(OPEN_TAG)) >= 0:
            self._append(parts, rest[:start].rstrip())
            rest = rest[len(rest[:start].rstrip()) :]
            body = rest.find(OPEN_TAG) + len(OPEN_TAG)
            end = _block_end(rest, body)
            if end < 0:
                self._withheld = rest
                return parts
            call = parse_call(rest[body : end - len(CLOSE_TAG)])
            if call is None:
                self._append(parts, rest[:end])
            else:
                parts.append(call)
                self._after_call = True
            rest = rest[end:]
        certain = len(rest[: len(rest) - unfinished_length(rest, (OPEN_TAG,))].rstrip())
        self._append(parts, rest[:certain])
        self._withheld = rest[certain:]
        return parts

    def finish(self) -> str:
        """The text that was held back and did not become a call."""
        parts: list[str | ToolCall] = []
        self._append(parts, self._withheld)
        self._withheld = ""
        return "".join(map(str, parts))

    def _append(self, parts: list[str | ToolCall], text: str) -> None:
        if self._after_call:
            text = text.lstrip()
        if text:
            self._after_call = False
            parts.append(text)


def parse_call(block: str) -> ToolCall | None:
    """The call in the text of a block, between the tags; None where it is not well-formed."""
    try:
        call = json.loads(block, parse_constant=_refuse)
        arguments = call["arguments"] if isinstance(call, dict) and "arguments" in call else {}
        if isinstance(arguments, str):
            arguments = json.loads(arguments, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    name = call.get("name") if isinstance(call, dict) else None
    if not (isinstance(name, str) and name and _is_text(name) and isinstance(arguments, dict)):
        return None
    return ToolCall(name, _to_json(arguments))


def _block_end(text: str, start: int) -> int:
    """The position after the closing tag of a block, -1 where there is none yet; a tag in a JSON string is none."""
    end = text.find(CLOSE_TAG, start)
    while end >= 0 and _ESCAPED.sub("", text[start:end]).count('"') % 2:
        end = text.find(CLOSE_TAG, end + 1)
    return end if end < 0 else end + len(CLOSE_TAG)


def _to_json(arguments: dict[str, Any]) -> str:
    text = json.dumps(arguments, ensure_ascii=False)
    return text if _is_text(text) else json.dumps(arguments)


def _is_text(text: str) -> bool:
    """Whether a string has no lone surrogates, which JSON can escape but UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
