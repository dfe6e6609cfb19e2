"""A virtual environment for each peer, made once and kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .contenders import Peer
from .failure import Unmeasurable, last_line

PATIENCE_S = 3600
"""Seconds for an installation; llama.cpp is compiled in it."""


def python_of(peer: Peer, workspace: Path) -> Path:
    """The interpreter of a peer's environment, which is made if it is not there.

    Raises:
        Unmeasurable: the environment could not be made.
    """
    if not peer.packages:
        return Path(sys.executable)
    return make_environment(peer.name, peer.packages, peer.variables, workspace)


def make_environment(name: str, packages: tuple[str, ...], variables: dict[str, str], workspace: Path) -> Path:
    """An environment that holds exactly these packages; gives its interpreter.

    Raises:
        Unmeasurable: pip failed; the log's name is in the message.
    """
    folder = workspace / "environments" / name.replace(" ", "-")
    python, installed = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join(packages)
    if installed.is_file() and installed.read_text(encoding="utf-8") == wanted:
        return python
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.parent / f"{folder.name}.log"
    print(f"installing {', '.join(packages)} (log: {log})", file=sys.stderr, flush=True)
    with log.open("w", encoding="utf-8") as output:
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "--disable-pip-version-check", "install", *packages],
        ):
            run = {"stdout": output, "stderr": subprocess.STDOUT, "env": os.environ | dict(variables)}
            try:
                subprocess.run(command, check=True, timeout=PATIENCE_S, **run)
            except (OSError, subprocess.SubprocessError) as error:
                raise Unmeasurable(f"could not be installed: {last_line(log) or error}") from error
    installed.write_text(wanted, encoding="utf-8")
    return python
