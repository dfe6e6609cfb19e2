"""Thinking told from answering: splits streamed text at `<think>` and `</think>`."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from .text_stream import unfinished_length

OPEN_TAG = "<think>"
CLOSE_TAG = "</think>"

SegmentKind: TypeAlias = Literal["think", "answer"]


class Segment(NamedTuple):
    """A piece of text of one kind, never empty; tags, and line breaks right after them, are left out."""

    kind: SegmentKind
    text: str


class ThinkSplitter:
    """Splits a stream of text in segments; a tag may lie across several pieces.

    Args:
        thinking: Whether the text begins inside a think block; `opens_thinking` tells it of a prompt.
    """

    def __init__(self, thinking: bool = False) -> None:
        self._thinking = thinking
        self._withheld = ""
        self._after_tag = thinking

    def push(self, text: str) -> list[Segment]:
        """The segments that are certain; what may be the beginning of a tag is held back."""
        text = self._withheld + text
        segments: list[Segment] = []
        tag = self._next_tag()
        while (start := text.find(tag)) >= 0:
            self._append(segments, text[:start])
            text = text[start + len(tag) :]
            self._thinking = not self._thinking
            self._after_tag = True
            tag = self._next_tag()
        certain = len(text) - unfinished_length(text, (tag,))
        self._withheld = text[certain:]
        self._append(segments, text[:certain])
        return segments

    def finish(self) -> list[Segment]:
        """What was held back and never became a tag."""
        segments: list[Segment] = []
        self._append(segments, self._withheld)
        self._withheld = ""
        return segments

    def _next_tag(self) -> str:
        return CLOSE_TAG if self._thinking else OPEN_TAG

    def _append(self, segments: list[Segment], text: str) -> None:
        if self._after_tag:
            text = text.lstrip("\n")
        if text:
            self._after_tag = False
            segments.append(Segment("think" if self._thinking else "answer", text))


def opens_thinking(prompt: str) -> bool:
    """Whether a rendered prompt ends with an opened think block, so that the model's text begins inside of it."""
    return prompt.rstrip().endswith(OPEN_TAG)
