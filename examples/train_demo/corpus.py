"""The corpus: documents drawn by seed, each split by its own function.

A document is a chat (one turn or several) or a plain text. Facts, sums and small talk are asked by training phrasings
in one split and by held-out phrasings in the other; stories take their pairs of topics from the list of their split.
No document of one split can be drawn in the other.
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
PLAIN_SHARE = 0.06
_PAIRS = {split: topic_pairs(split) for split in (False, True)}
_FACTS = {language: tuple(entry for entry in FACTS if entry[1].language == language) for language in LANGUAGES}
_INTENTS = {language: tuple(intent for intent in talk.INTENTS if intent.language == language) for language in LANGUAGES}
_SUMS = sums.sums()


@dataclass(frozen=True)
class Mix:
    """The frequency of each kind of turn, the share of documents that are stories, and the weight of their loss."""

    turns: dict[str, int]
    stories: float
    story_weight: float


# There are many facts, and each must be seen often. Repeating teaches attention to copy: without it, a story is about
# other topics than it was asked for, and answers mix names up.
BROAD = Mix({"fact": 54, "sum": 12, "talk": 8, "count": 2, "story": 10, "repeat": 14}, stories=0.2, story_weight=0.6)
# For a model that knows its facts and still loses a story's second topic.
STORIES = Mix({"fact": 44, "sum": 8, "talk": 6, "count": 2, "story": 26, "repeat": 14}, stories=0.45, story_weight=1.0)


@dataclass(frozen=True)
class Turn:
    """A turn of a chat: the user's message and the assistant's answer.

    Attributes:
        weight: The factor of the loss on the answer's tokens.
        topics: The words of the answer that the question asks for; their tokens have a larger loss weight.
    """

    user: str
    assistant: str
    weight: float = 1.0
    topics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """A chat with an optional system message, or a plain text, with a weight as a turn's (then there are no turns)."""

    turns: tuple[Turn, ...] = ()
    system: str | None = None
    text: str | None = None
    text_weight: float = 1.0


def training_document(seed: int, index: int, mix: Mix = BROAD) -> Document:
    """Return document `index` of the endless training split."""
    rng = Random(f"train:{seed}:{index}")
    language = rng.choice(LANGUAGES)
    draw = rng.random()
    if draw < PLAIN_SHARE:
        return Document(text=_plain(rng, language), text_weight=mix.story_weight)
    system = rng.choice(SYSTEM_PROMPTS[language]) if rng.random() < 0.06 else None
    if draw < PLAIN_SHARE + mix.stories:
        return Document((_story(rng, language, mix, held_out=False),), system)
    turns = []
    for _ in range(rng.choice((1, 2, 3, 4, 5))):
        language = rng.choice(LANGUAGES) if rng.random() < 0.2 else language
        turns.append(_short_turn(rng, language, mix, held_out=False))
    return Document(tuple(turns), system)


def held_out_document(seed: int, index: int) -> Document:
    """Return document `index` of the endless held-out split: one turn, with phrasings and pairs kept from training."""
    rng = Random(f"held out:{seed}:{index}")
    language = rng.choice(LANGUAGES)
    draw = _story if rng.random() < 0.3 else _short_turn
    return Document((draw(rng, language, BROAD, held_out=True),))


def _short_turn(rng: Random, language: str, mix: Mix, held_out: bool) -> Turn:
    kind = rng.choices(tuple(mix.turns), tuple(mix.turns.values()))[0]
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
    elif kind == "repeat":
        user, assistant = talk.repeat(rng, language, [topic.noun(language) for topic in TOPICS])
    else:
        return _story(rng, language, mix, held_out)
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


def _story(rng: Random, language: str, mix: Mix, held_out: bool) -> Turn:
    alone = not held_out and rng.random() < 0.15
    topics = (rng.choice(TOPICS),) if alone else tuple(rng.sample(rng.choice(_PAIRS[held_out]), 2))
    request = stories.ask(rng, language, topics, held_out)
    told = stories.tell(rng, language, topics, short=stories.is_short(language, request))
    return Turn(request, told, mix.story_weight, tuple(topic.noun(language) for topic in topics))


def _plain(rng: Random, language: str) -> str:
    if rng.random() < 0.5:
        return stories.tell(rng, language, tuple(rng.sample(rng.choice(_PAIRS[False]), 2)))
    answers = [fact.answer for _, fact in rng.choices(_FACTS[language], k=4)]
    return (" " if language == "en" else "").join(answers)
