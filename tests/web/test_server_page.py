"""The chat page of `minimind-serve`: the same interface, with answers of the server."""

from __future__ import annotations

import pytest
from served_command import ServedCommand, wait_until

from minimind_edge.runtime import Engine
from minimind_edge.runtime.sampling import SamplingParams

GREEDY = SamplingParams(greedy=True)
QUESTIONS = ["What is the capital of France?", "法国的首都是哪里？", "Tell me a story about a fox."]
STORY = "Tell me a story about a fox."
ERROR = "#loading-error:not([hidden])"
LATEST = ".answer:last-child"
MARKUP = "<img src=x onerror=\"document.title='stolen'\"><script>document.title='stolen'</script>"


@pytest.fixture(scope="module")
def artifact(export_demo):
    return export_demo(target="ort", max_length=512)


@pytest.fixture(scope="module")
def served(artifact):
    with ServedCommand(artifact, "--threads", 1) as command:
        yield command


@pytest.fixture
def visitor(visit, served):
    visitor = visit(f"{served.url}/")
    visitor.open()
    return visitor


def answer_of(visitor) -> str:
    return visitor.page.inner_text(f"{LATEST} .answer-text")


def test_answers_equal_the_engines(visitor, artifact):
    engine = Engine.load(artifact, threads=1)
    visitor.greedy(40)
    for question in QUESTIONS:
        visitor.ask(question)
        assert answer_of(visitor) == engine.generate(question, params=GREEDY, max_new_tokens=40).text.strip()
        visitor.page.click("#new-chat")


def test_it_tells_where_the_model_runs_and_what_it_is(visitor):
    assert "runs on the server" in visitor.page.inner_text("#welcome-text")
    card = visitor.page.inner_text("#card")
    assert "minimind2" in card
    assert "512 tokens" in card
    assert visitor.page.is_hidden("#computing")
    assert visitor.page.evaluate("crossOriginIsolated") is False
    assert not [path for path in visitor.requests if "vendor" in path or "service-worker" in path]


def test_a_conversation_goes_on_past_the_context(visitor):
    visitor.greedy(100)
    for _ in range(8):
        visitor.ask(STORY)
        assert answer_of(visitor)
    assert visitor.page.locator(".note").count() >= 1


def test_stop_frees_the_slot(visitor, served):
    for name, value in (("temperature", "5"), ("topK", "0"), ("topP", "1"), ("maxNewTokens", "400")):
        visitor.page.fill(f"[name={name}]", value)
    visitor.begin(STORY)
    visitor.page.wait_for_selector(f"{LATEST} .answer-text:not(:empty)")
    visitor.page.evaluate("document.querySelector('#stop').click()")
    visitor.end()
    wait_until(lambda: served.running() == 0)
    visitor.greedy(8)
    visitor.ask(QUESTIONS[0])


def test_markup_stays_text(visitor):
    visitor.page.fill("[name=system]", MARKUP)
    visitor.greedy(8)
    visitor.ask(MARKUP)
    assert visitor.page.inner_text(".question .text") == MARKUP
    assert "stolen" not in visitor.page.title()


def test_a_refusal_is_shown_and_the_chat_goes_on(visitor):
    visitor.greedy(8)
    visitor.ask("word " * 1000)
    assert "512" in visitor.page.inner_text(f"{LATEST} [role=alert]")
    visitor.ask(QUESTIONS[0])
    assert answer_of(visitor)


def test_a_key_is_asked_for(visit, artifact):
    with ServedCommand(artifact, "--threads", 1, MINIMIND_EDGE_API_KEY="secret") as command:
        visitor = visit(f"{command.url}/")
        visitor.open(wait_for=ERROR)
        assert "API key" in visitor.page.inner_text(ERROR)
        visitor.page.fill("[name=key]", "secret")
        visitor.page.press("[name=key]", "Tab")
        visitor.page.wait_for_selector("#composer:not([hidden])")
        visitor.greedy(8)
        visitor.ask(QUESTIONS[0])
        assert answer_of(visitor)


def test_a_server_that_has_gone_is_told(visit, artifact):
    with ServedCommand(artifact, "--threads", 1) as command:
        visitor = visit(f"{command.url}/")
        visitor.open()
        command.end()
        visitor.begin(QUESTIONS[0])
        visitor.end()
        assert "cannot be reached" in visitor.page.inner_text(f"{LATEST} [role=alert]")


def test_a_conversation_stays_over_a_reload_and_its_last_answer_can_be_asked_for_again(visitor, artifact):
    chat = Engine.load(artifact, threads=1).chat(params=GREEDY, max_new_tokens=24)
    visitor.greedy(24)
    for question in QUESTIONS[:2]:
        visitor.ask(question)
        assert answer_of(visitor) == chat.send(question).run().text.strip()
    visitor.page.reload()
    visitor.page.wait_for_selector("#composer:not([hidden])")
    assert visitor.page.locator(".question").count() == 2
    assert visitor.page.title() == "demo"
    visitor.greedy(24)
    chat.messages[-2:] = []
    visitor.page.click(".regenerate")
    visitor.end()
    assert answer_of(visitor) == chat.send(QUESTIONS[1]).run().text.strip()
    assert visitor.page.locator(".question").count() == 2
