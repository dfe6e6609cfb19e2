"""The parts of a chat's answer: reasoning, content and tool calls, from the text that the model writes."""

from __future__ import annotations

from typing import NamedTuple

from minimind_edge.runtime.text.think import Segment, ThinkSplitter

from .tool_calls import ToolCall, ToolCallSplitter


class Reasoning(NamedTuple):
    """A piece of the model's thinking, never empty."""

    text: str


class Content(NamedTuple):
    """A piece of the answer's text, never empty."""

    text: str


class AnswerParser:
    """Divides one answer into its parts, piece by piece.

    Args:
        thinking: Whether the answer begins inside a think block.
        reads_calls: Whether tool calls are looked for.
    """

    def __init__(self, *, thinking: bool, reads_calls: bool) -> None:
        self._thinking = ThinkSplitter(thinking)
        self._calls = ToolCallSplitter() if reads_calls else None

    @property
    def is_thinking(self) -> bool:
        """Whether the text so far ends inside a think block."""
        return self._thinking.is_thinking

    def is_plain(self, text: str) -> bool:
        """Whether `push` would give this text back as it is, as content: the usual case, which takes a shortcut."""
        thinking = self._thinking
        return self._calls is None and "<" not in text and thinking.is_settled and not thinking.is_thinking

    def push(self, text: str) -> list[Reasoning | Content | ToolCall]:
        """The parts that are certain."""
        return self._divide(self._thinking.push(text)) if text else []

    def finish(self) -> list[Reasoning | Content | ToolCall]:
        """The text that was held back."""
        parts = self._divide(self._thinking.finish())
        rest = "" if self._calls is None else self._calls.finish()
        return [*parts, Content(rest)] if rest else parts

    def _divide(self, segments: list[Segment]) -> list[Reasoning | Content | ToolCall]:
        parts: list[Reasoning | Content | ToolCall] = []
        for kind, text in segments:
            if kind == "think":
                parts.append(Reasoning(text))
            elif self._calls is None:
                parts.append(Content(text))
            else:
                found = self._calls.push(text)
                parts.extend(Content(part) if isinstance(part, str) else part for part in found)
        return parts
