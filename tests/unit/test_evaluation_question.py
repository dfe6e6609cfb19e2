"""The judge of answers, and how verdicts are added up."""

from __future__ import annotations

import pytest

from minimind_edge.export.evaluation import Question, Score, scores

SNOW = Question("facts", "en", "What colour is snow?", exact="Snow is white.")


def named(*names, lookalikes=(), language="en"):
    return Question("topic_copy", language, "?", names=names, lookalikes=lookalikes)


def test_an_exact_answer_is_that_text_and_no_other():
    assert SNOW.is_right("Snow is white.")
    assert not SNOW.is_right("Snow is white")
    assert not SNOW.is_right("Snow is white. Snow is white.")


def test_a_story_has_to_name_every_topic():
    assert named("fox", "lamp").is_right("The fox's lamp was red.")
    assert named("fox", "lamp").is_right("Fox and lamp.")
    assert not named("fox", "lamp").is_right("The fox had a key.")


@pytest.mark.parametrize(
    ("name", "answer"), [("king", "He was looking for it."), ("hat", "He said that."), ("key", "A monkey.")]
)
def test_an_english_name_is_a_word_of_its_own(name, answer):
    assert not named(name).is_right(answer)
    assert named(name).is_right(f"{answer} The {name}, too.")


def test_a_chinese_name_is_not_taken_out_of_a_longer_word():
    cat = named("猫", lookalikes=("猫头鹰",), language="zh")
    assert not cat.is_right("从前有一只猫头鹰。")
    assert cat.is_right("从前有一只猫头鹰和一只猫。")
    both = named("猫", "猫头鹰", lookalikes=("猫头鹰",), language="zh")
    assert both.is_right("猫遇见了猫头鹰。")
    assert not both.is_right("从前有一只猫。")


def test_verdicts_are_added_up_by_kind_and_language():
    snow = Question("facts", "zh", "?", exact="雪是白的。")
    found = scores([(SNOW, True), (SNOW, True), (SNOW, False), (snow, False), (named("fox"), True)])
    assert found["facts"] == {"en": Score(2, 3), "zh": Score(0, 1)}
    assert found["topic_copy"] == {"en": Score(1, 1)}
    assert found["sums"] == {}
    assert found["facts"]["en"].share == pytest.approx(2 / 3)
