"""Tool calls: the functions that a model asks for in its answer, as MiniMind's and Qwen's templates have them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from .think import ThinkSplitter

CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
"""A call in an answer, whose closing tag may be missing at the end of the text."""


@dataclass(frozen=True)
class ToolCall:
    """A call of a function that a model asks for.

    Attributes:
        name: Name of the function.
        arguments: Arguments by name, in JSON's own types.
    """

    name: str
    arguments: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The call as an object of JSON."""
        return asdict(self)


def find_tool_calls(text: str, *, thinking: bool = False) -> list[ToolCall]:
    """The tool calls of an answer, in order; what is no JSON object with a name is text, and no call.

    Args:
        text: The answer: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>` for each call.
        thinking: Whether the answer begins inside a think block; calls inside think blocks are only thoughts.
    """
    splitter = ThinkSplitter(thinking)
    segments = [*splitter.push(text), *splitter.finish()]
    answer = "".join(segment.text for segment in segments if segment.kind == "answer")
    calls = (_parse(match[1]) for match in CALL.finditer(answer))
    return [call for call in calls if call is not None]


def _parse(text: str) -> ToolCall | None:
    """The call that the text between two tags describes; None if it describes none."""
    try:
        content = msgspec.json.decode(text.strip())
    except (ValueError, RecursionError):
        return None
    name = content.get("name") if isinstance(content, dict) else None
    arguments = content.get("arguments", {}) if isinstance(content, dict) else None
    if isinstance(arguments, str):  # some models write the arguments as JSON inside a string
        try:
            arguments = msgspec.json.decode(arguments)
        except (ValueError, RecursionError):
            return None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return ToolCall(name, arguments)
