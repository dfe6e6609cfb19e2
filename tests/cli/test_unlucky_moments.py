"""Killed writers, two writers at once, and streams that are closed or full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from minimind_edge.export.artifact.lock import Lock

SCRIPTS = Path(sysconfig.get_path("scripts"))
TORTURE = Path(__file__).parents[2] / "scripts" / "torture.py"
SUPPORT = Path(__file__).parents[1] / "support"

NEEDS_FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")


@pytest.mark.skipif(sys.platform != "linux", reason="the script forks, and folders are exchanged at once on Linux")
def test_killed_commands_and_two_writers_at_once(checkpoint):
    """A bounded piece of `make torture`, with a seed."""
    words = ["onnx", "race", "--kills", "4", "--races", "1", "--seed", "3", "--checkpoint", checkpoint]
    path = os.pathsep.join([str(SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])])
    streams = {"capture_output": True, "text": True, "env": os.environ | {"PYTHONPATH": path}}
    result = subprocess.run([sys.executable, TORTURE, *words], check=False, timeout=300, **streams)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count(": seed 3: ") == 2


def test_who_comes_second_is_told_and_writes_nothing(refused_here, checkpoint, artifact, tmp_path):
    place = tmp_path / "model"
    lock = Lock(tmp_path / ".model.minimind-edge-lock")
    assert lock.acquire()
    try:
        line = refused_here(4, "onnx", checkpoint, "-o", place, "--no-verify")
        assert f"is writing to {place}: wait until it has ended, or name another place" in line
        assert not place.exists()
    finally:
        lock.release()
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_that_came_in_between_is_not_replaced_without_force(
    refused_here, checkpoint, export_here, tmp_path, monkeypatch
):
    """The folder is free when the second export begins, and is not when it could write."""
    from minimind_edge.export import pipeline

    place = tmp_path / "model"
    choose = pipeline.choose_folder

    def choose_and_lose(request):
        folder = choose(request)
        if request.max_length == 64:
            assert export_here("onnx", checkpoint, "-o", place, "--no-verify").returncode == 0
        return folder

    monkeypatch.setattr(pipeline, "choose_folder", choose_and_lose)
    line = refused_here(2, "onnx", checkpoint, "-o", place, "--no-verify", "--max-length", 64)
    assert "exists already; replace it with --force" in line
    assert json.loads((place / "manifest.json").read_text())["graphs"][0]["max_length"] > 64


def run_with(redirection, *words):
    script = ["sh", "-c", f'exec "$0" "$@" {redirection}', *map(str, words)]
    return subprocess.run(script, capture_output=True, text=True, check=False, timeout=120)


def test_a_closed_stdin_is_no_prompt(artifact):
    run = (SCRIPTS / "minimind-run", "--engine", artifact)
    for words in (run, (*run, "-")):
        result = run_with("<&-", *words)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith("error: no prompt: ")
    given = run_with("<&-", *run, "Hello", "-n", 2, "--greedy")
    assert (given.returncode, given.stderr) == (0, "")
    assert given.stdout == run_with("</dev/null", *run, "Hello", "-n", 2, "--greedy").stdout


@NEEDS_FULL
def test_a_full_stderr_keeps_the_code_of_the_error(artifact, tmp_path):
    assert run_with("2>/dev/full", SCRIPTS / "minimind-run", "--engine", tmp_path / "none", "Hello").returncode == 3
    stats = run_with("2>/dev/full", SCRIPTS / "minimind-run", "--engine", artifact, "Hello", "-n", 2, "--stats")
    assert stats.returncode == 4
    assert stats.stdout != ""


@NEEDS_FULL
def test_an_export_that_cannot_tell_its_progress_leaves_nothing(checkpoint, tmp_path):
    words = (SCRIPTS / "minimind-export", "onnx", checkpoint, "-o", tmp_path / "artifact")
    assert run_with("2>/dev/full", *words).returncode == 4
    assert list(tmp_path.iterdir()) == []
