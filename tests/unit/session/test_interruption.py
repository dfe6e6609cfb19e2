"""Runs that another thread ends, and sessions that go on afterwards."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from endless_graph import make_endless

from minimind_edge.runtime.errors import ArtifactError
from minimind_edge.runtime.interruption import allow_runs, interrupt_runs
from minimind_edge.runtime.load import load_session

IDS = np.array([[1, 2, 3]])


@pytest.fixture(autouse=True)
def _allowed():
    yield
    allow_runs()


def test_a_run_that_never_ends_is_ended_from_another_thread(save_graph, tmp_path):
    session = load_session(make_endless(save_graph("portable"), tmp_path / "endless.onnx"))
    timer = threading.Timer(0.3, interrupt_runs)
    timer.start()
    began = time.monotonic()
    with pytest.raises(ArtifactError, match="terminate"):
        session.prefill(IDS)
    assert 0.2 < time.monotonic() - began < 10
    timer.join()


@pytest.mark.parametrize("target", ["portable", "ort"])
def test_a_session_runs_again_once_it_is_allowed_to(load, target):
    session = load(target)
    expected = session.prefill(IDS).copy()
    interrupt_runs()
    session.reset()
    with pytest.raises(ArtifactError, match="terminate"):
        session.prefill(IDS)
    allow_runs()
    session.reset()
    assert np.array_equal(session.prefill(IDS), expected)
