"""The questions and documents of `minimind-export eval`: what the generator writes, and nothing that training draws."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the example is no part of the installed package

from training_split import bare, story_pair, training_prompts

from examples.train_demo import corpus, topics
from examples.train_demo.held_out import held_out
from minimind_edge.export.evaluation import HeldOut, Question, bundled_held_out
from minimind_edge.export.evaluation.held_out import FILE
from minimind_edge.runtime.errors import ArtifactError

KINDS = ("facts", "sums", "topic_copy")


@pytest.fixture(scope="module")
def shipped():
    return bundled_held_out()


@pytest.fixture(scope="module")
def trained_on():
    return training_prompts()


def can_be_drawn(prompt, trained_on):
    """Whether training asks so: a fact, a sum, small talk, or a phrasing of a story, of counting or of repeating."""
    return bare(prompt) in trained_on or story_pair(prompt) is not None


def test_the_file_is_what_the_generator_writes(shipped):
    assert FILE.read_text(encoding="utf-8") == held_out().text(), (
        "run `python -m examples.train_demo held-out export/demo/held_out.json`"
    )
    assert shipped == held_out()
    assert FILE.stat().st_size < 400_000


def test_it_holds_every_fact_and_both_languages(shipped):
    counts = Counter((question.kind, question.language) for question in shipped.questions)
    assert set(counts) == {(kind, language) for kind in KINDS for language in corpus.LANGUAGES}
    assert counts["facts", "en"] + counts["facts", "zh"] > 2000
    assert min(counts.values()) >= 100
    assert len(shipped.documents) == 512
    assert len({question.prompt for question in shipped.questions}) > 0.99 * len(shipped.questions)


def test_no_question_can_be_drawn_in_training(shipped, trained_on):
    assert not [question.prompt for question in shipped.questions if can_be_drawn(question.prompt, trained_on)]


def test_no_document_can_be_drawn_in_training(shipped, trained_on):
    assert not [document.prompt for document in shipped.documents if can_be_drawn(document.prompt, trained_on)]


def test_every_story_that_is_asked_for_is_about_a_pair_that_training_keeps_apart(shipped):
    nouns = {noun: topic for topic in topics.TOPICS for noun in (topic.en, topic.zh)}
    pairs = [question.names for question in shipped.questions if question.kind == "topic_copy"]
    assert all(topics.is_held_out(*(nouns[name] for name in pair)) for pair in pairs)


def test_what_training_draws_would_be_found_out(trained_on):
    """The check above can fail: every prompt of the training split is recognised as one."""
    drawn = [turn.user for index in range(500) for turn in corpus.training_document(11, index).turns]
    assert len(drawn) > 500
    assert all(can_be_drawn(prompt, trained_on) for prompt in drawn)


def test_a_longer_word_is_no_name(shipped):
    cats = [question for question in shipped.questions if "猫" in question.names]
    assert cats
    assert not [question for question in cats if question.is_right("猫头鹰" + "".join(question.names[1:]))]


def test_limited_takes_some_of_each_kind_and_language(shipped):
    part = shipped.limited(5)
    assert {*Counter((question.kind, question.language) for question in part.questions).values()} == {5}
    assert len(part.questions) == 30
    assert len(part.documents) == 5
    assert {*part.questions} <= {*shipped.questions}
    facts = [question.prompt for question in part.questions if question.kind == "facts"]
    assert len({prompt[:12] for prompt in facts}) > 5, "all from one relation"
    assert shipped.limited(10_000) == shipped


def test_reading_gives_what_was_written(tmp_path):
    split = HeldOut(
        (
            Question("facts", "en", "A?", exact="Yes."),
            Question("facts", "en", "B?", exact="Yes."),
            Question("sums", "zh", "1+1?", exact="1 + 1 = 2"),
            Question("topic_copy", "zh", "猫？", names=("猫", "灯"), lookalikes=("灯塔",)),
        ),
        (),
    )
    path = tmp_path / "held_out.json"
    path.write_text(split.text(), encoding="utf-8")
    assert HeldOut.read(path) == split
    assert len(json.loads(split.text())["facts"]) == 1


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"language": [], "request": "Tell", "names": ["fox"]}, r"stories\[0\]\.language is a list: expected a string"),
        ({"language": "en", "request": "Tell", "names": [["fox"]]}, r"stories\[0\]\.names\[0\] is a list"),
        ({"language": "en", "request": "Tell"}, r"stories\[0\]\.names is missing"),
    ],
)
def test_values_of_another_type_are_refused_by_their_path(tmp_path, entry, message):
    path = tmp_path / "held_out.json"
    path.write_text(json.dumps({"format": 1, "facts": [], "sums": [], "stories": [entry], "documents": []}))
    with pytest.raises(ArtifactError, match=message):
        HeldOut.read(path)


@pytest.mark.parametrize("content", ['{"format": 2}', '{"format": 1, "facts": []}', "[]", ""])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "held_out.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"held_out\.json"):
        HeldOut.read(path)
