"""Markdown in answers: what CommonMark's own parser makes of it, and nothing that would be markup of the page."""

from __future__ import annotations

import re

import pytest

PARAGRAPHS = [
    "plain\nof two lines\n\nand another",
    "*em* **strong** ***both*** _em_ __strong__",
    "**bold *and em* in it** and *em **and bold** in it*",
    "snake_case_name, 2 * 3 * 4, a*b*c, un**frigging**believable",
    "an open ** mark, an open * one, and a `tick",
    "`code` ``with ` in it`` `*not em*` ` padded `",
    "*a `*` b*",
    r"\*not em\* \`not code\` \[not a link\](https://example.org) \\ \a",
    '[a page](https://example.org/a?b=c&d=e) [**bold**](http://example.org) [two](<https://example.org/x> "title")',
    "[brackets [in] it](https://example.org/a_(b))",
    "<https://example.org/a>",
    'AT&T &amp 5 < 6 > 4 "quoted"',
    "你好，**世界**。`代码` 和 *强调* 结束",
]
BLOCKS = [
    "# one\n## two ##\n### *three*\n#not a heading\n####### nor this",
    "text\n# heading\ntext",
    "- a\n- b\n  continued\n- c",
    "* a\n\n* b\n\n* c",
    "1. a\n2. b\n   - c\n   - d\n3. e",
    "3) a\n4) b",
    "- a\n  1. b\n     - c\n- d",
    "- a\n+ b\n* c",
    "- a\n\n  second paragraph\n- b",
    "text\n- list after text\n- more",
    "text\n2. no list after text",
    "- lazy\nline",
    "- a\n\nafter",
    "> quoted\n> *text*\n\nafter\n\n> - a\n> - b",
    "> lazy\nline",
    '```python\ndef f():\n    return "<b>"\n\n\nend\n```\nafter',
    "```\nnever closed\n# no heading",
    "~~~\n```\n~~~",
    "- a\n  ```\n  code\n\n  code\n  ```\n- b",
    "````\n```\n````",
    "---\n***\n_ _ _",
    "a\n\n***\n\nb",
    "-\n- b",
]

RENDER = """
const { MarkdownView } = await load("../app/markdown");
return argument.map((text) => {
  const element = document.createElement("div");
  new MarkdownView(element).show(text);
  return element.innerHTML;
});
"""


def normal(markup: str) -> str:
    """Markup without what does not matter here: white space between blocks, and attributes of links and code."""
    markup = re.sub(r' (class|target|rel|title)="[^"]*"', "", markup).replace("<br>", "").replace("&quot;", '"')
    blocks = r"</?(?:p|ul|ol|li|pre|blockquote|hr|h\d)(?: [^>]*)?/?>"
    markup = re.sub(rf"\s*({blocks})\s*", r"\1", markup)
    return re.sub(r"<hr ?/?>", "<hr>", markup).strip()


def lower_headings(markup: str) -> str:
    """Headings as the page has them, whose own are the first two levels."""
    return re.sub(r"(</?h)(\d)", lambda found: f"{found[1]}{min(int(found[2]) + 2, 6)}", markup)


def test_it_is_what_commonmarks_parser_makes_of_it(module_page):
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark", {"html": False})
    texts = PARAGRAPHS + BLOCKS
    for text, markup in zip(texts, module_page(RENDER, texts), strict=True):
        assert normal(markup) == lower_headings(normal(parser.render(f"{text}\n"))), text


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "**<b onclick=alert(1)>bold</b>**",
    "[click](javascript:alert(1))",
    "[click](JaVaScRiPt:alert(1))",
    "[click](&#106;avascript:alert(1))",
    "[click](data:text/html,<script>alert(1)</script>)",
    "[click](vbscript:x) [click](file:///etc/passwd) [click](//example.org) [click](index.html)",
    '[click](https://example.org/" onmouseover="alert(1))',
    "![picture](https://example.org/track.png)",
    "![picture](javascript:alert(1))",
    "<javascript:alert(1)>",
    '<https://example.org/"onmouseover=alert(1)>',  # a link, whose address is all of it
    "# <svg onload=alert(1)>",
    "```\n</code></pre><script>alert(1)</script>\n```",
    "`</code><script>alert(1)</script>`",
    "- <iframe src=javascript:alert(1)>",
    "> <style>*{display:none}</style>",
]
ALLOWED = {"A", "BLOCKQUOTE", "CODE", "EM", "H3", "H4", "H5", "H6", "HR", "LI", "OL", "P", "PRE", "STRONG", "UL"}

INSPECT = """
const { MarkdownView } = await load("../app/markdown");
return argument.map((text) => {
  const element = document.createElement("div");
  new MarkdownView(element).show(text);
  const all = [...element.querySelectorAll("*")];
  return {
    names: all.map(({ tagName }) => tagName),
    attributes: all.flatMap(({ attributes }) => [...attributes].map(({ name }) => name)),
    addresses: all.filter(({ tagName }) => tagName === "A").map((link) => [link.href, link.rel, link.target]),
    text: element.textContent,
  };
});
"""


def test_hostile_text_stays_text(module_page):
    for text, found in zip(HOSTILE, module_page(INSPECT, HOSTILE), strict=True):
        assert set(found["names"]) <= ALLOWED, text
        assert set(found["attributes"]) <= {"href", "rel", "target"}, text
        for address, rel, target in found["addresses"]:
            assert address.startswith(("https://example.org/", "http://example.org/")), text
            assert {"noopener", "noreferrer"} <= set(rel.split()), text
            assert target == "_blank"
        assert "alert(1)" not in text or "alert(1)" in found["text"], "nothing of it is lost either"


def test_only_the_web_is_linked(module_page):
    linked = [bool(found["addresses"]) for found in module_page(INSPECT, HOSTILE)]
    assert [text for text, is_linked in zip(HOSTILE, linked, strict=True) if is_linked] == [
        text for text in HOSTILE if text.startswith("<https://")
    ]


GROW = """
const { MarkdownView } = await load("../app/markdown");
const grown = document.createElement("div");
const view = new MarkdownView(grown);
let first = null;
let kept = true;
for (let length = 1; length <= argument.length; length += 1) {
  view.show(argument.slice(0, length));
  if (length === argument.indexOf("\\n\\n") + 3) first = grown.firstElementChild;
  else if (first !== null) kept &&= grown.firstElementChild === first;
}
const whole = document.createElement("div");
new MarkdownView(whole).show(argument);
return { same: grown.innerHTML === whole.innerHTML, kept };
"""


def test_text_that_grows_ends_as_the_same_elements_and_keeps_those_that_are_complete(module_page):
    for text in ("\n\n".join(BLOCKS[:8]), "\n\n".join(PARAGRAPHS), "first\n\n```\na\n\nb\n```\n- c\n\n  d\n"):
        assert module_page(GROW, text) == {"same": True, "kept": True}, text


ENDLESS = [
    "*" * 50_000,
    "**a " * 10_000,
    "[" * 50_000,
    "[a](" * 10_000,
    "`" * 30_001 + "a",
    "> " * 5_000 + "a",
    "".join(f"{'  ' * depth}- a\n" for depth in range(500)),
    "<https://" * 10_000,
    "- a\n" * 10_000,
    "_a *b " * 8_000,
]


def test_text_without_end_takes_no_time_without_end(module_page):
    """The page answers at all: a quadratic search through these would take minutes."""
    found = module_page(INSPECT, ENDLESS)
    assert [set(each["names"]) <= ALLOWED for each in found] == [True] * len(ENDLESS)
