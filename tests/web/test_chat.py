"""The page's answers: the runtime's, token for token."""

from __future__ import annotations

import pytest

from minimind_edge.runtime.sampling import SamplingParams

GREEDY = SamplingParams(greedy=True)
HEARD = """
() => {
  window.heard = [];
  const announcer = document.getElementById("announcer");
  const hear = (changes) => changes.forEach(({ addedNodes }) => addedNodes.forEach((node) => heard.push(node.data)));
  new MutationObserver(hear).observe(announcer, { childList: true });
}
"""
QUESTIONS = [
    "Who are you?",
    "What is the capital of France?",
    "你是谁？",
    "法国的首都是哪里？",
    "Tell me a story about a fox.",
    "讲一个关于狐狸的故事。",
]


def test_answers_equal_the_runtimes(visit, site, engine):
    visitor = visit(site)
    visitor.open()
    visitor.greedy()
    for question in QUESTIONS:
        found = visitor.ask(question)
        expected = engine.generate(question, params=GREEDY, max_new_tokens=48)
        assert found == expected.token_ids, question
        assert visitor.page.inner_text(".answer:last-child .answer-text") == expected.text.strip()
        visitor.page.click("#new-chat")


def test_a_chat_equals_the_runtimes(visit, site, engine):
    visitor = visit(site)
    visitor.open()
    visitor.greedy()
    visitor.page.fill("[name=system]", "Be brief.")
    chat = engine.chat(params=GREEDY, max_new_tokens=48, system="Be brief.")
    for question in QUESTIONS[:4]:
        assert visitor.ask(question) == chat.send(question).run().token_ids, question


def test_a_chat_goes_on_past_the_context(visit, short_site):
    from minimind_edge.runtime import Engine

    dropped = []
    engine = Engine.load(short_site / "model", threads=1)
    chat = engine.chat(params=GREEDY, max_new_tokens=40, on_drop=dropped.append)
    visitor = visit(short_site)
    visitor.open()
    visitor.greedy(40)
    visitor.page.evaluate(HEARD)
    for question in [*QUESTIONS, *QUESTIONS]:
        assert visitor.ask(question) == chat.send(question).run().token_ids, question
    notes = visitor.page.locator(".note").all_inner_texts()
    assert len(notes) == len(dropped) > 1
    assert [str(len(messages)) in note for messages, note in zip(dropped, notes, strict=True)] == [True] * len(notes)
    assert [text for text in visitor.page.evaluate("window.heard") if text in notes] == notes


def test_a_question_longer_than_the_context_is_refused_and_the_chat_goes_on(visit, short_site):
    visitor = visit(short_site)
    visitor.open()
    visitor.greedy(8)
    visitor.ask("word " * 200)
    assert "holds 160" in visitor.page.inner_text(".answer:last-child [role=alert]")
    assert visitor.ask("Who are you?")


@pytest.mark.parametrize("seed", ["3"])
def test_a_seed_gives_the_same_answer_again(visit, site, seed):
    visitor = visit(site)
    visitor.open()
    visitor.page.fill("[name=seed]", seed)
    visitor.page.fill("[name=temperature]", "1.2")
    visitor.page.fill("[name=maxNewTokens]", "32")
    answers = []
    for _ in range(2):
        answers.append(visitor.ask("Tell me a story about a fox."))
        visitor.page.click("#new-chat")
    visitor.page.fill("[name=seed]", "4")
    answers.append(visitor.ask("Tell me a story about a fox."))
    assert answers[0] == answers[1] != answers[2]


def begin_a_long_answer(visitor):
    """At this temperature nearly every token is as likely as any other: an answer seldom ends before it is stopped."""
    visitor.page.fill("[name=topK]", "0")
    visitor.page.fill("[name=topP]", "1")
    visitor.page.fill("[name=temperature]", "5")
    visitor.page.fill("[name=maxNewTokens]", "4000")
    visitor.begin("Tell me a story about a fox.")


def at_its_first_word(visitor, action: str):
    """Run an action in the page at the moment when the answer's first word is there, and return what it gives.

    A click from outside would wait until the page holds still, and could come after the answer's end.
    """
    shown = "document.querySelector('.answer:last-child .answer-text:not(:empty)')"
    return visitor.page.wait_for_function(f"() => {shown} && ({action})").json_value()


def test_stop_ends_an_answer_that_stays_in_the_conversation(visit, site):
    visitor = visit(site)
    visitor.open()
    begin_a_long_answer(visitor)
    at_its_first_word(visitor, "document.querySelector('#stop').click(), true")
    tokens = visitor.end()
    assert 0 < len(tokens) < 4000
    assert "stopped" in visitor.page.inner_text(".answer:last-child .facts")
    assert visitor.page.is_hidden("#stop")
    visitor.greedy(16)
    assert visitor.ask("Who are you?")


def test_the_worker_leaves_the_page_responsive(visit, site):
    visitor = visit(site)
    visitor.open()
    begin_a_long_answer(visitor)
    click_language = "document.querySelector('#language').click()"
    assert at_its_first_word(visitor, f"{click_language}, document.querySelector('#stop').innerText") == "停止"
    visitor.page.evaluate("document.querySelector('#stop').click()")
    visitor.end()
