"""What a visitor can do with a conversation: copy, ask again, come back to it, and begin another one."""

from __future__ import annotations

import json

import pytest

from minimind_edge.runtime.sampling import SamplingParams

GREEDY = SamplingParams(greedy=True)
FIRST, SECOND = "What is the capital of France?", "你是谁？"
KEPT = "Object.keys(sessionStorage).filter((key) => key.startsWith('minimind-edge-conversation-'))"


def answers(visitor):
    """The tokens of each answer that is shown."""
    ids = visitor.page.locator(".answer").evaluate_all("(all) => all.map(({ dataset }) => dataset.tokenIds ?? null)")
    return [None if each is None else [int(token) for token in each.split(",")] for each in ids]


def reload(visitor):
    visitor.page.reload()
    visitor.page.wait_for_selector("#composer:not([hidden])")


def test_an_answer_is_copied_as_the_model_wrote_it(visit, site):
    visitor = visit(site, permissions=["clipboard-read", "clipboard-write"])
    visitor.open()
    visitor.greedy(40)
    visitor.ask("Tell me a story about a fox.")
    visitor.page.click(".answer:last-child .copy")
    visitor.page.wait_for_selector(".copy:has-text('Copied')")
    copied = visitor.page.evaluate("navigator.clipboard.readText()")
    assert copied
    assert copied == visitor.page.inner_text(".answer-text")


def test_a_browser_that_does_not_let_it_copy_says_so(visit, site):
    visitor = visit(site)
    visitor.open()
    visitor.greedy(4)
    visitor.ask(FIRST)
    visitor.page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    visitor.page.click(".copy")
    visitor.page.wait_for_selector(".copy:has-text('does not let')")


def test_asking_again_replaces_the_answer_and_its_turn(visit, site, engine):
    visitor = visit(site)
    visitor.open()
    visitor.page.fill("[name=maxNewTokens]", "16")
    visitor.page.fill("[name=temperature]", "5")
    visitor.page.fill("[name=seed]", "1")
    first = visitor.ask(FIRST)
    visitor.page.fill("[name=seed]", "2")
    visitor.page.click(".regenerate")
    second = visitor.end()
    assert first != second, "another seed, another answer"
    assert answers(visitor) == [second]
    visitor.greedy(16)
    visitor.page.click(".regenerate")
    chat = engine.chat(params=GREEDY, max_new_tokens=16)
    assert visitor.end() == chat.send(FIRST).run().token_ids
    assert visitor.ask(SECOND) == chat.send(SECOND).run().token_ids, "the history has the last of the answers alone"
    assert visitor.page.locator(".question").count() == 2
    assert visitor.page.locator(".regenerate").count() == 1, "only the last answer can be asked for again"
    visitor.page.click(".regenerate")
    chat.messages[-2:] = []
    assert visitor.end() == chat.send(SECOND).run().token_ids


def test_an_answer_that_was_stopped_before_its_first_word_is_asked_for_again(visit, site, engine):
    visitor = visit(site)
    visitor.open()
    visitor.greedy(16)
    chat = engine.chat(params=GREEDY, max_new_tokens=16)
    assert visitor.ask(FIRST) == chat.send(FIRST).run().token_ids
    visitor.page.evaluate(
        """() => {
          document.getElementById("question").value = "Tell me a story about a fox.";
          document.getElementById("composer").requestSubmit();
          document.getElementById("stop").click();
        }"""
    )
    visitor.end()
    visitor.page.click(".regenerate")
    assert visitor.end() == chat.send("Tell me a story about a fox.").run().token_ids
    assert len(answers(visitor)) == 2


def test_the_conversation_is_there_after_a_reload_and_goes_on(visit, site, engine):
    visitor = visit(site)
    visitor.open()
    visitor.greedy(24)
    chat = engine.chat(params=GREEDY, max_new_tokens=24)
    assert visitor.ask(FIRST) == chat.send(FIRST).run().token_ids
    shown = visitor.page.locator("#conversation").inner_text()
    reload(visitor)
    assert visitor.page.is_hidden("#welcome")
    assert visitor.page.locator("#conversation").inner_text() == shown
    visitor.greedy(24)
    assert visitor.ask(SECOND) == chat.send(SECOND).run().token_ids, "the model knows it too"
    reload(visitor)
    visitor.greedy(24)
    visitor.page.click(".answer:last-child .regenerate")
    chat.messages[-2:] = []
    assert visitor.end() == chat.send(SECOND).run().token_ids
    assert visitor.page.locator(".question").count() == 2
    reload(visitor)
    assert len(answers(visitor)) == 2


def test_new_chat_forgets_it_for_good(visit, site, engine):
    visitor = visit(site)
    visitor.open()
    visitor.greedy(16)
    visitor.ask(FIRST)
    assert len(visitor.page.evaluate(KEPT)) == 1
    reload(visitor)
    visitor.page.click("#new-chat")
    assert visitor.page.evaluate(KEPT) == []
    reload(visitor)
    assert visitor.page.is_visible("#welcome")
    visitor.greedy(16)
    assert visitor.ask(SECOND) == engine.generate(SECOND, params=GREEDY, max_new_tokens=16).token_ids


def test_another_model_and_another_tab_have_their_own(visit, site, short_site):
    visitor = visit(site)
    visitor.open()
    visitor.greedy(4)
    visitor.ask(FIRST)
    (key,) = visitor.page.evaluate(KEPT)
    manifest = json.loads((site / "model/manifest.json").read_text())
    assert key.endswith(manifest["graphs"][0]["sha256"])
    other = visit(site)
    other.open()
    assert other.page.is_visible("#welcome")


@pytest.mark.parametrize(
    "kept",
    [
        "not JSON",
        "null",
        "[]",
        '{"format": 2, "turns": [], "messages": []}',
        '{"format": 1, "turns": [{}], "messages": []}',
        '{"format": 1, "turns": [], "messages": [{"role": "system", "content": "x"}]}',
        '{"format": 1, "turns": 3, "messages": {}}',
    ],
)
def test_what_else_lies_there_counts_as_nothing(visit, site, kept):
    visitor = visit(site)
    visitor.open()
    visitor.greedy(4)
    visitor.ask(FIRST)
    (key,) = visitor.page.evaluate(KEPT)
    visitor.page.evaluate("([key, kept]) => sessionStorage.setItem(key, kept)", [key, kept])
    reload(visitor)
    assert visitor.page.is_visible("#welcome")
    visitor.greedy(4)
    assert visitor.ask(FIRST)


def test_without_storage_the_page_works_all_the_same(visit, site):
    visitor = visit(site)
    visitor.page.add_init_script("Storage.prototype.setItem = () => { throw new Error('full'); };")
    visitor.open()
    visitor.greedy(4)
    assert visitor.ask(FIRST)
    visitor.page.click("#new-chat")


def test_markdown_is_shown_and_hostile_text_is_text(visit, site):
    """The history in the tab's storage stands for a model that writes such an answer."""
    visitor = visit(site)
    visitor.open()
    visitor.greedy(4)
    visitor.ask(FIRST)
    (key,) = visitor.page.evaluate(KEPT)
    hostile = '# Title\n\n- **one**\n\n<img src=x onerror="window.hurt = 1"> [x](javascript:window.hurt=1)'
    visitor.page.evaluate(
        """([key, answer]) => {
          const kept = JSON.parse(sessionStorage.getItem(key));
          kept.turns[0].answer = answer;
          kept.turns[0].question = kept.turns[0].thinking = answer;
          sessionStorage.setItem(key, JSON.stringify(kept));
        }""",
        [key, hostile],
    )
    reload(visitor)
    answer = visitor.page.locator(".answer-text")
    assert answer.locator("h3").inner_text() == "Title"
    assert answer.locator("li strong").inner_text() == "one"
    assert visitor.page.locator("#conversation :is(img, a, script)").count() == 0
    assert "<img src=x onerror=" in answer.inner_text()
    assert "[x](javascript:window.hurt=1)" in answer.inner_text()
    assert hostile in visitor.page.inner_text(".question")
    assert visitor.page.evaluate("window.hurt") is None
