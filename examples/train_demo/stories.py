"""Stories about one or two topics, in either language."""

from __future__ import annotations

from random import Random
from types import ModuleType

from examples.train_demo import stories_en, stories_zh
from examples.train_demo.relations import sentence
from examples.train_demo.topics import Topic

GRAMMARS = {"en": stories_en, "zh": stories_zh}


def ask(rng: Random, language: str, topics: tuple[Topic, ...], held_out: bool = False) -> str:
    """Return a request for a story about `topics`."""
    grammar = GRAMMARS[language]
    asks = grammar.HELD_OUT_ASKS if held_out else grammar.ASKS
    if language == "en":
        return str(rng.choice(asks)).format(" and ".join(topic.a_en for topic in topics))
    return str(rng.choice(asks)).format("和".join(topic.zh for topic in topics))


def is_short(language: str, request: str) -> bool:
    """Say whether a request is for a short story."""
    return GRAMMARS[language].SHORT in request


def tell(rng: Random, language: str, topics: tuple[Topic, ...], *, short: bool = False) -> str:
    """Return a story that names each of the one or two `topics`; a short one has no plot beyond how they met."""
    grammar = GRAMMARS[language]
    heroes = [topic for topic in topics if topic.kind == "agent"]
    hero = heroes[0] if heroes else None
    others = [topic for topic in topics if topic is not hero]
    fields = _hero_fields(rng, language, grammar, hero)
    lines = [rng.choice(grammar.OPENINGS)]
    if not others:
        lines += [*rng.choice(grammar.ALONE), rng.choice(grammar.ALONE_ENDINGS)]
        return _join(language, [line.format(**fields) for line in lines])
    told = [lines[0].format(**fields)]
    for topic in others[:-1]:
        told.append(
            rng.choice(grammar.MEETINGS[topic.kind]).format(**fields, **_other_fields(rng, language, grammar, topic))
        )
    last = others[-1]
    fields |= _other_fields(rng, language, grammar, last)
    plot = () if short else rng.choice(grammar.PLOTS[last.kind])
    lines = [rng.choice(grammar.MEETINGS[last.kind]), *plot, rng.choice(grammar.ENDINGS[last.kind])]
    return _join(language, told + [line.format(**fields) for line in lines])


def _hero_fields(rng: Random, language: str, grammar: ModuleType, hero: Topic | None) -> dict[str, str]:
    """Fill {h}, {H} and {ah}: the topic itself, or a child where no topic can act."""
    trait = rng.choice(grammar.TRAITS)
    if hero is None:
        name = rng.choice(grammar.CHILDREN)
        introduced = f"a {trait} child named {name}" if language == "en" else f"一个{trait}孩子{name}"
        return {"h": name, "H": name, "ah": introduced}
    return _named(language, hero, trait, "h")


def _other_fields(rng: Random, language: str, grammar: ModuleType, topic: Topic) -> dict[str, str]:
    words = grammar.TRAITS if topic.kind == "agent" else grammar.LOOKS
    return _named(language, topic, rng.choice(words), "o")


def _named(language: str, topic: Topic, word: str, field: str) -> dict[str, str]:
    if language == "zh":
        return {field: topic.zh, field.upper(): topic.zh, f"a{field}": f"一{topic.measure}{word}{topic.zh}"}
    article = "an" if word[0] in "aeiou" else "a"
    definite = f"the {topic.en}"
    return {field: definite, field.upper(): sentence(definite), f"a{field}": f"{article} {word} {topic.en}"}


def _join(language: str, lines: list[str]) -> str:
    return (" " if language == "en" else "").join(sentence(line) for line in lines)
