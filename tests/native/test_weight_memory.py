"""The memory of quantized weights: one copy of each, which is given back when the last session of its chunk is gone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from native_nodes import library_path, limit_lanes, make_session
from onnx import helper
from quantized_product import assert_right, make_weight, product_graph

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


def resident_of_files() -> int:
    """Bytes of mapped files that this process holds in memory."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssFile:"))
    return int(line.split()[1]) * 1024


def test_a_weight_that_was_read_from_a_file_is_in_memory_once(tmp_path):
    limit_lanes(16)
    weight = make_weight(8, 256, 2048, 8192, zero_points=False)  # 16 MiB
    model = product_graph(weight)
    model.graph.node.append(helper.make_node("Identity", ["weight"], ["again"]))
    model.graph.output.append(helper.make_tensor_value_info("again", onnx.TensorProto.UINT8, None))
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights", size_threshold=1024)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.register_custom_ops_library(library_path())
    before = resident_of_files()
    session = ort.InferenceSession(tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"])
    assert resident_of_files() - before < 4 * MIB  # what else the process reads of its libraries
    x = np.random.default_rng(0).standard_normal((1, 2048)).astype(np.float32)
    y, again = session.run(None, {"x": x})
    assert_right(y, weight, x)
    assert np.array_equal(again, weight.inputs["weight"])  # comes back from the file for who reads it there
