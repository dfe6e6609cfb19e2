"""How soon the demo speaks, against the time that importing its three libraries takes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

SCRIPT = Path(sysconfig.get_path("scripts")) / "minimind-run"
IMPORTS = "import numpy, onnxruntime, tokenizers"
MOST = 3.0
"""Times the imports; 2.5 is the aim on an idle machine, this one may be busy."""


def cpu_seconds(words) -> float:
    """The least processor time of five runs; unlike wall time, it hardly notices other programs."""
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(words, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(seconds)


@pytest.fixture(scope="module")
def demo(tmp_path_factory, command):
    folder = tmp_path_factory.mktemp("demo") / "artifact"
    assert command("minimind-export", "onnx", "--no-verify", "-o", folder).returncode == 0
    return folder


def test_the_first_token_comes_soon(demo):
    words = [SCRIPT, "--engine", demo, "hello", "-n", "1", "--threads", "1"]
    assert cpu_seconds(words) < MOST * cpu_seconds([sys.executable, "-c", IMPORTS])
