"""What every command answers at once: its help, its version, and that it has nothing heavy to load for them."""

from __future__ import annotations

import os
import shutil
import statistics
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


@pytest.mark.parametrize("words", [("minimind-export",), ("minimind-export", "onnx"), ("minimind-run",)], ids=" ".join)
@pytest.mark.parametrize("columns", [40, 60, 80])
def test_help_fits_a_narrow_terminal(command, words, columns):
    """Only what is to be copied, an example or an option's own name, keeps its line whole."""
    result = command(*words, "--help", env={"COLUMNS": str(columns)})
    text = [line for line in result.stdout.splitlines() if not line.lstrip().startswith(("minimind-", "echo ", "-"))]
    assert [line for line in text if len(line) >= columns] == []
    descriptions = [len(line.split()) for line in text if line.startswith(" " * 8) and not line.startswith(" " * 15)]
    assert columns == 80 or statistics.median(descriptions) >= 3, "a column of single words is no text"


def test_the_export_alone_shows_its_help(command):
    alone, asked = command("minimind-export"), command("minimind-export", "--help")
    assert (alone.returncode, alone.stderr) == (0, "")
    assert alone.stdout == asked.stdout
    assert "onnx " in alone.stdout


@pytest.mark.parametrize(
    ("words", "code", "shown"),
    [
        ((), 0, "export|run|bench|serve"),
        (("--help",), 0, "export|run|bench|serve"),
        (("run", "--help"), 0, "Usage: minimind-run "),
        (("minimind-export", "onnx", "--help"), 0, "Usage: minimind-export onnx "),
        (("bench", "--version"), 0, version("minimind-edge")),
        (("runn",), 2, ""),
    ],
)
def test_the_package_itself_is_a_program(words, code, shown):
    program = [sys.executable, "-m", "minimind_edge.cli", *words]
    result = subprocess.run(program, capture_output=True, text=True, check=False)
    assert result.returncode == code
    assert shown in result.stdout
    assert result.stderr.count("\n") == (code != 0)


COMPLETIONS = [
    ("minimind-run", "minimind-run --prec", "--precision"),
    ("minimind-run", "minimind-run --precision ", "fp32 fp16 bf16 int8 int4"),
    ("minimind-export", "minimind-export v", "verify"),
    ("minimind-export", "minimind-export onnx --targ", "--target"),
    ("minimind-bench", "minimind-bench --new", "--new-tokens"),
]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(("name", "line", "found"), COMPLETIONS, ids=[line for _, line, _ in COMPLETIONS])
def test_bash_completes_commands_options_and_their_values(command, name, line, found):
    """Bash itself runs the script that `--show-completion` prints, as it does when Tab is pressed."""
    function = f"_{name.replace('-', '_')}_completion"
    variable = f"_{name.replace('-', '_').upper()}_COMPLETE"
    script = command(name, env={variable: "source_bash"}).stdout
    assert f"complete -o default -F {function} {name}" in script
    words = [*line.split(" ")]
    program = (
        f'{script}\nCOMP_WORDS=("${{@}}"); COMP_CWORD=$((${{#}} - 1)); {function} {name}; echo "${{COMPREPLY[*]}}"'
    )
    path = {"PATH": f"{SCRIPTS}:{os.environ['PATH']}", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    result = subprocess.run(
        ["bash", "-c", program, "bash", *words], capture_output=True, text=True, env=path, check=True
    )
    assert result.stdout.split() == found.split()


@pytest.mark.parametrize("name", MODULE)
def test_every_program_offers_its_completion(command, name):
    told = command(name, "--help").stdout
    assert "--install-completion" in told
    assert "--show-completion" in told


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


@pytest.mark.parametrize("own", [None, "3"])
@pytest.mark.parametrize("name", MODULE)
def test_commands_of_the_runtime_start_no_threads_for_numpys_blas(name, own):
    program = f"""
import os, sys
from minimind_edge.cli import {MODULE[name]} as program
program.run = lambda *_, **__: print(os.environ.get("OPENBLAS_NUM_THREADS"), "numpy" in sys.modules)
program.main()
"""
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_NUM_THREADS"}
    if own is not None:
        environment["OPENBLAS_NUM_THREADS"] = own
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    # An export runs PyTorch, whose BLAS reads the same variable on some processors.
    expected = own or ("None" if name == "minimind-export" else "1")
    assert told.stdout == f"{expected} False\n"


@pytest.mark.parametrize(
    "words",
    [
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
