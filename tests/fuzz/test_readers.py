"""A bounded slice of hostile files for every reader: read, or refused in one line; `make fuzz` runs the long form."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzzing import native_readers  # noqa: F401  it registers them
from fuzzing.promise import kept
from fuzzing.readers import READERS
from fuzzing.worker import warm_up
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

IN_PROCESS = [name for name, reader in READERS.items() if not reader.is_native and name != "template with limits"]
NATIVE = {
    "checkpoint's tokenizer": 100,
    "tokenizer": 25,
    "held-out split": 300,
    "model config": 600,
    "shard index": 300,
    "checkpoint": 200,
    "adapter": 200,
    "graph": 300,
    "graph for native operators": 300,
    "artifact folder": 100,
    "template with limits": 3,
}
"""Readers that get a process of their own, and how many inputs."""


@pytest.mark.parametrize("name", IN_PROCESS)
def test_read_or_refused_in_one_line(name, tmp_path_factory):
    reader = READERS[name](tmp_path_factory.mktemp("fuzz"))
    warm_up(reader)

    @settings(max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def holds(random):
        made = reader.make(random)
        _, fault = kept(lambda: reader.read(made))
        assert fault is None, f"{fault}\n{str(made)[:2000]}"

    holds()


def test_every_reader_is_in_the_slice():
    assert {*IN_PROCESS, *NATIVE} == {*READERS}


def test_native_readers_keep_their_promise_in_processes_of_their_own(tmp_path):
    """One process for all of them, as each imports torch; it is told by its exit code where one breaks it."""
    script = tmp_path / "slice.py"
    script.write_text(
        "import sys\nfrom fuzzing.worker import main\n"
        f"for name, count in {NATIVE!r}.items():\n    print(name)\n    main(name, 0, count, sys.argv[1])\n"
    )
    state = tmp_path / "state"
    state.write_bytes(bytes(8))
    paths = os.pathsep.join([str(Path(__file__).parents[1] / "support"), *filter(None, sys.path)])
    run = subprocess.run(
        [sys.executable, str(script), str(state)],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    at = int.from_bytes(state.read_bytes(), "little")
    assert run.returncode == 0, f"ended by {run.returncode} at seed {at}\n{run.stdout[-500:]}\n{run.stderr[-2000:]}"
    assert '"seed"' not in run.stdout, run.stdout
    assert run.stdout.count('"read"') == len(NATIVE)
