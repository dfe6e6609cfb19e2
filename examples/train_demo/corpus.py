"""The corpus: documents drawn by seed, each split by its own function.

A document is a chat (one turn or several) or a plain text. Facts, sums and small talk are asked by training phrasings
in one split and by held-out phrasings in the other; stories take their pairs of topics from the list of their split.
No drawing can cross.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from examples.train_demo import stories, sums, talk
from examples.train_demo.facts import FACTS
from examples.train_demo.topics import TOPICS, topic_pairs

LANGUAGES = ("en", "zh")
SYSTEM_PROMPTS = {
    "en": (
        "You are a helpful assistant.",
        "You are a helpful assistant",
        "You are MiniMind.",
        "You are a friendly small model.",
    ),
    "zh": ("你是一个乐于助人的助手。", "你是 MiniMind。", "你是一个友好的小模型。"),
}
OPENERS = {
    "en": ("", "", "", "", "", "", "Hello! ", "Please answer: ", "A question: ", "I have a question. "),
    "zh": ("", "", "", "", "", "", "你好！", "请回答：", "问一下，", "我有一个问题。"),
}
# How often each kind of turn is drawn; facts are many and each has to be met often.
TURN_SHARES = {"fact": 70, "sum": 14, "talk": 11, "count": 2, "story": 3}
STORY_SHARE = 0.14
PLAIN_SHARE = 0.06
STORY_WEIGHT = 0.25
_PAIRS = {split: topic_pairs(split) for split in (False, True)}
_FACTS = {language: tuple(entry for entry in FACTS if entry[1].language == language) for language in LANGUAGES}
_INTENTS = {language: tuple(intent for intent in talk.INTENTS if intent.language == language) for language in LANGUAGES}
_SUMS = sums.sums()


@dataclass(frozen=True)
class Turn:
    """What the user says and what the assistant answers; `weight` scales the loss on the answer's tokens."""

    user: str
    assistant: str
    weight: float = 1.0


@dataclass(frozen=True)
class Document:
    """A chat with an optional system message, or a plain text (then there are no turns)."""

    turns: tuple[Turn, ...] = ()
    system: str | None = None
    text: str | None = None


def training_document(seed: int, index: int) -> Document:
    """Return document `index` of the endless training split."""
    return _document(Random(f"train:{seed}:{index}"), held_out=False)


def held_out_document(seed: int, index: int) -> Document:
    """Return document `index` of the endless held-out split: one turn, with phrasings and pairs kept from training."""
    rng = Random(f"held out:{seed}:{index}")
    language = rng.choice(LANGUAGES)
    return Document((_story(rng, language, True) if rng.random() < 0.3 else _short_turn(rng, language, True),))


def _document(rng: Random, held_out: bool) -> Document:
    language = rng.choice(LANGUAGES)
    draw = rng.random()
    if draw < PLAIN_SHARE:
        return Document(text=_plain(rng, language))
    system = rng.choice(SYSTEM_PROMPTS[language]) if rng.random() < 0.06 else None
    if draw < PLAIN_SHARE + STORY_SHARE:
        return Document((_story(rng, language, held_out),), system)
    turns = []
    for _ in range(rng.choice((1, 2, 3, 4, 5))):
        language = rng.choice(LANGUAGES) if rng.random() < 0.2 else language
        turns.append(_short_turn(rng, language, held_out))
    return Document(tuple(turns), system)


def _short_turn(rng: Random, language: str, held_out: bool) -> Turn:
    kind = rng.choices(tuple(TURN_SHARES), tuple(TURN_SHARES.values()))[0]
    if kind == "fact":
        relation, fact = rng.choice(_FACTS[language])
        user, assistant = rng.choice(relation.questions(fact, held_out)), fact.answer
    elif kind == "sum":
        entry = rng.choice(_SUMS)
        user, assistant = rng.choice(sums.questions(language, *entry, held_out=held_out)), sums.answer(*entry)
    elif kind == "talk":
        intent = rng.choice(_INTENTS[language])
        user = intent.held_out if held_out else rng.choice(intent.training)
        assistant = rng.choice(intent.answers)
    elif kind == "count":
        user, assistant = sums.count(rng, language)
    else:
        return _story(rng, language, held_out)
    return Turn(user if held_out or kind == "talk" else dressed(rng, language, user), assistant)


def dressed(rng: Random, language: str, question: str) -> str:
    """Return a question as hurried people type it: perhaps an opener, lower case, or no mark at its end."""
    question = rng.choice(OPENERS[language]) + question
    if rng.random() < 0.15:
        question = question.lower()
    if rng.random() < 0.15:
        question = question.rstrip("?.？。")
    if language == "zh" and rng.random() < 0.25:
        question = question.replace("？", "?")
    return question


def _story(rng: Random, language: str, held_out: bool) -> Turn:
    alone = not held_out and rng.random() < 0.15
    topics = (rng.choice(TOPICS),) if alone else tuple(rng.sample(rng.choice(_PAIRS[held_out]), 2))
    return Turn(stories.ask(rng, language, topics, held_out), stories.tell(rng, language, topics), STORY_WEIGHT)


def _plain(rng: Random, language: str) -> str:
    if rng.random() < 0.5:
        return stories.tell(rng, language, tuple(rng.sample(rng.choice(_PAIRS[False]), 2)))
    answers = [fact.answer for _, fact in rng.choices(_FACTS[language], k=4)]
    return (" " if language == "en" else "").join(answers)
