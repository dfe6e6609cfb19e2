"""The installed console scripts, run as a user runs them: in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPTS = Path(sysconfig.get_path("scripts"))

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def command() -> Command:
    """Run `name argument ...` and return exit code, stdout and stderr as text.

    Keyword arguments: `stdin` (str or bytes), `cwd`, `env` (added to this process's), `preexec_fn`.
    """

    def run(name, *arguments, stdin="", cwd=None, env=None, preexec_fn=None):
        result = subprocess.run(
            [SCRIPTS / name, *map(str, arguments)],
            input=stdin if isinstance(stdin, bytes) else stdin.encode(),
            capture_output=True,
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "2", "COLUMNS": "100", "TERM": "dumb", **(env or {})},
            preexec_fn=preexec_fn,
            timeout=300,
            check=False,
        )
        return subprocess.CompletedProcess(
            result.args, result.returncode, result.stdout.decode(), result.stderr.decode()
        )

    return run


@pytest.fixture(scope="session")
def refused(command: Command) -> Command:
    """Run a command that must fail: the exit code given, one line on stderr, nothing on stdout; returns that line."""

    def run(code, *arguments, **keywords):
        result = command(*arguments, **keywords)
        assert result.returncode == code, f"exit {result.returncode}, expected {code}: {result.stderr}"
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        assert len(lines) == 1, f"expected one line on stderr: {result.stderr}"
        assert lines[0].startswith("error: ")
        assert result.stdout == ""
        return lines[0]

    return run
