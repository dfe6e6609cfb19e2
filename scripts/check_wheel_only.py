"""Check the wheel by itself: a fresh venv without the extras runs an exported artifact, and is small.

That is what `pip install minimind-edge` installs on a device: no torch, transformers or onnx. An artifact is exported
by the environment that runs this script, and both environments must generate the same tokens from it.

Usage: check_wheel_only.py --wheel FILE [--python PYTHON]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LIMIT_BYTES = 205_000_000
"""The most bytes that the packages may take together with the bytecode that pip compiles."""

EXPORT_ONLY = ("torch", "transformers", "onnx", "onnxscript", "onnx_ir", "safetensors", "rich", "pygments")
OF_THE_VENV = {"pip", "setuptools", "pkg_resources", "_distutils_hack"}
ONLY_ONNX_READS = ("producer", "ir_version", "opsets", "operators", "weights")
PROMPT = "What is the capital of France?"


def output_of(command: list[str | Path]) -> str:
    """Run a command outside the checkout and return what it wrote to stdout; its failure ends this script."""
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            command, cwd=folder, env=clean_environment(), stdout=subprocess.PIPE, text=True, check=True
        )
    return result.stdout


def clean_environment() -> dict[str, str]:
    """This process's environment without the variables that could give the venv another environment's packages."""
    return {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}}


def installed_bytes(venv: Path) -> tuple[int, int]:
    """The bytes of a venv's packages without pip and setuptools, and of the bytecode that Python keeps next to them."""
    files = [path for path in venv.rglob("*") if path.is_file() and not OF_THE_VENV.intersection(path.parts)]
    compiled = sum(path.lstat().st_size for path in files if path.suffix == ".pyc")
    return sum(path.lstat().st_size for path in files) - compiled, compiled


def generated_ids(bin_folder: Path, artifact: Path) -> list[int]:
    """The greedy continuation that one environment's minimind-run gives."""
    command: list[str | Path] = [
        bin_folder / "minimind-run",
        "--engine",
        artifact,
        "--greedy",
        "-n",
        "32",
        "--json",
        PROMPT,
    ]
    token_ids: list[int] = json.loads(output_of(command))["token_ids"]
    return token_ids


def inspected(bin_folder: Path, artifact: Path) -> dict[str, Any]:
    """What `minimind-export inspect` tells of an artifact, without what only the package onnx reads."""
    found: dict[str, Any] = json.loads(output_of([bin_folder / "minimind-export", "inspect", artifact, "--json"]))
    for graph in found["graphs"]:
        for name in ONLY_ONNX_READS:
            del graph[name]
    return found


def check(wheel: Path, python: str, work: Path) -> list[str]:
    """Return the faults of the wheel by itself, one line each."""
    venv, artifact, here = work / "venv", work / "artifact", Path(sys.executable).parent
    output_of([here / "minimind-export", "onnx", "-o", artifact, "--no-verify", "--json"])

    subprocess.run([python, "-m", "venv", venv], check=True)
    pip = [venv / "bin/python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    output_of([*pip, "-c", ROOT / "constraints.txt", wheel])
    installed, compiled = installed_bytes(venv)
    print(
        f"check_wheel_only: the wheel and its dependencies take {(installed + compiled) / 1e6:.1f} MB of "
        f"{LIMIT_BYTES / 1e6:.0f}, {compiled / 1e6:.0f} MB of it bytecode"
    )

    problems = []
    if installed + compiled > LIMIT_BYTES:
        problems.append(f"{installed + compiled} bytes installed, expected at most {LIMIT_BYTES}")
    probe = f"import importlib.util as u; print([m for m in {EXPORT_ONLY} if u.find_spec(m)])"
    found = output_of([venv / "bin/python", "-c", probe]).strip()
    if found != "[]":
        problems.append(f"the wheel's own dependencies brought {found}")
    expected, actual = generated_ids(here, artifact), generated_ids(venv / "bin", artifact)
    if not actual or actual != expected:
        problems.append(f"generated {actual}, expected {expected}")
    if inspected(venv / "bin", artifact) != inspected(here, artifact):
        problems.append("inspect tells something else about the artifact than where onnx is installed")
    refused = subprocess.run(
        [venv / "bin/minimind-export", "onnx", "-o", work / "never"],
        cwd=work,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if refused.returncode != 4 or "pip install 'minimind-edge[export]'" not in refused.stderr:
        problems.append(f"an export without the extra ends with {refused.returncode} and says {refused.stderr!r}")
    return problems


def main() -> int:
    """Return 0 when the wheel alone does the device's job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that makes the venv")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        problems = check(arguments.wheel.resolve(), arguments.python, Path(work))
    for problem in problems:
        print(f"check_wheel_only: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
