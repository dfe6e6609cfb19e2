"""All facts of both languages, and their two kinds of questions."""

from __future__ import annotations

from collections.abc import Iterator

from examples.train_demo.relations import Fact, Relation
from examples.train_demo.relations_en import ENGLISH
from examples.train_demo.relations_zh import CHINESE

RELATIONS: tuple[Relation, ...] = ENGLISH + CHINESE
FACTS: tuple[tuple[Relation, Fact], ...] = tuple(
    (relation, fact) for relation in RELATIONS for fact in relation.facts()
)


def held_out_questions() -> Iterator[tuple[str, Fact]]:
    """Yield every (question, fact) of the held-out split."""
    for relation, fact in FACTS:
        for question in relation.questions(fact, held_out=True):
            yield question, fact
