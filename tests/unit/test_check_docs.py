"""The check of the pages (scripts/check_docs.py), on pages that are wrong on purpose."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts" / "check_docs.py"
ENGLISH = """# Name
[中文](README.zh.md)
## How good is it?
```console
$ run [no](link.md) "Hi"  # a comment
```
![A picture](docs/a.png) and [a page](docs/a.md#the-size-of-a-plan), [a
long one](docs/a.md#the-size-of-a-plan-1), `[code](none.md)`, [away](https://github.com/none)
"""
CHINESE = """# 名称
[English](README.md)
## 质量如何？
```console
$ run [no](link.md) "你好"  # 一
```
![图](docs/a.png)，[一页](docs/a.md#the-size-of-a-plan)，[二](docs/a.md#the-size-of-a-plan-1)，[外](https://github.com/none)
"""
PAGE = """# A
## The size of a `plan`
## The size of a plan!
[back](../README.md#how-good-is-it)
[zh](../README.zh.md#质量如何)
"""


@pytest.fixture
def check(tmp_path):
    """Check pages, with texts in place of the good ones; the exit code, and the lines on stderr."""

    def run(english=ENGLISH, chinese=CHINESE, page=PAGE):
        (tmp_path / "docs").mkdir()
        for name, text in {"README.md": english, "README.zh.md": chinese, "docs/a.md": page, "docs/a.png": ""}.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        result = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=False)
        return result.returncode, result.stderr.splitlines()

    return run


def test_good_pages_pass(check):
    assert check() == (0, [])


@pytest.mark.parametrize(
    ("pages", "told"),
    [
        ({"english": ENGLISH.replace("docs/a.png", "docs/b.png")}, "README.md:7: there is no docs/b.png"),
        (
            {"page": PAGE.replace("## The size of a plan!", "")},
            "README.md:7: there is no heading #the-size-of-a-plan-1",
        ),
        ({"page": f"{PAGE}[out](../../secret.md)\n"}, "docs/a.md:6: there is no ../../secret.md"),
        ({"page": f"{PAGE}[here](#nowhere)\n"}, "docs/a.md:6: there is no heading #nowhere in docs/a.md"),
        ({"english": f"{ENGLISH}## More\n"}, "README.md has 3 headings, README.zh.md has 2"),
        ({"english": ENGLISH.replace("## How", "### How")}, "differ in their level: 3 and 2"),
        ({"chinese": CHINESE.replace("```", "`")}, "differ in their code blocks: [('console', '$ run [no](link.md)"),
        ({"chinese": CHINESE.replace("$ run", "$ start")}, "differ in their code blocks"),
        ({"page": f"{PAGE}\n    indented\n"}, "docs/a.md:7: code without a fence"),
        ({"page": f"{PAGE}```\nls\n```\n"}, "docs/a.md: the block 'ls' has language '', expected"),
        ({"page": f"{PAGE}See https://example.org/a.\n"}, "docs/a.md: look at https://example.org/a"),
        ({"page": f"{PAGE}[a](http://github.com/a)\n"}, "docs/a.md: http://github.com/a has no https"),
        ({"chinese": CHINESE.replace("[一页](docs/a.md#the-size-of-a-plan)", "")}, "differ in their links"),
        ({"chinese": CHINESE.replace("![图](docs/a.png)", "")}, "differ in their pictures"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(check, pages, told):
    code, lines = check(**pages)
    assert code == 1
    assert any(told in line for line in lines), lines
