"""Install what this folder holds, on a device without network, by `python3 install.py`.

It checks every file of the folder, makes an environment in `venv`, and installs the wheels of `wheels` into it. It
needs nothing but Python; nothing outside of this folder is written.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Install, and return the exit status."""
    try:
        facts = json.loads((HERE / "bundle.json").read_text(encoding="utf-8"))
        check_machine(facts)
        check_files(facts["files"])
        install()
        write_service()
    except (OSError, ValueError, KeyError) as error:
        print(f"install: {error}", file=sys.stderr)
        return 3
    except subprocess.CalledProcessError:
        print("install: pip failed, as it says above", file=sys.stderr)
        return 4
    start = "run.cmd" if sys.platform == "win32" else "./run.sh"
    print(f"installed; try it:\n  {start} {facts['first_words']}")
    return 0


def check_machine(facts: dict[str, Any]) -> None:
    """See that this is the kind of machine that the wheels are for."""
    here = f"{platform.system()} {platform.machine()}, Python {sys.version_info.major}.{sys.version_info.minor}"
    wanted = f"{facts['system']} {facts['machine']}, Python {facts['python']}"
    if here != wanted:
        raise ValueError(f"this bundle is for {wanted}; here is {here}: make one for this machine")


def check_files(files: dict[str, str]) -> None:
    """See that every file of the bundle is what it was."""
    for name, digest in files.items():
        path = HERE / name
        if HERE not in path.resolve().parents:
            raise ValueError(f"bundle.json names {name}, which is not inside of the bundle")
        if not path.is_file():
            raise ValueError(f"{name} is missing: copy the bundle again")
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise ValueError(f"{name} is not what it was when the bundle was made: copy the bundle again")


def install() -> None:
    """Make the environment, and let the bundle's own pip install the wheels by their hashes."""
    environment = HERE / "venv"
    venv.create(environment, with_pip=False, clear=True)
    python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    pip = next((HERE / "wheels").glob("pip-*.whl")) / "pip"
    command = [str(python), str(pip), "--isolated", "--disable-pip-version-check", "install", "--no-index"]
    command += ["--find-links", str(HERE / "wheels"), "--require-hashes", "-r", str(HERE / "requirements.txt")]
    subprocess.run([*command, "--quiet"], check=True)


def write_service() -> None:
    """Write the systemd unit of the server with this folder's path, where the bundle has one."""
    template = HERE / "minimind-serve.service.in"
    if template.is_file() and sys.platform == "linux":
        text = template.read_text(encoding="utf-8").replace("@HERE@", str(HERE))
        (HERE / "minimind-serve.service").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
