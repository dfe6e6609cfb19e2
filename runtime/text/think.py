"""Think blocks: splits streamed text into thinking and answer at `<think>` and `</think>`."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from .text_stream import unfinished_length

OPEN_TAG = "<think>"
CLOSE_TAG = "</think>"

SegmentKind: TypeAlias = Literal["think", "answer"]


class Segment(NamedTuple):
    """A piece of thinking or of answer, never empty, without tags and the line breaks right after them."""

    kind: SegmentKind
    text: str


class ThinkSplitter:
    """Splits a stream of text into segments; a tag may extend over several pieces.

    Args:
        thinking: Whether the text begins inside a think block, as `opens_thinking` determines from the prompt.
    """

    def __init__(self, thinking: bool = False) -> None:
        self._thinking = thinking
        self._withheld = ""
        self._after_tag = thinking

    @property
    def is_thinking(self) -> bool:
        """Whether the text so far ends inside a think block."""
        return self._thinking

    @property
    def is_settled(self) -> bool:
        """Whether a text without `<` would come out of `push` as it is, as one segment."""
        return not (self._withheld or self._after_tag)

    def push(self, text: str) -> list[Segment]:
        """The segments that are certain; a possible beginning of a tag is held back."""
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
        """The text that was held back and did not become a tag."""
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
    """Whether a rendered prompt ends inside a think block, so that the model's text begins there."""
    return prompt.rstrip().endswith(OPEN_TAG)
