"""The memory of quantized weights: it is given back when the last session of its chunk is gone."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest
from native_nodes import limit_lanes, make_session
from quantized_product import make_weight, product_graph

STATM = Path("/proc/self/statm")

MIB = 2**20

pytestmark = pytest.mark.skipif(not STATM.is_file(), reason="the system does not tell a process's memory here")


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def graph() -> onnx.ModelProto:
    """A product whose weight takes 4 MiB."""
    limit_lanes(16)
    return product_graph(make_weight(8, 256, 2048, 2048, zero_points=False))


def test_sessions_that_are_gone_leave_no_memory(graph):
    for _ in range(3):  # what the process allocates once
        make_session(graph)
    before = resident()
    for _ in range(30):
        make_session(graph)
    # 30 weights would be 120 MiB. Allocators keep some of what ONNX Runtime and protobuf gave back.
    assert resident() - before < 30 * MIB


def test_sessions_in_turn_leave_no_more_memory_than_a_chunk(graph):
    """Each is made before the one before it is gone, as by a program that changes its model."""
    session = make_session(graph)
    before = resident()
    for _ in range(40):
        later = make_session(graph)
        session = later  # the earlier one is gone
    # 40 weights would be 160 MiB. What is free in a chunk, of 64, is used again once nothing of it is in use.
    assert resident() - before < 90 * MIB
    del session
