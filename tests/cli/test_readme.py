"""The READMEs' example in Python, run as it stands on the bundled model."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
TOLD = re.compile(r"  # ([^。.]+[。.])")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, command):
    """A folder with the artifact that `minimind-export onnx` leaves there."""
    folder = tmp_path_factory.mktemp("readme")
    result = command("minimind-export", "onnx", "--no-verify", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_example_prints_what_it_says(folder, page):
    (example,) = EXAMPLE.findall((ROOT / page).read_text(encoding="utf-8"))
    result = subprocess.run([sys.executable, "-c", example], cwd=folder, capture_output=True, text=True, check=True)
    story, *answers = result.stdout.splitlines()
    assert all(word in story for word in ("fox", "kite"))
    assert answers == TOLD.findall(example)
    assert len(answers) == 2
    assert result.stderr == ""
