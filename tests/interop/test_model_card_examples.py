"""The examples in an artifact's README.md run as they stand, and docs/interop.md shows the same ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from interop_tools import ROOT, environment, interpreter, run

SECTIONS = {"onnxruntime-genai": "genai", "optimum": "optimum", "transformers.js": "transformers-js"}
KINDS = ("minimind2", "minimind2-moe")


def examples(card: str) -> dict[str, str]:
    """The code of each tool's section."""
    found = re.findall(r"^## (\S+)\n(?:(?!^## ).)*?^```(?:python|js)\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)
    return {SECTIONS[title]: code for title, code in found if title in SECTIONS}


@pytest.mark.parametrize("tool", SECTIONS.values())
@pytest.mark.parametrize("kind", KINDS)
def test_an_example_runs_as_it_stands(artifact: Any, kind: str, tool: str, tmp_path: Path) -> None:
    packages = environment(tool) / "node_modules"
    (tmp_path / "my-model").symlink_to(artifact(kind))
    (tmp_path / "node_modules").symlink_to(packages)
    example = tmp_path / ("example.mjs" if tool == "transformers-js" else "example.py")
    example.write_text(examples((artifact(kind) / "README.md").read_text(encoding="utf-8"))[tool], encoding="utf-8")
    result = run(tool, [*interpreter(tool), str(example)], cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip()


def test_the_guide_shows_the_same_examples(artifact: Any) -> None:
    guide = (ROOT / "docs" / "interop.md").read_text(encoding="utf-8")
    shown = examples((artifact(KINDS[0]) / "README.md").read_text(encoding="utf-8"))
    assert set(shown) == set(SECTIONS.values())
    for code in shown.values():
        assert code in guide
