"""A bundle for this machine, installed and run in a namespace without network."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
SIZES = Path(__file__).resolve().parent.parent.parent / "scripts" / "bundle_sizes.py"
NO_NETWORK = ("unshare", "--map-root-user", "--net")


def can_unshare() -> bool:
    if sys.platform != "linux" or platform.machine() != "x86_64" or shutil.which("unshare") is None:
        return False
    return subprocess.run([*NO_NETWORK, "true"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def demo_artifact(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "demo"
    assert command("minimind-export", "onnx", "-o", folder, "--no-verify").returncode == 0
    return folder


def wrong_size(size):
    """How docs/bundle.md is wrong on the size of this machine's bundle, empty where it is right."""
    spec = importlib.util.spec_from_file_location("bundle_sizes", SIZES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.wrong_size("linux-x86_64", size, serve=False) if module.PYTHON == HERE else ""


def without_network(*command):
    """Run a command that sees no network, and nothing of this environment's packages."""
    clean = {"PATH": os.defpath, "HOME": "/nonexistent"}
    return subprocess.run([*NO_NETWORK, *command], capture_output=True, text=True, env=clean, timeout=300, check=False)


@pytest.mark.skipif(not can_unshare(), reason="needs Linux on x86-64, and a namespace without network")
def test_a_bundle_runs_on_a_machine_without_network(command, demo_artifact, tmp_path):
    options = ["--platform", "linux-x86_64", "--python", HERE, "--json"]
    made = command("minimind-export", "bundle", demo_artifact, "-o", tmp_path / "device", *options)
    if "editable" in made.stderr:
        pytest.skip("minimind-edge is installed editable: a bundle holds its wheel")
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert {path.name for path in (tmp_path / "device" / "wheels").iterdir()} == set(told["wheels"])
    assert wrong_size(told["size"]) == ""

    copied = tmp_path / "moved on a stick"
    shutil.copytree(tmp_path / "device", copied)
    installed = without_network(os.path.realpath(sys.executable), str(copied / "install.py"))
    assert installed.returncode == 0, installed.stderr
    question = "What is the capital of France?"
    answer = without_network(str(copied / "run.sh"), "--greedy", question)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == command("minimind-run", "--engine", demo_artifact, "--greedy", question).stdout
    assert "Paris" in answer.stdout

    with (copied / "artifact" / "tokenizer.json").open("a") as file:
        file.write(" ")
    refused = without_network(os.path.realpath(sys.executable), str(copied / "install.py"))
    assert refused.returncode == 3 and "artifact/tokenizer.json is not what it was" in refused.stderr
