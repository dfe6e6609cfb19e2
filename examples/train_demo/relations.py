"""The phrasings of each kind of fact; those of training and those of the held-out split are disjoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# Every English relation is also asked through these, around its indirect question.
_FRAMES_EN = (
    "Tell me {}.",
    "Please tell me {}.",
    "Do you know {}?",
    "I want to know {}.",
    "I would like to know {}.",
    "Can you tell me {}?",
    "Could you say {}?",
    "I wonder {}.",
)
_FRAMES_ZH = (
    "{}？",
    "请问{}？",
    "你知道{}吗？",
    "告诉我{}。",
    "请告诉我{}。",
    "我想知道{}。",
    "你能告诉我{}吗？",
    "能不能告诉我{}？",
)


@dataclass(frozen=True)
class Fact:
    """One fact: its relation's name, its language ("en" or "zh"), x and y, and the one right answer."""

    relation: str
    language: str
    x: str
    y: str
    answer: str


@dataclass(frozen=True)
class Relation:
    """A table of (x, y) with its phrasings; templates use {x} and {y}.

    Attributes:
        asks: The phrasings for training.
        held_out: The phrasings that training never uses, in which the evaluation asks.
    """

    name: str
    language: str
    answer: str
    asks: tuple[str, ...]
    held_out: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]

    def facts(self) -> Iterator[Fact]:
        """Yield every fact of the table."""
        for x, y in self.pairs:
            yield Fact(self.name, self.language, x, y, sentence(self.answer.format(x=x, y=y)))

    def questions(self, fact: Fact, held_out: bool) -> tuple[str, ...]:
        """Return every way in which one split asks for `fact`."""
        templates = self.held_out if held_out else self.asks
        return tuple(sentence(template.format(x=fact.x)) for template in templates)


def sentence(text: str) -> str:
    """Return `text` with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def column(rows: tuple[tuple[str, ...], ...], x: int, y: int) -> tuple[tuple[str, str], ...]:
    """Pick the columns `x` and `y` of a table."""
    return tuple((row[x], row[y]) for row in rows)


def shifted(names: tuple[str, ...], step: int) -> tuple[tuple[str, str], ...]:
    """Pair each name with the one `step` places on, around the circle."""
    return tuple((name, names[(i + step) % len(names)]) for i, name in enumerate(names))


def english(
    name: str, answer: str, clause: str, asks: str, held_out: str, *, pairs: tuple[tuple[str, str], ...]
) -> Relation:
    """Build an English relation; `asks` and `held_out` hold one phrasing a `/`."""
    framed = tuple(frame.format(clause) for frame in _FRAMES_EN)
    return Relation(name, "en", answer, framed + _split(asks), _split(held_out), pairs)


def chinese(
    name: str, answer: str, direct: str, asks: str, held_out: str, *, pairs: tuple[tuple[str, str], ...]
) -> Relation:
    """Build a Chinese relation; `direct` is its plain question without a question mark."""
    framed = tuple(frame.format(direct) for frame in _FRAMES_ZH)
    return Relation(name, "zh", answer, framed + _split(asks), _split(held_out), pairs)


def _split(phrasings: str) -> tuple[str, ...]:
    return tuple(phrasing.strip() for phrasing in phrasings.split("/"))
