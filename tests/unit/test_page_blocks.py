"""The code on the pages, without running it: its syntax, our commands' options, make's targets, the files it names."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_commands import PROGRAMS, fault, options
from pages import ROOT, Block, blocks, inline_code, pages, text_of

HISTORY = "CHANGELOG.md"
"""The page that names what is no longer there."""

OTHER_PROGRAMS_OPTIONS = {"--parallel", "--read-only", "--trust-remote-code"}
"""Of llama-server, docker and optimum-cli."""

MAKEFILES = ("Makefile", "interop/interop.mk")
SCRIPT_OF_VARIABLE = {
    "BENCH": "benchmarks/peers/__main__.py",
    "BENCH_SERVE": "benchmarks/serving/__main__.py",
    "TORTURE": "scripts/torture.py",
    "TORTURE_SERVE": "scripts/serve_torture.py",
}
FOLDERS = "benchmarks|cli|docker|docs|examples|export|interop|minimind|page|runtime|scripts|server|tests|.github"
PATH = re.compile(rf"(?:{FOLDERS})/[\w./*-]+")
MADE = {"out", "dist", "site", "device", "graph", "rtx", "my-model"}
OPERATORS = {"&&", ">", "|", "."}


def shell_lines() -> list[tuple[str, str]]:
    """The page and the text of every shell command of a block."""
    return [(block.page, command.line) for block in blocks("sh", "console") for command in block.commands]


def simple_commands(line: str) -> Iterator[list[str]]:
    """The commands of a line that joins several, each without where its output goes."""
    words: list[str] = []
    for word in [*shlex.split(line), "&&"]:
        if word not in {"&&", ">"}:
            words.append(word)
            continue
        if word == ">":
            break
        if words:
            yield words
        words = []
    if words:
        yield words


def named_code() -> list[tuple[str, str]]:
    """The page and the text of every piece of code outside of blocks, except in the changelog."""
    return [(page, code) for page in pages() if page != HISTORY for code in inline_code(page)]


def make_lines() -> list[tuple[str, list[str]]]:
    """Every call of make on the pages."""
    lines = [(page, words) for page, line in shell_lines() for words in simple_commands(line) if words[0] == "make"]
    lines += [(page, shlex.split(code)) for page, code in named_code() if code.startswith("make ")]
    scripts = [".ci/run", *(f".github/workflows/{name}.yml" for name in ("test", "release"))]
    found = [(name, re.findall(r"^\s*(?:- run: )?(make [\w-]+)", text_of(name), re.MULTILINE)) for name in scripts]
    return lines + [(name, call.split()) for name, calls in found for call in calls]


@pytest.mark.parametrize("block", blocks("sh", "console"), ids=lambda block: f"{block.page}:{block.number}")
def test_the_shell_reads_every_command(block: Block):
    text = "\n".join(command.line for command in block.commands)
    result = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert block.commands


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: f"{block.page}:{block.number}")
def test_python_compiles_every_snippet(block: Block):
    compile(block.text, block.page, "exec")


@pytest.mark.parametrize("block", blocks("json"), ids=lambda block: f"{block.page}:{block.number}")
def test_json_is_an_object_a_line_or_one_value(block: Block):
    try:
        json.loads(block.text)
    except json.JSONDecodeError:
        assert all(isinstance(json.loads(line), dict) for line in block.text.splitlines())


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
@pytest.mark.parametrize("block", blocks("js"), ids=lambda block: f"{block.page}:{block.number}")
def test_javascript_parses_every_snippet(block: Block, tmp_path: Path):
    (tmp_path / "snippet.mjs").write_text(block.text, encoding="utf-8")
    result = subprocess.run(["node", "--check", tmp_path / "snippet.mjs"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_our_own_commands_parse():
    found = [(page, words) for page, line in shell_lines() for words in simple_commands(line) if words[0] in PROGRAMS]
    assert len(found) > 30
    assert [(page, words, wrong) for page, words in found if (wrong := fault(words))] == []


def test_our_own_commands_in_the_text_have_such_options():
    found = [(page, shlex.split(code)) for page, code in named_code() if code.split()[0] in PROGRAMS]
    assert len(found) > 60
    assert [(page, words, wrong) for page, words in found if (wrong := fault(words, is_complete=False))] == []


def test_options_in_the_text_are_options_of_our_commands():
    known = options() | OTHER_PROGRAMS_OPTIONS
    named = [(page, re.split(r"[ =]", code)[0]) for page, code in named_code() if code.startswith("--")]
    assert len(named) > 100
    assert [(page, name) for page, name in named if name not in known] == []
    assert {name for _, name in named} >= OTHER_PROGRAMS_OPTIONS


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("minimind-export onnx a.pth --target portabel", "portabel"),
        ("minimind-export onx a.pth", "no command onx"),
        ("minimind-export onnx a.pth b.pth", "too many"),
        ("minimind-export onnx a.plan", "a.plan"),
        ("minimind-export verify", "artifact is missing"),
        ("minimind-run --engine a.pth Hi", "a.pth"),
        ("minimind-run Hi", "engine is missing"),
        ("minimind-run --engine a --gredy", "--gredy"),
        ("minimind-serve a --port", "argument"),
        ("minimind-bench a --threads two", "two"),
    ],
)
def test_a_command_that_is_wrong_is_found(words: str, wrong: str):
    assert wrong in (fault(words.split()) or "")


def test_make_has_every_target_and_variable():
    makefile = "\n".join(text_of(name) for name in MAKEFILES)
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
    variables = set(re.findall(r"^(\w+) \?= ", makefile, re.MULTILINE)) | set(SCRIPT_OF_VARIABLE)
    lines = make_lines()
    assert len(lines) > 45
    for page, words in lines:
        for word in words[1:]:
            assert word.split("=")[0] in (variables if "=" in word else targets), f"{page}: {' '.join(words)}"


def script_calls() -> Iterator[tuple[str, str, list[str]]]:
    """The page, the script and the arguments of every call of a script of this project."""
    for page, words in make_lines():
        for name, _, value in (word.partition("=") for word in words if "=" in word):
            if name in SCRIPT_OF_VARIABLE:
                yield page, SCRIPT_OF_VARIABLE[name], value.split()
    lines = [*shell_lines(), *((page, code) for page, code in named_code() if code.startswith("python "))]
    for page, words in ((page, words) for page, line in lines for words in simple_commands(line)):
        if words[0] == "python" and words[1].endswith(".py"):
            yield page, words[1], words[2:]
        elif words[:2] == ["python", "-m"] and words[2].split(".")[0] in {"examples", "benchmarks"}:
            yield page, f"{words[2].replace('.', '/')}/__main__.py", words[3:]


def test_scripts_have_every_option():
    calls = list(script_calls())
    assert len(calls) > 12
    for page, script, words in calls:
        folder = ROOT / script
        sources = folder.parent.glob("*.py") if folder.name == "__main__.py" else [folder]
        source = "".join(path.read_text(encoding="utf-8") for path in sources)
        for word in words:
            assert not word.startswith("-") or f'"{word}"' in source, f"{page}: {script} has no option {word}"


def test_files_of_the_repository_exist():
    texts = [*named_code(), *shell_lines()]
    named = {
        (page, path.rstrip("."))
        for page, text in texts
        for path in PATH.findall(text)
        if text.find(path) == 0 or text[text.find(path) - 1] in " `"
    }
    assert len(named) > 60
    missing = [
        (page, path) for page, path in named if not any(ROOT.glob(path)) and not any((ROOT / page).parent.glob(path))
    ]
    assert missing == []
