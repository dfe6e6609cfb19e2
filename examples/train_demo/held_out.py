"""The held-out questions and documents: questions in phrasings that training never uses, and texts for perplexity.

They are drawn by a seed of their own, so that every checkpoint is asked the same; `write_held_out` makes the file that
the package ships for `minimind-export eval`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, count, islice
from pathlib import Path
from random import Random

from examples.train_demo import stories, sums, talk
from examples.train_demo.corpus import LANGUAGES, held_out_document
from examples.train_demo.facts import held_out_questions
from examples.train_demo.topics import TOPICS, topic_pairs
from minimind_edge.export.evaluation import Document, HeldOut, Question

STORIES = 100
"""The number of requests for stories in each language."""

DOCUMENTS = 512


def held_out(seed: int = 0) -> HeldOut:
    """Return every held-out question about facts and sums, requests for stories about unseen pairs, and documents."""
    return HeldOut(tuple(_questions(seed)), tuple(islice(_documents(seed), DOCUMENTS)))


def write_held_out(path: Path) -> HeldOut:
    """Write the split as the package ships it, and return it."""
    split = held_out()
    path.write_text(split.text(), encoding="utf-8")
    return split


def _questions(seed: int) -> Iterator[Question]:
    rng = Random(f"questions:{seed}")
    for prompt, fact in held_out_questions():
        yield Question("facts", fact.language, prompt, fact.answer)
    for language in LANGUAGES:
        for entry in sums.sums():
            prompt = rng.choice(sums.questions(language, *entry, held_out=True))
            yield Question("sums", language, prompt, sums.answer(*entry))
    for language in LANGUAGES:
        for pair in rng.sample(topic_pairs(held_out=True), STORIES):
            topics = tuple(rng.sample(pair, 2))
            names = tuple(topic.noun(language) for topic in topics)
            request = stories.ask(rng, language, topics, held_out=True)
            yield Question("topic_copy", language, request, names=names, lookalikes=_lookalikes(language, names))


def _lookalikes(language: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Words of the stories that hold a name and mean another: 猫头鹰, the owl, for 猫, the cat."""
    if language == "en":
        return ()  # English words have spaces between them
    words = (*(topic.zh for topic in TOPICS), *stories.GRAMMARS[language].CHILDREN)
    return tuple(word for word in words if any(name in word and name != word for name in names))


def _documents(seed: int) -> Iterator[Document]:
    """Documents of the held-out split that training cannot draw."""
    for index in count():
        (turn,) = held_out_document(seed, index).turns
        if not _PHRASED_ALIKE.fullmatch(turn.user):
            yield Document(turn.user, turn.assistant)


def _phrased_alike() -> re.Pattern[str]:
    """A pattern of the requests that both splits phrase alike: to count, and to repeat."""
    templates = chain(*sums.COUNTS.values(), *talk.REPEATS.values())
    patterns = (re.sub(r"\\{\w*\\}", ".+", re.escape(template)) for template in templates)
    return re.compile("|".join(patterns))


_PHRASED_ALIKE = _phrased_alike()
