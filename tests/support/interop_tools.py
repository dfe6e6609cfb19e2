"""Other tools, each run in its own environment under `.interop/` (see interop/interop.mk), and what they answer."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPTS = ROOT / "interop"
REQUIRED = "MINIMIND_EDGE_INTEROP"
"""Names the folder of environments in the environment of `make interop`, where a missing one is a failure."""

ENVIRONMENTS = Path(os.environ.get(REQUIRED) or ROOT / ".interop")
NEW_TOKENS = 20
PROMPTS = ("What is the capital of France?", "法国的首都是哪里？")


def environment(tool: str) -> Path:
    """The tool's environment; skips the test where there is none, and fails it under `make interop`."""
    folder = ENVIRONMENTS / tool
    if not (folder / ".installed").is_file():
        stop = pytest.fail if os.environ.get(REQUIRED) else pytest.skip
        stop(f"no environment of {tool} at {folder}: run make interop")
    return folder


def interpreter(tool: str) -> list[str]:
    """The start of a command in the tool's language."""
    folder = environment(tool)
    return ["node"] if tool == "transformers-js" else [str(folder / "bin" / "python")]


def run(tool: str, command: list[str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command inside the tool's environment, without any network."""
    return subprocess.run(
        command,
        cwd=cwd or environment(tool),
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


def answer(tool: str, script: str, *arguments: str | Path) -> dict[str, Any]:
    """What `interop/TOOL/SCRIPT` prints."""
    result = run(tool, [*interpreter(tool), str(SCRIPTS / tool / script), *map(str, arguments)])
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


def completions(tool: str, script: str, folder: Path, *options: str) -> dict[str, Any]:
    """What the tool makes of both prompts."""
    return answer(tool, script, folder, *options, "--new-tokens", str(NEW_TOKENS), *PROMPTS)
