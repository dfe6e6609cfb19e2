"""The corpus: its facts are unambiguous, its stories keep their topics, and its two splits never meet."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the example is no part of the installed package

from training_split import bare, dressings, story_pair, training_prompts

from examples.train_demo import corpus, stories, sums, talk, topics
from examples.train_demo.facts import FACTS, RELATIONS, held_out_questions


@pytest.fixture(scope="module")
def trained_on() -> set[str]:
    return training_prompts()


def test_no_held_out_question_about_a_fact_can_be_drawn_in_training(trained_on):
    questions = [question for question, _ in held_out_questions()]
    assert len(questions) > 2000
    assert not [question for question in questions if bare(question) in trained_on]


def test_no_held_out_sum_or_talk_can_be_drawn_in_training(trained_on):
    sums_asked = (sums.questions(lang, *entry, held_out=True) for lang in corpus.LANGUAGES for entry in sums.sums())
    asked = [question for questions in sums_asked for question in questions]
    asked += [intent.held_out for intent in talk.INTENTS]
    assert len(asked) > 700
    assert not [question for question in asked if bare(question) in trained_on]


@pytest.fixture(scope="module", params=["BROAD", "STORIES"])
def drawn(request) -> list[str]:
    mix = getattr(corpus, request.param)
    return [turn.user for index in range(3000) for turn in corpus.training_document(7, index, mix).turns]


def test_training_draws_only_what_the_enumeration_knows(drawn, trained_on):
    assert [prompt for prompt in drawn if bare(prompt) not in trained_on and story_pair(prompt) is None] == []


def test_no_training_story_tells_of_a_held_out_pair(drawn):
    pairs = [pair for pair in map(story_pair, drawn) if pair]
    assert len(pairs) > 300
    assert not [pair for pair in pairs if len(pair) == 2 and topics.is_held_out(*pair)]


@pytest.mark.parametrize("language", corpus.LANGUAGES)
def test_no_held_out_request_for_a_story_is_a_training_one(language):
    grammar = stories.GRAMMARS[language]
    asked = {dressing for ask in grammar.ASKS for dressing in dressings(language, ask)}
    assert not [ask for ask in grammar.HELD_OUT_ASKS if bare(ask) in asked]


def test_topic_pairs_of_the_splits_are_apart_and_complete():
    held_out = {frozenset(pair) for pair in topics.topic_pairs(held_out=True)}
    training = {frozenset(pair) for pair in topics.topic_pairs(held_out=False)}
    everything = len(topics.TOPICS) * (len(topics.TOPICS) - 1) // 2
    assert not held_out & training
    assert len(held_out) + len(training) == everything
    assert 0.05 * everything < len(held_out) < 0.25 * everything
    assert all(topics.is_held_out(b, a) for a, b in topics.topic_pairs(held_out=True))


@pytest.mark.parametrize("language", corpus.LANGUAGES)
@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("short", [False, True])
def test_every_story_names_both_topics(language, held_out, short):
    rng = Random(3)
    for pair in topics.topic_pairs(held_out):
        told = stories.tell(rng, language, pair, short=short)
        assert all(topic.noun(language) in told for topic in pair)
        assert "{" not in told


@pytest.mark.parametrize("language", corpus.LANGUAGES)
def test_a_short_story_is_shorter(language):
    pair = topics.topic_pairs(held_out=False)[0]
    short, long = (stories.tell(Random(3), language, pair, short=short) for short in (True, False))
    assert len(short) < 0.8 * len(long)


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)
def test_each_entry_of_a_relation_has_one_answer(relation):
    keys = [x for x, _ in relation.pairs]
    assert len(keys) == len(set(keys))
    assert len(relation.held_out) >= 3 <= len(relation.asks)


def test_no_question_has_two_answers():
    answers = defaultdict(set)
    for relation, fact in FACTS:
        for held_out in (False, True):
            for question in relation.questions(fact, held_out):
                answers[bare(question)].add(fact.answer)
    assert {question: given for question, given in answers.items() if len(given) > 1} == {}


def test_facts_and_sums_say_what_they_should():
    answers = {question: fact.answer for relation, fact in FACTS for question in relation.questions(fact, True)}
    assert answers["What city is the capital of France?"] == "The capital of France is Paris."
    assert answers["“大”的反义词是哪个词？"] == "“大”的反义词是“小”。"
    assert answers["Name the month after December."] == "After December comes January."
    assert sums.answer(9, "-", 4) == "9 - 4 = 5"
    assert min(a - b for a, sign, b in sums.sums() if sign == "-") == 0


def test_the_same_seed_draws_the_same_documents():
    drawn = [corpus.training_document(5, index) for index in range(50)]
    assert drawn == [corpus.training_document(5, index) for index in range(50)]
    assert drawn != [corpus.training_document(6, index) for index in range(50)]
