"""The page for everybody: narrow screens, the keyboard alone, screen readers, two languages."""

from __future__ import annotations

import pytest

NAMELESS = """
() => [...document.querySelectorAll("button, input, select, textarea, progress, aside, ol")]
  .filter((element) => !element.closest("[hidden]"))
  .filter((element) => {
    const label = element.getAttribute("aria-label") || element.labels?.[0]?.textContent
      || document.getElementById(element.getAttribute("aria-labelledby"))?.textContent
      || (element.tagName === "BUTTON" ? element.textContent : "");
    return label.trim() === "";
  })
  .map((element) => element.outerHTML)
"""

CONTRAST = """
() => {
  const channels = (color) => color.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const luminance = (color) => channels(color)
    .map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const background = (element) => {
    const color = getComputedStyle(element).backgroundColor;
    return color === "rgba(0, 0, 0, 0)" ? background(element.parentElement) : color;
  };
  const inPanel = [".hint", "dt", "dd"];
  const inChat = [".question .text", ".answer-text", ".facts"];
  return ["h1", "#send", "#notice", "#language", ...inPanel, ...inChat].map((name) => {
    const element = document.querySelector(name);
    const [one, other] = [getComputedStyle(element).color, background(element)].map(luminance);
    return [name, (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05)];
  });
}
"""


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_nothing_is_wider_than_the_screen(visit, site, width):
    visitor = visit(site, viewport={"width": width, "height": 640})
    visitor.open()
    if width < 960:
        visitor.page.click("#open-panel")
    visitor.greedy(24)
    if width < 960:
        visitor.page.click("#close-panel")
    visitor.ask("a" * 300)
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width
    assert visitor.page.evaluate("document.getElementById('conversation').scrollWidth") <= width


def test_the_keyboard_alone_is_enough(visit, site):
    visitor = visit(site, viewport={"width": 375, "height": 640})
    visitor.open()
    keyboard, focused = visitor.page.keyboard, "document.activeElement.id"
    assert visitor.page.evaluate(focused) == "question"
    while visitor.page.evaluate(focused) != "open-panel":
        keyboard.press("Shift+Tab")
    keyboard.press("Enter")
    assert visitor.page.evaluate(focused) == "close-panel"
    keyboard.press("Tab")
    keyboard.press("Space")
    assert visitor.page.is_checked("[name=greedy]")
    keyboard.press("Escape")
    assert visitor.page.evaluate(focused) == "open-panel"
    while visitor.page.evaluate(focused) != "question":
        keyboard.press("Tab")
    keyboard.type("Who are")
    keyboard.press("Shift+Enter")
    keyboard.type("you?")
    keyboard.press("Enter")
    assert visitor.end()
    assert visitor.page.inner_text(".question .text") == "Who are\nyou?"
    assert visitor.page.evaluate(focused) == "question"


def test_escape_stops(visit, site):
    visitor = visit(site)
    visitor.open()
    visitor.page.fill("[name=temperature]", "5")
    visitor.page.fill("[name=topP]", "1")
    visitor.page.fill("[name=maxNewTokens]", "4000")
    visitor.begin("Tell me a story about a fox.")
    visitor.page.wait_for_selector(".answer-text:not(:empty)")
    visitor.page.keyboard.press("Escape")
    assert len(visitor.end()) < 4000


def test_escape_in_the_panel_closes_it_and_the_answer_goes_on(visit, site):
    visitor = visit(site, viewport={"width": 375, "height": 640})
    visitor.open()
    visitor.page.click("#open-panel")
    visitor.greedy(40)
    visitor.page.click("#close-panel")
    visitor.begin("Tell me a story about a fox.")
    visitor.page.click("#open-panel")
    visitor.page.keyboard.press("Escape")
    assert visitor.page.evaluate("document.activeElement.id") == "open-panel"
    assert len(visitor.end()) == 40


def test_a_screen_that_is_turned_is_not_left_covered(visit, site):
    visitor = visit(site, viewport={"width": 600, "height": 960})
    visitor.open()
    visitor.page.click("#open-panel")
    visitor.page.set_viewport_size({"width": 1000, "height": 600})
    visitor.page.wait_for_selector("main:not([inert])")
    visitor.greedy(4)
    assert visitor.ask("Who are you?")


@pytest.mark.parametrize("key", ["{ isComposing: true }", "{ keyCode: 229 }"])  # Safari tells by the code alone
def test_the_keys_of_an_input_method_are_its_own(visit, site, key):
    visitor = visit(site)
    visitor.open()
    visitor.greedy(40)
    press = f"""(name) => document.activeElement.dispatchEvent(
      new KeyboardEvent("keydown", {{ key: name, bubbles: true, cancelable: true, ...{key} }}))"""
    visitor.page.fill("#question", "讲一个关于狐狸的故事")
    visitor.page.evaluate(press, "Enter")
    assert visitor.page.locator(".answer").count() == 0
    visitor.page.keyboard.press("Enter")
    visitor.page.evaluate(press, "Escape")
    assert len(visitor.end()) == 40


def test_an_example_that_was_chosen_leaves_the_focus_in_the_conversation(visit, site):
    visitor = visit(site)
    visitor.open()
    visitor.greedy(4)
    visitor.page.focus("#examples button")
    visitor.page.keyboard.press("Enter")
    visitor.end()
    assert visitor.page.evaluate("document.activeElement.id") == "conversation"


def test_every_control_has_a_name_and_the_answer_is_announced_once(visit, site):
    visitor = visit(site)
    visitor.open()
    assert visitor.page.evaluate(NAMELESS) == []
    visitor.greedy(8)
    visitor.ask("Who are you?")
    answer = visitor.page.inner_text(".answer-text")
    assert visitor.page.text_content("#announcer") == f"The model answered: {answer}"
    assert visitor.page.locator("#conversation [aria-live]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_dark_enough_to_read(visit, site, scheme):
    visitor = visit(site, color_scheme=scheme)
    visitor.open()
    visitor.greedy(4)
    visitor.ask("Who are you?")
    too_faint = [(name, ratio) for name, ratio in visitor.page.evaluate(CONTRAST) if ratio < 4.5]
    assert too_faint == []  # WCAG 2.2, 1.4.3


def test_nothing_moves_for_who_wants_it_still(visit, site):
    visitor = visit(site, reduced_motion="reduce", viewport={"width": 375, "height": 640})
    visitor.open()
    assert visitor.page.evaluate("getComputedStyle(document.getElementById('panel')).transitionDuration") == "0s"


def test_it_speaks_the_visitors_language_and_the_other(visit, site):
    visitor = visit(site, locale="zh-CN")
    visitor.open()
    page = visitor.page
    assert page.get_attribute("html", "lang") == "zh"
    assert page.inner_text("#send") == "发送"
    page.click("#language")
    assert (page.get_attribute("html", "lang"), page.inner_text("#send")) == ("en", "Send")
    page.reload()
    page.wait_for_selector("#composer:not([hidden])")
    assert page.inner_text("#send") == "Send"


def test_every_text_is_there_in_both_languages(visit, site):
    visitor = visit(site)
    visitor.open()
    texts = visitor.page.evaluate("import(new URL('app/texts.js', location.href)).then(({ TEXTS }) => TEXTS)")

    def places(language):
        flat = {**texts[language], **texts[language]["errors"]}
        return {
            key: sorted(word for word in text.replace("}", "{").split("{")[1::2])
            for key, text in flat.items()
            if isinstance(text, str)
        }

    assert places("en") == places("zh")
    assert len(places("en")) > 50


def test_the_card_tells_what_the_model_is(visit, site):
    visitor = visit(site)
    visitor.open()
    card = visitor.page.inner_text("#card")
    for fact in ("minimind2", "8192 tokens", "fp32", "MB"):
        assert fact in card


def test_a_setting_out_of_its_range_sends_nothing(visit, site):
    visitor = visit(site)
    visitor.open()
    visitor.page.fill("[name=topP]", "1.5")
    visitor.begin("Who are you?")
    assert visitor.page.locator(".answer").count() == 0
    assert visitor.page.evaluate("document.activeElement.name") == "topP"
    assert "out of its range" in visitor.page.get_by_role("status").all_inner_texts()[0]
