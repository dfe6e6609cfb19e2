"""The examples, run as their readers run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from served_command import ServedCommand

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FRANCE = "The capital of France is Paris."


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(scope="module")
def run(folder):
    """Run an example in the folder; its standard output."""

    def start(name: str, *arguments: str, stdin: str = "") -> str:
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            [sys.executable, EXAMPLES / name, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return start


@pytest.fixture(scope="module")
def quickstart(run) -> str:
    return run("quickstart.py")


def test_quickstart(quickstart):
    lines = quickstart.splitlines()
    assert "passed" in lines[0]
    assert lines[2:] == ["What is the capital of France?", FRANCE, "", "法国的首都是哪里？", "法国的首都是巴黎。"]


def test_chat(run, quickstart):
    assert run("chat.py", "quickstart-model", stdin="What is the capital of France?\n") == f"{FRANCE}\n"


def test_batch(run, quickstart):
    lines = run("batch.py", "quickstart-model").splitlines()
    assert lines[:2] == ["What is the capital of France?", f"  {FRANCE}"]
    assert lines[4:6] == ["法国的首都是哪里？", "  法国的首都是巴黎。"]
    assert len(lines) == 8


def test_serve_client(run, quickstart, folder):
    with ServedCommand(folder / "quickstart-model", "--threads", 1) as command:
        answer, usage = run("serve_client.py", command.url).splitlines()
    assert answer == FRANCE
    assert usage.endswith("tokens after 17")


def test_changed_model(run):
    report, tokens = run("changed_model.py").splitlines()
    assert "passed" in report and "greedy 64/64 equal" in report
    assert tokens.startswith("token ids: [") and tokens.count(",") == 7


def test_the_notebook_up_to_the_bundle(tmp_path):
    """Its cells as IPython runs them; the one that downloads wheels is `test_bundle.py`'s."""
    cells = json.loads((EXAMPLES / "raspberry_pi.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert [cell for cell in code if "minimind-export bundle" in cell] == code[-1:]
    program = "\n".join(
        f"import subprocess\nsubprocess.run({c[1:]!r}, shell=True, check=True)" if c[0] == "!" else c for c in code[:-1]
    )
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert FRANCE in done.stdout and "passed" in done.stdout and "64" in done.stdout
