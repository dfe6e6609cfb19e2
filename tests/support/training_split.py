"""Every prompt that the demo's training can draw, enumerated: what nothing held out may be found among."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the example is no part of the installed package

from examples.train_demo import corpus, stories, sums, talk, topics
from examples.train_demo.facts import FACTS


def bare(text: str) -> str:
    """A prompt without case, spaces and punctuation, so that none of these counts as another phrasing."""
    return "".join(character for character in text.lower() if character.isalnum() or character in "+-")


def dressings(language: str, question: str) -> set[str]:
    return {bare(opener + question) for opener in corpus.OPENERS[language]}


def training_prompts() -> set[str]:
    """Every prompt about facts, sums and small talk that the training split can draw."""
    prompts: set[str] = set()
    for relation, fact in FACTS:
        for question in relation.questions(fact, held_out=False):
            prompts |= dressings(fact.language, question)
    for language in corpus.LANGUAGES:
        for entry in sums.sums():
            for question in sums.questions(language, *entry, held_out=False):
                prompts |= dressings(language, question)
    for intent in talk.INTENTS:
        prompts |= {bare(ask) for ask in intent.training}
    return prompts


FRAMES = [bare(ask.format("WORDS")) for asks in talk.REPEATS.values() for ask in asks]
FRAMES += [bare(ask.format("TOPICS")) for grammar in stories.GRAMMARS.values() for ask in grammar.ASKS]
FRAMES += [bare(ask.format(a="NUMBER", b="NUMBER")) for asks in sums.COUNTS.values() for ask in asks]
NOUNS = {bare(noun): topic for topic in topics.TOPICS for noun in (topic.a_en, topic.zh)}
WORD = "|".join(bare(word) for topic in topics.TOPICS for word in (topic.en, topic.zh))
NOUN = "|".join(sorted(NOUNS, key=len, reverse=True))
PATTERN = re.compile(
    f"({'|'.join(sorted({bare(opener) for openers in corpus.OPENERS.values() for opener in openers}))})"
    f"({'|'.join(FRAMES)})".replace("topics", f"(?:{NOUN})(?:(?:and|和)(?:{NOUN}))?")
    .replace("number", "[0-9]+")
    .replace("words", f"(?:{WORD})+")
)


def story_pair(prompt: str) -> tuple[topics.Topic, ...] | None:
    """The topics of a training prompt for a story; none where it asks to count or repeat; None for any other prompt."""
    if PATTERN.fullmatch(bare(prompt)) is None:
        return None
    found = re.search(f"({NOUN})(?:and|和)({NOUN})", bare(prompt))
    return (NOUNS[found[1]], NOUNS[found[2]]) if found else ()
