"""A single test starts quickly: what all tests share imports nothing large that the test itself does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LARGE = ("torch", "transformers", "onnx", "onnxruntime", "openai")
"""Packages whose import takes a third of a second or more."""

COLLECT = f"""
import sys, pytest
code = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", sys.argv[1]])
print(code, *(name for name in {LARGE} if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("test", "needed"),
    [
        ("tests/unit/test_options.py", []),
        ("tests/unit/test_artifact.py", []),
        ("tests/unit/test_mask.py", ["torch"]),
        ("tests/cli/test_help.py", []),
    ],
)
def test_collecting_a_test_imports_only_what_it_needs(test: str, needed: list[str]) -> None:
    command = [sys.executable, "-c", COLLECT, str(ROOT / test)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.splitlines()[-1]
    assert told.split() == ["0", *needed]
