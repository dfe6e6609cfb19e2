"""Plans that are built for the GPU at hand, and run on it."""

from __future__ import annotations

import numpy as np
import pytest
from static_decoder import VOCAB

from minimind_edge.export.plan import PlanRequest, build_plan
from minimind_edge.runtime.errors import MissingError
from minimind_edge.runtime.tensorrt.loading import load_plan

TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2}
"""Of the largest logit. float16 keeps 11 bits of each number on the way."""


@pytest.fixture(params=TOLERANCE)
def precision(request):
    return request.param


@pytest.fixture
def session(device, decoder, tmp_path, precision):
    graph = decoder.save(tmp_path / "model.onnx", precision)
    request = PlanRequest(graph, tmp_path / "out" / "model.plan", max_batch=3, max_length=64, max_chunk=8)
    try:
        return load_plan(build_plan(request).plan)
    except MissingError as error:
        pytest.skip(f"no TensorRT for {device.name}: {error}")


def check(found, decoder, precision, *rows):
    for logits, row in zip(found, rows, strict=True):
        expected = decoder.logits([int(each) for each in row])[-1]
        assert np.abs(logits - expected).max() <= TOLERANCE[precision] * np.abs(expected).max()


def test_chunks_steps_and_a_roll_back(session, decoder, precision):
    row = np.random.default_rng(0).integers(3, VOCAB, 40)
    check(session.prefill(row[None, :19]), decoder, precision, row[:19])
    for end in range(20, 40):
        check(session.decode(row[end - 1 : end]), decoder, precision, row[:end])
    session.truncate(25)
    check(session.decode(row[25:26]), decoder, precision, row[:26])


def test_a_padded_batch(session, decoder, precision):
    rows = np.random.default_rng(1).integers(3, VOCAB, (3, 12))
    mask = np.ones((3, 9), np.int64)
    mask[0, :4] = mask[1, 5:] = 0
    session.prefill(rows[:, :9], mask)
    for column in (9, 10, 11):
        found = session.decode(rows[:, column])
    check(found, decoder, precision, rows[0, 4:], [*rows[1, :5], *rows[1, 9:]], rows[2])


def test_the_cache_is_filled_to_its_last_slot(session, decoder, precision):
    row = np.random.default_rng(2).integers(3, VOCAB, 64)
    session.prefill(row[None, :63])
    check(session.decode(row[63:]), decoder, precision, row)
