"""The one place that maps errors to exit codes (cli/entry.py), by errors raised on purpose."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from minimind_edge.cli import entry
from minimind_edge.cli import small_typer as typer
from minimind_edge.runtime.errors import ArtifactError, MissingError

FULL_DISK = Path("/dev/full")


def raising(error: BaseException):
    def call() -> None:
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ArtifactError("no graph\nin it"), 3, "error: no graph in it\n"),
        (MissingError("no GPU"), 4, "error: no GPU\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/y"),
            4,
            "error: no space left on device (free some, or write elsewhere): /x/y\n",
        ),
        (OSError(errno.EACCES, "Permission denied", "/x/y"), 4, "error: permission denied: /x/y\n"),
        (OSError(errno.ENOENT, "No such file or directory", "/x/y"), 3, "error: no such file or directory: /x/y\n"),
        (
            MemoryError(),
            4,
            "error: out of memory: close other programs, or take a smaller model, batch or --max-length\n",
        ),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch._C"),
            4,
            "error: the Python package 'torch' is not installed: run pip install 'minimind-edge[export]'\n",
        ),
        (
            ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime"),
            4,
            "error: the Python package 'onnxruntime' is not installed: run pip install 'minimind-edge'\n",
        ),
        (
            ImportError("safetensors>=0.8.0 is required", name="safetensors"),
            4,
            "error: the installed Python packages do not fit together: safetensors>=0.8.0 is required\n",
        ),
        (
            ImportError("cannot import name 'x'", name="minimind_edge.runtime"),
            1,
            "error: internal error: ImportError: cannot import name 'x' (set MINIMIND_EDGE_DEBUG=1 to see where)\n",
        ),
        (
            ValueError("bad\nvalue"),
            1,
            "error: internal error: ValueError: bad value (set MINIMIND_EDGE_DEBUG=1 to see where)\n",
        ),
        (KeyboardInterrupt(), 130, ""),
        (typer.Abort(), 130, ""),
    ],
)
def test_an_error_becomes_one_line_and_its_exit_code(error, code, line, capsys, monkeypatch):
    monkeypatch.delenv("MINIMIND_EDGE_DEBUG", raising=False)
    assert entry.guarded(raising(error)) == code
    assert capsys.readouterr().err == line


def test_debug_adds_the_traceback(capsys, monkeypatch):
    monkeypatch.setenv("MINIMIND_EDGE_DEBUG", "1")
    assert entry.guarded(raising(ArtifactError("no graph"))) == 3
    told = capsys.readouterr().err
    assert "Traceback (most recent call last)" in told
    assert told.endswith("error: no graph\n")


def test_a_code_that_a_command_returns_is_kept():
    assert entry.guarded(lambda: 5) == 5
    assert entry.guarded(lambda: None) == 0


PROGRAM = """
from typing import Annotated
from minimind_edge.cli import small_typer as typer
from minimind_edge.cli.entry import run

app = typer.Typer()

@app.command()
def say(word: Annotated[str, typer.Argument(help="W")], number: Annotated[int, typer.Option(help="N")] = 0) -> None:
    print(word * 100_000)

run(app, "say")
"""


def program(*arguments: str, **keywords):
    script = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.run(script, stderr=subprocess.PIPE, text=True, check=False, **keywords)


@pytest.mark.parametrize("arguments", [(), ("hi", "--nmber", "1"), ("hi", "--number", "x"), ("a", "b")])
def test_a_usage_error_is_one_line_and_exit_code_2(arguments):
    result = program(*arguments, stdout=subprocess.PIPE)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(not FULL_DISK.exists(), reason="no /dev/full on this system")
def test_a_full_disk_behind_stdout_is_exit_code_4():
    with FULL_DISK.open("w") as full:
        result = program("hi", stdout=full)
    assert result.returncode == 4
    assert result.stderr == "error: no space left on device (free some, or write elsewhere)\n"


def test_a_reader_that_went_away_is_quiet():
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "hi"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert process.wait(timeout=30) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_closed_stdout_is_no_error():
    command = ["sh", "-c", 'exec "$0" -c "$1" hi >&-', sys.executable, PROGRAM]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
