"""The documentation's site: the links of its pages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))  # no part of the package

from site_pages import with_page_links


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("README.md", "[graphs](docs/graphs.md#a)", "[graphs](graphs.md#a)"),
        ("README.md", "[中文](README.zh.md)", "[中文](index.zh.md)"),
        ("README.md", "![plot](docs/images/x.png)", "![plot](images/x.png)"),
        ("README.md", "[train](examples/train_demo/README.md)", "train (`examples/train_demo/README.md`)"),
        ("README.md", "[here](#there), [web](https://a.b/c)", "[here](#there), [web](https://a.b/c)"),
        ("CONTRIBUTING.md", "[CHANGELOG.md](CHANGELOG.md)", "[CHANGELOG.md](changelog.md)"),
        ("CONTRIBUTING.md", "[export/parity](export/parity)", "export/parity"),
        ("docs/benchmarks.md", "[results](../benchmarks/results)", "results (`benchmarks/results`)"),
        ("docs/graphs.md", "[home](../README.md)", "[home](index.md)"),
        ("docs/api/runtime.md", "[runtime](../runtime.md)", "[runtime](../runtime.md)"),
        ("docs/graphs.md", "`[a](b.md)` [a](web.md)", "`[a](b.md)` [a](web.md)"),
        ("README.md", "```\n[a](examples/b.md)\n```", "```\n[a](examples/b.md)\n```"),
    ],
)
def test_links_lead_to_pages(source, text, expected):
    assert with_page_links(text, source) == expected
