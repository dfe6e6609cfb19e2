"""The virtual environments of the peers, which are made once and kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .contenders import WORKERS, Peer
from .failure import Unmeasurable, last_line

PATIENCE_S = 3600
"""The most seconds for one step of an installation, which may compile llama.cpp or MNN."""


def python_of(peer: Peer, workspace: Path) -> Path:
    """The interpreter of a peer's environment, which is made if it is not there.

    Raises:
        Unmeasurable: The environment could not be made, or there is no source to build from.
    """
    if not peer.packages:
        return Path(sys.executable)
    folder = workspace / "environments" / peer.name.replace(" ", "-")
    installed, wanted = folder / "installed.txt", "\n".join(peer.packages)
    if not installed.is_file() or installed.read_text(encoding="utf-8") != wanted:
        install(peer, folder)
        installed.write_text(wanted, encoding="utf-8")
    return folder / "bin" / "python"


def install(peer: Peer, folder: Path) -> None:
    """Make an environment, with pip's output in a log next to it.

    Raises:
        Unmeasurable: There is no source to build from, or the installation fails; the reason is the log's last line.
    """
    if peer.source and not os.environ.get(peer.source):
        raise Unmeasurable(f"it is built from source: set {peer.source} to a folder with a checkout")
    log = folder.with_name(f"{folder.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"installing {', '.join(peer.packages)} (log: {log})", file=sys.stderr, flush=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    commands = [[sys.executable, "-m", "venv", str(folder)], [*pip, "install", *peer.packages]]
    if peer.unwanted:
        commands.append([*pip, "uninstall", "--yes", *peer.unwanted])
    if peer.builder:
        build = folder.with_name(f"{folder.name}.build")
        commands.append([pip[0], str(WORKERS / peer.builder), os.environ[peer.source], str(build)])
    variables = os.environ | dict(peer.variables)
    with log.open("w", encoding="utf-8") as output:
        streams = {"stdout": output, "stderr": subprocess.STDOUT}
        for command in commands:
            try:
                subprocess.run(command, check=True, timeout=PATIENCE_S, env=variables, **streams)
            except (OSError, subprocess.SubprocessError) as error:
                raise Unmeasurable(f"could not be installed: {last_line(log) or error}") from error
