"""Questions with an answer that can be judged, and the one judge of answers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["facts", "sums", "topic_copy"]

KINDS: tuple[Kind, ...] = ("facts", "sums", "topic_copy")


@dataclass(frozen=True)
class Question:
    """A prompt; right where the answer equals `exact`, or else names all of `names`.

    A name counts as a word of its own, in its very form: "fox" in "the fox's lamp", but "king" not in "looking".
    Chinese has no borders between words; `lookalikes` are the longer words that a name must not be taken out of.

    Args:
        kind: What it measures.
        language: `en` or `zh`.
        prompt: What the user says.
        exact: The one right answer.
        names: What the answer has to name, where there is no one right answer.
        lookalikes: Words that hold a name and mean something else, such as 猫头鹰 (owl) for 猫 (cat).
    """

    kind: Kind
    language: str
    prompt: str
    exact: str | None = None
    names: tuple[str, ...] = ()
    lookalikes: tuple[str, ...] = ()

    def is_right(self, answer: str) -> bool:
        """Judge an answer."""
        if self.exact is not None:
            return answer == self.exact
        return all(self._is_named(name, answer) for name in self.names)

    def _is_named(self, name: str, answer: str) -> bool:
        for other in self.lookalikes:
            if name in other and name != other:
                answer = answer.replace(other, " ")
        if name.isascii():
            return re.search(rf"\b{re.escape(name)}\b", answer, re.ASCII | re.IGNORECASE) is not None
        return name in answer


@dataclass(frozen=True)
class Score:
    """How many answers of one kind and language are right; `asked` is at least 1."""

    right: int
    asked: int

    @property
    def share(self) -> float:
        """Right ones of all, 0 to 1."""
        return self.right / self.asked

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {"right": self.right, "asked": self.asked, "share": self.share}


def scores(judged: Iterable[tuple[Question, bool]]) -> dict[Kind, dict[str, Score]]:
    """Add up verdicts by kind and language; a kind that was not asked for has no languages."""
    found: dict[Kind, dict[str, Score]] = {kind: {} for kind in KINDS}
    for question, is_right in judged:
        languages = found[question.kind]
        before = languages.get(question.language, Score(0, 0))
        languages[question.language] = Score(before.right + is_right, before.asked + 1)
    return found
