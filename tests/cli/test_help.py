"""What every command answers at once: its help, its version, and that it has nothing heavy to load for them."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import pytest

SCRIPTS = Path(sysconfig.get_path("scripts"))
HEAVY = ("torch", "transformers", "onnx", "onnxruntime", "onnxscript", "numpy", "tokenizers", "jinja2", "starlette")
MODULE = {
    "minimind-export": "export_app",
    "minimind-run": "run_app",
    "minimind-serve": "serve_app",
    "minimind-bench": "bench_app",
}
HELP_SECONDS = 0.45
"""Of processor time; 0.3 is the aim on an idle machine, this one may be busy."""


@pytest.mark.parametrize("name", MODULE)
def test_version(command, name):
    result = command(name, "--version")
    assert (result.returncode, result.stdout) == (0, f"minimind-edge {version('minimind-edge')}\n")


@pytest.mark.parametrize(
    "words",
    [
        ("minimind-export",),
        ("minimind-export", "onnx"),
        ("minimind-export", "engine"),
        ("minimind-export", "verify"),
        ("minimind-export", "eval"),
        ("minimind-export", "inspect"),
        ("minimind-run",),
        ("minimind-serve",),
        ("minimind-bench",),
    ],
    ids=" ".join,
)
def test_help_has_examples_and_comes_at_once(command, cpu_seconds, words):
    result = command(*words, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert words == ("minimind-export",) or f"  {words[0]} " in result.stdout.partition("Examples:")[2]
    assert cpu_seconds(SCRIPTS / words[0], *words[1:], "--help") < HELP_SECONDS


@pytest.mark.parametrize("module", MODULE.values())
def test_nothing_heavy_is_imported_before_a_command_runs(module):
    program = f"import sys, minimind_edge.cli.{module}; print([m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_text_is_generated_without_torch(artifact):
    program = f"""
import os, sys
from minimind_edge.cli.run_app import main
sys.argv = ["minimind-run", "--engine", {str(artifact)!r}, "hello", "-n", "2"]
def end(code):  # the command ends the process without taking the interpreter down
    print(code, [m for m in ("torch", "transformers", "onnx", "rich") if m in sys.modules], file=sys.stderr)
    exit_now(code)
exit_now, os._exit = os._exit, end
main()
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stderr == "0 []\n"


@pytest.mark.parametrize(
    "words",
    [
        ("minimind-export",),
        ("minimind-export", "onyx"),
        ("minimind-export", "onnx", "--precision", "fp8"),
        ("minimind-export", "onnx", "--max-length", "0"),
        ("minimind-export", "eval", "x", "--limit", "0"),
        ("minimind-run", "hello"),
        ("minimind-run", "--engine", "x", "a", "b"),
        ("minimind-run", "--engine", "x", "a", "--greedy", "--temperature", "0.7"),
        ("minimind-run", "--engine", "x", "a", "--greedy", "--top-p", "0.9"),
        ("minimind-bench",),
        ("minimind-bench", "x", "--prompt-tokens", "1;2"),
        ("minimind-bench", "x", "--runs", "0"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_exit_code_2(refused, words):
    refused(2, *words)
